from __future__ import annotations

import numpy as np
import pytest
import torch

from nvds_core.metrics import least_squares_fit, video_errors
from nvds_core.types import ConfigError, CoreError, ShapeError


@pytest.fixture
def video():
    """(prediction in disparity, depth in metres): 4 frames whose prediction is noisy and drifts in scale."""
    draw = np.random.default_rng(11)
    depth = draw.uniform(0.5, 12.0, (4, 15, 20))
    drift = np.array([1.0, 1.2, 0.9, 1.1])[:, None, None]
    pred = 0.4 + 3.0 * drift / depth * draw.uniform(0.8, 1.25, depth.shape)
    depth[draw.random(depth.shape) < 0.1] = 0.0
    return pred.astype(np.float32), depth.astype(np.float32)


def reference(pred, depth, cap, fits):
    """Means of the common protocol with the given (scale, shift) of each frame, in plain float64."""
    rows = []
    for p, d, (scale, shift) in zip(pred.astype(np.float64), depth.astype(np.float64), fits, strict=True):
        valid = (d > 1e-3) & (d < cap)
        if not valid.any():
            continue
        out = np.clip(1 / np.maximum(scale * np.maximum(p[valid], 1e-3) + shift, 1e-3), 1e-3, cap)
        truth = d[valid]
        ratio = np.maximum(out / truth, truth / out)
        deltas = [(ratio < limit).mean() for limit in (1.25, 1.5625, 1.953125)]
        rows.append([*deltas, (np.abs(out - truth) / truth).mean(), np.sqrt(((out - truth) ** 2).mean())])
    return np.mean(rows, axis=0)


def solve(pred, depth, cap):
    valid = (depth > 1e-3) & (depth < cap)
    p, d = np.maximum(pred[valid].astype(np.float64), 1e-3), depth[valid].astype(np.float64)
    return np.linalg.lstsq(np.column_stack((p, np.ones_like(p))), 1 / (d + 1e-8), rcond=None)[0]


def columns(errors):
    return [errors.delta1, errors.delta2, errors.delta3, errors.abs_rel, errors.rmse]


@pytest.mark.parametrize("cap", [10.0, 1e9])
def test_one_fit_per_video_agrees_with_an_independent_solution(video, cap):
    pred, depth = video
    fit = solve(pred, depth, cap)
    errors = video_errors(pred, depth, cap=cap)
    assert (errors.scale, errors.shift) == pytest.approx(tuple(fit), rel=1e-9)
    assert columns(errors) == pytest.approx(list(reference(pred, depth, cap, [fit] * 4)), rel=1e-9)
    assert errors.n_pixels == ((depth > 1e-3) & (depth < cap)).sum()
    assert (errors.n_frames, errors.n_missing) == (4, 0)


def test_one_fit_per_frame_agrees_with_an_independent_solution_and_hides_the_drift(video):
    pred, depth = video
    fits = [solve(p, d, 10.0) for p, d in zip(pred, depth, strict=True)]
    errors = video_errors(pred, depth, align="frame", cap=10.0)
    np.testing.assert_allclose(errors.fits, fits, rtol=1e-8)
    assert columns(errors) == pytest.approx(list(reference(pred, depth, 10.0, fits)), rel=1e-8)
    assert errors.abs_rel < video_errors(pred, depth, cap=10.0).abs_rel


def test_scale_only_and_median_agree_with_their_formulas(video):
    pred, depth = video
    valid = depth > 1e-3
    p, y = pred[valid].astype(np.float64), 1 / (depth[valid].astype(np.float64) + 1e-8)
    scale = video_errors(pred, depth, align="scale")
    assert (scale.scale, scale.shift) == pytest.approx(((p @ y) / (p @ p), 0.0))
    assert columns(scale) == pytest.approx(list(reference(pred, depth, 1e9, [(scale.scale, 0.0)] * 4)))
    median = video_errors(pred, depth, align="median")
    assert (median.scale, median.shift) == pytest.approx((np.median(y) / np.median(p), 0.0))
    assert columns(median) == pytest.approx(list(reference(pred, depth, 1e9, [(median.scale, 0.0)] * 4)))


def test_exact_disparity_up_to_scale_and_shift_has_no_error(video):
    _, depth = video
    pred = np.where(depth > 0, 5.0 / np.maximum(depth, 0.1) + 2.0, 0.0)
    errors = video_errors(pred, depth)
    assert errors.delta1 == 1.0
    assert errors.abs_rel < 1e-6


def test_metric_depth_without_alignment_is_compared_as_it_is(video):
    _, depth = video
    errors = video_errors(depth * 1.1, depth, align="none", space="depth")
    assert errors.abs_rel == pytest.approx(0.1, rel=1e-5)
    assert video_errors(depth * 1.1, depth, space="depth").abs_rel < 1e-6


def test_unknown_truth_is_ignored_and_frames_without_any_are_dropped(video):
    pred, depth = video
    depth[1], depth[2, :3] = np.nan, np.inf
    pred[1] = 1e6
    errors = video_errors(pred, depth)
    assert errors.n_frames == 3
    assert columns(errors) == pytest.approx(columns(video_errors(pred[[0, 2, 3]], depth[[0, 2, 3]])))
    assert np.isfinite(columns(errors)).all()


def test_missing_predictions_are_left_out_and_counted(video):
    pred, depth = video
    holes = np.zeros(depth.shape, bool)
    holes[0, :2] = True
    masked = columns(video_errors(pred, np.where(holes, 0, depth)))
    n_known = int((holes & (depth > 1e-3)).sum())
    pred[holes] = np.nan
    errors = video_errors(pred, depth)
    assert errors.n_missing == n_known
    assert columns(errors) == pytest.approx(masked)


def test_negative_predictions_are_raised_to_the_floor_unless_told_otherwise(video):
    pred, depth = video
    shifted = pred - 10.0
    assert video_errors(shifted, depth).scale == 0.0, "everything lies at the floor: a constant"
    free, plain = video_errors(shifted, depth, floor=None), video_errors(pred, depth)
    assert columns(free) == pytest.approx(columns(plain), rel=1e-4)


def test_a_constant_estimate_is_fitted_by_the_mean():
    for value in (0.0, 0.1, 65535.0):
        parts = [(np.full(7, value), np.arange(7.0)), (np.full(3, value), np.arange(3.0))]
        assert least_squares_fit(parts) == (0.0, pytest.approx(2.4))


def test_a_large_offset_costs_the_fit_no_precision():
    draw = np.random.default_rng(2)
    x = draw.normal(size=3000)
    scale, shift = least_squares_fit([(part + 1e6, 2.0 * part + 3.0) for part in np.split(x, 5)])
    assert scale == pytest.approx(2.0, rel=1e-9)
    assert scale * 1e6 + shift == pytest.approx(3.0, abs=1e-6)


def test_settings_and_inputs_that_make_no_sense_are_refused(video):
    pred, depth = video
    with pytest.raises(ShapeError, match=r"\(4, 15, 19\)"):
        video_errors(pred[:, :, :19], depth)
    with pytest.raises(ConfigError, match="choose one of: video, frame, median, scale, none"):
        video_errors(pred, depth, align="affine")
    with pytest.raises(ConfigError, match="disparity, depth"):
        video_errors(pred, depth, space="log")
    with pytest.raises(ConfigError, match="metres"):
        video_errors(pred, depth, cap=0.0)
    for align in ("video", "frame", "median", "scale", "none"):
        with pytest.raises(CoreError, match="check the unit"):
            video_errors(pred, np.zeros_like(depth), align=align)


def test_the_series_holds_every_frame_and_its_mean_is_the_figure(video):
    pred, depth = video
    depth[1] = 0
    errors = video_errors(pred, depth, cap=10.0)
    fit = [(errors.scale, errors.shift)]
    for index in (0, 2, 3):
        frame = reference(pred[index : index + 1], depth[index : index + 1], 10.0, fit)
        assert [errors.series[name][index] for name in ("delta1", "delta2", "delta3", "abs_rel", "rmse")] == (
            pytest.approx(list(frame))
        )
    assert all(np.isnan(values[1]) and len(values) == 4 for values in errors.series.values())
    assert np.nanmean(errors.series["abs_rel"]) == pytest.approx(errors.abs_rel)


def test_log10_is_the_mean_distance_of_decimal_logarithms(video):
    _, depth = video
    errors = video_errors(depth * 1.3, depth, align="none", space="depth")
    assert errors.log10 == pytest.approx(np.log10(1.3), rel=1e-5)


def test_tensors_give_the_numbers_of_arrays(video):
    pred, depth = video
    errors = video_errors(torch.from_numpy(pred), torch.from_numpy(depth), cap=10.0)
    assert columns(errors) == columns(video_errors(pred, depth, cap=10.0))


def test_what_is_passed_in_stays_as_it_is(video):
    pred, depth = video[0] - 1.0, video[1]
    before = pred.copy(), depth.copy()
    video_errors(pred, depth)
    np.testing.assert_array_equal(pred, before[0])
    np.testing.assert_array_equal(depth, before[1])


def test_frames_of_which_nothing_counts_do_not_disturb_a_fit():
    estimate = np.array([1.0, 2.0, 4.0])
    nothing = (np.zeros(0), np.zeros(0))
    assert least_squares_fit([nothing, (estimate, 3 * estimate + 1), nothing]) == pytest.approx((3.0, 1.0))
    assert least_squares_fit([nothing]) == (0.0, 0.0)
