"""Figures of the test-time optimisation: `python -m benchmarks.tto [--only PART,...] [--json]`.

`exact`: the pseudo reference depth on synthetic rooms with exact flow and poses. `poses`: COLMAP and the references on
real footage (`benchmarks.tto_scene`). `references`: what a pair costs on one core. `tuning`: fine-tuning
(`benchmarks.tto_tuning`), minutes per video. `memory`: long videos.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import tto_scene, tto_tuning
from nvds_core import tto
from nvds_core.memory import peak_memory
from nvds_core.synthetic.still import ExactVideo, still_scene

MOTIONS = ("sideways", "diagonal", "forward")
SIZE = (384, 288)
FRAMES = 9
LENGTHS = (60, 244)
PARTS = ("exact", "poses", "references", "tuning", "memory")
Row = dict[str, Any]


def exactness(seed: int) -> list[Row]:
    """Median relative error of fused references of the first and the middle frame, our formula and the released one.

    The released one is given the true depth of the other frame: it cannot do better with a network's.
    """
    rows = []
    for motion in MOTIONS:
        video = ExactVideo(still_scene(seed, motion, frames=FRAMES, size=SIZE))
        pairs = [pair for pair in tto.pair_indices(FRAMES) if pair[0] in (0, FRAMES // 2)]
        for variant in ("ours", "published"):
            errors, worst = {}, 0.0
            for frame, fused in tto.fuse_frames(pairs, partial(candidate, video, variant)):
                known = fused.valid.numpy()
                error = np.abs(fused.depth.numpy()[known] / video.depth[frame][known] - 1)
                errors[frame] = float(np.median(error))
                worst = max(worst, float(error.max()))
            rows.append(
                {
                    "motion": motion,
                    "variant": variant,
                    "first": errors[0],
                    "middle": errors[FRAMES // 2],
                    "worst": worst,
                }
            )
    return rows


def candidate(video: ExactVideo, variant: str, i: int, j: int) -> tuple[Tensor, Tensor]:
    """The candidate of one pair where its pixels are really seen in the other frame."""
    flow, hidden = video.flow(i, j)
    lens = torch.from_numpy(video.scene.intrinsics)
    pose = torch.from_numpy(video.relative_pose(i, j))[None]
    truth = torch.from_numpy(video.depth[j])[None] if variant == "published" else None
    found = tto.pseudo_reference(
        torch.from_numpy(flow)[None],
        lens[i : i + 1],
        lens[j : j + 1],
        pose,
        variant="published" if variant == "published" else "ours",
        depth_j=truth,
    )
    return found.depth[0], found.valid[0] & torch.from_numpy(~hidden)


def speed(rounds: int) -> list[Row]:
    """Milliseconds on one core, the best of several rounds, for pictures of 384 x 288."""
    torch.manual_seed(0)
    width, height = SIZE
    flow = torch.randn(1, 2, height, width) * 5
    lens = torch.tensor([[300.0, 300.0, 191.5, 143.5]], dtype=torch.float64)
    pose = torch.tensor([[[1.0, 0, 0.02, 0.1], [0, 1, 0, 0.02], [-0.02, 0, 1, 0.03]]], dtype=torch.float64)
    depths, valid = torch.rand(16, height, width) + 1, torch.rand(16, height, width) > 0.3
    cases: dict[str, Callable[[], object]] = {
        "pseudo reference of a pair": lambda: tto.pseudo_reference(flow, lens, lens, pose),
        "consistency mask of a pair": lambda: tto.consistency_mask(flow, -flow),
        "median and confidence of 16 candidates": lambda: tto.fuse(depths, valid),
    }
    return [{"what": name, "ms": 1e3 * best_seconds(case, rounds)} for name, case in cases.items()]


def best_seconds(case: Callable[[], object], rounds: int) -> float:
    """CPU seconds of the best round: what the code costs when nothing else disturbs it."""
    measured = []
    for _ in range(rounds):
        start = time.process_time()
        case()
        measured.append(time.process_time() - start)
    return min(measured)


def memory() -> list[Row]:
    """Pairs, seconds and peak memory of the references of videos of several lengths, each in a fresh process."""
    rows = []
    for frames in LENGTHS:
        command = [sys.executable, "-m", "benchmarks.tto", "--stream", str(frames)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return rows


def stream_references(frames: int) -> Row:
    """Mask, pair references and fusion of a video whose flow is made when it is asked for, as a store would read it."""
    width, height = SIZE
    lens = torch.tensor([[300.0, 300.0, 191.5, 143.5]], dtype=torch.float64)
    slope = torch.linspace(0.5, 1.5, height).view(-1, 1).expand(height, width)  # inverse depth of a slanted floor

    def made(i: int, j: int) -> tuple[Tensor, Tensor]:
        flow = torch.stack((300.0 * 0.01 * (i - j) * slope, torch.zeros_like(slope)))[None]
        pose = torch.eye(3, 4, dtype=torch.float64)[None].clone()
        pose[0, 0, 3] = 0.01 * (i - j)
        found = tto.pseudo_reference(flow, lens, lens, pose)
        return found.depth[0], found.valid[0] & tto.consistency_mask(flow, -flow)[0]

    pairs, imports = tto.pair_indices(frames), peak_memory()
    start = time.process_time()
    share = [float(fused.valid.float().mean()) for _, fused in tto.fuse_frames(pairs, made)]
    seconds = time.process_time() - start
    about = {"valid": min(share), "seconds": seconds, "imports_mb": imports, "peak_mb": peak_memory()}
    return {"frames": frames, "pairs": len(pairs), **about}


def show_exactness(rows: list[Row]) -> None:
    print(f"Pseudo reference depth, exact flow and poses, {SIZE[0]}x{SIZE[1]}, {FRAMES} frames: relative error")
    print("| motion | formula | first frame, median | middle frame, median | worst pixel |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['motion']} | {row['variant']} | {row['first']:.1e} | {row['middle']:.1e} | {row['worst']:.1e} |")


def show_speed(rows: list[Row]) -> None:
    print(f"\nOne core, {SIZE[0]}x{SIZE[1]}, CPU time of the best round")
    for row in rows:
        print(f"{row['what']}: {row['ms']:.2f} ms")


def show_memory(rows: list[Row]) -> None:
    print("\nReferences of a long video, streamed, each length in a process of its own")
    for row in rows:
        print(
            f"{row['frames']} frames: {row['pairs']} directed pairs, peak memory {row['peak_mb']:.0f} MB "
            f"({row['imports_mb']:.0f} of them after the imports), {row['seconds']:.1f} s of CPU"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts to measure, of {', '.join(PARTS)} [all]")
    parser.add_argument("--seed", type=int, default=3, help="of the exact scenes")
    parser.add_argument("--rounds", type=int, default=100, help="repetitions of the timings; the best counts")
    parser.add_argument("--json", action="store_true", help="one JSON line instead of tables")
    parser.add_argument("--stream", type=int, default=0, help=argparse.SUPPRESS)
    tto_tuning.add_options(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.stream:
        print(json.dumps(stream_references(options.stream)))
        return
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; take some of {','.join(PARTS)}")
    results: dict[str, Any] = {}
    steps: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
        "exact": (lambda: exactness(options.seed), show_exactness),
        "poses": (tto_scene.run, tto_scene.show),
        "references": (lambda: speed(options.rounds), show_speed),
        "tuning": (lambda: tto_tuning.measure(options, quiet=options.json), lambda rows: None),
        "memory": (memory, show_memory),
    }
    for part in parts:
        measured, shown = steps[part]
        results[part] = measured()
        if not options.json:
            shown(results[part])
            sys.stdout.flush()
    if options.json:
        machine = {"machine": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
        print(json.dumps({"benchmark": "tto", **machine, **results}))


if __name__ == "__main__":
    main()
