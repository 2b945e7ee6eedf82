from __future__ import annotations

import numpy as np
import pytest
import torch

from nvds_core.flow import occlusion_masks
from nvds_core.metrics import OpwAccumulator, OpwResult, join_opw, occluded_in_later, opw_video
from nvds_core.types import ConfigError
from tests.nvds_core.metrics.test_opw import slow_warp


@pytest.fixture(scope="module")
def scene():
    """Four frames of 14 x 19 with noise in colours and disparity, flow that leaves the picture, and occlusions."""
    draw = np.random.default_rng(8)
    rgb = draw.uniform(0, 255, (1, 14, 19, 3)) + draw.normal(0, 30, (4, 14, 19, 3))
    disparity, flow = draw.normal(3, 2, (4, 14, 19)), draw.normal(0, 2.5, (3, 2, 14, 19))
    return [part.astype(np.float32) for part in (rgb, disparity, flow)] + [draw.random((3, 14, 19)) < 0.2]


def slow_masked_opw(rgb, disparity, flow, occluded):
    """The protocol in plain float64: what is hidden or fetched from outside counts nowhere, colours in 0..1."""

    def normalize(values):
        middle = sorted(values.tolist())[(values.size - 1) // 2]
        return (values - middle) / max(float(np.abs(values - middle).mean()), 1e-6)

    height, width = disparity.shape[1:]
    rows, columns = np.mgrid[:height, :width]
    pairs = []
    for i in range(len(flow)):
        x, y = columns + flow[i, 0], rows + flow[i, 1]
        counts = ~occluded[i] & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        warped = slow_warp(disparity[i].astype(np.float64), flow[i])[counts]
        gap = np.abs(normalize(warped) - normalize(disparity[i + 1].astype(np.float64)[counts]))
        colours = (slow_warp(rgb[i].astype(np.float64), flow[i]) - rgb[i + 1])[counts] / 255
        pairs.append(10 * float((np.exp(-50 * colours**2).sum(axis=1) * gap).mean()))
    return pairs


def test_masked_opw_agrees_with_a_float64_evaluation_and_is_the_mean_over_pairs(scene):
    result = opw_video(*scene[:3], protocol="masked", occluded=scene[3])
    expected = slow_masked_opw(*scene)
    np.testing.assert_allclose(result.pairs, expected, rtol=1e-4)
    assert result.mean == pytest.approx(np.mean(expected), rel=1e-4)
    assert (result.n_frames, result.protocol) == (4, "masked")


def test_what_is_occluded_has_no_influence(scene):
    rgb, disparity, flow, occluded = (part.copy() for part in scene)
    flow[:] = 0
    plain = opw_video(rgb, disparity, flow, protocol="masked", occluded=occluded).pairs
    disparity[1][occluded[0] & occluded[1]] = 50  # hidden towards the frame before, and in the warp of the next
    rgb[3][occluded[2]] = 0
    changed = opw_video(rgb, disparity, flow, protocol="masked", occluded=occluded).pairs
    np.testing.assert_allclose(changed, plain, rtol=1e-4)


def test_disparity_that_is_not_finite_is_left_out(scene):
    rgb, disparity, flow, occluded = (part.copy() for part in scene)
    hole = np.zeros((14, 19), bool)
    hole[3:6, 4:9] = True
    hidden = occluded | hole
    plain = opw_video(rgb[:2], disparity[:2], flow[:1], protocol="masked", occluded=hidden[:1])
    disparity[1][hole] = np.nan
    holed = opw_video(rgb[:2], disparity[:2], flow[:1], protocol="masked", occluded=occluded[:1])
    assert holed.mean == pytest.approx(plain.mean, rel=1e-6)


def test_occlusion_from_two_flows_is_the_same_as_given_occlusion():
    draw = np.random.default_rng(4)
    to_previous = np.zeros((1, 2, 12, 16), np.float32)
    to_next = to_previous.copy()
    to_next[0, 0, :, :5] = 9.0  # what the earlier frame shows there does not lead back
    rgb = draw.uniform(0, 1, (2, 12, 16, 3)).astype(np.float32)
    disparity = draw.normal(size=(2, 12, 16)).astype(np.float32)
    hidden = np.zeros((1, 12, 16), bool)
    hidden[0, :, :5] = True
    np.testing.assert_array_equal(occluded_in_later(to_previous[0], to_next[0]).numpy(), hidden[0])
    noise = draw.normal(0, 0.4, (2, 2, 12, 16)).astype(np.float32)
    both = occlusion_masks(torch.from_numpy(noise[:1]), torch.from_numpy(noise[1:]))[1][0]
    np.testing.assert_array_equal(occluded_in_later(noise[1], noise[0]), both)
    one = opw_video(rgb, disparity, to_previous, protocol="masked", flow_to_next=to_next)
    other = opw_video(rgb, disparity, to_previous, protocol="masked", occluded=hidden)
    assert one.mean == other.mean != opw_video(rgb, disparity, to_previous, protocol="masked").mean


def test_scale_and_shift_per_frame_cancel_and_a_constant_scores_zero(scene):
    rgb, disparity, flow, occluded = scene
    plain = opw_video(rgb, disparity, flow, protocol="masked", occluded=occluded).mean
    other = disparity * np.array([1, 3, 0.2, 7], np.float32)[:, None, None] + 5
    assert opw_video(rgb, other, flow, protocol="masked", occluded=occluded).mean == pytest.approx(plain, rel=1e-4)
    constant = np.full_like(disparity, 0.5)
    assert opw_video(rgb, constant, flow, protocol="masked").mean == pytest.approx(0, abs=0.5), "rounding / 1e-6 only"


def test_a_pair_without_any_pixel_is_left_out_of_the_mean(scene):
    rgb, disparity, flow, occluded = (part.copy() for part in scene)
    occluded[1] = True
    result = opw_video(rgb, disparity, flow, protocol="masked", occluded=occluded)
    assert np.isnan(result.pairs).tolist() == [False, True, False]
    assert result.mean == pytest.approx(result.pairs[[0, 2]].mean())
    nothing = opw_video(rgb[:2], disparity[:2], flow[:1], protocol="masked", occluded=np.ones_like(occluded[:1]))
    assert np.isnan(nothing.mean)
    assert opw_video(rgb[:1], disparity[:1], flow[:0], protocol="masked").mean == 0.0


def test_several_results_at_once_and_tensors_give_the_same_numbers(scene):
    rgb, disparity, flow, occluded = scene
    scorer = OpwAccumulator(("one", "two"), protocol="masked")
    for index in range(4):
        maps = {"one": torch.from_numpy(disparity[index]), "two": torch.from_numpy(disparity[index] ** 2)}
        back = flow[index - 1] if index else None
        scorer.push(rgb[index], maps, back, occluded=torch.from_numpy(occluded[index - 1]) if index else None)
    results = scorer.results()
    for name, values in (("one", disparity), ("two", disparity**2)):
        single = opw_video(rgb, values, flow, protocol="masked", occluded=occluded)
        np.testing.assert_allclose(results[name].pairs, single.pairs, rtol=1e-6)


def test_protocols_are_not_mixed_up(scene):
    rgb, disparity, flow, occluded = scene
    with pytest.raises(ConfigError, match='"nvds" has no mask'):
        opw_video(rgb, disparity, flow, occluded=occluded)
    with pytest.raises(ConfigError, match="choose one of: nvds, masked"):
        OpwAccumulator(protocol="published")
    with pytest.raises(ConfigError, match="masked, nvds"):
        join_opw([OpwResult(np.zeros(1), 2), OpwResult(np.zeros(1), 2, "masked")])
    assert join_opw([OpwResult(np.array([2.0]), 3, "masked")] * 2).mean == 2.0
