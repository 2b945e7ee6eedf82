from __future__ import annotations

import numpy as np
import pytest
import torch

from nvds_core.tto import Alignment, align_disparity
from nvds_core.types import CoreError, ShapeError


def made(seed: int, scale: float, shift: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Disparity and depth in metres with 1 / depth = scale * disparity + shift."""
    disparity = np.random.default_rng(seed).uniform(0.2, 3.0, n)
    return disparity, 1 / (scale * disparity + shift)


@pytest.mark.parametrize(("scale", "shift"), [(0.3, 0.1), (2.0, -0.3), (1e-3, 1e-4)])
def test_an_exact_line_is_found(scale, shift):
    disparity, depth = made(1, scale, shift)
    found = align_disparity(disparity, depth)
    assert found.unit == pytest.approx(np.median(depth), rel=1e-3)
    assert found.scale / found.unit == pytest.approx(scale, rel=1e-6)
    assert found.shift / found.unit == pytest.approx(shift, rel=1e-5)
    assert found.spread < 1e-9
    back = found.depth(torch.from_numpy(disparity)).numpy() * found.unit
    np.testing.assert_allclose(back, depth, rtol=1e-5)


def test_forty_percent_of_wrong_depths_hardly_move_it():
    disparity, depth = made(2, 0.4, 0.05)
    rng = np.random.default_rng(3)
    noisy = depth * np.exp(rng.normal(scale=0.02, size=depth.size))
    wrong = rng.uniform(size=depth.size) < 0.4
    noisy[wrong] = np.exp(rng.uniform(-5, 3, wrong.sum()))
    found = align_disparity(disparity, noisy)
    assert found.scale / found.unit == pytest.approx(0.4, rel=0.02)
    plain = np.polyfit(disparity, 1 / noisy, 1)[0]
    assert abs(plain / 0.4 - 1) > 0.2, "plain least squares would be far off"


def test_points_without_weight_or_depth_do_not_count():
    disparity, depth = made(4, 0.5, 0.1)
    weight = np.ones_like(depth)
    weight[:2500], depth[:2500] = 0.0, 7.0
    depth[2500:2503] = np.nan, 0.0, -1.0
    found = align_disparity(disparity, depth, weight)
    assert found.scale / found.unit == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("disparity", ["wrong way round", "noise", "constant"])
def test_a_network_that_does_not_see_depth_gets_a_flat_but_rising_line_through_the_middle(disparity):
    truth, depth = made(5, 0.5, 0.1)
    given = {
        "wrong way round": truth.max() - truth,
        "noise": np.random.default_rng(1).uniform(0, 1e-3, truth.size),
        "constant": np.ones_like(truth),
    }[disparity]
    found = align_disparity(given, depth)
    assert found.scale > 0
    back = found.depth(torch.from_numpy(given)).numpy() * found.unit
    assert np.median(back) == pytest.approx(np.median(depth), rel=0.02)
    assert np.quantile(back, 0.95) / np.quantile(back, 0.05) < 2


def test_too_few_points_are_told_and_shapes_checked():
    disparity, depth = made(6, 0.5, 0.1, n=19)
    with pytest.raises(CoreError, match="only 19 points") as caught:
        align_disparity(disparity, depth)
    assert caught.value.reason == "no_parallax"
    with pytest.raises(ShapeError, match=r"\(19,\)"):
        align_disparity(disparity, depth[:5])


def test_depth_is_limited_but_its_gradient_is_not_lost():
    disparity = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
    depth = Alignment(scale=2.0, shift=0.0, unit=3.0, furthest=10.0).depth(disparity)
    assert depth.tolist() == pytest.approx([10.0, 10.0, 0.5])
    depth.sum().backward()
    assert disparity.grad is not None
    assert (disparity.grad < 0).all()
    assert float(disparity.grad[2]) == pytest.approx(-0.5)
