"""Rays against convex primitives, in the primitive's own coordinates; surface normals and texture coordinates.

Every function takes coordinates as three arrays (or scalars) that broadcast against each other, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvds_core.synthetic.scene import Floats, ShapeKind, Solid

Triple = tuple[Any, Any, Any]
_TINY = 1e-12


def _away_from_zero(values: Any) -> Any:
    return np.where(np.abs(values) < _TINY, _TINY, values)


def entry_distance(kind: ShapeKind, half: tuple[float, float, float], origin: Triple, direction: Triple) -> Any:
    """Ray parameter where the ray enters the primitive, +inf where it misses.

    Args:
        kind, half: as in `Solid`.
        origin, direction: the ray in object coordinates; the direction need not have length one.

    Returns:
        Parameter, possibly negative: behind the origin, or the origin lies inside.
    """
    if kind == "plane":
        return _enter_plane(half, origin, direction)
    if kind == "box":
        spans = [_slab(half[axis], origin[axis], direction[axis]) for axis in range(3)]
        enter = np.maximum(np.maximum(spans[0][0], spans[1][0]), spans[2][0])
        leave = np.minimum(np.minimum(spans[0][1], spans[1][1]), spans[2][1])
    elif kind == "ellipsoid":
        enter, leave = _quadric(half, origin, direction, (0, 1, 2))
    else:
        enter, leave = _quadric(half, origin, direction, (0, 2))
        slab = _slab(half[1], origin[1], direction[1])
        enter, leave = np.maximum(enter, slab[0]), np.minimum(leave, slab[1])
    return np.where(enter <= leave, enter, np.inf)


def _enter_plane(half: tuple[float, float, float], origin: Triple, direction: Triple) -> Any:
    distance = -origin[2] / _away_from_zero(direction[2])
    if np.isinf(half[0]) and np.isinf(half[1]):
        return distance
    across, down = origin[0] + distance * direction[0], origin[1] + distance * direction[1]
    return np.where((np.abs(across) <= half[0]) & (np.abs(down) <= half[1]), distance, np.inf)


def _slab(half: float, origin: Any, direction: Any) -> tuple[Any, Any]:
    inverse = 1.0 / _away_from_zero(direction)
    middle, reach = -origin * inverse, half * np.abs(inverse)
    return middle - reach, middle + reach


def _quadric(half: tuple[float, ...], origin: Triple, direction: Triple, axes: tuple[int, ...]) -> tuple[Any, Any]:
    a: Any = 0.0
    b: Any = 0.0
    c: Any = -1.0
    for axis in axes:
        o, d = origin[axis] / half[axis], direction[axis] / half[axis]
        a, b, c = a + d * d, b + o * d, c + o * o
    a = np.maximum(a, _TINY)
    inside_root = b * b - a * c
    root = np.sqrt(np.maximum(inside_root, 0.0))
    missed = inside_root < 0.0
    return np.where(missed, np.inf, (-b - root) / a), np.where(missed, -np.inf, (-b + root) / a)


def surface(kind: ShapeKind, half: tuple[float, float, float], local: Floats, eye: Floats) -> tuple[Floats, Floats]:
    """Unit normals towards the viewer's side and texture coordinates of surface points.

    Args:
        local: [3, n] points on the surface, object coordinates.
        eye: [3] the viewer, object coordinates.

    Returns:
        Normals [3, n] and coordinates [2, n] in metres along the surface.
    """
    if kind == "plane":
        normal = np.zeros_like(local)
        normal[2] = 1.0 if eye[2] > 0 else -1.0
        return normal, local[:2]
    scaled = local / np.array(half)[:, None]
    if kind == "ellipsoid":
        normal = scaled / np.array(half)[:, None]
        normal /= np.sqrt((normal * normal).sum(axis=0))
        return normal, _dominant_axis_coordinates(local, np.abs(scaled).argmax(axis=0))
    if kind == "box":
        axis = np.abs(scaled).argmax(axis=0)
        normal = np.where(np.arange(3)[:, None] == axis, np.sign(local), 0.0)
        return normal, _dominant_axis_coordinates(local, axis)
    return _cylinder_surface(half, local, scaled)


def _dominant_axis_coordinates(local: Floats, axis: NDArray) -> Floats:
    return np.stack([np.where(axis == 0, local[2], local[0]), np.where(axis == 1, local[2], local[1])])


def _cylinder_surface(half: tuple[float, float, float], local: Floats, scaled: Floats) -> tuple[Floats, Floats]:
    on_cap = np.abs(scaled[1]) > np.hypot(scaled[0], scaled[2])
    side = np.stack([scaled[0] / half[0], np.zeros_like(scaled[1]), scaled[2] / half[2]])
    side /= np.maximum(np.sqrt((side * side).sum(axis=0)), _TINY)
    cap = np.stack([np.zeros_like(scaled[1]), np.sign(scaled[1]), np.zeros_like(scaled[1])])
    around = np.arctan2(scaled[2], scaled[0]) * half[0]
    coordinates = np.stack([np.where(on_cap, local[0], around), np.where(on_cap, local[2], local[1])])
    return np.where(on_cap, cap, side), coordinates


_CORNERS: Floats = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]).T


def screen_windows(
    solids: Sequence[Solid], cam_from_object: Floats, intrinsics: Floats, size: tuple[int, int]
) -> NDArray[np.int64]:
    """Rows and columns that can show each solid: [k, 4] left, right, top, bottom, half open; empty if none.

    Args:
        cam_from_object: [k, 3, 4].
    """
    width, height = size
    half = np.array([solid.half for solid in solids])
    endless = np.isinf(half).any(axis=1)
    half[endless] = 0.0
    corners = cam_from_object[:, :, :3] @ (_CORNERS * half[:, :, None]) + cam_from_object[:, :, 3:]
    z = corners[:, 2]
    crossing = endless | (z.min(axis=1) <= 1e-3)
    z = np.where(crossing[:, None], 1.0, z)
    x = intrinsics[0] * corners[:, 0] / z + intrinsics[2]
    y = intrinsics[1] * corners[:, 1] / z + intrinsics[3]
    low, high = np.stack([x.min(axis=1), y.min(axis=1)]), np.stack([x.max(axis=1), y.max(axis=1)])
    limit = np.array([width, height])[:, None]
    first = np.where(crossing, 0, np.clip(np.floor(low), 0, limit)).astype(np.int64)
    last = np.where(crossing, limit, np.clip(np.ceil(high) + 1, 0, limit)).astype(np.int64)
    last[:, ~endless & (corners[:, 2].max(axis=1) <= 0.0)] = 0
    return np.stack([first[0], last[0], first[1], last[1]], axis=1)
