"""Accuracy as the NVDS release prints it on VDW (disparity) and NYUDv2 (depth), frame by frame.

These two align every frame by itself and keep the quirks of the released scripts, so that published
figures can be reproduced.  For anything else use `nvds_core.metrics.video_errors`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from nvds_core.types import CoreError, ShapeError

FULL_SCALE: Final = np.float32(65535.0)
VDW_IGNORED: Final = 255  # mask value of pixels without a trustworthy disparity
NYU_SIZE: Final = (480, 640)
NYU_ROWS, NYU_COLUMNS = slice(44, 471), slice(40, 601)
NYU_SMALLEST_DISPARITY: Final = np.float32(0.1)  # 1 / metre
NYU_DEPTH_RANGE: Final = (np.float32(0.7133), np.float32(9.9955))  # metres
MILLIMETRES: Final = np.float32(1000.0)

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class FrameErrors:
    """Errors of one frame (or their mean over frames, see `mean_errors`).

    Attributes:
        delta1, delta2, delta3: share of pixels within a factor of 1.25, 1.25^2, 1.25^3 of the truth, 0..1.
        abs_rel: mean of |truth - estimate| / truth.
        rmse: in the unit of the truth: 0..1 disparity for VDW, metres for NYUDv2.
        scale, shift: the fit that was applied to the estimate in 0..1.
        n_pixels: pixels that count.
        n_frames: frames with at least one such pixel, the divisor of a mean; the others are dropped.
        log10: mean of |log10(estimate) - log10(truth)|; NaN where an estimate is not positive, which VDW's may be.
    """

    delta1: float
    delta2: float
    delta3: float
    abs_rel: float
    rmse: float
    scale: float
    shift: float
    n_pixels: int
    n_frames: int = 1
    log10: float = math.nan


def vdw_errors(pred_uint16: np.ndarray, gt_uint16: np.ndarray, mask_uint8: np.ndarray) -> FrameErrors:
    """Errors of one VDW frame in disparity, or the mean of a video's frames.

    The aligned estimate is not clipped: where it is negative both ratios are negative and the pixel counts as
    right in every delta.  That is how the release computes its table.

    Args:
        pred_uint16: ``[h, w]`` uint16 disparity of any size; brought to the truth's size by area averaging.
            With ``[t, h, w]`` in all three places frames without a pixel that counts are dropped from the mean.
        gt_uint16: ``[h, w]`` uint16 disparity, 0 = unknown.
        mask_uint8: ``[h, w]`` uint8, 255 = ignore.

    Raises:
        ShapeError: truth and mask differ in size, or a map is not two-dimensional.
        CoreError: no pixel counts.
    """
    if pred_uint16.ndim == 3 and len(pred_uint16) == len(gt_uint16) == len(mask_uint8) and gt_uint16.ndim == 3:
        stacks = zip(pred_uint16, gt_uint16, mask_uint8, strict=True)
        return _mean_of(vdw_errors(*frame) for frame in stacks if ((frame[2] != VDW_IGNORED) & (frame[1] > 0)).any())
    if pred_uint16.ndim != 2 or gt_uint16.ndim != 2 or gt_uint16.shape != mask_uint8.shape:
        raise ShapeError(
            f"need [h, w] maps and a mask of the truth's size: estimate {pred_uint16.shape}, "
            f"truth {gt_uint16.shape}, mask {mask_uint8.shape}"
        )
    truth = gt_uint16.astype(np.float32) / FULL_SCALE
    valid = (mask_uint8 != VDW_IGNORED) & (truth > 0)
    estimate = _resize(pred_uint16, truth.shape, cv2.INTER_AREA)
    scale, shift = fit_float32(estimate[valid], truth[valid])
    return _errors(scale * estimate[valid] + shift, truth[valid], scale, shift)


def nyu_errors(pred_uint16: np.ndarray, gt_uint16: np.ndarray) -> FrameErrors:
    """Errors of one NYUDv2 image in metres, on the Eigen crop as the release cuts it, or the mean of several.

    Args:
        pred_uint16: ``[h, w]`` uint16 disparity; brought to 480 x 640 by nearest neighbour.  With ``[n, h, w]`` in
            both places images without a pixel that counts are dropped from the mean.
        gt_uint16: ``[480, 640]`` uint16 depth in millimetres, 0 = unknown.

    Raises:
        ShapeError: the truth is not 480 x 640 or the estimate not two-dimensional.
        CoreError: no pixel counts.
    """
    if pred_uint16.ndim == 3 and gt_uint16.ndim == 3 and len(pred_uint16) == len(gt_uint16):
        images = zip(pred_uint16, gt_uint16, strict=True)
        return _mean_of(nyu_errors(*image) for image in images if (image[1][NYU_ROWS, NYU_COLUMNS] > 0).any())
    if pred_uint16.ndim != 2 or gt_uint16.shape != NYU_SIZE:
        raise ShapeError(f"need an estimate [h, w] and a truth {NYU_SIZE}: {pred_uint16.shape}, {gt_uint16.shape}")
    truth = gt_uint16.astype(np.float32) / MILLIMETRES
    valid = truth > 0
    estimate = _resize(pred_uint16, NYU_SIZE, cv2.INTER_NEAREST)
    scale, shift = fit_float32(estimate[valid], 1.0 / truth[valid])
    depth = 1.0 / np.maximum(scale * estimate + shift, NYU_SMALLEST_DISPARITY)
    depth = np.clip(depth, *NYU_DEPTH_RANGE)
    counts = valid[NYU_ROWS, NYU_COLUMNS]
    return _errors(depth[NYU_ROWS, NYU_COLUMNS][counts], truth[NYU_ROWS, NYU_COLUMNS][counts], scale, shift)


def mean_errors(frames: Sequence[FrameErrors]) -> FrameErrors:
    """Plain mean over frames (or over videos); counts are added up.  The release rounds to three digits."""
    if not frames:
        raise CoreError("no frames to average; score at least one", reason="metric")
    counts = {name: sum(getattr(frame, name) for frame in frames) for name in ("n_pixels", "n_frames")}
    names = [field.name for field in fields(FrameErrors) if field.name not in counts]
    means: dict[str, Any] = {name: float(np.mean([getattr(frame, name) for frame in frames])) for name in names}
    return FrameErrors(**means, **counts)


def _mean_of(frames: Iterable[FrameErrors]) -> FrameErrors:
    kept = list(frames)
    if not kept:
        raise CoreError("no pixel of any frame has a known truth; leave this video out of the average", reason="metric")
    return mean_errors(kept)


def fit_float32(estimate: FloatArray, truth: FloatArray) -> tuple[np.float32, np.float32]:
    """Least squares scale and shift in closed form and float32; 0, 0 when the estimate is constant."""
    n = np.float32(estimate.size)
    sum_e, sum_t = estimate.sum(), truth.sum()
    sum_ee, sum_et = (estimate * estimate).sum(), (estimate * truth).sum()
    determinant = n * sum_ee - sum_e * sum_e
    if determinant <= 0:
        return np.float32(0), np.float32(0)
    return (n * sum_et - sum_e * sum_t) / determinant, (sum_ee * sum_t - sum_e * sum_et) / determinant


def _resize(pred_uint16: np.ndarray, size: Sequence[int], interpolation: int) -> FloatArray:
    height, width = size
    share = pred_uint16.astype(np.float32) / FULL_SCALE
    return np.asarray(cv2.resize(share, (width, height), interpolation=interpolation), dtype=np.float32)


def _errors(estimate: FloatArray, truth: FloatArray, scale: np.float32, shift: np.float32) -> FrameErrors:
    if truth.size == 0:
        raise CoreError("no pixel has a known truth; leave this frame out of the average", reason="metric")
    with np.errstate(divide="ignore"):  # an estimate of exactly 0 is infinitely far off
        ratio = np.maximum(truth / estimate, estimate / truth)
    gap = np.abs(truth - estimate)
    delta1, delta2, delta3 = (float((ratio < 1.25**k).mean()) for k in (1, 2, 3))
    return FrameErrors(
        delta1=delta1,
        delta2=delta2,
        delta3=delta3,
        abs_rel=float((gap / truth).mean()),
        rmse=float(np.sqrt((gap * gap).mean())),
        scale=float(scale),
        shift=float(shift),
        n_pixels=int(truth.size),
        log10=float(np.abs(np.log10(estimate / truth)).mean()) if (estimate > 0).all() else math.nan,
    )
