"""The figures behind the report's overview and table: plain values, ready for JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from flows.chain import STEPS
from flows.results import example
from storage import settled_videos
from storage.tables import latest

Row = dict[str, Any]
FINAL = ("mix", "forward", "backward", "optimized")  # the first that a video has is its result
OPW_BINS, OPW_TAIL = 24, 99.0  # few videos with huge errors must not press all others into one bin
RATE_BINS, RATE_RUNS, SLOWEST = 60, 5, 12
COLUMNS = (
    *("id", "name", "status", "reason", "message", "uri", "frames", "scenes", "width", "height"),
    *("initial", "final", "result", "ratio", "seconds", "thumb"),
)


@dataclass(frozen=True)
class Overview:
    """Every settled video of an output folder, with the seconds of its steps."""

    rows: list[Row]

    @property
    def done(self) -> list[Row]:
        """The finished videos."""
        return [row for row in self.rows if row["status"] == "done"]

    def figures(self) -> Row:
        """Counts and means; OPW over the videos that have both, so that the ratio compares the same ones."""
        pairs = self.opw_pairs
        means = [sum(values) / len(pairs) for values in zip(*pairs, strict=True)] if pairs else [None, None]
        return {
            "videos": len(self.rows),
            "done": len(self.done),
            "failed": len(self.rows) - len(self.done),
            "frames": sum(row["frames"] or 0 for row in self.done),
            "scored": len(pairs),
            "initial": means[0],
            "final": means[1],
        }

    def failures(self) -> list[tuple[str, int, str]]:
        """(reason, videos, one example), the commonest first."""
        failed = [row for row in self.rows if row["status"] != "done"]
        counts = Counter(str(row["reason"]) for row in failed)
        examples = {str(row["reason"]): example(row["uri"], row["message"]) for row in reversed(failed)}
        return [(reason, count, examples[reason]) for reason, count in counts.most_common()]

    @cached_property
    def opw_pairs(self) -> list[tuple[float, float]]:
        """(initial, final) OPW of every scored video."""
        both = [(row["initial"], row["final"]) for row in map(opw_of, self.done)]
        return [(initial, final) for initial, final in both if initial is not None and final is not None]

    def distribution(self) -> Row | None:
        """Videos per bin of OPW before and after; the last bin also holds what lies beyond. None if unscored."""
        if not self.opw_pairs:
            return None
        values = np.array(self.opw_pairs)
        edges = np.linspace(0.0, float(np.percentile(values, OPW_TAIL)) or 1.0, OPW_BINS + 1)
        counts = [np.histogram(np.minimum(column, edges[-1]), edges)[0].tolist() for column in values.T]
        return {"edges": edges.tolist(), "initial": counts[0], "final": counts[1]}

    def throughput(self) -> list[Row]:
        """Frames per second over the minutes of each of the last runs that computed something."""
        runs: dict[str, list[Row]] = {}
        for row in self.done:
            if not row["cached"] and row["frames"]:
                runs.setdefault(row["run_id"], []).append(row)
        begun = sorted(runs, key=lambda run: max(row["finished_at"] for row in runs[run]))
        return [_rate(run, runs[run]) for run in begun[-RATE_RUNS:]]

    def slowest(self) -> list[Row]:
        """The videos that took longest, with the seconds of their steps; `other` is waiting and what has no step."""
        timed = sorted((row for row in self.rows if row["seconds"]), key=lambda row: (-row["seconds"], row["video_id"]))
        return [
            {
                "id": row["video_id"],
                "seconds": row["seconds"],
                "frames": row["frames"],
                "steps": row["steps"] | {"other": max(0.0, row["seconds"] - sum(row["steps"].values()))},
            }
            for row in timed[:SLOWEST]
        ]

    def table(self, thumbs: Iterable[str]) -> Row:
        """Columns and rows of the table of all videos; `thumbs` are the ids that have a thumbnail."""
        pictured = set(thumbs)
        return {"columns": COLUMNS, "rows": [_table_row(row, row["video_id"] in pictured) for row in self.rows]}


def read_overview(out: str) -> Overview:
    """Everything the tables of an output folder say.

    Raises:
        StorageError: ``absent``: nothing was ever run into this folder.
    """
    rows = settled_videos(out)
    steps: dict[str, dict[str, float]] = {}
    for row in sorted(latest(out, "timings"), key=lambda row: STEPS.index(row["step"]) if row["step"] in STEPS else 0):
        if not row["cached"]:
            steps.setdefault(row["video_id"], {})[row["step"]] = row["seconds"]
    return Overview([row | {"steps": steps.get(row["video_id"], {})} for row in rows])


def opw_of(row: Row) -> Row:
    """``initial``, ``final``, the ``result`` that is final, and their ratio; None where not measured."""
    values = {name: score["value"] for name, score in row["opw"].items() if math.isfinite(score["value"])}
    result = next((name for name in FINAL if name in values), None)
    initial, final = values.get("initial"), values[result] if result else None
    ratio = final / initial if final is not None and initial else None
    return {"initial": initial, "final": final, "result": result, "ratio": ratio}


def flickering_first(rows: Sequence[Row]) -> list[Row]:
    """Finished videos by OPW of their result, the worst first; unscored ones at the end."""
    return sorted(rows, key=lambda row: (-(opw_of(row)["final"] or 0.0), row["video_id"]))


def name_of(row: Row) -> str:
    """What people call a video: the last part of where its source is."""
    return str(row["uri"]).rstrip("/").rpartition("/")[2] or str(row["video_id"])


def _table_row(row: Row, pictured: bool) -> list[Any]:
    about = {
        **{name: row[name] for name in ("status", "reason", "message", "uri", "frames", "width", "height", "seconds")},
        **opw_of(row),
        "id": row["video_id"],
        "name": name_of(row),
        "scenes": row["catalog"].get("scenes"),
        "thumb": pictured,
    }
    return [_short(about[name]) for name in COLUMNS]


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _rate(run: str, rows: list[Row]) -> Row:
    """Frames count at the end of their video, so bins are at least as wide as a typical video takes."""
    ends = np.array([row["finished_at"].timestamp() for row in rows])
    start = min(end - row["seconds"] for end, row in zip(ends, rows, strict=True))
    span = max(float(ends.max()) - start, 1e-3)
    bins = max(1, min(RATE_BINS, len(rows) // 2))
    frames, edges = np.histogram(ends - start, bins, (0.0, span), weights=[row["frames"] for row in rows])
    return {
        "run": run,
        "minutes": [_short(float(edge) / 60) for edge in edges[1:]],
        "rate": [_short(float(count) * bins / span) for count in frames],
        "frames": int(frames.sum()),
        "seconds": _short(span),
    }
