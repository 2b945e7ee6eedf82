"""Does decoding need more memory for longer videos? Peak memory of 100 and of 2,000 frames, each in a fresh process.

Run: python -m benchmarks.decode_memory [--json]
Exit code 1 if the longer clip needed more than `ALLOWED_GROWTH_MB` above the shorter one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nvds_core.memory import peak_memory
from nvds_core.video import CutDetector, open_video, write_h264

LENGTHS = (100, 2000)
WIDTH, HEIGHT = 320, 240
ALLOWED_GROWTH_MB = 10.0  # one percent of what 1,900 more frames would take if they were kept is 4 MB


def moving_texture(count: int) -> Iterator[np.ndarray]:
    """RGB frames of a random texture that moves one pixel per frame and changes every 400 frames, seeded."""
    for index in range(count):
        if index % 400 == 0:
            rng = np.random.default_rng(index)
            coarse = rng.integers(0, 256, (HEIGHT // 16, (WIDTH + 400) // 16, 3), dtype=np.uint8)
            texture = coarse.repeat(16, axis=0).repeat(16, axis=1)
        yield texture[:, index % 400 : index % 400 + WIDTH]


def decode(path: Path) -> dict[str, float]:
    """Decode one clip and look for cuts; report frames, cuts, frames per second and peak memory of this process."""
    start = time.perf_counter()
    detector = CutDetector()
    with open_video(path) as reader:
        for frame in reader:
            detector.push(frame.rgb)
    seconds = time.perf_counter() - start
    peak = peak_memory()
    cuts = len(detector.finish())
    return {
        "frames": reader.decoded,
        "cuts": cuts,
        "fps": round(reader.decoded / seconds, 1),
        "peak_mb": round(peak, 1),
    }


def measure(folder: Path) -> list[dict[str, float]]:
    """Make each clip, decode it in a process of its own, return the reports."""
    reports = []
    for length in LENGTHS:
        path = folder / f"{length}.mp4"
        write_h264(path, moving_texture(length), fps=24)
        command = [sys.executable, "-m", "benchmarks.decode_memory", "--decode", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        reports.append(json.loads(done.stdout))
    return reports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--decode", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    arguments = parser.parse_args()
    if arguments.decode:
        print(json.dumps(decode(arguments.decode)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        reports = measure(Path(folder))
    growth = reports[-1]["peak_mb"] - reports[0]["peak_mb"]
    if arguments.json:
        machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
        print(json.dumps({"clips": reports, "growth_mb": round(growth, 1), **machine}))
    else:
        for report in reports:
            print("{frames:>5} frames: peak {peak_mb:7.1f} MB, {fps:7.1f} frames/s, {cuts} cuts".format(**report))
        print(f"growth: {growth:.1f} MB (allowed {ALLOWED_GROWTH_MB:.0f}; kept frames would take 438 MB)")
    return int(growth > ALLOWED_GROWTH_MB)


if __name__ == "__main__":
    sys.exit(main())
