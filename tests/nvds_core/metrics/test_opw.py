from __future__ import annotations

import numpy as np
import pytest
import torch

from nvds_core.flow import flow_warp
from nvds_core.metrics import OpwAccumulator, OpwResult, join_opw, opw_error, opw_video
from nvds_core.metrics.opw import affine_normalize, colour_weight, lower_median
from nvds_core.types import ShapeError


@pytest.fixture(scope="module")
def metrics(golden):
    return golden("nvds/golden_metrics.npz")


@pytest.fixture(scope="module")
def scene():
    """Five frames of 18 x 23 that drift slowly, so that colours still agree along the flow."""
    draw = np.random.default_rng(5)
    rgb = np.cumsum(draw.normal(0, 0.1, (5, 18, 23, 3)), axis=0) + draw.uniform(0, 255, (1, 1, 1, 3))
    disparity = draw.normal(3, 2, (5, 18, 23))
    flow = draw.normal(0, 1.5, (4, 2, 18, 23))
    return rgb.astype(np.float32), disparity.astype(np.float32), flow.astype(np.float32)


def slow_warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Bilinear fetch with zeros outside, one pixel at a time."""
    height, width = image.shape[:2]
    out = np.zeros_like(image, dtype=np.float64)
    for row in range(height):
        for column in range(width):
            x, y = column + float(flow[0, row, column]), row + float(flow[1, row, column])
            left, top = int(np.floor(x)), int(np.floor(y))
            for i, j in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                if 0 <= i < height and 0 <= j < width:
                    out[row, column] += image[i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return out


def slow_opw(rgb: np.ndarray, disparity: np.ndarray, flow: np.ndarray) -> list[float]:
    """OPW of SPEC 3.1 in plain float64, sharing nothing with the code under test."""

    def normalize(values: np.ndarray) -> np.ndarray:
        middle = sorted(values.ravel().tolist())[(values.size - 1) // 2]
        return (values - middle) / max(float(np.abs(values - middle).mean()), 1e-6)

    pairs = []
    for i in range(len(flow)):
        warped_rgb = slow_warp(rgb[i].astype(np.float64), flow[i])
        gap = np.abs(normalize(slow_warp(disparity[i].astype(np.float64), flow[i])) - normalize(disparity[i + 1]))
        weight = np.exp(-50.0 * (warped_rgb - rgb[i + 1]) ** 2).sum(axis=2)
        pairs.append(10.0 * float((weight * gap).mean()))
    return pairs


@pytest.mark.parametrize("case", ["opw_a", "opw_b"])
def test_video_errors_agree_with_the_golden_case(metrics, case):
    result = opw_video(metrics[f"{case}_rgb"], metrics[f"{case}_depth"], metrics[f"{case}_flow"])
    np.testing.assert_allclose(result.pairs, metrics[f"{case}_pair"], atol=1e-5)
    assert result.total == pytest.approx(float(metrics[f"{case}_total"]), abs=1e-5)
    assert result.mean == pytest.approx(float(metrics[f"{case}_mean"]), abs=1e-5)


@pytest.mark.parametrize("case", ["opw_a", "opw_b"])
def test_every_intermediate_of_the_first_pair_agrees_with_the_golden_case(metrics, case):
    expected = {key: torch.from_numpy(metrics[key]) for key in metrics if key.startswith(f"{case}_pair0_")}
    if not expected:
        pytest.skip(f"intermediates of {case} are only in ../shared")
    rgb, disparity, flow = (torch.from_numpy(metrics[f"{case}_{name}"]) for name in ("rgb", "depth", "flow"))
    warped_rgb, warped = flow_warp(rgb[:1], flow[:1]), flow_warp(disparity[None, :1], flow[:1])
    actual = {
        "warp_rgb": warped_rgb,
        "warp_depth": warped,
        "norm_warp_depth": affine_normalize(warped[0])[None],
        "norm_depth": affine_normalize(disparity[1:2])[None],
        "weight": colour_weight(rgb[1:2], warped_rgb)[None],
    }
    assert {f"{case}_pair0_{name}" for name in actual} == set(expected)
    for name, value in actual.items():
        torch.testing.assert_close(value, expected[f"{case}_pair0_{name}"], atol=1e-5, rtol=1e-5)


def test_pairs_agree_with_a_slow_float64_evaluation(scene):
    assert min(slow_opw(*scene)) > 0.1, "the case must not be trivial"
    np.testing.assert_allclose(opw_video(*scene).pairs, slow_opw(*scene), rtol=2e-3)


def test_the_mean_divides_by_frames_not_by_pairs():
    result = OpwResult(np.array([1.0, 2.0, 3.0]), n_frames=4)
    assert (result.total, result.mean) == (6.0, 1.5)


def test_a_single_frame_has_no_pair_and_mean_zero():
    result = opw_video(np.zeros((1, 4, 5, 3), np.uint8), np.ones((1, 4, 5)), np.zeros((0, 2, 4, 5)))
    assert result.pairs.shape == (0,)
    assert (result.total, result.mean, result.n_frames) == (0.0, 0.0, 1)


def test_both_colour_layouts_torch_and_numpy_agree(scene):
    rgb, disparity, flow = scene
    expected = opw_video(rgb, disparity, flow).pairs
    assert np.array_equal(opw_video(rgb.transpose(0, 3, 1, 2), disparity, flow).pairs, expected)
    assert np.array_equal(opw_video(*(torch.from_numpy(array) for array in scene)).pairs, expected)


def test_three_by_three_frames_are_read_with_channels_last():
    draw = np.random.default_rng(0)
    rgb = np.repeat(draw.integers(0, 255, (1, 3, 3, 3)), 2, axis=0)
    rgb[1, 0, 0] = 255 - rgb[1, 0, 0]  # one pixel in the last-channel reading changes all its colours
    disparity, still = draw.normal(size=(2, 3, 3)), np.zeros((1, 2, 3, 3))
    np.testing.assert_allclose(opw_video(rgb, disparity, still).pairs, slow_opw(rgb, disparity, still), rtol=1e-4)


def test_read_only_frames_of_any_integer_type_are_accepted(scene):
    rgb, disparity, flow = scene
    frames = rgb.clip(0, 255).astype(np.uint16)
    frames.setflags(write=False)
    disparity = disparity.copy()
    disparity.setflags(write=False)
    np.testing.assert_allclose(opw_video(frames, disparity, flow).pairs, slow_opw(frames, disparity, flow), rtol=2e-3)


def test_several_results_together_score_as_each_alone(scene):
    rgb, disparity, flow = scene
    results = {"initial": disparity, "mix": disparity[::-1] ** 2}
    together = OpwAccumulator(("initial", "mix"))
    for i in range(len(rgb)):
        maps = {name: values[i] for name, values in results.items()}
        errors = together.push(rgb[i], maps, flow[i - 1] if i else None)
        assert (errors is None) == (i == 0)
    for name, result in together.results().items():
        np.testing.assert_allclose(result.pairs, opw_video(rgb, results[name], flow).pairs, rtol=1e-6)


def test_a_frame_without_flow_starts_a_new_scene_and_still_counts_as_a_frame(scene):
    rgb, disparity, flow = scene
    accumulator = OpwAccumulator()
    for i in range(5):
        accumulator.push(rgb[i], disparity[i], flow[i - 1] if i not in (0, 3) else None)
    whole = accumulator.results()["disparity"]
    first, second = opw_video(rgb[:3], disparity[:3], flow[:2]), opw_video(rgb[3:], disparity[3:], flow[3:])
    np.testing.assert_allclose(whole.pairs, np.concatenate((first.pairs, second.pairs)))
    joined = join_opw([first, second])
    assert (whole.n_frames, joined.n_frames) == (5, 5)
    assert whole.mean == pytest.approx(joined.mean)
    assert join_opw([]).mean == 0.0


def test_rescaled_disparity_along_the_flow_has_no_error(scene):
    disparity, frame = torch.from_numpy(scene[1]), torch.from_numpy(scene[0]).permute(0, 3, 1, 2)
    assert opw_error(disparity, 3.0 * disparity + 7.0, frame, frame).max() < 1e-4


def test_pixels_whose_colour_changed_do_not_count(scene):
    disparity, frame = torch.from_numpy(scene[1]), torch.from_numpy(scene[0]).permute(0, 3, 1, 2)
    assert opw_error(disparity, disparity.flip(2), frame, frame + 2.0).max() < 1e-6


def test_constant_disparity_gives_zero_and_nan_stays_visible(scene):
    rgb, disparity, flow = scene
    assert opw_video(rgb, np.ones_like(disparity), np.zeros_like(flow)).total == 0.0
    broken = disparity.copy()
    broken[2, 4, 4] = np.nan
    assert np.isnan(opw_video(rgb, broken, flow).pairs).tolist() == [False, True, True, False]


@pytest.mark.parametrize("size", [1, 2, 7, 10])
def test_the_median_is_the_lower_of_the_two_middle_values(size):
    values = torch.from_numpy(np.random.default_rng(size).normal(size=(3, size)).astype(np.float32))
    assert torch.equal(lower_median(values), values.median(dim=1).values)
    assert torch.equal(lower_median(values), torch.tensor([sorted(row)[(size - 1) // 2] for row in values.tolist()]))


def test_sizes_that_do_not_fit_are_refused(scene):
    rgb, disparity, flow = scene
    with pytest.raises(ShapeError, match="5 disparity frames need 5 RGB frames and 4 flows, got 5 and 3"):
        opw_video(rgb, disparity, flow[:3])
    with pytest.raises(ShapeError, match="does not fit disparity"):
        opw_video(rgb[:, :, :5], disparity, flow)
    with pytest.raises(ShapeError, match="first frame"):
        OpwAccumulator().push(rgb[0], disparity[0], flow[0])
    with pytest.raises(ShapeError, match="one \\[h, w\\] map for each of"):
        OpwAccumulator(("initial", "mix")).push(rgb[0], disparity[0])
    maps, frame = torch.from_numpy(disparity), torch.from_numpy(rgb).permute(0, 3, 1, 2)
    with pytest.raises(ShapeError, match=r"\(5, 18, 23\) != warped \(5, 18, 8\)"):
        opw_error(maps, maps[..., :8], frame, frame)
