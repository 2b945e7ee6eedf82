"""Poses and intrinsics as small float64 arrays.

Camera axes follow OpenCV: x right, y down, z forward. A pose ``a_from_b`` is ``[..., 3, 4]`` and maps points of b to
points of a. Intrinsics are fx, fy, cx, cy in pixels; the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nvds_core.types import PoseError, ShapeError

Floats = NDArray[np.float64]

FLIP: Final = np.array([1.0, -1.0, -1.0])  # OpenGL's y is up and its z backward; the flip is its own inverse
FURTHEST_ROTATION: Final = 0.1  # a pose file rounds to 1e-4 at worst; what is further off is no rotation


def invert_pose(pose: ArrayLike) -> Floats:
    """``b_from_a`` of ``a_from_b``, ``[..., 3, 4]``; the rotation must be one (see `nearest_rotation`)."""
    pose = _pose(pose)
    back = np.swapaxes(pose[..., :3], -1, -2)
    return np.concatenate([back, -(back @ pose[..., 3:])], axis=-1)


def compose_poses(a_from_b: ArrayLike, b_from_c: ArrayLike) -> Floats:
    """``a_from_c``, ``[..., 3, 4]``."""
    left, right = _pose(a_from_b), _pose(b_from_c)
    shift = left[..., :3] @ right[..., 3:] + left[..., 3:]
    return np.concatenate([left[..., :3] @ right[..., :3], shift], axis=-1)


def relative_pose(cam_i_from_world: ArrayLike, cam_j_from_world: ArrayLike) -> Floats:
    """``cam_j_from_cam_i``, ``[..., 3, 4]``; exactly zero translation where both cameras are the same."""
    first, second = _pose(cam_i_from_world), _pose(cam_j_from_world)
    same = (first == second).all(axis=(-1, -2))
    pose = compose_poses(second, invert_pose(first))
    return np.where(same[..., None, None], np.eye(3, 4), pose)


def nearest_rotation(matrix: ArrayLike) -> Floats:
    """The rotations nearest to ``[..., 3, 3]`` matrices in the Frobenius norm (orthogonal Procrustes).

    Pose files carry rotations that are off by 1e-4; angles taken from them through arccos would be off by a degree.

    Raises:
        PoseError: a matrix is not finite or further than 0.1 from any rotation.
    """
    given = np.asarray(matrix, np.float64)
    if given.shape[-2:] != (3, 3):
        raise ShapeError(f"rotations are [..., 3, 3], got {given.shape}")
    if not np.isfinite(given).all():
        raise PoseError("a rotation holds NaN or infinity; drop that frame's pose")
    left, _, right = np.linalg.svd(given)
    left[..., -1] *= np.linalg.det(left @ right)[..., None]  # a mirror image becomes the nearest proper rotation
    nearest: Floats = left @ right
    distance = np.abs(nearest - given).max(initial=0.0)
    if distance > FURTHEST_ROTATION:
        raise PoseError(
            f"a matrix is {distance:.3g} away from the nearest rotation; check that poses are 3x4 [R t] without scale"
        )
    return nearest


def flip_opengl(pose: ArrayLike) -> Floats:
    """The same pose, camera and world both turned between OpenGL and OpenCV axes; applying it twice changes nothing."""
    return FLIP[:, None] * _pose(pose) * np.append(FLIP, 1.0)


def scale_intrinsics(intrinsics: ArrayLike, from_size: tuple[int, int], to_size: tuple[int, int]) -> Floats:
    """Intrinsics ``[..., 4]`` of resized pictures; sizes are (width, height).

    Pixel edges, not pixel centres, keep their relative place, so the principal point moves by half a pixel of each
    size: c' = (c + 0.5) ratio - 0.5.
    """
    given = np.asarray(intrinsics, np.float64)
    if given.shape[-1:] != (4,):
        raise ShapeError(f"intrinsics are [..., 4] fx, fy, cx, cy, got {given.shape}")
    ratio = np.array(to_size, np.float64) / np.array(from_size, np.float64)
    return np.concatenate([given[..., :2] * ratio, (given[..., 2:] + 0.5) * ratio - 0.5], axis=-1)


def _pose(pose: ArrayLike) -> Floats:
    array = np.asarray(pose, np.float64)
    if array.shape[-2:] != (3, 4):
        raise ShapeError(f"poses are [..., 3, 4], got {array.shape}")
    return array
