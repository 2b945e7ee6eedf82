"""Errors of poses: known similarities and known errors come out as they went in."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from nvds_core.geometry.poses_error import pose_errors, rotation_angles, similarity
from nvds_core.types import Camera, PoseError


def turn(*vector):
    return cv2.Rodrigues(np.array(vector, float))[0]


def path(count=12, seed=0):
    """Cameras on a random path, by name."""
    rng = np.random.default_rng(seed)
    cameras = {}
    for index in range(count):
        rotation = turn(*rng.normal(0, 0.5, 3))
        pose = np.column_stack([rotation, rng.normal(0, 1, 3)])
        cameras[f"f{index}"] = Camera(f"f{index}", (50.0, 50.0, 32.0, 24.0), 64, 48, pose)
    return cameras


def moved(cameras, scale, rotation, shift):
    """The same cameras in a world with points p' = scale rotation p + shift."""
    found = {}
    for name, camera in cameras.items():
        turned = camera.cam_from_world[:, :3] @ rotation.T
        centre = scale * rotation @ camera.centre + shift
        found[name] = dataclasses.replace(camera, cam_from_world=np.column_stack([turned, -turned @ centre]))
    return found


def test_another_world_frame_and_unit_is_no_error():
    cameras = path()
    errors = pose_errors(cameras, moved(cameras, 2.5, turn(0.3, -2.0, 0.7), np.array([5.0, -1.0, 3.0])))
    assert errors.frames == 12
    assert errors.scale == pytest.approx(2.5)
    assert errors.position_rmse < 1e-12
    assert errors.rotation_deg < 1e-6
    assert errors.step_rotation_deg < 1e-6


def test_frames_are_compared_by_name():
    cameras = path()
    shuffled = dict(reversed(moved(cameras, 0.5, turn(0, 1, 0), np.zeros(3)).items()))
    del shuffled["f4"]
    errors = pose_errors(cameras, shuffled)
    assert errors.frames == 11
    assert errors.position_rmse < 1e-12
    with pytest.raises(PoseError, match="2 frames have both poses"):
        pose_errors(cameras, {name: cameras[name] for name in ("f0", "f1")})


def test_noise_comes_out_with_its_size():
    rng = np.random.default_rng(1)
    cameras = path(400)
    noisy = {}
    for name, camera in cameras.items():
        rotation = turn(*(np.radians(2.0) * (axis := rng.normal(0, 1, 3)) / np.linalg.norm(axis)))
        turned = rotation @ camera.cam_from_world[:, :3]
        centre = camera.centre + rng.normal(0, 0.01, 3)
        noisy[name] = dataclasses.replace(camera, cam_from_world=np.column_stack([turned, -turned @ centre]))
    errors = pose_errors(noisy, cameras)
    assert errors.position_rmse == pytest.approx(0.01 * np.sqrt(3), rel=0.1)
    assert errors.extent == pytest.approx(np.sqrt(3), rel=0.15)
    assert errors.rotation_deg == pytest.approx(2.0, rel=0.05)
    assert errors.step_rotation_deg == pytest.approx(2.8, rel=0.15)


def test_a_mirrored_path_is_not_explained_by_a_mirrored_rotation():
    points = np.random.default_rng(0).normal(size=(20, 3))
    _, rotation, _ = similarity(points, points * [1, 1, -1])
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_tiny_and_large_angles_keep_their_digits():
    angles = np.array([0.0, 1e-7, 1e-3, 90.0, 179.9])
    rotations = np.stack([turn(0, np.radians(angle), 0) for angle in angles])
    np.testing.assert_allclose(rotation_angles(rotations), angles, rtol=1e-6, atol=1e-12)
