"""Losses of NVDS: affine-invariant spatial loss with multi-scale gradients, and flow-warping temporal loss."""

from __future__ import annotations

import torch
from torch import Tensor

from nvds_core.flow.warp import flow_warp
from nvds_core.metrics.opw import affine_normalize

GRADIENT_SCALES = 4  # as MiDaS (Ranftl et al., TPAMI 2020, section 5)
MIN_SPREAD = 1e-4
MIN_SCALE = 0.1  # of the fit of a prediction to the canonical truth: an upside-down prediction must not fit
CAP = 8.0  # canonical units; a few very near pixels must not outweigh the rest of the frame
LOW_SHARE = 0.02
SAMPLE_STEP = 4  # pixels between those that statistics of the truth are taken from
ANCHOR_WEIGHT = 0.3


def canonical(truth: Tensor) -> Tensor:
    """One fixed representative of the affine class of disparity clips [b,t,h,w]: far is 0, mean deviation is 1.

    One scale and shift serve all frames of a clip, so that flicker of either is an error too.
    """
    sample = truth[..., ::SAMPLE_STEP, ::SAMPLE_STEP].flatten(1)
    low = torch.quantile(sample, LOW_SHARE, dim=1, keepdim=True)
    middle = sample.median(dim=1, keepdim=True).values
    spread = (sample - middle).abs().mean(dim=1, keepdim=True).clamp_min(MIN_SPREAD)
    one = (-1, 1, 1, 1)
    return ((truth - low.view(one)) / spread.view(one)).clamp(max=CAP)


def fit(disparity: Tensor, target: Tensor) -> Tensor:
    """Disparity clips [b,t,h,w] with the scale and shift per clip that fit the target best (least squares)."""
    dims = (1, 2, 3)
    centred = disparity - disparity.mean(dims, keepdim=True)
    target_mean = target.mean(dims, keepdim=True)
    covariance = (centred * (target - target_mean)).mean(dims, keepdim=True)
    scale = covariance / centred.square().mean(dims, keepdim=True).clamp_min(MIN_SPREAD)
    return scale.clamp_min(MIN_SCALE) * centred + target_mean


def gradient_loss(error: Tensor) -> Tensor:
    """Mean absolute gradient of the error [n,h,w] at four scales: edges of prediction and truth must coincide."""
    total = error.new_zeros(())
    for level in range(GRADIENT_SCALES):
        step = 2**level
        e = error[:, ::step, ::step]
        total = total + (e[:, :, 1:] - e[:, :, :-1]).abs().mean() + (e[:, 1:] - e[:, :-1]).abs().mean()
    return total


def spatial_loss(disparity: Tensor, truth: Tensor, *, gradient_weight: float = 0.5) -> Tensor:
    """Affine-invariant error of disparity clips [b,t,h,w] against the truth, in canonical units.

    The error counts after the best scale and shift per clip. A small part counts without: it makes the canonical
    representative the one the network learns, so that scale and sign of its output are the same for all frames.
    """
    target = canonical(truth)
    total = disparity.new_zeros(())
    for weight, estimate in ((1.0, fit(disparity, target)), (ANCHOR_WEIGHT, disparity)):
        error = estimate - target
        total = total + weight * (error.abs().mean() + gradient_weight * gradient_loss(error.flatten(0, 1)))
    return total


def temporal_loss(disparity: Tensor, flow_to_previous: Tensor, visible: Tensor) -> Tensor:
    """Change of disparity along the flow between consecutive frames.

    Args:
        disparity: [b,t,h,w], divided by its own clip's mean deviation inside, so that shrinking is no way out.
        flow_to_previous: [b,t-1,2,h,w]; entry i leads from frame i+1 to frame i.
        visible: bool [b,t-1,h,w]; False where a pixel of frame i+1 has no counterpart in frame i.
    """
    centred = disparity - disparity.mean((1, 2, 3), keepdim=True)
    normal = centred / centred.abs().mean((1, 2, 3), keepdim=True).clamp_min(MIN_SPREAD)
    previous, current = normal[:, :-1].flatten(0, 1)[:, None], normal[:, 1:].flatten(0, 1)
    warped = flow_warp(previous, flow_to_previous.flatten(0, 1), padding="border")[:, 0]
    mask = visible.flatten(0, 1).to(warped.dtype)
    return ((warped - current).abs() * mask).sum() / mask.sum().clamp_min(1)


def frame_normal_loss(disparity: Tensor, flow_to_previous: Tensor, visible: Tensor) -> Tensor:
    """As `temporal_loss`, but every frame is made affine-invariant by itself, the way OPW does.

    `temporal_loss` alone is also lowered by a few near pixels of high contrast, which raise the clip's deviation. Here
    the median and the deviation of each frame are the yardstick, zeros warped in from outside the frame included.
    """
    current = disparity[:, 1:].flatten(0, 1)
    warped = flow_warp(disparity[:, :-1].flatten(0, 1)[:, None], flow_to_previous.flatten(0, 1))[:, 0]
    mask = visible.flatten(0, 1).to(warped.dtype)
    gap = (affine_normalize(warped) - affine_normalize(current)).abs()
    return (gap * mask).sum() / mask.sum().clamp_min(1)
