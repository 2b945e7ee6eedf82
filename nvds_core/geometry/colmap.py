"""Camera poses of a video without them: COLMAP's sparse reconstruction in a process of its own.

That COLMAP finds none is an answer, not an error (static camera, pure rotation, no texture, too few frames): the result
then says so, with COLMAP's own last words.
"""

from __future__ import annotations

import importlib.util
import signal
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from nvds_core.geometry.colmap_job import LEAST_FRAMES, ColmapConfig, Run, log_tail, run_job, write_job
from nvds_core.geometry.poses import too_few, usable_frames
from nvds_core.geometry.poses_lens import COLMAP_PIXEL_CENTRE
from nvds_core.types import Camera, ConfigError, PoseError

__all__ = ["ColmapConfig", "PoseResult", "estimate_poses", "write_pictures"]


@dataclass(frozen=True, eq=False)
class PoseResult:
    """What COLMAP found.

    Attributes:
        status: "ok", or "no_poses" when the video goes on without.
        cameras: by frame name, in frame order: the frames to go on with (`usable_frames`); empty without poses.
        points: for each of these frames [n, 3] its triangulated points: u, v in pixels (centres at integers) and depth
            along the optical axis in the unit of the cameras' positions, which is arbitrary.
        registered: frames that got a pose and `LEAST_POINTS` points in the largest model, used or not.
        total: frames given.
        reason: why there are no poses, or which frames are left out; one sentence, or empty.
        log_tail: the last lines of COLMAP's log.
    """

    status: Literal["ok", "no_poses"]
    cameras: dict[str, Camera]
    points: dict[str, NDArray[np.float64]]
    registered: int
    total: int
    reason: str = ""
    log_tail: str = ""


def estimate_poses(
    frames: Path | str | Sequence[Path],
    *,
    config: ColmapConfig | None = None,
    masks: Mapping[str, Path] | None = None,
    scratch: Path | None = None,
) -> PoseResult:
    """Register the frames of a static scene with COLMAP.

    One camera takes all frames; the seeds are fixed. Nothing of COLMAP runs in this process, and the other one ends
    with the call, at the latest after `config.time_limit`.

    Args:
        frames: a folder of numbered pictures, or the pictures in order. Cameras are named by their file names.
        masks: by frame name a picture of the frame's size, black where nothing shall be matched (moving objects).
        scratch: where the database of features is kept while it runs, about 0.3 MB per frame; None takes the system's
            temporary folder.

    Raises:
        ConfigError: pycolmap is not installed.
        PoseError: two frames of one name, or masks of frames that are not given.
        DecodeError: the folder or the first picture cannot be read.
    """
    config = config or ColmapConfig()
    paths = _picture_paths(frames)
    names = [path.name for path in paths]
    if len(paths) < LEAST_FRAMES:
        return _no_poses(f"{len(paths)} frame(s); COLMAP needs at least {LEAST_FRAMES}", 0, len(paths), "")
    unknown = sorted(set(masks or ()) - set(names))
    if unknown:
        raise PoseError(f"mask for {unknown[0]}, which is not among the {len(names)} frames; name masks like frames")
    if importlib.util.find_spec("pycolmap") is None:
        raise ConfigError("pycolmap is not installed; run: pip install 'nvds[tto]', or give poses")
    size = _picture_size(paths[0])
    with tempfile.TemporaryDirectory(prefix="nvds-colmap-", dir=scratch) as folder:
        run = run_job(write_job(Path(folder), paths, masks or {}, size, config), config)
    return _interpret(run, names, size, config)


def write_pictures(folder: Path, frames: Iterable[tuple[str, NDArray[np.uint8]]]) -> list[Path]:
    """Write named frames, RGB uint8 [h, w, 3], as PNG files `<name>.png` for `estimate_poses`; their paths in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rgb in frames:
        path = folder / (name if name.endswith(".png") else f"{name}.png")
        if not cv2.imwrite(str(path), rgb[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            raise PoseError(f"{path}: cannot be written; is the disk full?", reason="unwritable")
        paths.append(path)
    return paths


def _picture_paths(frames: Path | str | Sequence[Path]) -> list[Path]:
    from nvds_core.video.folders import resolve_folder  # the package loads its decoders

    if isinstance(frames, str | Path):
        found = resolve_folder(frames)
        if found is None:
            raise PoseError(f"{frames}: no folder of numbered pictures; give one, or a list of pictures")
        folder, file_names = found
        return [folder / name for name in file_names]
    paths = [Path(path) for path in frames]
    names = [path.name for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PoseError(f"two frames are named {twice}; cameras are told apart by file name")
    return paths


def _picture_size(path: Path) -> tuple[int, int]:
    from nvds_core.video.folders import read_picture

    height, width = read_picture(path).shape[:2]
    return width, height


def _interpret(run: Run, names: Sequence[str], size: tuple[int, int], config: ColmapConfig) -> PoseResult:
    tail = log_tail(run.log)
    total = len(names)
    if run.code is None:
        return _no_poses(f"COLMAP was stopped after {config.time_limit:g} s; allow more time", 0, total, tail)
    if run.code < 0:
        return _no_poses(f"COLMAP crashed ({signal.Signals(-run.code).name})", 0, total, tail)
    if run.code > 0:
        return _no_poses(f"COLMAP stopped with an error: {tail.splitlines()[-1] if tail else 'no log'}", 0, total, tail)
    if not run.result:
        return _no_poses(
            "COLMAP found no model: too little texture, or too little motion of the camera's position", 0, total, tail
        )
    order = {names[int(str(number).split(".")[0])]: row for row, number in enumerate(run.result["names"])}
    used = usable_frames(names, order)
    if len(used) < LEAST_FRAMES:
        return _no_poses(
            f"COLMAP registered {len(order)} of {total} frames, {too_few(len(order), total, LEAST_FRAMES)}",
            len(order),
            total,
            tail,
        )
    cameras, points = {}, {}
    for name in used:
        row = order[name]
        fx, fy, cx, cy = (float(value) for value in run.result["intrinsics"][row])
        lens = (fx, fy, cx - COLMAP_PIXEL_CENTRE, cy - COLMAP_PIXEL_CENTRE)
        cameras[name] = Camera(name, lens, *size, run.result["cam_from_world"][row])
        seen = run.result["points"][run.result["point_image"] == row]
        points[name] = seen - (COLMAP_PIXEL_CENTRE, COLMAP_PIXEL_CENTRE, 0.0)
    left_out = total - len(used)
    reason = f"{left_out} of {total} frames are left out ({len(order)} registered)" if left_out else ""
    return PoseResult("ok", cameras, points, len(order), total, reason, tail)


def _no_poses(reason: str, registered: int, total: int, tail: str) -> PoseResult:
    return PoseResult("no_poses", {}, {}, registered, total, reason, tail)
