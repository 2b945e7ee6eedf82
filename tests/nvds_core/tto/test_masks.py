from __future__ import annotations

import numpy as np
import pytest
import torch

from nvds_core.tto import consistency_mask, keep_pairs, overlap
from nvds_core.types import ShapeError
from tests.nvds_core.tto.cases import GOLDEN_CASES, GoldenCase


def slow_mask(forward: np.ndarray, back: np.ndarray, threshold: float) -> np.ndarray:
    """The definition, pixel by pixel in float64."""
    _, height, width = forward.shape
    mask = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            u, v = x + float(forward[0, y, x]), y + float(forward[1, y, x])
            if not (0 <= u <= width - 1 and 0 <= v <= height - 1):
                continue
            left, top = min(int(u), width - 2), min(int(v), height - 2)
            a, b = u - left, v - top
            corner = back[:, top : top + 2, left : left + 2].astype(np.float64)
            there = (corner * np.outer([1 - b, b], [1 - a, a])).sum(axis=(1, 2))
            mask[y, x] = ((forward[:, y, x] + there) ** 2).sum() < threshold**2
    return mask


@pytest.mark.parametrize("threshold", [0.5, 1.0, 3.0])
def test_the_mask_is_its_definition(threshold):
    rng = np.random.default_rng(0)
    forward = rng.normal(scale=1.5, size=(2, 20, 26)).astype(np.float32)
    back = rng.normal(scale=1.0, size=(2, 20, 26)).astype(np.float32)
    mask = consistency_mask(torch.from_numpy(forward), torch.from_numpy(back), threshold)
    assert np.array_equal(mask.numpy(), slow_mask(forward, back, threshold))
    assert 0.02 < mask.float().mean() < 0.98


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_masks_agree_with_the_golden_data(golden, name):
    case = GoldenCase(golden("tto/golden.npz"), name)
    mask = consistency_mask(case.flow, case.flow_back)
    assert np.array_equal(mask.numpy(), case["ours_consistency_mask"])
    published = consistency_mask(case.flow, case.flow_back, sampling="published-mask")
    assert np.array_equal(published.numpy(), case["consistency_mask"])


def test_unknown_flow_is_never_trusted():
    flow = torch.zeros(2, 5, 6)
    flow[:, 2, 3] = torch.nan
    assert not consistency_mask(flow, torch.zeros(2, 5, 6))[2, 3]
    assert not consistency_mask(torch.zeros(2, 5, 6), flow)[2, 3]
    assert consistency_mask(torch.zeros(2, 5, 6), torch.zeros(2, 5, 6)).all()


def test_border_pixels_count_and_those_beyond_do_not():
    flow = torch.zeros(2, 4, 7)
    flow[0] = 6.0 - torch.arange(7)  # every pixel to the last column
    assert consistency_mask(flow, -flow, 100.0).all()
    assert not consistency_mask(flow + 0.01, -flow, 100.0).any()


def test_flows_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"\(2, 4, 5\).*\(2, 4, 6\)"):
        consistency_mask(torch.zeros(2, 4, 5), torch.zeros(2, 4, 6))
    with pytest.raises(ShapeError):
        consistency_mask(torch.zeros(3, 4, 5), torch.zeros(3, 4, 5))


def test_a_pair_needs_overlap_in_both_directions():
    masks = torch.tensor([[[True, True], [False, False]], [[True, False], [False, False]]])
    assert overlap(masks).tolist() == [0.5, 0.25]
    shares = {(0, 1): 0.5, (1, 0): 0.25, (0, 2): 0.9, (2, 0): 0.1, (1, 2): 0.9}
    assert keep_pairs(shares) == [(0, 1), (1, 0)]
    assert keep_pairs(shares, overlap_ratio=0.3) == []
