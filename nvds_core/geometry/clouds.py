"""Depth maps as clouds of points in the world, and clouds as PLY files."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from nvds_core.geometry.camera import invert_pose
from nvds_core.geometry.rays import transform, unproject
from nvds_core.types import Camera, ShapeError

_PLACE = [(axis, "<f4") for axis in "xyz"]
_COLOUR = [(name, "u1") for name in ("red", "green", "blue")]
_TYPES = {"<f4": "float", "u1": "uchar"}


def world_points(depth_hw: NDArray[np.floating], camera: Camera) -> NDArray[np.float64]:
    """Points ``[h, w, 3]`` in the world of a camera of that size; NaN where the depth is.

    Args:
        depth_hw: along the optical axis, in the unit of the camera's place.

    Raises:
        ShapeError: the camera belongs to pictures of another size.
    """
    if depth_hw.shape != (camera.height, camera.width):
        raise ShapeError(f"depth of shape {depth_hw.shape} and a camera of {camera.width}x{camera.height} pixels")
    depth = torch.from_numpy(np.asarray(depth_hw, np.float64))[None]
    points = unproject(depth, torch.tensor([camera.intrinsics], dtype=torch.float64))
    world: NDArray[np.float64] = transform(torch.from_numpy(invert_pose(camera.cam_from_world))[None], points).numpy()
    return np.moveaxis(world[0], 0, -1)


def encode_ply(points_n3: NDArray[np.floating], rgb_n3: NDArray[np.uint8] | None = None) -> bytes:
    """A binary, little-endian PLY file: vertices of float x, y, z and, where given, uchar red, green, blue.

    Raises:
        ShapeError: not ``[n, 3]``, or not a colour for each point.
    """
    if points_n3.ndim != 2 or points_n3.shape[1] != 3 or (rgb_n3 is not None and rgb_n3.shape != points_n3.shape):
        colours = None if rgb_n3 is None else rgb_n3.shape
        raise ShapeError(f"points and colours must both be [n, 3], got {points_n3.shape} and {colours}")
    fields = _PLACE + (_COLOUR if rgb_n3 is not None else [])
    vertices = np.empty(len(points_n3), np.dtype(fields))
    for column, (name, _) in enumerate(_PLACE):
        vertices[name] = points_n3[:, column]
    if rgb_n3 is not None:
        for column, (name, _) in enumerate(_COLOUR):
            vertices[name] = rgb_n3[:, column]
    properties = [f"property {_TYPES[kind]} {name}" for name, kind in fields]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}", *properties, "end_header"]
    return "\n".join([*header, ""]).encode("ascii") + vertices.tobytes()
