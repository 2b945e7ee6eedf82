"""Given camera poses: what kind of file it is, which pose belongs to which frame, at which size.

Poses are matched to frames by name (TUM: by time), never by position, so a frame without a pose shifts no other.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal, get_args

from nvds_core.geometry.camera import scale_intrinsics
from nvds_core.geometry.poses_colmap import model_folder, read_colmap
from nvds_core.geometry.poses_json import is_nerfstudio, load_json, read_nerfstudio, read_own, write_poses
from nvds_core.geometry.poses_text import (
    POSE_SUFFIX,
    TRAJECTORY_NAME,
    associate,
    find_lens,
    is_trajectory,
    read_seven_scenes,
    read_trajectory,
    time_in_name,
)
from nvds_core.types import Camera, ConfigError, PoseError

__all__ = ["PoseKind", "frame_key", "read_poses", "resize_camera", "too_few", "usable_frames", "write_poses"]

PoseKind = Literal["json", "nerfstudio", "colmap", "tum", "7scenes"]

TIME_GAP = 0.02
"""Seconds between a frame and its pose in a TUM trajectory: the limit of the benchmark's own associate.py."""

ASPECT_TOLERANCE = 0.01
"""Poses of frames of another aspect ratio were made for a cropped or turned video; rounding changes less than this."""

ENOUGH_REGISTERED, LEAST_REGISTERED = 0.95, 0.5
"""Shares of frames with a pose above which all of them, or the longest stretch without a hole, are used."""


def read_poses(
    path: Path | str,
    *,
    frame_names: Sequence[str] | None = None,
    frame_times: Sequence[float] | None = None,
    frame_size: tuple[int, int] | None = None,
    intrinsics: tuple[float, float, float, float] | None = None,
    kind: PoseKind | None = None,
    time_gap: float = TIME_GAP,
    max_distortion: float = 1.0,
) -> dict[str, Camera]:
    """Cameras of a video by frame name, from any of the known kinds of pose files.

    Args:
        path: our JSON file, nerfstudio's transforms.json, a COLMAP model (text or binary; its folder or a dataset
            with `sparse/0`), a TUM trajectory (or the folder of its
            `groundtruth.txt`), or a folder of 7-Scenes `<frame>.pose.txt`.
        frame_names: the video's frames in order; the result has these names and this order. None keeps the names of
            the file (of a TUM trajectory: its times).
        frame_times: seconds of the frames, for TUM; None takes times from names such as `1305031102.175304.png`.
        frame_size: (width, height) of the frames; intrinsics are scaled to it. None keeps the size of the file.
        intrinsics: fx, fy, cx, cy in pixels of `frame_size`, for TUM and 7-Scenes; wins over a file beside the poses.
        kind: the kind of the file; None looks at it.
        time_gap: most seconds between a frame and its pose in a TUM trajectory.
        max_distortion: pixels of lens distortion that may be dropped; above it the poses are refused.

    Returns:
        One camera per frame that has a pose, at `frame_size`; frames without one are missing.

    Raises:
        PoseError: nothing to read, malformed content (names file and line or entry), names that do not match the
            frames or not uniquely, another aspect ratio, or no pose for any frame.
    """
    path = Path(path)
    kind = kind or detect_kind(path)
    if kind not in get_args(PoseKind):
        raise ConfigError(f"poses of kind {kind!r} are unknown; take one of {', '.join(get_args(PoseKind))}")
    if kind == "tum":
        cameras = _tum(path, frame_names, frame_times, frame_size, intrinsics, time_gap)
    else:
        found = _named(path, kind, frame_size, intrinsics, max_distortion)
        cameras = _match(path, found, frame_names)
    if not cameras:
        raise PoseError(f"{path}: no pose for any frame; check that these are the poses of this video")
    if frame_size is not None:
        cameras = {name: _fitted(camera, frame_size, path) for name, camera in cameras.items()}
    return cameras


def detect_kind(path: Path) -> PoseKind:
    """Which kind of poses lies at a path, by its content.

    Raises:
        PoseError: nothing there, or nothing that is known.
    """
    if not path.exists():
        raise PoseError(f"{path}: no such file or folder; check the path", reason="not_found")
    if model_folder(path) is not None:
        return "colmap"
    if path.is_dir():
        if next(path.glob(f"*{POSE_SUFFIX}"), None) is not None:
            return "7scenes"
        if (path / "transforms.json").is_file():
            return "nerfstudio"
        if (path / TRAJECTORY_NAME).is_file():
            return "tum"
    elif path.suffix.lower() == ".json":
        return "nerfstudio" if is_nerfstudio(load_json(path)) else "json"
    elif is_trajectory(path):
        return "tum"
    raise PoseError(
        f"{path}: no known poses; give a poses JSON, transforms.json, a COLMAP model folder, a TUM trajectory "
        f"(8 columns), or a folder of *{POSE_SUFFIX}"
    )


def resize_camera(camera: Camera, size: tuple[int, int]) -> Camera:
    """The camera of the same frame at another (width, height)."""
    if size == (camera.width, camera.height):
        return camera
    fx, fy, cx, cy = scale_intrinsics(camera.intrinsics, (camera.width, camera.height), size).tolist()
    return dataclasses.replace(camera, intrinsics=(fx, fy, cx, cy), width=size[0], height=size[1])


def frame_key(name: str) -> str:
    """What names of one frame have in common: `frame-000003` of `seq/frame-000003.color.jpg` and `frame-000003`."""
    return re.sub(r"(\.[A-Za-z]\w*)+$", "", _file_name(name))


def usable_frames(frame_names: Sequence[str], posed: Collection[str]) -> list[str]:
    """The frames to go on with, in order, when only some have poses; nothing is interpolated.

    From a share of 0.95 on, all frames with a pose; from 0.5 on, those of the longest stretch without a hole (the
    first of equally long ones); below, none.
    """
    has_pose = [name in posed for name in frame_names]
    share = sum(has_pose) / max(len(has_pose), 1)
    if share >= ENOUGH_REGISTERED:
        return [name for name, has in zip(frame_names, has_pose, strict=True) if has]
    if share < LEAST_REGISTERED:
        return []
    best = range(0)
    start = 0
    for index, has in enumerate([*has_pose, False]):
        if not has:
            best = max(best, range(start, index), key=len)
            start = index + 1
    return [frame_names[index] for index in best]


def too_few(posed: int, total: int, needed: int) -> str:
    """Why `usable_frames` found fewer than ``needed`` frames to go on with, behind "poses of .. of .. frames"."""
    if posed < LEAST_REGISTERED * total:
        return f"less than {LEAST_REGISTERED:.0%}"
    return f"but never {needed} in a row"


def _named(
    path: Path,
    kind: PoseKind,
    frame_size: tuple[int, int] | None,
    intrinsics: tuple[float, float, float, float] | None,
    max_distortion: float,
) -> list[Camera]:
    """The cameras of a file in which each pose has a name."""
    if kind == "7scenes":
        return read_seven_scenes(path, find_lens(path, intrinsics, frame_size))
    if kind == "colmap":
        folder = model_folder(path)
        if folder is None:
            raise PoseError(f"{path}: no COLMAP model (images and cameras, .bin or .txt) in it or in sparse/0 below")
        return read_colmap(folder, max_distortion=max_distortion)
    if path.is_dir():
        path = path / "transforms.json"
    content = load_json(path)
    if kind == "json":
        return read_own(path, content)
    return read_nerfstudio(path, content, frame_size=frame_size, max_distortion=max_distortion)


def _tum(
    path: Path,
    names: Sequence[str] | None,
    times: Sequence[float] | None,
    frame_size: tuple[int, int] | None,
    intrinsics: tuple[float, float, float, float] | None,
    time_gap: float,
) -> dict[str, Camera]:
    lens = find_lens(path, intrinsics, frame_size)
    path = path / TRAJECTORY_NAME if path.is_dir() else path
    pose_times, poses = read_trajectory(path)
    if names is None:
        names, times = [repr(time) for time in pose_times], pose_times
    elif times is None:
        in_names = [time_in_name(name) for name in names]
        times = [time for time in in_names if time is not None]
    if len(times) != len(names):
        raise PoseError(f"{path}: {len(names)} frames with {len(times)} times; a trajectory is matched by time")
    pairs = associate(times, pose_times, time_gap)
    if not pairs and names and pose_times:
        raise PoseError(
            f"{path}: times {min(pose_times):.3f} to {max(pose_times):.3f} s, but the frames have {min(times):.3f} to "
            f"{max(times):.3f} s; give both from the same clock"
        )
    return {
        names[frame]: Camera(names[frame], lens.intrinsics, lens.width, lens.height, poses[pose])
        for frame, pose in pairs.items()
    }


def _match(path: Path, cameras: list[Camera], frame_names: Sequence[str] | None) -> dict[str, Camera]:
    """Cameras by the names of their frames: of equal name, then of equal file name, then of equal `frame_key`."""
    counts: dict[str, int] = defaultdict(int)
    for camera in cameras:
        counts[camera.name] += 1
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise PoseError(f"{path}: {twice[0]} has {counts[twice[0]]} poses; keep one per frame")
    if frame_names is None:
        return {camera.name: camera for camera in cameras}
    found: dict[str, Camera] = {}
    owners: dict[str, str] = {}
    levels = [_grouped(cameras, key) for key in _KEYS]
    for name in frame_names:
        candidates = next((by[key(name)] for by, key in zip(levels, _KEYS, strict=True) if key(name) in by), [])
        if len(candidates) > 1:
            both = ", ".join(camera.name for camera in candidates[:2])
            raise PoseError(f"{path}: frame {name} could be any of {both}; name the poses like the frames")
        for camera in candidates:
            if camera.name in owners:
                raise PoseError(f"{path}: {camera.name} fits both {owners[camera.name]} and {name}; rename the frames")
            owners[camera.name] = name
            found[name] = dataclasses.replace(camera, name=name)
    if not found and cameras and frame_names:
        raise PoseError(
            f"{path}: no pose has a frame's name; the poses are named like {cameras[0].name}, the frames like "
            f"{frame_names[0]}; rename one of them"
        )
    return found


def _file_name(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]


_KEYS: tuple[Callable[[str], str], ...] = (str, _file_name, frame_key)


def _grouped(cameras: list[Camera], key: Callable[[str], str]) -> dict[str, list[Camera]]:
    grouped: dict[str, list[Camera]] = defaultdict(list)
    for camera in cameras:
        grouped[key(camera.name)].append(camera)
    return grouped


def _fitted(camera: Camera, size: tuple[int, int], path: Path) -> Camera:
    ratio = camera.width * size[1] / (camera.height * size[0])
    if abs(ratio - 1) > ASPECT_TOLERANCE:
        raise PoseError(
            f"{path}: {camera.name} was {camera.width}x{camera.height}, the frames are {size[0]}x{size[1]}: cropped or "
            "turned; give poses of these frames"
        )
    return resize_camera(camera, size)
