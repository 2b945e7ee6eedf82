"""Exact optical flow and occlusion between two frames of a scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvds_core.synthetic.geometry import Surfaces, compose, invert, object_pose
from nvds_core.synthetic.scene import NEAREST_SURFACE, Floats, Scene
from nvds_core.synthetic.shapes import entry_distance

_BEHIND = 0.02  # metres; points nearer than this to the other camera's plane are projected from there, and are occluded
_ROUNDING = 1e-6  # pixels, and share of the depth: what rounding may do where nothing moves


def flow_between(
    scene: Scene, source: int, target: int, from_surfaces: Surfaces, to_surfaces: Surfaces
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where each pixel of frame `source` goes in frame `target`.

    A point is occluded when it leaves the picture (pixel centres span it), turns away from the other camera, or lies
    behind one of the objects that the pixels around its landing place show.

    Returns:
        Flow [2, h, w] in pixels, x first, and occlusion [h, w].
    """
    width, height = scene.size
    fx, fy, cx, cy = scene.intrinsics[target]
    count = width * height
    landing, gone = np.empty((3, count)), np.zeros(count, bool)
    own = np.empty(count, np.int16)
    for index, start, stop in from_surfaces.runs:
        run = slice(start, stop)
        cam_from_object = compose(scene.cam_from_world[target], object_pose(scene, index, target))
        local, normal = from_surfaces.local[:, run], from_surfaces.local_normal[:, run]
        landing[:, run] = cam_from_object[:, :3] @ local + cam_from_object[:, 3:]
        eye = invert(cam_from_object)[:, 3:]
        gone[run] = (normal * (eye - local)).sum(axis=0) <= 0.0
        own[run] = index
    gone |= landing[2] < _BEHIND
    depth = np.maximum(landing[2], _BEHIND)
    x, y = fx * landing[0] / depth + cx, fy * landing[1] / depth + cy
    gone |= (x < -_ROUNDING) | (x > width - 1 + _ROUNDING) | (y < -_ROUNDING) | (y > height - 1 + _ROUNDING)
    gone |= _hidden(scene, target, to_surfaces.object_map, landing, np.stack([x, y]), own, ~gone)
    flow, occluded = np.empty((2, count), np.float32), np.empty(count, bool)
    pixel = from_surfaces.pixel
    flow[0, pixel], flow[1, pixel] = x - pixel % width, y - pixel // width
    occluded[pixel] = gone
    return flow.reshape(2, height, width), occluded.reshape(height, width)


def _hidden(
    scene: Scene,
    target: int,
    object_map: NDArray[np.int16],
    landing: Floats,
    place: Floats,
    own: NDArray[np.int16],
    possible: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Points [n] behind another object: rays are cast only where a pixel around the landing place shows another."""
    width, height = scene.size
    column = np.clip(place[0], 0, width - 1).astype(np.int32)
    row = np.clip(place[1], 0, height - 1).astype(np.int32)
    right, below = np.minimum(column + 1, width - 1), np.minimum(row + 1, height - 1) * width
    row *= width
    shown = object_map.ravel().take(np.stack([row + column, row + right, below + column, below + right]))
    doubtful = np.flatnonzero(possible & (shown != own).any(axis=0))
    shown, own, points = shown[:, doubtful], own[doubtful], landing[:, doubtful]
    rays = points / points[2]
    behind = np.zeros(len(doubtful), bool)
    for index in np.unique(shown):
        if index == len(scene.solids):
            continue
        near = np.flatnonzero((shown == index).any(axis=0) & (own != index))
        solid = scene.solids[index]
        object_from_cam = invert(compose(scene.cam_from_world[target], solid.pose(target)))
        direction = object_from_cam[:, :3] @ rays[:, near]
        distance = entry_distance(solid.kind, solid.half, tuple(object_from_cam[:, 3]), tuple(direction))
        behind[near] |= (distance >= NEAREST_SURFACE) & (distance < points[2, near] * (1.0 - _ROUNDING))
    hidden = np.zeros(len(possible), bool)
    hidden[doubtful] = behind
    return hidden
