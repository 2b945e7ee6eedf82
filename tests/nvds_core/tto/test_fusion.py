from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvds_core.tto import fuse, fuse_frames, pair_indices
from nvds_core.types import ShapeError
from tests.nvds_core.tto.cases import GOLDEN_CASES, GoldenCase


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_median_and_agreement_are_those_of_numpy(seed, count):
    rng = np.random.default_rng(seed)
    depths, valid = rng.uniform(0.5, 2, (count, 5, 6)), rng.uniform(size=(count, 5, 6)) < 0.6
    found = fuse(torch.from_numpy(depths), torch.from_numpy(valid), tolerance=0.3)
    for y in range(5):
        for x in range(6):
            own = depths[valid[:, y, x], y, x]
            median = np.median(own) if own.size else 0.0
            assert float(found.depth[y, x]) == pytest.approx(median)
            assert int(found.confidence[y, x]) == (np.abs(own - median) <= 0.3 * median).sum()
            assert bool(found.valid[y, x]) == (own.size > 0)


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_references_agree_with_the_golden_data(golden, name):
    case = GoldenCase(golden("tto/golden.npz"), name)
    for frame in range(len(case["ours_median"])):
        own = case.i == frame
        found = fuse(torch.from_numpy(case["ours_pseudo"][own]), torch.from_numpy(case["ours_valid"][own]), 0.1)
        np.testing.assert_allclose(found.depth.numpy(), case["ours_median"][frame], rtol=1e-6)
        assert np.array_equal(found.valid.numpy(), case["ours_median_mask"][frame])
        assert np.array_equal(found.confidence.numpy(), case["ours_confidence"][frame])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 0.0, -1.0])
def test_what_is_no_depth_never_counts_even_if_marked_valid(value):
    depths = torch.tensor([value, 2.0, 4.0]).view(3, 1, 1)
    found = fuse(depths, torch.ones(3, 1, 1, dtype=torch.bool), tolerance=0.34)
    assert float(found.depth) == 3.0
    assert int(found.confidence) == 2


def test_candidates_at_the_tolerance_agree():
    found = fuse(torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1), torch.ones(3, 1, 1, dtype=torch.bool), tolerance=0.5)
    assert int(found.confidence) == 3


def test_no_candidate_is_depth_zero_and_no_confidence():
    for count in (0, 2):
        found = fuse(torch.ones(count, 3, 4), torch.zeros(count, 3, 4, dtype=torch.bool), tolerance=5.0)
        assert not found.depth.any()
        assert not found.valid.any()
        assert not found.confidence.any()
        assert found.depth.shape == (3, 4)


def test_frames_are_fused_one_after_the_other_with_their_own_candidates():
    asked: list[tuple[int, int]] = []

    def candidate(i: int, j: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append((i, j))
        return torch.full((2, 2), 1.0 + 10 * i + 0.1 * j), torch.ones(2, 2, dtype=torch.bool)

    pairs, seen = pair_indices(9), []
    for frame, reference in fuse_frames(pairs, candidate):
        assert {i for i, _ in asked} == set(range(frame + 1)), "later frames are not asked for yet"
        own = [1.0 + 10 * frame + 0.1 * j for i, j in pairs if i == frame]
        torch.testing.assert_close(reference.depth, torch.full((2, 2), float(np.median(own))))
        seen.append(frame)
    assert seen == list(range(9))
    assert sorted(asked) == sorted(pairs)


def test_arrays_of_different_shape_are_refused():
    with pytest.raises(ShapeError, match=r"\(2, 3, 4\).*\(2, 3, 5\)"):
        fuse(torch.ones(2, 3, 4), torch.ones(2, 3, 5))
