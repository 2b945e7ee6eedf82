"""What a benchmark leaves: one row per set, video, predictor and method, and the seconds it took apart from it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage import StorageError
from storage.locations import join, read_json, write_bytes_atomic, write_json_atomic

Row = dict[str, Any]
RESULTS_FILE, RUNTIME_FILE, ABOUT_FILE = "results.parquet", "runtime.parquet", "bench.json"
ABOUT_FORMAT = {"format": "nvds-bench", "format_version": 1}

STABILIZED = ("forward", "backward", "mix")
TUNED = ("tto", "cvd")  # fine-tuned on the video; the result is "optimized"
CONTROLS = ("box", "constant")
METHODS = ("initial", *STABILIZED, *TUNED, *CONTROLS)

_KINDS = {"text": pa.string(), "int": pa.int64(), "real": pa.float64()}
_COMMON = "delta1 delta2 delta3 abs_rel rmse log10 scale shift scale_spread shift_spread tae"
_PUBLISHED = "published_delta1 published_delta2 published_delta3 published_abs_rel published_rmse"


def _schema(**columns: str) -> pa.Schema:
    return pa.schema([(name, _KINDS[kind]) for kind, names in columns.items() for name in names.split()])


RESULTS = _schema(
    text="set kind place video predictor method status step reason message video_id split quantity align crop area "
    "published precision stabilizer flow predictor_digest stabilizer_digest flow_digest choice frame_digest key",
    int="frames width height truth_width truth_height n_frames n_pixels n_missing pairs",
    real=f"cap {_COMMON} {_PUBLISHED} opw opw_masked",
)
RUNTIME = _schema(
    text="set video predictor method device precision size key",
    int="frames",
    real="ms_per_frame peak_rss_mb peak_gpu_mb",
)
IDENTITY = ("set", "video", "predictor", "method")


def precision_used(config: Mapping[str, Any], *, tuned: bool, stabilized: bool) -> str:
    """The arithmetic of the networks behind a result, with a plus where predictor and stabiliser differ.

    Args:
        config: settings of the run, as recorded.
        tuned: the predictor was fine-tuned, which is done in PyTorch's own float32 whatever the settings say.
        stabilized: the result is that of the stabiliser.
    """
    predictor = "fp32" if tuned else config["predictor"]["precision"]
    used = [predictor, config["stabilizer"]["precision"]] if stabilized else [predictor]
    return " + ".join(dict.fromkeys(used))


def read_rows(out: Path, file: str) -> list[Row]:
    """The rows of a benchmark; none if it was never run.

    Raises:
        StorageError: ``format``: damaged.
    """
    path = out / file
    if not path.is_file():
        return []
    try:
        rows: list[Row] = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        message = f"{path}: damaged ({error}); remove it and run nvds bench again: what was computed is kept"
        raise StorageError(message, reason="format") from None
    return rows


def write_rows(out: Path, file: str, rows: Sequence[Row]) -> None:
    """Write all rows, sorted by what they are about; missing columns are null."""
    schema = RESULTS if file == RESULTS_FILE else RUNTIME
    ordered = sorted(rows, key=identity)
    complete = [{name: row.get(name) for name in schema.names} for row in ordered]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(complete, schema=schema), sink, compression="zstd")
    write_bytes_atomic(out / file, sink.getvalue())


def identity(row: Row) -> tuple[Any, ...]:
    """What a row is about; methods in the order of `METHODS`."""
    name, video, predictor, method = (row[key] for key in IDENTITY)
    return name, predictor, METHODS.index(method), video


def claim(out: Path) -> None:
    """Mark a folder as a benchmark's.

    Raises:
        StorageError: another version wrote there, or it cannot be written.
    """
    if is_bench(out):
        return
    write_json_atomic(out / ABOUT_FILE, ABOUT_FORMAT)


def is_bench(out: str | Path) -> bool:
    """Whether a folder is a benchmark's.

    Raises:
        StorageError: ``format``: another version wrote it.
    """
    try:
        found = read_json(join(str(out), ABOUT_FILE))
    except StorageError as error:
        if error.reason != "absent":
            raise
        return False
    if found != ABOUT_FORMAT:
        raise StorageError(f"{out}: {found}, this version writes {ABOUT_FORMAT}; choose another", reason="format")
    return True
