from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nvds_core.metrics import opw_video
from nvds_core.training.losses import (
    ANCHOR_WEIGHT,
    canonical,
    fit,
    frame_normal_loss,
    gradient_loss,
    spatial_loss,
    temporal_loss,
)
from tests.nvds_core.training.clips import STEP, sliding_disparity


def flow_and_visibility(disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Exact flow to the previous frame of a sliding clip, and where it leads to a pixel of that frame."""
    b, t, h, w = disparity.shape
    flow = torch.zeros(b, t - 1, 2, h, w)
    flow[:, :, 0] = -STEP
    visible = torch.ones(b, t - 1, h, w, dtype=torch.bool)
    visible[..., :STEP] = False
    return flow, visible


SCALE, SHIFT = torch.tensor([3.0, 0.5]).view(2, 1, 1, 1), torch.tensor([-5.0, 2.0]).view(2, 1, 1, 1)


def test_the_canonical_form_does_not_depend_on_the_unit_of_a_clip() -> None:
    truth = sliding_disparity()
    torch.testing.assert_close(canonical(SCALE * truth + SHIFT), canonical(truth), rtol=0, atol=1e-4)


def test_in_canonical_form_far_is_near_0_and_the_mean_deviation_near_1() -> None:
    # Statistics come from every fourth pixel; a picture of 4x4 squares gives the same ones for all pixels.
    truth = torch.rand((2, 3, 8, 10), generator=torch.Generator().manual_seed(1)).repeat_interleave(4, 2)
    truth = truth.repeat_interleave(4, 3)
    for clip in canonical(truth).numpy():
        values = np.sort(clip.ravel())
        assert values[int(0.02 * values.size)] == pytest.approx(0, abs=0.05)
        middle = values[(values.size - 1) // 2]
        assert np.abs(clip - middle).mean() == pytest.approx(1, abs=1e-4)


def test_a_constant_clip_has_a_finite_canonical_form() -> None:
    assert not canonical(torch.full((1, 2, 8, 8), 7.0)).any()


def test_the_fit_undoes_scale_and_shift_of_a_clip() -> None:
    target = canonical(sliding_disparity())
    torch.testing.assert_close(fit((target - SHIFT) / SCALE, target), target, rtol=0, atol=1e-3)


def test_the_fit_is_the_one_of_least_squares() -> None:
    target = canonical(sliding_disparity())
    guess = target + torch.rand(target.shape, generator=torch.Generator().manual_seed(3))
    for clip, wanted, found in zip(guess.double(), target.double(), fit(guess, target), strict=True):
        x = np.stack([clip.numpy().ravel(), np.ones(clip.numel())], axis=1)
        solution, *_ = np.linalg.lstsq(x, wanted.numpy().ravel(), rcond=None)
        np.testing.assert_allclose(found.numpy().ravel(), x @ solution, rtol=0, atol=1e-4)


def test_the_canonical_truth_itself_costs_nothing() -> None:
    truth = sliding_disparity()
    assert float(spatial_loss(canonical(truth), truth)) < 1e-5
    assert float(spatial_loss(canonical(truth), SCALE * truth + SHIFT)) < 1e-3


def test_scale_and_shift_of_a_whole_clip_cost_no_more_than_the_anchor() -> None:
    truth = sliding_disparity()
    target = canonical(truth)
    moved = 1.5 * target + 0.4
    gap = moved - target
    anchor = gap.abs().mean() + 0.5 * gradient_loss(gap.flatten(0, 1))
    assert float(spatial_loss(moved, truth)) == pytest.approx(float(ANCHOR_WEIGHT * anchor), rel=1e-3)


@pytest.mark.parametrize(("scale", "shift"), [(1.3, 0.0), (1.0, 0.5)])
def test_scale_or_shift_of_one_frame_costs_more_than_that_of_the_clip(scale: float, shift: float) -> None:
    truth = sliding_disparity()
    steady = scale * canonical(truth) + shift
    flickering = canonical(truth)
    flickering[:, 1] = steady[:, 1]
    fitted = [float((fit(d, canonical(truth)) - canonical(truth)).abs().mean()) for d in (steady, flickering)]
    assert fitted[0] < 1e-4
    assert fitted[1] > 0.05


def test_an_inverted_map_costs_more_than_a_constant_one() -> None:
    truth = sliding_disparity()
    target = canonical(truth)
    constant = target.mean(dim=(1, 2, 3), keepdim=True).expand_as(target)
    assert float(spatial_loss(2 * constant - target, truth)) > float(spatial_loss(constant, truth)) > 0.5


def test_a_column_of_error_is_seen_at_every_scale_that_samples_it() -> None:
    error = torch.zeros(1, 16, 32)
    error[0, :, 8] = 1.0
    # Columns left after striding by 1, 2, 4, 8: 32, 16, 8, 4. Each shows one step up and one down.
    assert float(gradient_loss(error)) == pytest.approx(2 / 31 + 2 / 15 + 2 / 7 + 2 / 3)
    error = torch.zeros(1, 16, 32)
    error[0, :, 9] = 1.0
    assert float(gradient_loss(error)) == pytest.approx(2 / 31)


def test_a_shifted_edge_costs_gradient_and_descent_moves_it_back() -> None:
    truth = torch.zeros(1, 1, 16, 32)
    truth[..., 16:] = 1.0
    guess = torch.zeros(1, 1, 16, 32)
    guess[..., 17:] = 1.0  # the edge is one pixel too far to the right: column 16 is too low
    guess.requires_grad_()
    aligned = float(gradient_loss(torch.zeros(1, 16, 32)))
    loss = gradient_loss((guess - truth)[:, 0])
    assert float(loss.detach()) > aligned == 0
    (gradient,) = torch.autograd.grad(loss, guess)
    assert bool((gradient[..., 16] < 0).all())


def test_the_gradient_term_has_its_weight() -> None:
    truth = sliding_disparity()
    guess = truth + 0.2 * torch.rand(truth.shape, generator=torch.Generator().manual_seed(2))
    plain, half, full = (float(spatial_loss(guess, truth, gradient_weight=w)) for w in (0.0, 0.5, 1.0))
    assert full - half == pytest.approx(half - plain, rel=1e-4)
    assert half > plain


def test_a_clip_that_follows_its_flow_has_no_temporal_loss() -> None:
    disparity = sliding_disparity()
    assert float(temporal_loss(disparity, *flow_and_visibility(disparity))) < 1e-4


def test_flow_of_the_wrong_sign_is_noticed() -> None:
    disparity = sliding_disparity()
    flow, visible = flow_and_visibility(disparity)
    assert float(temporal_loss(disparity, -flow, visible)) > 0.05


@pytest.mark.parametrize(("scale", "shift"), [(1.3, 0.0), (1.0, 0.3)])
def test_flicker_of_one_frame_is_temporal_loss(scale: float, shift: float) -> None:
    disparity = sliding_disparity()
    disparity[:, 2] = scale * disparity[:, 2] + shift
    assert float(temporal_loss(disparity, *flow_and_visibility(disparity))) > 0.1


def test_pixels_without_a_counterpart_do_not_count() -> None:
    disparity = sliding_disparity()
    flow, visible = flow_and_visibility(disparity)
    assert float(temporal_loss(disparity, flow, torch.ones_like(visible))) > 1e-2
    assert float(temporal_loss(disparity, flow, torch.zeros_like(visible))) == 0


def test_shrinking_the_disparity_does_not_lower_the_temporal_loss() -> None:
    disparity = sliding_disparity()
    disparity[:, 2] *= 1.3
    flow, visible = flow_and_visibility(disparity)
    loss, shrunk = (float(temporal_loss(s * disparity, flow, visible)) for s in (1.0, 0.05))
    assert shrunk == pytest.approx(loss, rel=1e-3)


def test_frames_that_follow_their_flow_up_to_scale_and_shift_have_no_frame_normal_loss() -> None:
    disparity = sliding_disparity()
    flow, visible = flow_and_visibility(disparity)
    still = torch.zeros_like(flow)
    frozen = disparity[:, :1].expand_as(disparity).clone()
    frozen[:, 2] = 3 * frozen[:, 2] + 7
    everywhere = torch.ones_like(visible)
    assert float(frame_normal_loss(frozen, still, everywhere)) < 1e-4
    assert float(temporal_loss(frozen, still, everywhere)) > 0.1  # the clip's own yardstick sees it
    assert float(frame_normal_loss(disparity, -flow, visible)) > 0.05


def test_frame_normal_loss_is_the_gap_that_opw_measures_where_all_colours_agree() -> None:
    disparity = sliding_disparity()
    flow, visible = flow_and_visibility(disparity)
    noisy = disparity + 0.1 * torch.rand(disparity.shape, generator=torch.Generator().manual_seed(3))
    grey = torch.full((disparity.shape[1], 3, *disparity.shape[2:]), 0.0)  # black: zeros from outside agree as well
    opw = opw_video(grey, noisy[0], flow[0])
    # OPW weighs each pixel by three channels and by its table factor of 10.
    expected = opw.pairs.mean() / 30
    found = float(frame_normal_loss(noisy[:1], flow[:1], torch.ones_like(visible[:1])))
    assert found == pytest.approx(expected, rel=1e-4)


def test_near_pixels_of_high_contrast_do_not_hide_flicker_from_the_frame_normal_loss() -> None:
    calm = torch.linspace(0, 1, 32).expand(1, 2, 16, 32).clone()
    calm[:, 1] += 0.1 * torch.rand((16, 32), generator=torch.Generator().manual_seed(4))
    still, everywhere = torch.zeros(1, 1, 2, 16, 32), torch.ones(1, 1, 16, 32, dtype=torch.bool)
    spiked = calm.clone()
    spiked[:, :, 0, 0] = 500.0
    assert float(frame_normal_loss(calm, still, everywhere)) > 0.05
    assert float(temporal_loss(spiked, still, everywhere)) < 0.5 * float(temporal_loss(calm, still, everywhere))
