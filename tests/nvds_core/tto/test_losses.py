from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nvds_core.tto.losses import PairBatch, cvd_loss, log_loss, point_loss, weighted_mean
from tests.nvds_core.tto.cases import GOLDEN_CASES, GoldenCase


def pair_of(case: GoldenCase, i: int, j: int, masks: np.ndarray) -> PairBatch:
    there, back = case.number[i, j], case.number[j, i]
    lens_i, lens_j, pose = case.cameras(np.array([i]), np.array([j]))
    masks_bhw = torch.from_numpy(masks)
    return PairBatch(
        case.flow[[there]].double(), case.flow[[back]].double(), masks_bhw[[there]], masks_bhw[[back]],
        lens_i, lens_j, pose, case.cameras(np.array([j]), np.array([i]))[2],
    )  # fmt: skip


def both_ways(pair: PairBatch, i: int, j: int) -> list[tuple[int, int, PairBatch]]:
    return [(i, j, pair), (j, i, pair.reversed())]


def numbers(*terms: Tensor) -> np.ndarray:
    """[total, *terms]."""
    return np.array([float(sum(terms)), *(float(term) for term in terms)])


@pytest.fixture(params=GOLDEN_CASES)
def case(request, golden) -> GoldenCase:
    return GoldenCase(golden("tto/golden.npz"), request.param)


def test_reference_and_point_terms_agree_with_the_golden_data(case):
    depth, reference = (torch.from_numpy(case[name]).double() for name in ("depth_pred", "ours_median"))
    weight = torch.from_numpy(case["ours_median_mask"] * case["ours_confidence"])
    for (i, j), golden in zip(case["pairs"].tolist(), case["ours_loss"], strict=True):
        ways = both_ways(pair_of(case, i, j, case["ours_valid"]), i, j)
        log = sum(log_loss(depth[[a]], reference[[a]], weight[[a]]) for a, _, _ in ways) / 2
        point = sum(point_loss(depth[[a]], depth[[b]], pair) for a, b, pair in ways) / 2
        total = float(log + case.options["w3"] * point)
        np.testing.assert_allclose([total, float(log), float(point)], golden, rtol=1e-5, atol=1e-9)


def test_cvd_terms_agree_with_the_golden_data(case):
    depth = torch.from_numpy(case["depth_pred"]).double()
    for (i, j), golden in zip(case["pairs"].tolist(), case["ours_cvd"], strict=True):
        pair = pair_of(case, i, j, case["ours_consistency_mask"])
        terms = cvd_terms(case, depth, pair, i, j, "exact")
        np.testing.assert_allclose(numbers(*terms), golden, rtol=1e-5, atol=1e-6)


def cvd_terms(case: GoldenCase, depth: Tensor, pair: PairBatch, i: int, j: int, sampling) -> tuple[Tensor, Tensor]:
    options = {
        "focal": pair.intrinsics_i[:, :2].mean(), "disparity_weight": case.options["lambda_b"], "sampling": sampling,
    }  # fmt: skip
    ways = [cvd_loss(depth[[a]], depth[[b]], way, **options) for a, b, way in both_ways(pair, i, j)]
    return (ways[0][0] + ways[1][0]) / 2, (ways[0][1] + ways[1][1]) / 2


def assert_gradient(depth: Tensor, i: int, j: int, golden: np.ndarray, tolerance: float) -> None:
    assert depth.grad is not None
    assert np.abs(depth.grad[[i, j]].numpy() - golden).max() < tolerance * np.abs(golden).max()


@pytest.mark.parametrize("kind", ["conf", "noconf"])
def test_the_released_loss_and_its_gradient_are_reproduced(case, kind):
    reference = torch.from_numpy(case["median"]).double()
    weight = torch.from_numpy(case["median_mask"] * (case["confidence"] if kind == "conf" else 1))
    for k, (i, j) in enumerate(case[f"loss_{kind}_pairs"].tolist()):
        depth = torch.from_numpy(case["depth_pred"]).double().requires_grad_()
        ways = both_ways(pair_of(case, i, j, case["mask_rectified"]), i, j)
        log = sum(
            log_loss(depth[[a]], reference[[a]], weight[[a]], depth_j=depth[[b]], flow_ij=pair.flow_ij)
            for a, b, pair in ways
        )
        point = sum(point_loss(depth[[a]], depth[[b]], pair, sampling="published-loss") for a, b, pair in ways)
        total = (log + case.options["w3"] * point) / 2
        total.backward()
        np.testing.assert_allclose(
            [float(total.detach()), float(log.detach()) / 2, float(point.detach()) / 2],
            case[f"loss_{kind}"][k],
            rtol=1e-4,
        )
        assert_gradient(depth, i, j, case[f"loss_{kind}_grad"][k], 1e-4)


def test_the_cvd_repository_and_its_gradient_are_reproduced(case):
    for k, (i, j) in enumerate(case["cvd_pairs"].tolist()):
        depth = torch.from_numpy(case["depth_pred"]).double().requires_grad_()
        terms = cvd_terms(case, depth, pair_of(case, i, j, case["consistency_mask"]), i, j, "published-loss")
        sum(terms).backward()
        np.testing.assert_allclose(numbers(*(t.detach() for t in terms)), case["cvd_loss"][k], rtol=1e-5, atol=1e-6)
        assert_gradient(depth, i, j, case["cvd_grad"][k], 2e-3)


def test_values_without_weight_do_not_count_even_if_they_are_no_numbers():
    values = torch.tensor([[[1.0, torch.nan]], [[torch.inf, torch.nan]]], requires_grad=True)
    weights = torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]])
    mean = weighted_mean(values, weights)
    assert mean.tolist() == [1.0, 0.0]
    mean.sum().backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()


def test_points_behind_the_other_camera_do_not_count_and_leave_the_gradient_finite():
    pose = torch.tensor([[[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -2.0]]])  # two units ahead
    lens = torch.tensor([[20.0, 20.0, 3.5, 2.5]])
    flow, mask = torch.zeros(1, 2, 6, 8), torch.ones(1, 6, 8)
    pair = PairBatch(flow, flow, mask, mask, lens, lens, pose, pose)
    depth = torch.full((1, 6, 8), 1.0)
    depth[:, :, 4:] = 3.0
    depth.requires_grad_()
    spatial, disparity = cvd_loss(depth, torch.ones(1, 6, 8), pair, focal=20.0)
    (spatial + disparity).backward()
    assert depth.grad is not None
    assert depth.grad.isfinite().all()
    assert not depth.grad[:, :, :4].any()
    assert depth.grad[:, :, 4:].any()
