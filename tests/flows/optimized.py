"""Made videos with their poses, and runs of test-time optimisation on them, in this process or one that dies."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import nvds_core.tto.tuning as tuning
from nvds_core.geometry.colmap import write_pictures
from nvds_core.geometry.poses import write_poses
from nvds_core.synthetic import render_frame
from nvds_core.synthetic.still import still_scene
from nvds_core.types import Camera
from storage import DepthVolume, open_volume
from tests.flows.helpers import Watcher, run

SIZE, FRAMES = (96, 64), 6


def posed_video(folder: Path, motion: str = "sideways", *, frames: int = FRAMES) -> tuple[Path, Path]:
    """A folder of frames and the file of its true poses."""
    scene = still_scene(900, motion, frames=frames, size=SIZE, speed=0.7)
    pictures = [render_frame(scene, k).rgb for k in range(frames)]
    paths = write_pictures(folder / "clip", ((f"frame_{k:03d}", picture) for k, picture in enumerate(pictures)))
    cameras = [
        Camera(path.name, tuple(scene.intrinsics[k].tolist()), *SIZE, scene.cam_from_world[k])
        for k, path in enumerate(paths)
    ]
    write_poses(folder / "poses.json", cameras)
    return folder / "clip", folder / "poses.json"


def settings(poses: Path | None, **tune: Any) -> dict[str, Any]:
    """Of a quick run."""
    branch = {"poses": {"path": str(poses)} if poses else {"features": 500}, "tune": {"epochs": 2, **tune}}
    plain = {"stabilizer": {"name": "none"}, "score": {"name": "none"}, "publish": {"encoding": "float32"}}
    return {**plain, "frames": {"size": {"width": 96, "height": 64}}, "keep": "all", "tto": branch}


def optimized(clip: Path, out: Path, poses: Path | None, **tune: Any) -> tuple[dict[str, Any], Watcher]:
    return run(clip, out, **settings(poses, **tune))


def volume_of(out: Path) -> DepthVolume:
    (folder,) = (out / "videos").iterdir()
    return open_volume(folder)


def die_in_epoch(epoch: int) -> None:
    """Let this process kill itself in the middle of an epoch."""
    whole = tuning._one_epoch

    def partial(network: Any, optimizer: Any, video: Any, *rest: Any) -> None:
        if len(rest[-1].training) == epoch:
            os.kill(os.getpid(), signal.SIGKILL)
        whole(network, optimizer, video, *rest)

    tuning._one_epoch = partial


if __name__ == "__main__":
    die_in_epoch(2)
    optimized(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), epochs=4)
