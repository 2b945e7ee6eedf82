"""Depth errors of a whole video after one alignment, the protocol most tables use since 2024.

One scale and one shift for the VIDEO (Video Depth Anything, DepthCrafter): a fit per frame would hide
flicker.  All sums in float64, on the device of the prediction.  Print alignment, cap and space beside every number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvds_core.types import ConfigError, CoreError, ShapeError

Align = Literal["video", "frame", "median", "scale", "none"]
Space = Literal["disparity", "depth"]
Maps = Any  # [t, h, w]: NumPy array, tensor, or anything that gives one of them per frame

NEAREST: Final = 1e-3  # metres; also the smallest aligned value
INVERSE_GUARD: Final = 1e-8
METRICS: Final = ("delta1", "delta2", "delta3", "abs_rel", "rmse", "log10")

FloatArray = NDArray[np.float64]
Fit = tuple[float, float]


@dataclass(frozen=True, eq=False)
class VideoErrors:
    """Errors of one video: mean over the pixels of a frame, then over frames.

    Attributes:
        delta1, delta2, delta3: share of pixels within a factor of 1.25, 1.25^2, 1.25^3 of the truth, 0..1.
        abs_rel: mean of |estimate - truth| / truth.
        rmse: root mean square error, metres.
        n_frames: frames with at least one pixel that counts; the others are dropped.
        n_pixels: pixels that count, over all frames.
        n_missing: pixels with a known truth but a NaN or infinite prediction.  They are left out of the
            errors, so a method must not be praised while this is large.
        fits: float64 ``[n_frames, 2]``, scale and shift applied to each kept frame.
        log10: mean of |log10(estimate) - log10(truth)|.
        series: by metric, float64 ``[t]``: the error of every frame of the video, NaN where no pixel counts.
    """

    delta1: float
    delta2: float
    delta3: float
    abs_rel: float
    rmse: float
    n_frames: int
    n_pixels: int
    n_missing: int
    fits: FloatArray
    log10: float = math.nan
    series: dict[str, FloatArray] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        """Scale of the video; the median over frames under ``align="frame"``."""
        return float(np.median(self.fits[:, 0]))

    @property
    def shift(self) -> float:
        """Shift of the video; the median over frames under ``align="frame"``."""
        return float(np.median(self.fits[:, 1]))


@dataclass(frozen=True, eq=False)
class Pixels:
    """What counts of one frame, float64 ``[n]`` each, and how many predictions are missing."""

    estimate: Tensor
    truth: Tensor
    missing: int

    def target(self, space: Space) -> Tensor:
        """What the estimate is fitted to: inverse depth or depth."""
        return 1.0 / (self.truth + INVERSE_GUARD) if space == "disparity" else self.truth


def video_errors(
    pred: Maps,
    depth: Maps,
    *,
    align: Align = "video",
    cap: float | None = None,
    space: Space = "disparity",
    floor: float | None = NEAREST,
) -> VideoErrors:
    """Compare a predicted video with measured depth.

    A pixel counts if its truth lies strictly between 1 mm and `cap` and its prediction is finite; NaN, infinite,
    zero and negative truth means unknown.

    Args:
        pred: ``[t, h, w]``, of the truth's size (crop the truth first, then resize the prediction to it); array or
            tensor.
        depth: ``[t, h, w]`` metres.
        align: ``video``: one least squares scale and shift for all frames; ``frame``: one per frame;
            ``scale``: one least squares scale, no shift; ``median``: one ratio of medians, no shift; ``none``.
        cap: far limit in metres, also of the aligned depth (Sintel 70, KITTI 80, indoor sets 10); None: no limit.
        space: what `pred` is, and where the fit is done: ``disparity`` (against 1 / depth) or ``depth``.
        floor: predictions are raised to at least this before the fit, as the protocol does; None for
            predictions that may be negative.

    Raises:
        ShapeError: `pred` and `depth` differ in shape or are not ``[t, h, w]``.
        ConfigError: unknown `align` or `space`, or a cap that excludes everything.
        CoreError: no pixel of the video counts (reason ``metric``).
    """
    check_maps(pred, depth, align, cap, space)
    read = partial(counted_pixels, pred, depth, cap, floor)  # frame by frame, twice: volumes may be lazy and long
    video_fit = None if align == "frame" else fit_video(read(), align, space)
    rows = np.full((len(depth), len(METRICS)), np.nan)
    fits: list[Fit] = []
    n_pixels, n_missing = 0, 0
    for index, pixels in enumerate(read()):
        n_missing += pixels.missing
        n_pixels += pixels.truth.numel()
        if pixels.truth.numel():
            fits.append(video_fit or least_squares_fit([(pixels.estimate, pixels.target(space))]))
            rows[index] = _frame_errors(pixels, fits[-1], cap, space)
    if not fits:
        raise CoreError(
            f"none of {math.prod(depth.shape)} pixels has a known depth in {NEAREST} .. {cap} m and a finite "
            "prediction; check the unit of the depth",
            reason="metric",
        )
    means = dict(zip(METRICS, np.nanmean(rows, axis=0).tolist(), strict=True))
    series = {name: rows[:, column].copy() for column, name in enumerate(METRICS)}
    return VideoErrors(
        **means, n_frames=len(fits), n_pixels=n_pixels, n_missing=n_missing, fits=np.array(fits), series=series
    )


def aligned_depth(estimate: Tensor, fit: Fit, cap: float | None, space: Space) -> Tensor:
    """Depth in metres of a prediction: fitted, at least 1 mm, at most `cap`; of any shape."""
    aligned = (estimate * fit[0] + fit[1]).clamp_min_(NEAREST)
    if space == "disparity":
        aligned = aligned.reciprocal_()
    return aligned.clamp_(NEAREST, cap)


def least_squares_fit(pairs: Iterable[tuple[Any, Any]]) -> Fit:
    """Scale and shift that bring estimates closest to their targets, over all ``(estimate, target)`` pairs.

    The pairs are float64 arrays or tensors ``[n]``.  Means and centred sums are carried from pair to pair, so large
    offsets cost no precision.  A constant estimate gets scale 0 and the mean of the targets; no values at all 0 and 0.
    """
    n = 0
    mean_e = mean_t = variance = covariance = 0.0
    for estimate, target in pairs:
        size = len(estimate)
        if not size:  # a frame of which nothing counts
            continue
        part_e, part_t = float(estimate.mean()), float(target.mean())
        total = n + size
        between = n * size / total
        centred = estimate - part_e
        variance += float(centred @ centred) + between * (part_e - mean_e) ** 2
        covariance += float(centred @ (target - part_t)) + between * (part_e - mean_e) * (part_t - mean_t)
        mean_e += (part_e - mean_e) * size / total
        mean_t += (part_t - mean_t) * size / total
        n = total
    # A constant leaves rounding noise of the mean, far below any real spread.
    if variance <= n * (1e-14 * mean_e) ** 2:
        return 0.0, mean_t
    scale = covariance / variance
    return scale, mean_t - scale * mean_e


def check_maps(pred: Maps, depth: Maps, align: str, cap: float | None, space: str) -> None:
    """Refuse maps and settings that make no sense; see `video_errors` for the errors."""
    if tuple(pred.shape) != tuple(depth.shape) or len(depth.shape) != 3:
        raise ShapeError(
            f"prediction {tuple(pred.shape)} and depth {tuple(depth.shape)} must both be [t, h, w] of one size"
        )
    if align not in get_args(Align):
        raise ConfigError(f'align "{align}" is unknown; choose one of: {", ".join(get_args(Align))}')
    if space not in get_args(Space):
        raise ConfigError(f'space "{space}" is unknown; choose one of: {", ".join(get_args(Space))}')
    if cap is not None and not cap > NEAREST:
        raise ConfigError(f"cap {cap} m leaves no depth above {NEAREST} m; give it in metres")


def counted_pixels(pred: Maps, depth: Maps, cap: float | None, floor: float | None) -> Iterator[Pixels]:
    """The pixels that count, frame by frame, on the device of the prediction."""
    limit = math.inf if cap is None else cap
    for index in range(len(depth)):
        estimate = as_map(pred[index])
        truth = as_map(depth[index]).to(estimate.device)
        known = (truth > NEAREST) & (truth < limit)  # false for NaN
        counts = known & estimate.isfinite()
        values, true_values = (_selected(part, counts) for part in (estimate, truth))
        if floor is not None:
            values.clamp_min_(floor)
        yield Pixels(values, true_values, int(known.sum()) - len(values))


def as_map(frame: Any) -> Tensor:
    """One frame as a tensor that shares its memory where it can."""
    if isinstance(frame, Tensor):
        return frame.detach()
    array = np.asarray(frame)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _selected(values: Tensor, counts: Tensor) -> Tensor:
    """The values that count, float64 ``[n]``; NumPy selects six times faster than torch on a CPU."""
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy()[counts.numpy()].astype(np.float64))
    return values[counts].double()


def fit_video(frames: Iterable[Pixels], align: Align, space: Space) -> Fit:
    """One scale and shift for all frames; arbitrary when no pixel counts, which the caller reports."""
    pairs = ((pixels.estimate, pixels.target(space)) for pixels in frames if pixels.truth.numel())
    if align == "none":
        return 1.0, 0.0
    if align == "video":
        return least_squares_fit(pairs)
    if align == "scale":
        products = [(float(estimate @ estimate), float(estimate @ target)) for estimate, target in pairs]
        power, product = np.sum(products, axis=0) if products else (0.0, 0.0)
        return (float(product / power) if power > 0 else 0.0), 0.0
    values = [(estimate.cpu().numpy(), target.cpu().numpy()) for estimate, target in pairs]
    if not values:
        return 0.0, 0.0
    middle_estimate, middle_target = (float(np.median(np.concatenate(part))) for part in zip(*values, strict=True))
    return (middle_target / middle_estimate if middle_estimate != 0 else 0.0), 0.0


def _frame_errors(pixels: Pixels, fit: Fit, cap: float | None, space: Space) -> tuple[float, ...]:
    """The `METRICS` of one frame."""
    truth = pixels.truth
    estimate = aligned_depth(pixels.estimate, fit, cap, space)
    ratio = estimate / truth
    relative = (ratio - 1.0).abs_().mean()
    ratio = torch.maximum(ratio, truth / estimate)
    deltas = [int((ratio < 1.25**k).sum()) / len(truth) for k in (1, 2, 3)]
    gap = estimate.sub_(truth)
    square = gap @ gap / len(truth)
    figures: tuple[Any, ...] = (*deltas, relative, square.sqrt(), ratio.log10_().mean())
    return tuple(float(value) for value in figures)
