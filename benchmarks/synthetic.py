"""How fast synthetic scenes render on one core: `python -m benchmarks.synthetic [--json]`.

Every figure is the best of several rounds over the same scenes, which is what the code costs when nothing else
disturbs it; CPU seconds are given beside wall seconds so that a busy machine shows.
"""

from __future__ import annotations

import argparse
import json
import platform
import time

import cv2
import numpy as np

from nvds_core.synthetic import Scene, make_scene, render
from nvds_core.synthetic.textures import texture_bank

SIZES = ((192, 128), (256, 192), (448, 192))
FRAMES_PER_SCENE = 6


def best_seconds(scenes: list[Scene], rounds: int, flow: bool) -> tuple[float, float]:
    """Wall and CPU seconds to render all scenes once, best of the rounds."""
    measured = []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        for scene in scenes:
            render(scene, flow=flow)
        measured.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(wall for wall, _ in measured), min(cpu for _, cpu in measured)


def measure(seeds: int, rounds: int) -> list[dict[str, float | str]]:
    """One row per picture size: frames per second with and without flow, and what making a scene costs."""
    texture_bank()
    rows: list[dict[str, float | str]] = []
    for width, height in SIZES:
        start = time.perf_counter()
        scenes = [make_scene(seed, frames=FRAMES_PER_SCENE, size=(width, height)) for seed in range(seeds)]
        making = (time.perf_counter() - start) / seeds
        frames = seeds * FRAMES_PER_SCENE
        plain, plain_cpu = best_seconds(scenes, rounds, flow=False)
        full, full_cpu = best_seconds(scenes, rounds, flow=True)
        rows.append(
            {
                "size": f"{width}x{height}",
                "frames_per_s": frames / plain,
                "frames_per_cpu_s": frames / plain_cpu,
                "with_flow_per_s": frames / full,
                "with_flow_per_cpu_s": frames / full_cpu,
                "make_scene_ms": 1e3 * making,
                "solids_per_scene": float(np.mean([len(scene.solids) for scene in scenes])),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=24, help="scenes to render")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; the best counts")
    parser.add_argument("--json", action="store_true", help="one JSON line instead of a table")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rows = measure(options.seeds, options.rounds)
    if options.json:
        machine = {"machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__}
        print(json.dumps({"benchmark": "synthetic", **machine, "rows": rows}))
        return
    print("size      frames/s  (per CPU s)  with flow/s  (per CPU s)  make_scene ms  solids")
    for row in rows:
        print(
            f"{row['size']:8} {row['frames_per_s']:9.1f} {row['frames_per_cpu_s']:12.1f}"
            f" {row['with_flow_per_s']:12.1f} {row['with_flow_per_cpu_s']:12.1f}"
            f" {row['make_scene_ms']:14.1f} {row['solids_per_scene']:7.1f}"
        )


if __name__ == "__main__":
    main()
