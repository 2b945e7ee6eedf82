"""Poses in JSON: this project's own file, and nerfstudio's transforms.json.

Our file (docs/formats.md, "Poses"):

    {"format": "nvds-poses", "version": 1,
     "cameras": [{"name": "frame_000001.png", "width": 640, "height": 480, "intrinsics": [fx, fy, cx, cy],
                  "cam_from_world": [[r, r, r, t], [r, r, r, t], [r, r, r, t]]}]}

OpenCV axes, pixel centres at integers; only frames with a pose are listed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nvds_core.geometry.camera import FLIP, invert_pose
from nvds_core.geometry.poses_common import read_text, rigid_from_matrix
from nvds_core.geometry.poses_lens import Lens, checked_lens, lens_of_model
from nvds_core.types import Camera, PoseError

FORMAT, VERSION = "nvds-poses", 1


def write_poses(path: Path | str, cameras: Iterable[Camera]) -> None:
    """Write cameras to our JSON file, replacing it whole; reading it back gives the same numbers."""
    path = Path(path)
    entries = [
        {
            "name": camera.name,
            "width": camera.width,
            "height": camera.height,
            "intrinsics": [float(value) for value in camera.intrinsics],
            "cam_from_world": np.asarray(camera.cam_from_world, np.float64).tolist(),
        }
        for camera in cameras
    ]
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(f'{{"format": "{FORMAT}", "version": {VERSION}, "cameras": [\n{lines}\n]}}\n', encoding="utf-8")
    beside.replace(path)


def load_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        PoseError: it cannot be read, is no JSON (names the line), or holds no object.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise PoseError(f"{path}:{error.lineno}: no JSON ({error.msg}); write the file again") from error
    if not isinstance(content, dict):
        raise PoseError(f"{path}: holds a {type(content).__name__}, not an object; see docs/formats.md for poses")
    return content


def is_nerfstudio(content: dict[str, Any]) -> bool:
    """Whether a JSON object looks like transforms.json."""
    return "format" not in content and "frames" in content


def read_own(path: Path, content: dict[str, Any]) -> list[Camera]:
    """The cameras of our own file.

    Raises:
        PoseError: another format or version, or an entry that is incomplete or malformed.
    """
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise PoseError(
            f"{path}: format {content.get('format')!r}, version {content.get('version')!r}; "
            f"{FORMAT!r} version {VERSION} or nerfstudio's transforms.json can be read"
        )
    cameras = []
    for index, entry in enumerate(_list(content, "cameras", str(path))):
        where = f"{path}: cameras[{index}]"
        name = _text(entry, "name", where)
        where = f"{where} ({name})"
        fx, fy, cx, cy = _array(entry, "intrinsics", (4,), where)
        width, height = _size(entry, "width", where), _size(entry, "height", where)
        lens = checked_lens((fx, fy, cx, cy), width, height, where)
        pose = rigid_from_matrix(np.array(_array(entry, "cam_from_world", (3, 4), where)), where)
        cameras.append(Camera(name, lens.intrinsics, lens.width, lens.height, pose))
    return cameras


def read_nerfstudio(
    path: Path, content: dict[str, Any], *, frame_size: tuple[int, int] | None, max_distortion: float
) -> list[Camera]:
    """The cameras of transforms.json: camera to world, OpenGL axes, intrinsics for all frames or per frame.

    Args:
        frame_size: (width, height) for files that do not state `w` and `h`, as those of the NeRF data sets.

    Raises:
        PoseError: no intrinsics, a fisheye, distortion beyond `max_distortion` pixels, or malformed entries.
    """
    cameras = []
    for index, frame in enumerate(_list(content, "frames", str(path))):
        where = f"{path}: frames[{index}]"
        name = _text(frame, "file_path", where)
        where = f"{where} ({name})"
        lens = _nerfstudio_lens({**content, **frame}, where, frame_size, max_distortion)
        matrix = np.array(_array(frame, "transform_matrix", (4, 4), where))
        world_from_cam = rigid_from_matrix(matrix, where)
        world_from_cam[:, :3] *= FLIP  # the camera's own axes only: the world stays the user's
        cameras.append(Camera(name, lens.intrinsics, lens.width, lens.height, invert_pose(world_from_cam)))
    return cameras


def _nerfstudio_lens(
    entry: dict[str, Any], where: str, frame_size: tuple[int, int] | None, max_distortion: float
) -> Lens:
    width, height = frame_size or (0, 0)
    if "w" in entry and "h" in entry:
        width, height = _size(entry, "w", where), _size(entry, "h", where)
    if not width:
        raise PoseError(f"{where}: the size is not stated; add w and h, or give the frames' size")
    values: dict[str, float] = {
        key: _number(entry, key, where) for key in ("k1", "k2", "k3", "k4", "p1", "p2") if key in entry
    }
    if "fl_x" in entry:
        values["fx"] = _number(entry, "fl_x", where)
        values["fy"] = _number(entry, "fl_y", where) if "fl_y" in entry else values["fx"]
    elif "camera_angle_x" in entry:
        angle = _number(entry, "camera_angle_x", where)
        if not 0 < angle < math.pi:
            raise PoseError(f"{where}: 'camera_angle_x' is {angle:g}; it must be an angle in radians between 0 and pi")
        values["fx"] = values["fy"] = width / 2 / math.tan(angle / 2)
    else:
        raise PoseError(f"{where}: no focal length; add fl_x and fl_y in pixels, or camera_angle_x in radians")
    values["cx"] = _number(entry, "cx", where) if "cx" in entry else width / 2
    values["cy"] = _number(entry, "cy", where) if "cy" in entry else height / 2
    model = entry.get("camera_model", "OPENCV")
    if entry.get("is_fisheye") or values.get("k3") or values.get("k4"):
        model = "OPENCV_FISHEYE"
    return lens_of_model(str(model), values, width, height, where, max_distortion=max_distortion)


def _list(content: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    found = content.get(key)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise PoseError(f"{where}: {key!r} must be a list of objects; see docs/formats.md for poses")
    return found


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    found = entry.get(key)
    if not isinstance(found, str) or not found:
        raise PoseError(f"{where}: {key!r} is {found!r}; poses are matched to frames by name, so it must be one")
    return found


def _size(entry: dict[str, Any], key: str, where: str) -> int:
    found = _number(entry, key, where)
    if found != int(found) or found < 1:
        raise PoseError(f"{where}: {key!r} is {found:g}; it must be a whole number of pixels")
    return int(found)


def _number(entry: dict[str, Any], key: str, where: str) -> float:
    found = entry.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise PoseError(f"{where}: {key!r} is {found!r}; it must be a number")
    return float(found)


def _array(entry: dict[str, Any], key: str, shape: tuple[int, ...], where: str) -> Any:
    try:
        found = np.array(entry.get(key), np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.shape != shape:
        wanted = " x ".join(str(side) for side in shape)
        raise PoseError(f"{where}: {key!r} must be {wanted} numbers; write the file again")
    return found.tolist()
