"""Poses from COLMAP against the poses of a data set: `python -m benchmarks.poses [--json]`.

The scene is ../shared/data/rgbd_scene (7-Scenes, every third frame): 40 frames, those nearest to a stride of 5 in the
original numbering. The given poses are those of the depth camera's tracker, so what differs is not all COLMAP's error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from nvds_core.geometry.colmap import ColmapConfig, PoseResult, estimate_poses
from nvds_core.geometry.poses import read_poses
from nvds_core.geometry.poses_error import PoseErrors, pose_errors
from nvds_core.types import Camera

SCENE = Path(__file__).resolve().parents[2] / "shared" / "data" / "rgbd_scene"
SIZE = (640, 480)
FRAMES, STRIDE, STORED_STRIDE = 40, 5, 3
COLOUR_FOCAL = 525.0
"""Pixels; what is known of the colour camera. The scene's own file (585) is about the depth camera."""


@dataclass(frozen=True)
class PoseRow:
    """One way to run COLMAP: frames registered, errors against the given poses, focal length, cost."""

    name: str
    status: str
    registered: int
    total: int
    focal: float
    points_per_frame: float
    errors: PoseErrors | None
    seconds: float
    cpu_seconds: float


def scene_frames(scene: Path = SCENE) -> list[Path]:
    """The colour frames nearest to every fifth of the original numbering."""
    numbers = [round(STRIDE * index / STORED_STRIDE) * STORED_STRIDE for index in range(FRAMES)]
    return [scene / f"frame-{number:06d}.color.jpg" for number in numbers]


def measure(
    name: str, frames: list[Path], given: dict[str, Camera], config: ColmapConfig
) -> tuple[PoseRow, PoseResult]:
    """Run COLMAP once and compare."""
    wall, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    result = estimate_poses(frames, config=config)
    seconds = time.perf_counter() - wall
    row = PoseRow(
        name=name,
        status=result.status,
        registered=result.registered,
        total=result.total,
        focal=next((camera.intrinsics[0] for camera in result.cameras.values()), float("nan")),
        points_per_frame=float(np.median([len(seen) for seen in result.points.values()] or [0])),
        errors=pose_errors(result.cameras, given) if result.cameras else None,
        seconds=seconds,
        cpu_seconds=resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - cpu,
    )
    return row, result


def measure_scene(*, threads: int = 1, scene: Path = SCENE) -> tuple[list[PoseRow], dict[str, PoseResult]]:
    """The focal length unknown, and known; rows and the results by the name of the row."""
    frames = scene_frames(scene)
    given = read_poses(scene, frame_names=[path.name for path in frames], frame_size=SIZE)
    centre = (SIZE[0] - 1) / 2, (SIZE[1] - 1) / 2
    unknown = ColmapConfig(features=2048, threads=threads)
    known = dataclasses.replace(unknown, intrinsics=(COLOUR_FOCAL, COLOUR_FOCAL, *centre))
    configs = {"focal length estimated": unknown, f"focal length {COLOUR_FOCAL:g} given": known}
    measured = {name: measure(name, frames, given, config) for name, config in configs.items()}
    return [row for row, _ in measured.values()], {name: result for name, (_, result) in measured.items()}


def table(rows: list[PoseRow]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| COLMAP, 40 frames of rgbd_scene | registered | focal | points/frame | ATE (of extent) | rotation | per step "
        "| CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.errors is None:
            lines.append(
                f"| {row.name} | {row.registered}/{row.total}, {row.status} | | | | | | {row.cpu_seconds:.0f} |"
            )
            continue
        lines.append(
            f"| {row.name} | {row.registered}/{row.total} | {row.focal:.1f} | {row.points_per_frame:.0f} | "
            f"{100 * row.errors.position_rmse:.1f} cm ({row.errors.position_rmse / row.errors.extent:.1%}) | "
            f"{row.errors.rotation_deg:.2f}° | {row.errors.step_rotation_deg:.2f}° | {row.cpu_seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="threads of COLMAP; with more the result may vary")
    parser.add_argument("--json", action="store_true", help="one JSON line instead of a table")
    options = parser.parse_args()
    if not SCENE.is_dir():
        print("../shared/data/rgbd_scene is not beside this checkout: nothing measured")
        return
    rows, _ = measure_scene(threads=options.threads)
    if options.json:
        print(
            json.dumps(
                {
                    "benchmark": "poses",
                    "pycolmap": version("pycolmap"),
                    "rows": [dataclasses.asdict(row) for row in rows],
                }
            )
        )
    else:
        print(table(rows))


if __name__ == "__main__":
    main()
