"""Poses in text files without a camera: TUM trajectories and the pose files of 7-Scenes. Both are camera to world."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nvds_core.geometry.camera import Floats, invert_pose
from nvds_core.geometry.poses_common import (
    numbers,
    read_matrix,
    read_table,
    rigid_from_matrix,
    rotation_from_quaternion,
)
from nvds_core.geometry.poses_lens import Lens, checked_lens
from nvds_core.types import Camera, PoseError

POSE_SUFFIX = ".pose.txt"
TRAJECTORY_NAME = "groundtruth.txt"
INTRINSICS_NAMES = ("camera-intrinsics.txt", "intrinsics.txt")


def read_seven_scenes(folder: Path, lens: Lens) -> list[Camera]:
    """The cameras of `<frame>.pose.txt` files, each a 4x4 matrix, in order of their names.

    A file of infinities or NaN only marks a frame whose pose was lost; it is left out.

    Raises:
        PoseError: a file that is no rigid 4x4 matrix; names it.
    """
    cameras = []
    for path in sorted(folder.glob(f"*{POSE_SUFFIX}")):
        matrix = read_matrix(path)
        if not np.isfinite(matrix.ravel()[:12]).any():
            continue
        cam_from_world = invert_pose(rigid_from_matrix(matrix, str(path)))
        name = path.name.removesuffix(POSE_SUFFIX)
        cameras.append(Camera(name, lens.intrinsics, lens.width, lens.height, cam_from_world))
    return cameras


def find_lens(
    place: Path, intrinsics: tuple[float, float, float, float] | None, frame_size: tuple[int, int] | None
) -> Lens:
    """The lens for poses that come without: given, or from `camera-intrinsics.txt` or `intrinsics.txt` beside them.

    The file holds a 3x3 matrix or fx fy cx cy, for frames of `frame_size`, pixel centres at integers.

    Raises:
        PoseError: neither is there, the file is malformed, or the size is not known.
    """
    if frame_size is None:
        raise PoseError(f"{place}: these poses state no frame size; give the frames' width and height")
    if intrinsics is not None:
        return checked_lens(intrinsics, *frame_size, f"intrinsics given for {place}")
    folder = place if place.is_dir() else place.parent
    path = next((folder / name for name in INTRINSICS_NAMES if (folder / name).is_file()), None)
    if path is None:
        raise PoseError(
            f"{place}: these poses come without intrinsics; give fx,fy,cx,cy in pixels of the frames, "
            f"or put {INTRINSICS_NAMES[0]} beside them"
        )
    matrix = read_matrix(path)
    if matrix.shape in ((3, 3), (3, 4), (4, 4)):
        fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    elif matrix.size == 4:
        fx, fy, cx, cy = matrix.ravel()
    else:
        raise PoseError(f"{path}: {matrix.shape[0]}x{matrix.shape[1]} numbers; write a 3x3 matrix or fx fy cx cy")
    return checked_lens((float(fx), float(fy), float(cx), float(cy)), *frame_size, str(path))


def is_trajectory(path: Path) -> bool:
    """Whether a text file's first line of data has the eight columns of a TUM trajectory."""
    table = read_table(path)
    return bool(table) and len(table[0][1]) == 8


def read_trajectory(path: Path) -> tuple[list[float], list[Floats]]:
    """A TUM trajectory, lines of `timestamp tx ty tz qx qy qz qw`: seconds, cam_from_world [3, 4] each.

    Raises:
        PoseError: a line that is malformed, or two of the same time.
    """
    times, poses = [], []
    seen: dict[float, str] = {}
    for where, words in read_table(path):
        if len(words) != 8:
            raise PoseError(f"{where}: {len(words)} columns instead of timestamp tx ty tz qx qy qz qw; cut off?")
        time, *values = numbers(words, where)
        if not all(math.isfinite(value) for value in (time, *values)):
            raise PoseError(f"{where}: not finite; leave out lines without a pose")
        if time in seen:
            raise PoseError(f"{where}: the time {words[0]} is also in {seen[time]}; keep one")
        seen[time] = where
        qx, qy, qz, qw = values[3:]
        rotation = rotation_from_quaternion((qw, qx, qy, qz), where)
        world_from_cam = np.concatenate([rotation, np.array(values[:3])[:, None]], axis=1)
        times.append(time)
        poses.append(invert_pose(world_from_cam))
    return times, poses


def associate(frame_times: Sequence[float], pose_times: Sequence[float], max_gap: float) -> dict[int, int]:
    """Frame index to pose index: closest pairs first, each index at most once, at most `max_gap` seconds apart.

    This is the rule of the TUM benchmark's associate.py, whose default gap is 0.02 s.
    """
    order = np.argsort(pose_times, kind="stable")
    sorted_times = np.asarray(pose_times, np.float64)[order]
    candidates = []
    for frame, time in enumerate(frame_times):
        first = int(np.searchsorted(sorted_times, time - max_gap))
        stop = int(np.searchsorted(sorted_times, time + max_gap, side="right"))
        candidates += [(abs(float(sorted_times[at]) - time), frame, int(order[at])) for at in range(first, stop)]
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, frame, pose in sorted(candidates):
        if frame not in pairs and pose not in taken:
            pairs[frame] = pose
            taken.add(pose)
    return dict(sorted(pairs.items()))


def time_in_name(name: str) -> float | None:
    """The seconds that a file is named after, as `1305031102.175304.png` of TUM; None if it is not."""
    match = re.fullmatch(r"(\d+\.\d+)(?:\.[A-Za-z]\w*)?", name.replace("\\", "/").rsplit("/", 1)[-1])
    return float(match[1]) if match else None
