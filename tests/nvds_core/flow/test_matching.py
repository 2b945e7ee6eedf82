from __future__ import annotations

import pytest
import torch

from nvds_core.flow import matching
from nvds_core.flow.matching import (
    attend,
    match_globally,
    match_locally,
    propagate_globally,
    propagate_locally,
    upsample_convex,
    window_scores,
)
from tests.nvds_core.flow import reference
from tests.nvds_core.flow.reference import features

EXACT = {"rtol": 0.0, "atol": 1e-12}


@pytest.fixture(params=[1, 700, 2**22], ids=["row by row", "in parts", "at once"])
def scores_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "CPU_SCORES", request.param)


@pytest.mark.usefixtures("scores_at_once")
def test_global_matching_equals_the_whole_matrix() -> None:
    feature0, feature1 = features(2, 5, 7, 16, seed=1), features(2, 5, 7, 16, seed=2)
    found = match_globally(feature0, feature1)
    assert found.shape == (2, 2, 5, 7)
    torch.testing.assert_close(found, reference.whole_matrix_flow(feature0, feature1), **EXACT)


def test_sharp_features_are_matched_where_they_went() -> None:
    feature0 = 40.0 * torch.eye(48, dtype=torch.float64).view(1, 6, 8, 48)
    feature1 = feature0.roll((2, -1), dims=(1, 2))  # what is at (x, y) goes to (x - 1, y + 2), round the border
    flow = match_globally(feature0, feature1)
    torch.testing.assert_close(flow[0, 0, :4, 1:], torch.full((4, 7), -1.0, dtype=torch.float64))
    torch.testing.assert_close(flow[0, 1, :4, 1:], torch.full((4, 7), 2.0, dtype=torch.float64))


@pytest.mark.usefixtures("scores_at_once")
@pytest.mark.parametrize(("size", "radius"), [((5, 7), 1), ((6, 9), 4), ((3, 2), 4)])
def test_window_scores_equal_a_loop_over_positions(size: tuple[int, int], radius: int) -> None:
    query, key = features(2, *size, 8, seed=3), features(2, *size, 8, seed=4)
    found = window_scores(query, key, radius=radius)
    torch.testing.assert_close(found, reference.looped_scores(query, key, radius), **EXACT)


def test_window_scores_do_not_depend_on_the_layout_in_memory() -> None:
    query, key = (features(2, 8, 5, 7, seed=s).permute(0, 2, 3, 1) for s in (5, 6))
    found = window_scores(query, key, radius=2)
    torch.testing.assert_close(found, reference.looped_scores(query, key, 2), **EXACT)


@pytest.mark.parametrize(("size", "radius"), [((6, 9), 4), ((3, 4), 1)])
def test_local_matching_equals_a_loop_that_leaves_out_what_is_outside(size: tuple[int, int], radius: int) -> None:
    feature0, feature1 = features(2, *size, 8, seed=7), features(2, *size, 8, seed=8)
    found = match_locally(feature0, feature1, radius=radius)
    torch.testing.assert_close(found, reference.sampled_flow(feature0, feature1, radius), **EXACT)


def test_local_propagation_equals_a_loop_with_zeros_beyond_the_border() -> None:
    query, key, flow = features(2, 4, 6, 8, seed=9), features(2, 4, 6, 8, seed=10), features(2, 2, 4, 6, seed=11)
    found = propagate_locally(query, key, flow, radius=1)
    torch.testing.assert_close(found, reference.spread_over_neighbours(query, key, flow, 1), **EXACT)
    constant = propagate_locally(query, key, torch.ones_like(flow), radius=1)
    torch.testing.assert_close(constant[:, :, 1:-1, 1:-1], torch.ones(2, 2, 2, 4, dtype=torch.float64), **EXACT)
    assert constant[:, :, 0].max() < 1, "zeros beyond the border pull the flow down"


def test_global_propagation_keeps_a_constant_flow_and_mixes_by_likeness() -> None:
    query, key = features(1, 4, 6, 8, seed=12), features(1, 4, 6, 8, seed=13)
    constant = torch.full((1, 2, 4, 6), -3.5, dtype=torch.float64)
    torch.testing.assert_close(propagate_globally(query, key, constant), constant, **EXACT)
    flow = features(1, 2, 4, 6, seed=14)
    likely = (query.view(24, 8) @ key.view(24, 8).T / 8**0.5).softmax(-1)
    expected = (likely @ flow.view(2, 24).T).T.view(1, 2, 4, 6)
    torch.testing.assert_close(propagate_globally(query, key, flow), expected, **EXACT)


def test_gradients_go_through_local_matching_and_propagation() -> None:
    feature0, feature1, flow = (features(1, 3, 2, 2, seed=s).requires_grad_() for s in (19, 20, 21))

    def both(first: torch.Tensor, second: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = values.permute(0, 3, 1, 2)
        return match_locally(first, second, radius=1), propagate_locally(first, second, values, radius=1)

    assert torch.autograd.gradcheck(both, (feature0, feature1, flow))


@pytest.mark.parametrize("factor", [4, 8])
def test_upsampling_is_convex_in_the_nine_coarse_neighbours(factor: int) -> None:
    flow, weights = features(2, 2, 3, 4, seed=15), features(2, 9 * factor**2, 3, 4, seed=16)
    fine = upsample_convex(flow, weights, factor=factor)
    assert fine.shape == (2, 2, 3 * factor, 4 * factor)
    for item, row, column in [(0, 0, 0), (0, factor, 5), (1, 2 * factor + 1, 3 * factor - 1), (1, factor + 2, factor)]:
        expected = reference.convex_pixel(flow, weights, factor, item, row, column)
        torch.testing.assert_close(fine[item, :, row, column], expected, **EXACT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_matching_of_half_precision_features_is_done_in_float32(dtype: torch.dtype) -> None:
    feature0, feature1 = (features(1, 5, 7, 16, seed=s).to(dtype) for s in (17, 18))
    with torch.autocast("cpu", torch.bfloat16):
        everywhere, near = match_globally(feature0, feature1), match_locally(feature0, feature1, radius=2)
        spread = attend(feature0.flatten(1, 2), feature1.flatten(1, 2), everywhere.flatten(2).mT)
    assert everywhere.dtype == near.dtype == spread.dtype == torch.float32
    exact = reference.whole_matrix_flow(feature0.double(), feature1.double())
    torch.testing.assert_close(everywhere.double(), exact, rtol=0, atol=1e-5)
    exact = reference.sampled_flow(feature0.double(), feature1.double(), 2)
    torch.testing.assert_close(near.double(), exact, rtol=0, atol=1e-5)
