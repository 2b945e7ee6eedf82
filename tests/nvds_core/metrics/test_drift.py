from __future__ import annotations

import numpy as np
import pytest

from nvds_core.metrics import drift_curve, video_errors
from nvds_core.types import CoreError


def drifting(scales, shifts):
    depth = np.random.default_rng(1).uniform(1, 9, (len(scales), 10, 12))
    return (1 / depth - np.array(shifts)[:, None, None]) / np.array(scales)[:, None, None], depth


def test_the_curve_finds_the_scale_and_shift_that_every_frame_was_made_with():
    scales, shifts = [1.0, 1.2, 0.9, 1.1], [0.0, -0.01, 0.02, -0.02]
    pred, depth = drifting(scales, shifts)
    curve = drift_curve(pred, depth)
    np.testing.assert_allclose(curve.scale, scales, rtol=1e-6)
    np.testing.assert_allclose(curve.shift, shifts, atol=1e-6)
    assert curve.scale_spread == pytest.approx(np.std(scales) / np.mean(scales), rel=1e-6)
    assert curve.shift_spread == pytest.approx(np.std(shifts) / (1 / depth).mean(), rel=1e-5)
    whole = video_errors(pred, depth)
    assert (curve.video_scale, curve.video_shift) == pytest.approx((whole.scale, whole.shift))


def test_a_steady_video_has_no_spread_and_frames_without_truth_are_holes():
    pred, depth = drifting([2.0] * 4, [0.1] * 4)
    depth[2] = 0
    curve = drift_curve(pred, depth, floor=None)
    assert np.isnan(curve.scale).tolist() == [False, False, True, False]
    assert curve.scale_spread < 1e-6
    assert curve.shift_spread < 1e-6


def test_a_frame_with_a_single_pixel_says_nothing_about_drift_and_counts_in_the_video():
    pred, depth = drifting([2.0] * 4, [0.1] * 4)
    depth[2] = 0
    depth[2, 3, 5] = 0.5  # near: left out, the mean of the truth would be another
    curve = drift_curve(pred, depth, floor=None)
    assert np.isnan(curve.scale).tolist() == np.isnan(curve.shift).tolist() == [False, False, True, False]
    assert curve.scale_spread < 1e-6
    assert curve.shift_spread < 1e-6
    assert curve.mean_target == pytest.approx((1 / depth[depth > 0]).mean())


def test_a_video_of_single_pixels_has_a_fit_and_no_drift_that_could_be_known():
    pred, depth = drifting([2.0] * 3, [0.1] * 3)
    depth[:, 1:], depth[:, 0, 1:] = 0, 0
    curve = drift_curve(pred, depth, floor=None)
    whole = video_errors(pred, depth, floor=None)
    assert (curve.video_scale, curve.video_shift) == pytest.approx((whole.scale, whole.shift))
    assert (curve.video_scale, curve.video_shift) == pytest.approx((2.0, 0.1), rel=1e-6)
    assert np.isnan([curve.scale_spread, curve.shift_spread]).all()


def test_a_constant_prediction_has_no_scale_to_drift():
    curve = drift_curve(np.ones((3, 4, 5)), np.random.default_rng(0).uniform(1, 2, (3, 4, 5)))
    assert curve.scale_spread == 0.0


def test_a_video_without_truth_is_refused():
    with pytest.raises(CoreError, match="unit of the depth"):
        drift_curve(np.ones((2, 3, 4)), np.zeros((2, 3, 4)))
