"""The tables of benchmarks: from output folders to files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from flows.bench_formats import FORMATS, SUFFIXES
from flows.bench_layouts import common_document, failures_document, nvds_document, runtime_document
from flows.bench_of_runs import rows_of_run, timed_of_run
from flows.bench_rows import IDENTITY, RESULTS_FILE, RUNTIME_FILE, Row, is_bench, read_rows
from flows.bench_sections import Document
from storage.locations import write_bytes_atomic
from tasks.workspace import public_text

Layout = Literal["nvds", "common", "runtime", "failures"]
LAYOUTS: Mapping[str, Callable[[Sequence[Row], Sequence[Row], bool], Document]] = {
    "nvds": nvds_document,
    "common": common_document,
    "runtime": runtime_document,
    "failures": failures_document,
}


def bench_document(outs: Sequence[str], layout: Layout, *, published: bool = False) -> Document:
    """The tables of one layout over one or more output folders of ``nvds bench`` or ``nvds run``.

    Raises:
        StorageError: ``absent`` for a folder that is neither, ``format`` for a damaged one.
    """
    return LAYOUTS[layout](_joined(outs, RESULTS_FILE), _joined(outs, RUNTIME_FILE), published)


def _joined(outs: Sequence[str], file: str) -> list[Row]:
    """The rows of all folders; what several of them have is told apart by the folder's name behind the predictor."""
    rows: list[Row] = []
    folders = [public_text(Path(out).absolute().name) for out in outs]
    for number, (out, folder) in enumerate(zip(outs, folders, strict=True), start=1):
        label = folder if folders.count(folder) == 1 else f"{folder} {number}"
        taken = {tuple(row[name] for name in IDENTITY) for row in rows}
        for row in _rows_of(out, file):
            same = tuple(row[name] for name in IDENTITY) in taken
            rows.append({**row, "predictor": f"{row['predictor']} ({label})"} if same else row)
    return rows


def _rows_of(out: str, file: str) -> list[Row]:
    if is_bench(out):
        return read_rows(Path(out), file)
    return timed_of_run(out) if file == RUNTIME_FILE else rows_of_run(out)


def bench_bytes(outs: Sequence[str], layout: Layout, format: str, *, published: bool = False) -> bytes:
    """`bench_document` as a file of one of `FORMATS`."""
    return FORMATS[format](bench_document(outs, layout, published=published))


def write_tables(out: Path) -> dict[str, bytes]:
    """Write all layouts into ``out/tables``; returns the content by file name.

    All but the run time are the same bytes for the same results.
    """
    written = {}
    for layout in LAYOUTS:
        document = bench_document([str(out)], layout)  # type: ignore[arg-type]
        for format, encode in FORMATS.items():
            name = f"{layout}.{SUFFIXES.get(format, format)}"
            written[name] = encode(document)
            write_bytes_atomic(out / "tables" / name, written[name])
    return written
