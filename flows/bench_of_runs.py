"""Output folders of ``nvds run`` in the rows of a benchmark: OPW, run time and failures, without truth."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from flows.bench_rows import STABILIZED, Row
from flows.bench_runtime import COSTS, seconds_of_steps
from storage import settled_videos
from storage.catalog import read_record
from storage.locations import join
from storage.urls import last_part
from tasks.workspace import public_text

UNRECORDED = "not recorded"  # a run keeps no device
_ABOUT = {"kind": "run", "split": "all videos of the run", "quantity": "none", "crop": "none"}


def rows_of_run(out: str) -> list[Row]:
    """One row per video and result; a failed video has one row, of its initial disparity.

    Raises:
        StorageError: ``absent``: nothing was ever run into this folder.
    """
    rows = []
    for settled in settled_videos(out):
        record = _record(out, settled)
        common = {
            **_ABOUT,
            "set": public_text(last_part(out)),
            "video": settled["video_id"],
            "video_id": settled["video_id"],
        }
        common |= {name: settled[name] for name in ("status", "frames", "width", "height", "key")}
        if record is None:
            failure = {name: settled[name] for name in ("step", "reason", "message")}
            rows.append(common | failure | {"status": "failed", "predictor": UNRECORDED, "method": "initial"})
            continue
        named = common | _made_with(record)
        for result, score in (settled["opw"] or {"initial": {"value": None}}).items():
            method = _method(result, record)
            stabilizer = named["stabilizer"] if method in STABILIZED else None
            digest = named["stabilizer_digest"] if stabilizer else None
            made = {"stabilizer": stabilizer, "stabilizer_digest": digest}
            rows.append(named | made | {"method": method, "opw": score["value"]})
    return [row | {name: None for name in _UNMEASURED if name not in row} for row in rows]


def timed_of_run(out: str) -> list[Row]:
    """Milliseconds per frame of every finished video and result, where its steps were seen at work."""
    seconds = seconds_of_steps(out)
    memory = {row["video_id"]: row["peak_rss_mb"] for row in settled_videos(out)}
    timed = []
    for row in rows_of_run(out):
        steps = [seconds.get((row["video_id"], step)) for step in COSTS[row["method"]]]
        spent = [value for value in steps if value is not None]
        if row["status"] != "done" or len(spent) < len(steps):
            continue
        kept = {name: row[name] for name in ("set", "video", "predictor", "method", "precision", "frames")}
        size = f"{row['width']}x{row['height']}"
        timed.append(
            kept
            | {"ms_per_frame": 1000 * sum(spent) / row["frames"], "device": UNRECORDED, "size": size}
            | {"peak_rss_mb": memory[row["video_id"]], "peak_gpu_mb": None}
        )
    return timed


def _record(out: str, settled: Mapping[str, Any]) -> dict[str, Any] | None:
    if settled["status"] != "done":
        return None
    return read_record(join(out, "videos", settled["video_id"]))


def _made_with(record: Mapping[str, Any]) -> dict[str, Any]:
    weights, config = record["weights"], record["config"]
    return {
        "predictor": config["predictor"]["name"],
        "precision": config["predictor"]["precision"],
        "stabilizer": config["stabilizer"]["name"],
        **{f"{part}_digest": weights[part] for part in ("predictor", "stabilizer", "flow")},
        "frame_digest": hashlib.sha256(record["source"]["digest"].encode()).hexdigest(),
    }


def _method(result: str, record: Mapping[str, Any]) -> str:
    if result != "optimized":
        return result
    return "cvd" if record["config"]["tto"]["tune"]["method"] == "cvd" else "tto"


_UNMEASURED = (
    *("step", "reason", "message", "predictor_digest", "stabilizer_digest", "flow_digest", "frame_digest"),
    *("cap", "area", "align", "published", "precision", "stabilizer", "opw", "opw_masked", "scale_spread"),
    *("n_pixels", "n_missing", "delta1", "abs_rel", "rmse", "log10", "tae"),
)
