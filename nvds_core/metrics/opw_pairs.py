"""The error of one pair of frames in both OPW protocols; `nvds_core.metrics.opw` walks through videos."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from nvds_core.types import ShapeError

COLOUR_SHARPNESS: Final = 50.0  # per squared grey level: a difference of a third of a level leaves 0.4 %
TABLE_FACTOR: Final = 10.0
SMALLEST_SPREAD: Final = 1e-6
WHITE: Final = 255.0


def opw_error(
    disparity_bhw: Tensor, warped_disparity_bhw: Tensor, frame_bchw: Tensor, warped_frame_bchw: Tensor
) -> Tensor:
    """Error of frame pairs whose previous frame is already warped into the current one.

    Both disparities are made affine-invariant by themselves, zeros from outside the image included.  Where
    colours disagree (occlusion, bad flow) the weight fades out; there is no mask.

    Args:
        disparity_bhw: the current frame, in any affine unit.
        warped_disparity_bhw: the previous frame, warped.
        frame_bchw: current RGB in 0..255; a batch of one serves several disparities of the same frame.
        warped_frame_bchw: previous RGB, warped likewise.

    Returns:
        One error per pair, ``[b]``.

    Raises:
        ShapeError: the maps, or the frames, differ in shape.
    """
    if disparity_bhw.shape != warped_disparity_bhw.shape:
        raise ShapeError(f"disparity {tuple(disparity_bhw.shape)} != warped {tuple(warped_disparity_bhw.shape)}")
    if frame_bchw.shape != warped_frame_bchw.shape:
        raise ShapeError(f"frame {tuple(frame_bchw.shape)} != warped {tuple(warped_frame_bchw.shape)}")
    gap_bhw = (affine_normalize(warped_disparity_bhw) - affine_normalize(disparity_bhw)).abs()
    return TABLE_FACTOR * (colour_weight(frame_bchw, warped_frame_bchw) * gap_bhw).mean(dim=(1, 2))


def masked_opw_error(
    disparity_bhw: Tensor, warped_disparity_bhw: Tensor, frame_bchw: Tensor, warped_frame_bchw: Tensor, valid_hw: Tensor
) -> Tensor:
    """Error of frame pairs by the protocol ``masked``: as `opw_error`, over pixels that can be compared only.

    Args:
        valid_hw: bool, false where the pixel is occluded or was fetched from outside the picture.

    Returns:
        One error per pair, ``[b]``; NaN where no pixel is left.
    """
    weight_hw = colour_weight(frame_bchw / WHITE, warped_frame_bchw / WHITE)[0]
    errors = []
    for current, warped in zip(disparity_bhw, warped_disparity_bhw, strict=True):
        counts = valid_hw & current.isfinite() & warped.isfinite()
        if not counts.any():
            errors.append(current.new_tensor(float("nan")))
            continue
        gap = affine_normalize(_chosen(warped, counts)[None, None]) - affine_normalize(
            _chosen(current, counts)[None, None]
        )
        errors.append(TABLE_FACTOR * (_chosen(weight_hw, counts) * gap[0, 0].abs()).mean())
    return torch.stack(errors)


def affine_normalize(disparity_bhw: Tensor) -> Tensor:
    """Subtract each map's lower median and divide by its mean absolute deviation, at least 1e-6."""
    values_bn = disparity_bhw.flatten(1)
    centred_bn = values_bn - lower_median(values_bn).unsqueeze(1)
    spread_b = centred_bn.abs().mean(dim=1, keepdim=True).clamp_min(SMALLEST_SPREAD)
    return (centred_bn / spread_b).view_as(disparity_bhw)


def colour_weight(frame_bchw: Tensor, warped_frame_bchw: Tensor) -> Tensor:
    """Weight ``[b, h, w]`` in 0..3: the sum (as released, not the mean) over channels of exp(-50 d^2)."""
    return torch.exp(-COLOUR_SHARPNESS * (warped_frame_bchw - frame_bchw) ** 2).sum(dim=1)


def lower_median(values_bn: Tensor) -> Tensor:
    """The smaller of the two middle values of each row, ``[b]``, as torch.median defines it."""
    middle = (values_bn.shape[1] - 1) // 2
    if values_bn.device.type == "cpu" and not values_bn.requires_grad:
        # torch.median is the same number, twelve times slower on a CPU (eight maps of 192 x 448).
        return torch.from_numpy(np.partition(values_bn.numpy(), middle, axis=1)[:, middle].copy())
    return values_bn.median(dim=1).values


def _chosen(values_hw: Tensor, counts_hw: Tensor) -> Tensor:
    """The values of the pixels that count, ``[n]``; NumPy selects six times faster than torch on a CPU."""
    if values_hw.device.type == "cpu" and not values_hw.requires_grad:
        return torch.from_numpy(values_hw.numpy()[counts_hw.numpy()])
    return values_hw[counts_hw]
