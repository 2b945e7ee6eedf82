from __future__ import annotations

import cv2
import numpy as np
import pytest

from nvds_core.metrics import tae
from nvds_core.types import Camera, ShapeError

SIZE, LENS = (24, 18), (20.0, 21.0, 11.0, 9.0)


def camera(turn, shift, size=SIZE):
    rotation = cv2.Rodrigues(np.array(turn, float))[0]
    return Camera("c", LENS, *size, np.column_stack((rotation, np.array(shift, float))))


def slow_direction(source, other, view, other_view):
    """One pixel at a time with 4x4 matrices in float64."""
    fx, fy, cx, cy = LENS
    there = np.vstack((other_view.cam_from_world, [0, 0, 0, 1])) @ np.linalg.inv(
        np.vstack((view.cam_from_world, [0, 0, 0, 1]))
    )
    errors = []
    for row, column in np.ndindex(source.shape):
        d = source[row, column]
        if not d > 0:
            continue
        x, y, z, _ = there @ [(column - cx) / fx * d, (row - cy) / fy * d, d, 1]
        if z <= 1e-6:
            continue
        u, v = round(fx * x / z + cx), round(fy * y / z + cy)
        if 0 <= u < source.shape[1] and 0 <= v < source.shape[0] and other[v, u] > 0:
            errors.append(abs(z - other[v, u]) / other[v, u])
    return np.mean(errors)


def test_tae_agrees_with_a_pixel_by_pixel_evaluation_in_both_directions():
    draw = np.random.default_rng(7)
    depth = draw.uniform(2, 5, (3, 18, 24))
    depth[draw.random(depth.shape) < 0.1] = 0
    depth[1, :2] = np.nan
    views = [camera((0, 0, 0), (0, 0, 0)), camera((0.02, -0.1, 0.05), (0.3, 0.1, -0.2)), camera((0, 0.1, 0), (0, 0, 1))]
    pairs = [
        (
            slow_direction(depth[i], depth[i + 1], *views[i : i + 2])
            + slow_direction(depth[i + 1], depth[i], *views[i : i + 2][::-1])
        )
        / 2
        for i in range(2)
    ]
    result = tae(depth, views)
    np.testing.assert_allclose(result.pairs, pairs, rtol=1e-9)
    assert result.mean == pytest.approx(100 * np.mean(pairs))


def test_a_wall_seen_from_two_distances_has_no_error_and_a_flicker_of_ten_percent_has_ten():
    views = [camera((0, 0, 0), (0, 0, 0)), camera((0, 0, 0), (0, 0, -1.0))]  # one metre nearer
    depth = np.stack([np.full((18, 24), 4.0), np.full((18, 24), 3.0)])
    assert tae(depth, views).mean == pytest.approx(0, abs=1e-9)
    still = [views[0], views[0]]
    flicker = np.stack([np.full((18, 24), 4.0), np.full((18, 24), 4.4)])
    assert tae(flicker, still).mean == pytest.approx(100 * (0.4 / 4.4 + 0.4 / 4.0) / 2)


def test_pairs_without_a_pose_or_an_overlap_are_left_out():
    away = camera((0, np.pi, 0), (0, 0, 0))
    here = camera((0, 0, 0), (0, 0, 0))
    result = tae(np.full((4, 18, 24), 2.0), [here, here, None, away])
    assert np.isnan(result.pairs).tolist() == [False, True, True]
    assert result.mean == pytest.approx(0, abs=1e-9)
    assert np.isnan(tae(np.full((2, 18, 24), 2.0), [here, away]).mean)


def test_cameras_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="3 frames"):
        tae(np.ones((3, 18, 24)), [None])
    with pytest.raises(ShapeError, match="48x36"):
        tae(np.ones((2, 18, 24)), [camera((0, 0, 0), (0, 0, 0), (48, 36))] * 2)
