"""What does the machinery around the work cost, and does it stay so for thousands of clips?

    python -m benchmarks.scale [overhead] [many] [workers] [status] [--clips 1000] [--many 10000] [--json FILE]

overhead: clips of 8 frames at 96x64 with `tiny`, by two workers, beside the same steps of 200 of them in a plain loop
          of this process (no Prefect, no Dask, one by one, straight after); memory of the main process over
          the run; the finished run once more.
many:     the same machinery with a network that does nothing, for a tenth of the clips and for all of them.
workers:  two workers against one on long clips, one torch thread each: with one video at a time in a worker, and with
          three side by side as usual, where a worker alone already decodes, scores and writes on the other core.
          What the machine itself allows stands beside it: plain loops in two processes at once against one.
status:   `nvds status` on an output of so many clips while half of them are done, in a fresh process.

Starting the server and the workers is told apart from the rest. Every figure is printed with how many clips it is of.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.scale_output import pretend_run

SIZE, FRAMES, FPS = (96, 64), 8, 12
LONG_CLIPS, LONG_FRAMES = 8, 256
ALONE_CLIPS = 2  # per process without the machinery
LOOP_CLIPS = 200  # of the plain loop, which is steady
SMALL = {"frames": {"size": {"short_side": 64}}}
IDLE = {"predictor": {"name": "idle"}, "stabilizer": {"name": "none"}, "score": {"name": "none"}}
PLUGIN = """
class Idle:
    name, digest, short_side, multiple = "idle", "idle:1", 64, 32
    def __init__(self, device):
        pass
    def predict(self, unit_rgb):
        return unit_rgb[..., 0].astype("float32")
"""
Figures = dict[str, Any]


def make_clips(folder: Path, count: int, frames: int = FRAMES) -> Path:
    """So many clips of different content: one film, each copy with a box of its own that decoders skip."""
    from nvds_core.synthetic import make_scene, render_frame
    from nvds_core.video import write_h264

    folder.mkdir(parents=True)
    scene = make_scene(3, frames=frames, size=SIZE)
    film = folder.parent / f"film-{frames}.mp4"
    write_h264(film, [render_frame(scene, index).rgb for index in range(frames)], fps=FPS)
    content = film.read_bytes()
    for index in range(count):
        box = struct.pack(">I4sQ", 16, b"free", index)
        (folder / f"clip{index:05d}.mp4").write_bytes(content + box)
    return folder


class Watch:
    """A reporter that notes when the run began to work and how much memory it had after each video."""

    def __init__(self) -> None:
        self.began = 0.0
        self.times: list[float] = []
        self.memory_mb: list[float] = []

    def start(self, plan: object) -> None:
        self.began = time.perf_counter()

    def video(self, outcome: object) -> None:
        self.times.append(time.perf_counter())
        self.memory_mb.append(psutil.Process().memory_info().rss / 1e6)

    def finish(self) -> None:
        return None

    def steady_ms(self) -> float:
        """Milliseconds per clip over the second half, when all workers have loaded their models."""
        half = len(self.times) // 2
        return 1e3 * (self.times[-1] - self.times[half]) / max(1, len(self.times) - 1 - half)

    def slope_kb(self, first: int) -> float:
        """Growth per video from the video of that number on, by least squares."""
        rest = self.memory_mb[first:]
        return float(np.polyfit(np.arange(len(rest)), rest, 1)[0] * 1e3) if len(rest) > 1 else float("nan")


def run(inputs: Path, out: Path, settings: Figures, workers: int = 0) -> tuple[Figures, Watch]:
    """One run as `nvds run` does it: seconds of planning, of starting server and workers, and of the rest."""
    from flows.config import RunConfig, build
    from flows.launch import execute, prepare
    from flows.reporting import reporting

    config = build(RunConfig, SMALL | settings, "benchmark")
    config = replace(config, workers=replace(config.workers, count=workers))
    watch, started = Watch(), time.perf_counter()
    job = prepare([str(inputs)], str(out), config)
    planned = time.perf_counter()
    with reporting(watch):
        summary = execute(job)
    ended = time.perf_counter()
    assert summary["failed"] == 0, summary
    seconds = {"planning_s": planned - started, "starting_s": watch.began - planned, "working_s": ended - watch.began}
    return seconds | {"clips": summary["videos"]}, watch


def plain_loop(inputs: Path, out: Path, settings: Figures, most: int) -> float:
    """Milliseconds per clip of the same steps, one after the other without Prefect, over at most so many clips."""
    from flows.chain import process_video
    from flows.config import RunConfig, build
    from flows.planning import plan_run
    from tasks.caching import plain_steps
    from tasks.workspace import make_workspace

    config, workspace = build(RunConfig, SMALL | settings, "benchmark"), make_workspace(str(out))
    videos = plan_run([str(inputs)], workspace, config).videos[:most]
    with plain_steps():
        started = time.perf_counter()
        for video in videos:
            assert process_video(workspace, video, config).status == "done"
        return 1e3 * (time.perf_counter() - started) / len(videos)


def measure_overhead(folder: Path, options: argparse.Namespace) -> Figures:
    clips = make_clips(folder / "in", options.clips)
    first, watch = run(clips, folder / "out", {}, workers=2)
    again, _ = run(clips, folder / "out", {}, workers=2)
    loop_ms = plain_loop(clips, folder / "loop", {}, LOOP_CLIPS)
    side_by_side = min(2, os.cpu_count() or 1)
    work_ms = 1e3 * (first["planning_s"] + first["working_s"]) / options.clips
    parts = ("planning_s", "starting_s", "working_s")
    return first | {
        "ms_per_clip": work_ms,
        "plain_loop_clips": min(LOOP_CLIPS, options.clips),
        "plain_loop_ms_per_clip": loop_ms,
        "overhead_ms_per_clip": work_ms - loop_ms,
        "overhead_over_perfect_sharing_ms_per_clip": work_ms - loop_ms / side_by_side,
        "steady_ms_per_clip": watch.steady_ms(),
        "memory_slope_kb_per_clip": watch.slope_kb(min(200, options.clips // 5)),
        "memory_end_mb": watch.memory_mb[-1],
        "rerun_s": sum(again[name] for name in parts),
        "rerun_share": sum(again[name] for name in parts) / sum(first[name] for name in parts),
    }


def measure_many(folder: Path, options: argparse.Namespace) -> Figures:
    per_clip = {}
    for count in (max(1, options.many // 10), options.many):
        figures, watch = run(make_clips(folder / f"in{count}", count), folder / f"out{count}", IDLE, workers=2)
        per_clip[count] = 1e3 * (figures["planning_s"] + figures["working_s"]) / count
    few, many = per_clip.values()
    slope = watch.slope_kb(min(200, options.many // 5))  # of the longer run
    return {"ms_per_clip": per_clip, "ratio": many / few, "memory_slope_kb_per_clip": slope}


def measure_workers(folder: Path, options: argparse.Namespace) -> Figures:
    clips = make_clips(folder / "in", LONG_CLIPS, options.long_frames)
    found: Figures = {"clips": LONG_CLIPS, "frames": options.long_frames}
    for videos in (1, 3):
        seconds = {}
        for count in (1, 2):
            out = folder / f"out-{videos}-{count}"
            seconds[count] = run(clips, out, {"limits": {"videos": videos}}, workers=count)[0]["working_s"]
        found[f"{videos}_side_by_side"] = {"working_s": seconds, "speed_up": seconds[1] / seconds[2]}
    return found | {"processes_without_machinery": machine_speed_up(folder / "alone", options.long_frames)}


def get_ready(start: Barrier, inputs: str, out: str) -> None:
    """In a process of its own: load the models, then wait until all such processes have."""
    import torch

    torch.set_num_threads(1)
    plain_loop(Path(inputs), Path(out) / str(os.getpid()), {}, 1)
    start.wait()


def machine_speed_up(folder: Path, frames: int) -> float:
    """How much more two processes do than one when they share nothing but the machine."""
    inputs, context, slowest = make_clips(folder / "in", ALONE_CLIPS, frames), multiprocessing.get_context("spawn"), {}
    for count in (1, 2):
        outs = [folder / f"out-{count}-{number}" for number in range(count)]
        ready = (context.Barrier(count), str(inputs), str(folder / f"ready-{count}"))
        with ProcessPoolExecutor(count, context, get_ready, ready) as pool:
            slowest[count] = max(pool.map(partial(plain_loop, inputs, settings={}, most=ALONE_CLIPS), outs))
    return 2 * slowest[1] / slowest[2]


def measure_status(folder: Path, options: argparse.Namespace) -> Figures:
    out = pretend_run(folder / "out", options.many)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        said = subprocess.run(
            [sys.executable, "-c", "from flows.cli import main; main()", "status", out, "--json"],
            capture_output=True,
            check=True,
            text=True,
        )
        seconds.append(time.perf_counter() - started)
    state = json.loads(said.stdout)
    assert (state["done"], state["pending"]) == (options.many // 2, options.many - options.many // 2)
    return {"clips": options.many, "seconds": min(seconds)}


PARTS: dict[str, Callable[[Path, argparse.Namespace], Figures]] = {
    "overhead": measure_overhead,
    "many": measure_many,
    "workers": measure_workers,
    "status": measure_status,
}


def install_plugin(folder: Path) -> None:
    """The network that does nothing, as an installed package of this process and its workers."""
    info = folder / "idle-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "idle.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: idle\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nvds.predictors]\nidle = idle:Idle\n")
    sys.path.insert(0, str(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
    parser.add_argument("--clips", type=int, default=1000, help="of the part overhead")
    parser.add_argument("--many", type=int, default=10_000, help="of the parts many and status")
    parser.add_argument("--long-frames", type=int, default=LONG_FRAMES, help="per clip of the part workers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args()
    import torch

    from flows.cluster import THREAD_VARIABLES

    torch.set_num_threads(1)
    os.environ |= dict.fromkeys(THREAD_VARIABLES, "1")  # of the workers
    machine: Figures = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    machine |= {"torch_threads": 1, "load": os.getloadavg()[0]}
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    found: Figures = {"machine": machine}
    with tempfile.TemporaryDirectory(prefix="nvds-scale-") as root:
        install_plugin(Path(root) / "site")
        for part in options.parts or PARTS:
            found[part] = PARTS[part](Path(root) / part, options)
            print(f"{part}: {json.dumps(found[part])}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
