"""The table of videos as Markdown, LaTeX, CSV, JSON, Parquet or HTML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence

from flows.bench_formats import md_line, to_html, to_latex
from flows.bench_sections import Cell, Column, Document, Line, Section
from flows.ledger import RESULTS
from flows.results import COLUMNS, SCORED, Row, mean_row, measured_with


def to_markdown(rows: Sequence[Row]) -> str:
    """A table for people: what was measured, one row per video, the mean, and what failed."""
    used, mean = measured_with(rows), mean_row(rows)
    several_flows, shown = len(used["flow"]) > 1, _shown(rows)
    heads = ["video", "size", "frames", "scenes", *shown, "mix / initial", *(["flow"] if several_flows else [])]
    lines = [describe_measure(used), "", md_line([*heads, "status"])]
    lines.append(md_line(["---", *["---:"] * (3 + len(shown) + 1), *(["---"] if several_flows else []), "---"]))
    for row in rows:
        size = f"{row['width']}x{row['height']}" if row["width"] else ""
        cells = [row["video_id"], size, row["frames"], row["scenes"], *_numbers(row, shown)]
        lines.append(md_line([*cells, *([row["flow"]] if several_flows else []), _status(row)]))
    cells = [f"mean of {mean['videos']}", "", "", "", *_numbers(mean, shown)]
    lines.append(md_line([*cells, *([""] if several_flows else []), ""]))
    return "\n".join(lines) + "\n"


def describe_measure(used: dict[str, list[str]]) -> str:
    """What the numbers are, in one sentence."""
    if not used["protocol"]:
        return "No video has been scored."
    named = ", ".join(f"{name} {' and '.join(used[name])}" for name in ("protocol", "flow", "size"))
    return f"OPW (flow-warping error; lower is steadier): {named}; sum over frame pairs / number of frames."


def to_csv(rows: Sequence[Row]) -> str:
    """All columns with full precision, missing values empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_json(rows: Sequence[Row]) -> str:
    """``{"measured_with": ..., "mean": ..., "videos": [...]}``, all columns with full precision."""
    document = {"measured_with": measured_with(rows), "mean": mean_row(rows), "videos": list(rows)}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_parquet(rows: Sequence[Row]) -> bytes:
    """All columns, typed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = dict.fromkeys(COLUMNS, pa.string())
    kinds |= dict.fromkeys(("frames", "scenes", "width", "height"), pa.int64())
    kinds |= dict.fromkeys((*SCORED, "ratio"), pa.float64())
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=pa.schema(list(kinds.items()))), sink, compression="zstd")
    return sink.getvalue()


def as_document(rows: Sequence[Row]) -> Document:
    """The table for people as a section, for the formats that benchmarks have too."""
    used, mean, shown = measured_with(rows), mean_row(rows), _shown(rows)
    names = ("video_id", "frames", "scenes", *shown, "ratio", "status")
    columns = [Column(name, name, 4 if name in shown else 3, text=name in ("video_id", "status")) for name in names]
    lines = [Line({name: Cell(row[name]) for name in names} | {"status": Cell(_status(row))}) for row in rows]
    total = {"video_id": f"mean of {mean['videos']}"} | {name: mean[name] for name in (*shown, "ratio")}
    lines.append(Line({name: Cell(value) for name, value in total.items()}))
    facts = {name: ", ".join(values) or "none" for name, values in used.items()}
    return Document("videos", (), [Section("OPW by video", facts, columns, lines)])


def _encoded(text: Callable[[Sequence[Row]], str]) -> Callable[[Sequence[Row]], bytes]:
    return lambda rows: text(rows).encode("utf-8", "surrogateescape")


FORMATS: dict[str, Callable[[Sequence[Row]], bytes]] = {
    "md": _encoded(to_markdown),
    "latex": lambda rows: to_latex(as_document(rows)),
    "html": lambda rows: to_html(as_document(rows)),
    "csv": _encoded(to_csv),
    "json": _encoded(to_json),
    "parquet": to_parquet,
}


def _shown(rows: Sequence[Row]) -> list[str]:
    """Results with a column in the tables for people: the four of a run, and the optimised one where there is one."""
    return [name for name in SCORED if name in RESULTS or any(row[name] is not None for row in rows)]


def _status(row: Row) -> str:
    return str(row["status"]) if row["status"] == "done" else f"failed: {row['reason']}"


def _numbers(row: Row, shown: Sequence[str]) -> list[str]:
    return ["" if row[name] is None else f"{row[name]:.4f}" for name in shown] + [
        "" if row["ratio"] is None else f"{row['ratio']:.3f}"
    ]
