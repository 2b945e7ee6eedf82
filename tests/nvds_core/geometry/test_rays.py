from __future__ import annotations

import pytest
import torch

from nvds_core.flow.warp import pixel_grid
from nvds_core.geometry.rays import project, rays, sample, transform, unproject

LENS = torch.tensor([[80.0, 90.0, 15.2, 11.7], [60.0, 60.0, 12.0, 8.0]], dtype=torch.float64)


def test_points_land_where_they_came_from_at_their_depth():
    depth = torch.rand(2, 24, 32, dtype=torch.float64) + 0.5
    points = unproject(depth, LENS)
    place, front = project(points, LENS)
    torch.testing.assert_close(place, pixel_grid(24, 32, like=depth).expand(2, -1, -1, -1))
    torch.testing.assert_close(points[:, 2], depth)
    assert front.all()


def test_the_principal_point_looks_straight_ahead():
    assert rays(LENS, 24, 32)[1, :, 8, 12].tolist() == [0.0, 0.0, 1.0]


def test_points_behind_the_camera_are_told_apart_and_stay_finite():
    points = torch.tensor([[0.0, 0.0, -1.0], [0.1, 0.0, 0.0], [0.0, 0.0, 1.0]]).T.view(1, 3, 1, 3)
    place, front = project(points, LENS[:1])
    assert front.flatten().tolist() == [False, False, True]
    assert place.isfinite().all()


def test_a_pose_turns_first_and_moves_then():
    pose = torch.tensor([[[0.0, -1.0, 0.0, 5.0], [1.0, 0.0, 0.0, 6.0], [0.0, 0.0, 1.0, 7.0]]])
    points = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    assert transform(pose, points).flatten().tolist() == [3.0, 7.0, 10.0]


def test_bilinear_samples_of_a_ramp_are_exact_up_to_the_border():
    ramp = pixel_grid(6, 9, like=torch.zeros(1, dtype=torch.float64))
    place = torch.tensor([[0.0, 8.0, 3.25, -2.0], [0.0, 5.0, 4.5, 2.0]], dtype=torch.float64).view(1, 2, 1, 4)
    found = sample(ramp, place).view(2, 4)
    torch.testing.assert_close(found, torch.tensor([[0, 8, 3.25, 0], [0, 5, 4.5, 2]], dtype=torch.float64))


@pytest.mark.parametrize(("sampling", "shift"), [("published-loss", None), ("published-mask", -0.5)])
def test_the_published_samplers_read_beside_the_place(sampling, shift):
    ramp = pixel_grid(6, 9, like=torch.zeros(1, dtype=torch.float64))[:, :1]
    place = torch.tensor([4.0, 2.5], dtype=torch.float64).view(1, 2, 1, 1)
    expected = 4.0 + shift if shift is not None else 4.0 * 9 / 8 - 0.5
    assert float(sample(ramp, place, sampling=sampling)) == pytest.approx(expected)


def test_unknown_places_neither_fail_nor_poison_gradients():
    values = torch.ones(1, 1, 4, 4, requires_grad=True)
    place = torch.full((1, 2, 4, 4), torch.nan)
    sample(values, place).sum().backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()
