"""Output folders of ``nvds run`` in the rows of a benchmark: OPW, run time and failures, without truth."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from flows.bench_rows import STABILIZED, Row, precision_used
from flows.bench_runtime import COSTS, seconds_of_steps
from storage import settled_videos
from storage.catalog import read_record
from storage.locations import join
from storage.urls import last_part
from tasks.workspace import public_text

RESULTS = ("initial", "optimized", *STABILIZED)
UNRECORDED = "not recorded"  # a run keeps no device
_ABOUT = {"kind": "run", "split": "all videos of the run", "quantity": "none", "crop": "none"}


def rows_of_run(out: str) -> list[Row]:
    """One row per video and result; a failed video has one row, of its initial disparity.

    What is made of optimised disparity is named after the method and the result, as ``tto+mix``, and counts as failed
    where the video could not be optimised.

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
        failure = {name: settled[name] for name in ("step", "reason", "message")} | {"status": "failed"}
        if record is None:
            rows.append(common | failure | {"predictor": UNRECORDED, "method": "initial"})
            continue
        named = common | _made_with(record)
        account = record.get("tto")
        unscored = RESULTS[: 1 if account is None else 2]
        for result in [name for name in RESULTS if name in settled["opw"]] or unscored:
            stabilized = result in STABILIZED
            row = named | {"method": _method(result, record)}
            row["precision"] = precision_used(
                record["config"], tuned=account is not None and result != "initial", stabilized=stabilized
            )
            if not stabilized:
                row |= {"stabilizer": None, "stabilizer_digest": None}
            untouched = account is not None and account["status"] != "ok" and result != "initial"
            rows.append(row | (failure if untouched else {"opw": settled["opw"].get(result, {}).get("value")}))
    return [row | {name: None for name in _UNMEASURED if name not in row} for row in rows]


def timed_of_run(out: str) -> list[Row]:
    """Milliseconds per frame of every finished video and result, where its steps were seen at work."""
    seconds = seconds_of_steps(out)
    memory = {row["video_id"]: row["peak_rss_mb"] for row in settled_videos(out)}
    timed = []
    for row in rows_of_run(out):
        needed = dict.fromkeys(step for part in row["method"].split("+") for step in COSTS[part])
        steps = [seconds.get((row["video_id"], step)) for step in needed]
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
        "stabilizer": config["stabilizer"]["name"],
        **{f"{part}_digest": weights[part] for part in ("predictor", "stabilizer", "flow")},
        "frame_digest": hashlib.sha256(record["source"]["digest"].encode()).hexdigest(),
    }


def _method(result: str, record: Mapping[str, Any]) -> str:
    tto = record["config"].get("tto")
    if tto is None or result == "initial":
        return result
    tuned = "cvd" if tto["tune"]["method"] == "cvd" else "tto"
    return tuned if result == "optimized" else f"{tuned}+{result}"


_UNMEASURED = (
    *("step", "reason", "message", "predictor_digest", "stabilizer_digest", "flow_digest", "frame_digest"),
    *("cap", "area", "align", "published", "precision", "stabilizer", "opw", "opw_masked", "scale_spread"),
    *("n_pixels", "n_missing", "delta1", "abs_rel", "rmse", "log10", "tae"),
)
