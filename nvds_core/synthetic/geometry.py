"""From a scene and a frame number to visible surface points: depth, object, position, normal."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nvds_core.synthetic.scene import NEAREST_SURFACE, Floats, Scene
from nvds_core.synthetic.shapes import entry_distance, screen_windows, surface

IDENTITY = np.eye(3, 4)


def compose(left: Floats, right: Floats) -> Floats:
    """The [..., 3, 4] rigid transform that applies `right` first."""
    shift = left[..., :3] @ right[..., 3:] + left[..., 3:]
    return np.concatenate([left[..., :3] @ right[..., :3], shift], axis=-1)


def invert(transform: Floats) -> Floats:
    """Inverse of [..., 3, 4] rigid transforms."""
    turn = np.swapaxes(transform[..., :3], -1, -2)
    return np.concatenate([turn, -(turn @ transform[..., 3:])], axis=-1)


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Visible points of one frame, ordered by object so that each object is one contiguous run.

    Attributes:
        pixel: [n] flat pixel index of every entry (a permutation of all pixels).
        runs: (object index, start, stop); the sky's index is the number of solids.
        depth: [n] metres along the optical axis.
        local, local_normal: [3, n] in object coordinates (world coordinates for the sky); normals face the camera.
        world, normal: [3, n] the same in world coordinates.
        uv: [2, n] metres along the surface.
        object_map, depth_map: [h, w].
    """

    pixel: NDArray[np.int64]
    runs: tuple[tuple[int, int, int], ...]
    depth: Floats
    local: Floats
    local_normal: Floats
    world: Floats
    normal: Floats
    uv: Floats
    object_map: NDArray[np.int16]
    depth_map: Floats


def object_poses(scene: Scene, frame: int) -> Floats:
    """world_from_object of all solids, [k, 3, 4]."""
    return np.stack([solid.pose(frame) for solid in scene.solids])


def object_pose(scene: Scene, index: int, frame: int) -> Floats:
    """world_from_object [3, 4]; the sky (index = number of solids) stands still."""
    return scene.solids[index].pose(frame) if index < len(scene.solids) else IDENTITY


def cast(scene: Scene, frame: int) -> tuple[Floats, NDArray[np.int16]]:
    """Depth [h, w] in metres and object index [h, w] of the nearest surface in every pixel."""
    width, height = scene.size
    fx, fy, cx, cy = scene.intrinsics[frame]
    rays_x, rays_y = ((np.arange(width) - cx) / fx)[None], ((np.arange(height) - cy) / fy)[:, None]
    depth = np.full((height, width), np.inf)
    owner = np.full((height, width), len(scene.solids), np.int16)
    if scene.solids:
        cam_from_object = compose(scene.cam_from_world[frame], object_poses(scene, frame))
        windows = screen_windows(scene.solids, cam_from_object, scene.intrinsics[frame], scene.size)
        object_from_cam = invert(cam_from_object)
    for index, solid in enumerate(scene.solids):
        left, right, top, bottom = windows[index]
        if left >= right or top >= bottom:
            continue
        window = slice(top, bottom), slice(left, right)
        m, origin = object_from_cam[index, :, :3], object_from_cam[index, :, 3]
        x, y = rays_x[:, left:right], rays_y[top:bottom]
        direction = tuple(m[axis, 0] * x + (m[axis, 1] * y + m[axis, 2]) for axis in range(3))
        distance = entry_distance(solid.kind, solid.half, tuple(origin), direction)
        near = (distance >= NEAREST_SURFACE) & (distance < depth[window])
        np.copyto(depth[window], distance, where=near)
        owner[window][near] = index
    _fill_sky(scene, frame, depth, owner, rays_x, rays_y)
    return depth, owner


def _fill_sky(
    scene: Scene, frame: int, depth: Floats, owner: NDArray[np.int16], rays_x: Floats, rays_y: Floats
) -> None:
    """The sky is a sphere around the world's origin, seen from inside; surfaces beyond it are hidden by it."""
    world_from_cam = invert(scene.cam_from_world[frame])
    rotation, origin = world_from_cam[:, :3], world_from_cam[:, 3]
    rows, columns = np.nonzero(~(depth < scene.sky.radius * 0.5))
    if not len(rows):
        return
    x, y = rays_x[0, columns], rays_y[rows, 0]
    direction = rotation @ np.stack([x, y, np.ones_like(x)])
    a, b = (direction * direction).sum(axis=0), origin @ direction
    c = origin @ origin - scene.sky.radius**2
    distance = (-b + np.sqrt(b * b - a * c)) / a
    in_front = distance < depth[rows, columns]
    rows, columns = rows[in_front], columns[in_front]
    depth[rows, columns], owner[rows, columns] = distance[in_front], len(scene.solids)


def visible_surfaces(scene: Scene, frame: int) -> Surfaces:
    """Everything shading and flow need to know about a frame's visible points."""
    depth_map, object_map = cast(scene, frame)
    return surfaces_of(scene, frame, depth_map, object_map)


def surfaces_of(scene: Scene, frame: int, depth_map: Floats, object_map: NDArray[np.int16]) -> Surfaces:
    """Order visible points by object and find where on their objects they lie."""
    width = scene.size[0]
    fx, fy, cx, cy = scene.intrinsics[frame]
    pixel = np.argsort(object_map.ravel(), kind="stable")
    owners = object_map.ravel()[pixel]
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(owners)) + 1, [len(owners)]])
    depth = depth_map.ravel()[pixel]
    points = np.stack([(pixel % width - cx) / fx * depth, (pixel // width - cy) / fy * depth, depth])
    world_from_cam = invert(scene.cam_from_world[frame])
    world = world_from_cam[:, :3] @ points + world_from_cam[:, 3:]
    local, local_normal, normal = np.empty_like(world), np.empty_like(world), np.empty_like(world)
    uv = np.empty((2, len(pixel)))
    runs = []
    for start, stop in pairwise(bounds.tolist()):
        index, run = int(owners[start]), slice(start, stop)
        runs.append((index, start, stop))
        if index == len(scene.solids):
            local[:, run], uv[:, run] = world[:, run], 0.0
            local_normal[:, run] = normal[:, run] = -world[:, run] / scene.sky.radius
            continue
        solid, pose = scene.solids[index], object_pose(scene, index, frame)
        object_from_world = invert(pose)
        local[:, run] = object_from_world[:, :3] @ world[:, run] + object_from_world[:, 3:]
        eye = object_from_world[:, :3] @ world_from_cam[:, 3] + object_from_world[:, 3]
        local_normal[:, run], uv[:, run] = surface(solid.kind, solid.half, local[:, run], eye)
        normal[:, run] = pose[:, :3] @ local_normal[:, run]
    return Surfaces(pixel, tuple(runs), depth, local, local_normal, world, normal, uv, object_map, depth_map)
