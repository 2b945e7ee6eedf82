from __future__ import annotations

import numpy as np
import pytest

from nvds_core.metrics import mean_errors, nyu_errors, vdw_errors
from nvds_core.types import CoreError, ShapeError

COLUMNS = {
    "d1": "delta1",
    "d2": "delta2",
    "d3": "delta3",
    "rel": "abs_rel",
    "rmse": "rmse",
    "scale": "scale",
    "shift": "shift",
}


@pytest.fixture(scope="module")
def metrics(golden):
    return golden("nvds/golden_metrics.npz")


@pytest.mark.parametrize("case", ["vdw_a", "vdw_b"])
def test_vdw_errors_agree_with_the_golden_case(metrics, case):
    errors = vdw_errors(*(metrics[f"{case}_{name}"] for name in ("pred", "gt", "mask")))
    for column, attribute in COLUMNS.items():
        assert getattr(errors, attribute) == pytest.approx(float(metrics[f"{case}_{column}"]), rel=1e-4), column


def test_nyu_errors_agree_with_the_golden_case(metrics):
    errors = nyu_errors(metrics["nyu_a_pred"], metrics["nyu_a_gt"])
    for column, attribute in COLUMNS.items():
        assert getattr(errors, attribute) == pytest.approx(float(metrics[f"nyu_a_{column}"]), rel=1e-4), column


def test_vdw_errors_agree_with_a_float64_evaluation():
    draw = np.random.default_rng(3)
    truth = draw.integers(0, 60000, (20, 30)).astype(np.uint16)
    estimate = (truth * 0.5 + draw.integers(0, 9000, (20, 30))).astype(np.uint16)
    ignored = (draw.random((20, 30)) < 0.2).astype(np.uint8) * 255
    valid = (ignored == 0) & (truth > 0)
    y, x = truth[valid] / 65535, estimate[valid] / 65535
    scale, shift = np.linalg.lstsq(np.column_stack((x, np.ones_like(x))), y, rcond=None)[0]
    aligned = scale * x + shift
    ratio = np.maximum(y / aligned, aligned / y)
    errors = vdw_errors(estimate, truth, ignored)
    assert errors.n_pixels == valid.sum()
    assert (errors.scale, errors.shift) == pytest.approx((scale, shift), rel=1e-3, abs=1e-4)
    assert errors.delta1 == pytest.approx((ratio < 1.25).mean(), abs=0.003)
    assert errors.rmse == pytest.approx(np.sqrt(np.mean((y - aligned) ** 2)), rel=1e-4)


def test_negative_aligned_disparity_counts_as_right_as_in_the_release():
    truth = np.array([[60000] * 3 + [100] * 5], np.uint16)
    estimate = np.array([[60000, 60000, 60000, 0, 0, 0, 30000, 30000]], np.uint16)
    x, y = estimate.ravel() / 65535, truth.ravel() / 65535
    scale, shift = np.linalg.lstsq(np.column_stack((x, np.ones_like(x))), y, rcond=None)[0]
    aligned = scale * x + shift
    assert (aligned < 0).sum() == 3
    within = np.maximum(y / aligned, aligned / y) < 1.25
    assert within[aligned < 0].all()
    assert vdw_errors(estimate, truth, np.zeros((1, 8), np.uint8)).delta1 == pytest.approx(within.mean())


def test_a_constant_vdw_estimate_gets_no_fit_instead_of_a_division_by_zero():
    truth = np.arange(1, 13, dtype=np.uint16).reshape(3, 4)
    errors = vdw_errors(np.zeros((3, 4), np.uint16), truth, np.zeros((3, 4), np.uint8))
    assert (errors.scale, errors.shift, errors.delta3, errors.abs_rel) == (0.0, 0.0, 0.0, 1.0)


def test_an_exact_nyu_estimate_has_no_error_up_to_rounding():
    depth = np.tile(np.linspace(1.0, 8.0, 640), (480, 1))
    disparity = np.round(65535 * (1.0 / depth)).astype(np.uint16)
    errors = nyu_errors(disparity, np.round(1000 * depth).astype(np.uint16))
    assert errors.delta1 == 1.0
    assert errors.abs_rel < 1e-3
    assert errors.n_pixels == (471 - 44) * (601 - 40)


def test_means_are_plain_and_pixels_are_added(metrics):
    frames = [
        vdw_errors(*(metrics[f"{case}_{name}"] for name in ("pred", "gt", "mask"))) for case in ("vdw_a", "vdw_b")
    ]
    mean = mean_errors(frames)
    assert mean.delta1 == pytest.approx((frames[0].delta1 + frames[1].delta1) / 2)
    assert mean.n_pixels == frames[0].n_pixels + frames[1].n_pixels


def test_missing_truth_and_wrong_sizes_are_refused():
    empty = np.zeros((4, 5), np.uint16)
    with pytest.raises(CoreError, match="no pixel has a known truth"):
        vdw_errors(empty, empty, np.zeros((4, 5), np.uint8))
    with pytest.raises(ShapeError, match=r"mask \(4, 4\)"):
        vdw_errors(empty, empty, np.zeros((4, 4), np.uint8))
    with pytest.raises(ShapeError, match=r"\(480, 640\)"):
        nyu_errors(empty, empty)
    with pytest.raises(CoreError, match="no frames"):
        mean_errors([])


def test_a_video_is_the_mean_of_its_frames_that_have_a_truth(metrics):
    frame = [metrics[f"vdw_a_{name}"] for name in ("pred", "gt", "mask")]
    stacks = [np.stack([array, array, array]) for array in frame]
    stacks[1][1] = 0
    video, single = vdw_errors(*stacks), vdw_errors(*frame)
    assert (video.n_frames, video.n_pixels) == (2, 2 * single.n_pixels)
    assert video.delta1 == pytest.approx(single.delta1)
    images = [np.stack([metrics[f"nyu_a_{name}"]] * 2) for name in ("pred", "gt")]
    images[1][0] = 0
    both, one = nyu_errors(*images), nyu_errors(metrics["nyu_a_pred"], metrics["nyu_a_gt"])
    assert (both.n_frames, both.abs_rel, both.log10) == (1, one.abs_rel, one.log10)
    with pytest.raises(CoreError, match="no pixel of any frame"):
        vdw_errors(stacks[0], np.zeros_like(stacks[1]), stacks[2])


def test_log10_is_given_where_every_estimate_is_positive():
    truth = np.arange(1, 13, dtype=np.uint16).reshape(3, 4)
    assert np.isnan(vdw_errors(np.zeros((3, 4), np.uint16), truth, np.zeros((3, 4), np.uint8)).log10)
    assert vdw_errors(truth * 100, truth, np.zeros((3, 4), np.uint8)).log10 < 1e-4
