"""Rows of a benchmark as tables: accuracy and steadiness by set, run time, failures."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from flows.bench_published import papers_rows
from flows.bench_rows import Row
from flows.bench_sections import Cell, Column, Document, Line, Section, mark_best, mean_cell

NAMED = (Column("predictor", "predictor", text=True), Column("method", "method", text=True))
COUNTED = (Column("videos", "videos"), Column("failed", "failed"))
NVDS_COLUMNS = (
    *NAMED,
    Column("delta1", "δ1 ↑", best="high"),
    Column("abs_rel", "Rel ↓", best="low"),
    Column("opw", "OPW ↓", 4, best="low"),
    Column("ratio", "OPW / initial"),
    *COUNTED,
)
COMMON_COLUMNS = (
    *NAMED,
    Column("abs_rel", "AbsRel ↓", best="low"),
    Column("delta1", "δ1 ↑", best="high"),
    Column("rmse", "RMSE (m) ↓", best="low"),
    Column("log10", "log10 ↓", best="low"),
    Column("tae", "TAE (%) ↓", best="low"),
    Column("opw", "OPW ↓", 4, best="low"),
    Column("opw_masked", "OPW masked ↓", best="low"),
    Column("scale_spread", "scale drift ↓", best="low"),
    Column("missing", "missing (%)"),
    *COUNTED,
)
RUNTIME_COLUMNS = (
    *NAMED,
    Column("size", "size", text=True),
    Column("precision", "precision", text=True),
    Column("device", "device", text=True),
    Column("ms_per_frame", "ms / frame, median", 1),
    Column("p95", "p95", 1),
    Column("peak_rss_mb", "peak memory (MB)", 0),
    Column("peak_gpu_mb", "peak GPU memory (MB)", 0),
    Column("videos", "videos"),
)
FAILURE_COLUMNS = tuple(
    Column(name, name, text=True) for name in ("video", "predictor", "methods", "step", "reason", "message")
)
NOTES: Final = {
    "best": "Means over videos with 95 % bootstrap intervals over videos (2,000 resamples, seeded). The best of each "
    "column in a set is bold; the control `constant` (one disparity everywhere) and published rows do not compete.",
    "box": "`box` is a control too: the mean of the initial disparity over 7 frames, blind to motion.",
    "published": "Published rows were measured on the papers' own frames with their own resizing: compare with care, "
    "and never OPW between different protocols, resolutions or flow models.",
    "tae": "TAE: mean over the videos that have poses and in which nothing but the camera moves.",
    "runtime": "Seconds of the steps a method needs (predictor; stabiliser, both directions; or optimisation), "
    "measured while neighbouring videos used the other lanes; without decoding, flow and scores. Peak memory is that "
    "of the whole process.",
}


def nvds_document(rows: Sequence[Row], timed: Sequence[Row], published: bool) -> Document:
    """Accuracy and OPW as the NVDS release prints them."""
    return _by_set("nvds", rows, NVDS_COLUMNS, published, ("best", "box"))


def common_document(rows: Sequence[Row], timed: Sequence[Row], published: bool) -> Document:
    """The protocol most papers use since 2024: one alignment per video, depth in metres, TAE, drift."""
    return _by_set("common", rows, COMMON_COLUMNS, published, ("best", "box", "tae"))


def runtime_document(rows: Sequence[Row], timed: Sequence[Row], published: bool) -> Document:
    """Milliseconds per frame; differs from run to run, unlike the other tables."""
    sections = []
    for members in _grouped(rows, ("set",)):
        name = members[0]["set"]
        groups = _grouped(
            [row for row in timed if row["set"] == name], ("predictor", "method", "device", "precision", "size")
        )
        lines = [Line(_timed(group)) for group in groups]
        sections.append(Section(str(name), _facts("common", members), RUNTIME_COLUMNS, lines))
    found, sources = papers_rows("runtime") if published else ([], [])
    if found:
        lines = [paper.line() for paper in found]
        sections.append(Section("published only", {"measured here": "no"}, RUNTIME_COLUMNS, lines))
    return Document("runtime", (NOTES["runtime"],), sections, sources)


def _timed(group: Sequence[Row]) -> dict[str, Cell]:
    """Run time of one predictor and method on one device over the videos of a set."""
    times = [row["ms_per_frame"] for row in group]
    cells = {name: Cell(group[0][name]) for name in ("predictor", "method", "device", "precision", "size")}
    cells |= {"ms_per_frame": Cell(float(np.median(times))), "p95": Cell(float(np.quantile(times, 0.95)))}
    cells |= {name: Cell(_most(row[name] for row in group)) for name in ("peak_rss_mb", "peak_gpu_mb")}
    return cells | {"videos": Cell(len(group))}


def failures_document(rows: Sequence[Row], timed: Sequence[Row], published: bool) -> Document:
    """What could not be scored, and why."""
    keys = ("video", "predictor", "step", "reason", "message")
    sections = []
    for members in _grouped(rows, ("set",)):
        failed = [row for row in members if row["status"] != "done"]
        lines = []
        for group in _grouped(failed, keys):
            cells = {name: Cell(group[0][name]) for name in keys}
            lines.append(Line(cells | {"methods": Cell(", ".join(row["method"] for row in group))}))
        facts = {"results": f"{len(members)}, of which {len(failed)} failed"} | _facts("common", members)
        sections.append(Section(str(members[0]["set"]), facts, FAILURE_COLUMNS, lines))
    return Document("failures", (), sections)


def _by_set(
    layout: str, rows: Sequence[Row], columns: Sequence[Column], published: bool, notes: Sequence[str]
) -> Document:
    found, sources = papers_rows(layout) if published else ([], [])
    sections = []
    for members in _grouped(rows, ("set",)):
        own = [_averaged(layout, group, members) for group in _grouped(members, ("predictor", "method"))]
        controls = [line.cells["method"].value == "constant" for line in own]
        lines = mark_best(columns, own, excluded=controls)
        papers = [entry for entry in found if entry.set == members[0]["kind"]]
        lines += [entry.line() for entry in papers]
        sections.append(Section(str(members[0]["set"]), _facts(layout, members), columns, lines))
    kinds = {row["kind"] for row in rows}
    for name in dict.fromkeys(entry.set for entry in found if entry.set not in kinds):
        lines = [entry.line() for entry in found if entry.set == name]
        sections.append(Section(f"{name} (published only)", {"measured here": "no"}, columns, lines))
    texts = [NOTES[note] for note in (*notes, *(("published",) if published else ()))]
    return Document(layout, texts, sections, sources)


def _averaged(layout: str, group: Sequence[Row], members: Sequence[Row]) -> Line:
    """One predictor and method over the videos of a set."""
    done = [row for row in group if row["status"] == "done"]
    prefix = "published_" if layout == "nvds" and group[0]["published"] else ""
    cells = {name: Cell(group[0][name]) for name in ("predictor", "method")}
    for name in ("delta1", "abs_rel", "rmse", "log10", "tae"):
        cells[name] = mean_cell(_finite(row[prefix + name] for row in done if prefix + name in row))
    for name in ("opw", "opw_masked", "scale_spread"):
        cells[name] = mean_cell(_finite(row[name] for row in done))
    cells["ratio"] = Cell(_ratio(done, members))
    pixels, missing = (sum(row[name] or 0 for row in done) for name in ("n_pixels", "n_missing"))
    cells["missing"] = Cell(100 * missing / (pixels + missing) if pixels + missing else None)
    return Line(cells | {"videos": Cell(len(done)), "failed": Cell(len(group) - len(done))})


def _ratio(done: Sequence[Row], members: Sequence[Row]) -> float | None:
    """Mean OPW over that of the initial disparity, on the videos that have both."""
    base = {
        (row["predictor"], row["video"]): row["opw"]
        for row in members
        if row["method"] == "initial" and row["status"] == "done" and _finite([row["opw"]])
    }
    pairs = [(row["opw"], base.get((row["predictor"], row["video"]))) for row in done if _finite([row["opw"]])]
    both = [(value, initial) for value, initial in pairs if initial is not None]
    total = sum(initial for _, initial in both)
    return sum(value for value, _ in both) / total if total else None


def _facts(layout: str, rows: Sequence[Row]) -> dict[str, str]:
    """What every table says about itself."""
    first = rows[0]
    frames = {row["video"]: (row["frames"], row["frame_digest"]) for row in rows}
    whole = hashlib.sha256("\n".join(f"{name} {digest}" for name, (_, digest) in sorted(frames.items())).encode())
    count = sum(number or 0 for number, _ in frames.values())
    release = layout == "nvds" and first["published"]
    area = f"; scored in {first['area']}" if first["area"] and not release else ""
    return {
        "protocol": _protocol(layout, first),
        "alignment": "frame (scale and shift)" if release else _distinct(rows, "align"),
        "split": str(first["split"]),
        "frames": f"{count} of {len(frames)} videos, list {whole.hexdigest()[:12]}",
        "cap": "none" if first["cap"] is None or release else f"{first['cap']:g} m",
        "crop": f"{first['crop']}{area}",
        "resolution": _sizes(rows),
        "precision": _distinct(rows, "precision"),
        "flow": _digests(rows, "flow_digest"),
        "weights": ", ".join(
            filter(None, (_digests(rows, name) for name in ("predictor_digest", "stabilizer_digest")))
        ),
        "videos": _counts(rows),
    }


def _protocol(layout: str, row: Row) -> str:
    opw = "OPW as released by NVDS (RGB 0..255, no mask, sum over pairs / frames)"
    if row["quantity"] == "none":
        return f"{opw}; no truth"
    if layout == "nvds" and row["published"]:
        return f"accuracy as released for {row['published'].upper()}, from 16-bit maps; {opw}"
    if row["quantity"] == "disparity":
        return f"no depth in metres, so no accuracy by this protocol (see layout nvds); {opw}"
    return (
        "accuracy in depth after a least squares fit in disparity, mean over pixels, then frames, then videos; "
        f"{opw}; masked: without occluded pixels, RGB 0..1, mean over pairs"
    )


def _counts(rows: Sequence[Row]) -> str:
    done = {row["video"] for row in rows if row["status"] == "done"}
    failed = {row["video"] for row in rows if row["status"] != "done"}
    return f"{len(done)} averaged, {len(failed)} failed"


def _digests(rows: Sequence[Row], name: str) -> str:
    """Networks with the first digits of their digests."""
    named = set()
    for row in rows:
        if row[name] is not None:
            text = re.sub(r"[0-9a-f]{16,}", lambda match: match[0][:12], str(row[name]))
            named.add(f"{row['stabilizer']}:{text}" if name == "stabilizer_digest" else text)
    return ", ".join(sorted(named))


def _distinct(rows: Sequence[Row], name: str) -> str:
    return ", ".join(sorted({str(row[name]) for row in rows if row[name] is not None})) or "none"


def _sizes(rows: Sequence[Row]) -> str:
    sizes = {(row["width"], row["height"]) for row in rows if row["width"]}
    return ", ".join(f"{width}x{height}" for width, height in sorted(sizes)) or "none"


def _finite(values: Iterable[Any]) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def _most(values: Iterable[Any]) -> float | None:
    return max(_finite(values), default=None)


def _grouped(rows: Sequence[Row], keys: Sequence[str]) -> list[list[Row]]:
    """Rows of equal keys together, in the order in which the keys first occur."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return list(groups.values())
