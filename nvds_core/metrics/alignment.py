"""Depth errors of a whole video after one alignment, the protocol most tables use since 2024.

One scale and one shift for the VIDEO (Video Depth Anything, DepthCrafter): a fit per frame would hide
flicker.  All sums in float64.  Print alignment, cap and space beside every number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nvds_core.types import ConfigError, CoreError, ShapeError

Align = Literal["video", "frame", "median", "scale", "none"]
Space = Literal["disparity", "depth"]

NEAREST: Final = 1e-3  # metres; also the smallest aligned value
INVERSE_GUARD: Final = 1e-8

FloatArray = NDArray[np.float64]


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
        fits: float64 ``[n_frames, 2]``, scale and shift applied to each kept frame.  Their spread under
            ``align="frame"`` is the drift of the prediction.
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

    @property
    def scale(self) -> float:
        """Scale of the video; the median over frames under ``align="frame"``."""
        return float(np.median(self.fits[:, 0]))

    @property
    def shift(self) -> float:
        """Shift of the video; the median over frames under ``align="frame"``."""
        return float(np.median(self.fits[:, 1]))


def video_errors(
    pred: np.ndarray,
    depth: np.ndarray,
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
        pred: ``[t, h, w]``, of the truth's size (crop the truth first, then resize the prediction to it).
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
    _check(pred, depth, align, cap, space)
    read = partial(_pixels, pred, depth, cap, floor)  # frame by frame and twice: volumes may be lazy and long
    video_fit = None if align == "frame" else _video_fit(read(), align, space)
    rows: list[tuple[float, ...]] = []
    fits: list[tuple[float, float]] = []
    n_pixels, n_missing = 0, 0
    for estimate, truth, missing in read():
        n_missing += missing
        n_pixels += truth.size
        if truth.size:
            fits.append(video_fit or least_squares_fit([(estimate, _target(truth, space))]))
            rows.append(_frame_errors(estimate, truth, fits[-1], cap, space))
    if not rows:
        raise CoreError(
            f"none of {depth.size} pixels has a known depth in {NEAREST} .. {cap} m and a finite prediction; "
            "check the unit of the depth",
            reason="metric",
        )
    delta1, delta2, delta3, abs_rel, rmse = (float(value) for value in np.mean(rows, axis=0))
    return VideoErrors(delta1, delta2, delta3, abs_rel, rmse, len(rows), n_pixels, n_missing, np.array(fits))


def least_squares_fit(pairs: Iterable[tuple[FloatArray, FloatArray]]) -> tuple[float, float]:
    """Scale and shift that bring estimates closest to their targets, over all ``(estimate, target)`` pairs.

    Means and centred sums are carried from pair to pair, so large offsets cost no precision.  A constant
    estimate gets scale 0 and the mean of the targets.
    """
    n = 0
    mean_e = mean_t = variance = covariance = 0.0
    for estimate, target in pairs:
        part_e, part_t = float(estimate.mean()), float(target.mean())
        total = n + estimate.size
        between = n * estimate.size / total
        centred = estimate - part_e
        variance += float(centred @ centred) + between * (part_e - mean_e) ** 2
        covariance += float(centred @ (target - part_t)) + between * (part_e - mean_e) * (part_t - mean_t)
        mean_e += (part_e - mean_e) * estimate.size / total
        mean_t += (part_t - mean_t) * estimate.size / total
        n = total
    # A constant leaves rounding noise of the mean, far below any real spread.
    if variance <= n * (1e-14 * mean_e) ** 2:
        return 0.0, mean_t
    scale = covariance / variance
    return scale, mean_t - scale * mean_e


def _check(pred: np.ndarray, depth: np.ndarray, align: str, cap: float | None, space: str) -> None:
    if pred.shape != depth.shape or depth.ndim != 3:
        raise ShapeError(f"prediction {pred.shape} and depth {depth.shape} must both be [t, h, w] of one size")
    if align not in get_args(Align):
        raise ConfigError(f'align "{align}" is unknown; choose one of: {", ".join(get_args(Align))}')
    if space not in get_args(Space):
        raise ConfigError(f'space "{space}" is unknown; choose one of: {", ".join(get_args(Space))}')
    if cap is not None and not cap > NEAREST:
        raise ConfigError(f"cap {cap} m leaves no depth above {NEAREST} m; give it in metres")


def _pixels(
    pred: np.ndarray, depth: np.ndarray, cap: float | None, floor: float | None
) -> Iterator[tuple[FloatArray, FloatArray, int]]:
    """Per frame: prediction and truth of the pixels that count, and how many predictions are missing."""
    for index in range(len(depth)):
        estimate, truth = np.asarray(pred[index]), np.asarray(depth[index])
        known = np.isfinite(truth) & (truth > NEAREST) & (truth < (np.inf if cap is None else cap))
        counts = known & np.isfinite(estimate)
        values = estimate[counts].astype(np.float64)
        if floor is not None:
            values = np.maximum(values, floor)
        yield values, truth[counts].astype(np.float64), int(known.sum() - counts.sum())


def _video_fit(frames: Iterable[tuple[FloatArray, FloatArray, int]], align: Align, space: Space) -> tuple[float, float]:
    """One scale and shift for all frames; arbitrary when no pixel counts, which the caller reports."""
    pairs = ((estimate, _target(truth, space)) for estimate, truth, _ in frames if truth.size)
    if align == "none":
        return 1.0, 0.0
    if align == "video":
        return least_squares_fit(pairs)
    if align == "scale":
        products = [(estimate @ estimate, estimate @ target) for estimate, target in pairs]
        power, product = np.sum(products, axis=0) if products else (0.0, 0.0)
        return (float(product / power) if power > 0 else 0.0), 0.0
    values = list(pairs)
    if not values:
        return 0.0, 0.0
    middle_estimate, middle_target = (float(np.median(np.concatenate(part))) for part in zip(*values, strict=True))
    return (middle_target / middle_estimate if middle_estimate != 0 else 0.0), 0.0


def _target(depth: FloatArray, space: Space) -> FloatArray:
    return 1.0 / (depth + INVERSE_GUARD) if space == "disparity" else depth


def _frame_errors(
    pred: FloatArray, truth: FloatArray, fit: tuple[float, float], cap: float | None, space: Space
) -> tuple[float, float, float, float, float]:
    aligned = np.maximum(fit[0] * pred + fit[1], NEAREST)
    estimate = 1.0 / aligned if space == "disparity" else aligned
    estimate = np.clip(estimate, NEAREST, cap)
    ratio = np.maximum(estimate / truth, truth / estimate)
    gap = np.abs(estimate - truth)
    delta1, delta2, delta3 = (float((ratio < 1.25**k).mean()) for k in (1, 2, 3))
    return delta1, delta2, delta3, float((gap / truth).mean()), float(np.sqrt((gap * gap).mean()))
