"""How long the methods of a benchmark take, from the seconds of each step when it was really computed."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from flows.bench_inputs import BenchVideo
from flows.bench_rows import CONTROLS, IDENTITY, STABILIZED, TUNED, Row, precision_used
from flows.bench_runs import Ran, peak_memory
from flows.tto import STEPS as TTO_STEPS
from storage.tables import read

# What a method costs beyond the frames and the flow that only the score needs; "poses" .. "optimized" fine-tune.
Timings = dict[tuple[str, str], float]
_INITIAL = ("initial",)
COSTS: dict[str, tuple[str, ...]] = {
    "initial": _INITIAL,
    **dict.fromkeys(STABILIZED, (*_INITIAL, "stabilized")),
    **dict.fromkeys(TUNED, (*_INITIAL, *TTO_STEPS)),
}


def runtime_rows(
    methods: Sequence[str],
    predictor: str,
    videos: Sequence[BenchVideo],
    runs: Mapping[str, Mapping[Path, Ran]],
    known: Sequence[Row],
) -> list[Row]:
    """Milliseconds per frame of each method and video; what was measured before and not computed again stays.

    Forward, backward and mix cost the same: both passes come from one walk over the frames.
    """
    before = {tuple(row[name] for name in (*IDENTITY, "key")): row for row in known}
    timings: dict[str, Timings] = {}
    rss, gpu = peak_memory()
    rows = []
    for video in videos:
        for method in methods:
            ran = runs[method if method in TUNED else "main"].get(video.folder)
            if method in CONTROLS or ran is None or ran.record is None or ran.untouched:
                continue
            identity = (video.dataset.name, video.video.name, predictor, method)
            row = dict(zip(IDENTITY, identity, strict=True)) | {"key": ran.record["key"]}
            old = before.get((*identity, ran.record["key"]))
            others = (found[video.folder] for found in runs.values() if video.folder in found)
            precision = precision_used(ran.record["config"], tuned=method in TUNED, stabilized=method in STABILIZED)
            spent = _spent(COSTS[method], timings, [ran, *others])
            if old is not None or spent is None:
                rows += [old | {"precision": precision}] if old is not None else []
                continue
            frames = ran.record["frames"]
            rows.append(
                row
                | {"frames": frames, "size": f"{ran.record['width']}x{ran.record['height']}"}
                | {"ms_per_frame": 1000 * spent / frames, "device": device_name()}
                | {"precision": precision}
                | {"peak_rss_mb": rss, "peak_gpu_mb": gpu}
            )
    return rows


def device_name() -> str:
    """The GPU, or the processor and its number of cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def seconds_of_steps(out: str) -> Timings:
    """Seconds by video and step: the last time the step was computed rather than found."""
    rows: list[dict[str, Any]] = read(out, "timings").to_pylist()
    in_time = sorted(rows, key=lambda row: row["finished_at"])
    return {(row["video_id"], row["step"]): row["seconds"] for row in in_time if not row["cached"]}


def _spent(steps: Sequence[str], timings: dict[str, Timings], places: Sequence[Ran]) -> float | None:
    """Seconds of all steps; None if one of them was never seen at work, as its artifact came from elsewhere.

    All runs of a predictor share their artifacts: the initial disparity of a tuned method may have been computed for
    the main run, the flow of its pairs for another tuned method.

    Args:
        timings: by output folder; what is missing is read.
        places: the method's own run first.
    """
    for place in places:
        if place.workspace.out not in timings:
            timings[place.workspace.out] = seconds_of_steps(place.workspace.out)
    total = 0.0
    for step in steps:
        found = [timings[place.workspace.out].get((place.video_id, step)) for place in places]
        seconds = next((value for value in found if value is not None), None)
        if seconds is None:
            return None
        total += seconds
    return total
