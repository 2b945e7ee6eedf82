"""Losses of NVDS: affine-invariant spatial loss with multi-scale gradients, and flow-warping temporal loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nvds_core.flow.warp import flow_warp

GRADIENT_SCALES = 4  # as MiDaS (Ranftl et al., TPAMI 2020, section 5)
MIN_SPREAD = 1e-4


def affine_normalize(disparity: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Subtract the median and divide by the mean absolute deviation over ``dims`` (the trailing ones).

    MiDaS, equation 5. With the time axis among ``dims`` a clip keeps ONE scale and shift, so that flicker of either
    is an error too.
    """
    flat = disparity.flatten(-len(dims))
    shift = flat.median(dim=-1, keepdim=True).values
    centred = flat - shift
    spread = centred.abs().mean(dim=-1, keepdim=True).clamp_min(MIN_SPREAD)
    return (centred / spread).view_as(disparity)


def gradient_loss(error: Tensor) -> Tensor:
    """Mean absolute gradient of the error [n,h,w] at four scales: edges of prediction and truth must coincide."""
    total = error.new_zeros(())
    for level in range(GRADIENT_SCALES):
        step = 2**level
        e = error[:, ::step, ::step]
        total = total + (e[:, :, 1:] - e[:, :, :-1]).abs().mean() + (e[:, 1:] - e[:, :-1]).abs().mean()
    return total


def spatial_loss(disparity: Tensor, truth: Tensor, *, gradient_weight: float = 0.5) -> Tensor:
    """Affine-invariant error of disparity [b,t,h,w] against the truth, one scale and shift per clip of t frames."""
    clip = (-3, -2, -1)
    error = affine_normalize(disparity, clip) - affine_normalize(truth, clip)
    return error.abs().mean() + gradient_weight * gradient_loss(error.flatten(0, 1))


def temporal_loss(disparity: Tensor, flow_to_previous: Tensor, visible: Tensor) -> Tensor:
    """Change of disparity along the flow between consecutive frames.

    Args:
        disparity: [b,t,h,w], normalised by its own clip's spread inside, so that shrinking is no way out.
        flow_to_previous: [b,t-1,2,h,w]; entry i leads from frame i+1 to frame i.
        visible: bool [b,t-1,h,w]; False where a pixel of frame i+1 has no counterpart in frame i.
    """
    normal = affine_normalize(disparity, (-3, -2, -1))
    previous, current = normal[:, :-1].flatten(0, 1)[:, None], normal[:, 1:].flatten(0, 1)
    warped = flow_warp(previous, flow_to_previous.flatten(0, 1), padding="border")[:, 0]
    mask = visible.flatten(0, 1).to(warped.dtype)
    return ((warped - current).abs() * mask).sum() / mask.sum().clamp_min(1)


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Flow [n,2,h,w] at another size, vectors scaled along."""
    h, w = flow.shape[2:]
    scale = torch.tensor([size[1] / w, size[0] / h], dtype=flow.dtype, device=flow.device).view(1, 2, 1, 1)
    return F.interpolate(flow, size, mode="bilinear", align_corners=False) * scale
