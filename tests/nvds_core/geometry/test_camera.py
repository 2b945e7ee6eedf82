from __future__ import annotations

import numpy as np
import pytest

from nvds_core.geometry.camera import (
    compose_poses,
    flip_opengl,
    invert_pose,
    nearest_rotation,
    relative_pose,
    scale_intrinsics,
)
from nvds_core.synthetic.motion import rotation
from nvds_core.types import PoseError, ShapeError


def poses(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turns = rotation(*rng.uniform(-3, 3, (3, count)))
    return np.concatenate([turns, rng.normal(size=(count, 3, 1))], axis=2)


def homogeneous(pose: np.ndarray) -> np.ndarray:
    return np.concatenate([pose, np.broadcast_to([[[0.0, 0.0, 0.0, 1.0]]], (len(pose), 1, 4))], axis=1)


def test_inverse_and_composition_are_those_of_four_by_four_matrices():
    a, b = poses(5, 1), poses(5, 2)
    np.testing.assert_allclose(invert_pose(a), np.linalg.inv(homogeneous(a))[:, :3], atol=1e-12)
    np.testing.assert_allclose(compose_poses(a, b), (homogeneous(a) @ homogeneous(b))[:, :3], atol=1e-12)


def test_a_relative_pose_moves_points_from_one_camera_to_the_other():
    first, second = poses(4, 3), poses(4, 4)
    world = np.random.default_rng(5).normal(size=(4, 3, 1))
    in_first = first[:, :, :3] @ world + first[:, :, 3:]
    in_second = second[:, :, :3] @ world + second[:, :, 3:]
    relative = relative_pose(first, second)
    np.testing.assert_allclose(relative[:, :, :3] @ in_first + relative[:, :, 3:], in_second, atol=1e-12)


def test_a_camera_has_exactly_no_motion_to_itself():
    camera = poses(3)
    assert np.array_equal(relative_pose(camera, camera), np.broadcast_to(np.eye(3, 4), (3, 3, 4)))


def test_a_rounded_rotation_becomes_a_rotation_again():
    exact = poses(20)[:, :, :3]
    mended = nearest_rotation(exact.round(4))
    np.testing.assert_allclose(mended @ np.swapaxes(mended, 1, 2), np.broadcast_to(np.eye(3), (20, 3, 3)), atol=1e-14)
    np.testing.assert_allclose(np.linalg.det(mended), 1.0, atol=1e-14)
    assert np.abs(mended - exact).max() < 2e-4
    np.testing.assert_allclose(nearest_rotation(exact), exact, atol=1e-14)


def test_no_rotation_beside_it_is_nearer():
    noisy = poses(1)[0, :, :3] + np.random.default_rng(1).normal(scale=0.02, size=(3, 3))
    mended = nearest_rotation(noisy)
    distance = np.linalg.norm(mended - noisy)
    for angles in np.random.default_rng(2).normal(scale=0.01, size=(50, 3)):
        assert np.linalg.norm(rotation(*angles) @ mended - noisy) > distance


@pytest.mark.parametrize("matrix", [2 * np.eye(3), np.diag([1.0, 1.0, -1.0]), np.full((3, 3), np.nan)])
def test_what_is_no_rotation_is_refused(matrix):
    with pytest.raises(PoseError):
        nearest_rotation(matrix)


def test_the_flip_between_opengl_and_opencv_is_its_own_inverse_and_keeps_pictures_upright():
    opengl = poses(3)  # world_from_cam
    np.testing.assert_array_equal(flip_opengl(flip_opengl(opengl)), opengl)
    point = np.array([0.3, 0.2, -2.0, 1.0])  # OpenGL camera axes: right, above, ahead
    world = opengl[0] @ point
    turned = invert_pose(flip_opengl(opengl[0])) @ np.append(world * [1, -1, -1], 1.0)
    np.testing.assert_allclose(turned, [0.3, -0.2, 2.0], atol=1e-12)


def test_the_edges_of_a_resized_picture_stay_its_edges():
    before = np.array([500.0, 510.0, 300.0, 200.0])
    after = scale_intrinsics(before, (640, 480), (320, 96))
    for edge, moved in ((-0.5, -0.5), (639.5, 319.5)):
        assert (moved - after[2]) / after[0] == pytest.approx((edge - before[2]) / before[0])
    for edge, moved in ((-0.5, -0.5), (479.5, 95.5)):
        assert (moved - after[3]) / after[1] == pytest.approx((edge - before[3]) / before[1])


@pytest.mark.parametrize("function", [invert_pose, flip_opengl])
def test_poses_of_another_shape_are_refused(function):
    with pytest.raises(ShapeError, match=r"\(4, 4\)"):
        function(np.eye(4))
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        scale_intrinsics([1.0, 2.0, 3.0], (4, 4), (2, 2))
