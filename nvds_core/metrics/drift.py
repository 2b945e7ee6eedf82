"""Scale drift: how the best scale and shift of single frames wander about those of the video."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from nvds_core.metrics.alignment import (
    NEAREST,
    Fit,
    FloatArray,
    Maps,
    Space,
    check_maps,
    counted_pixels,
    least_squares_fit,
)
from nvds_core.types import CoreError

FEWEST_PIXELS: Final = 2  # of a frame: one pixel fits any scale, so that it says nothing about drift


@dataclass(frozen=True, eq=False)
class DriftCurve:
    """Best scale and shift of every frame; OPW sees flicker between neighbours, this sees what adds up.

    Attributes:
        scale, shift: float64 ``[t]``, least squares fit of each frame to its truth; NaN where fewer than
            `FEWEST_PIXELS` count.
        video_scale, video_shift: the one fit of all frames.
        mean_target: mean of the truth over the counted pixels, in the space of the fit, for a shift without unit.
    """

    scale: FloatArray
    shift: FloatArray
    video_scale: float
    video_shift: float
    mean_target: float

    @property
    def scale_spread(self) -> float:
        """Standard deviation of the frames' scales over the size of their mean; infinite if that is zero.

        NaN if no frame has a fit.
        """
        known = self.scale[np.isfinite(self.scale)]
        if not known.size:
            return math.nan
        mean, spread = abs(float(known.mean())), float(known.std())
        return spread / mean if mean > 0 else (0.0 if spread == 0 else math.inf)

    @property
    def shift_spread(self) -> float:
        """Standard deviation of the frames' shifts over the mean of the truth in the same space; NaN without a fit."""
        known = self.shift[np.isfinite(self.shift)]
        return float(known.std()) / self.mean_target if known.size else math.nan


def drift_curve(
    pred: Maps, depth: Maps, *, cap: float | None = None, space: Space = "disparity", floor: float | None = NEAREST
) -> DriftCurve:
    """Fit every frame by itself, and the video as a whole; arguments and errors as `video_errors`.

    A frame with too few pixels for a fit of its own still counts in that of the video.
    """
    check_maps(pred, depth, "frame", cap, space)
    fits = np.full((len(depth), 2), np.nan)
    kept = []
    for index, pixels in enumerate(counted_pixels(pred, depth, cap, floor)):
        if pixels.truth.numel():
            target = pixels.target(space)
            if len(target) >= FEWEST_PIXELS:
                fits[index] = least_squares_fit([(pixels.estimate, target)])
            kept.append((len(target), float(target.mean())))
    if not kept:
        raise CoreError("no frame has a pixel that counts; check the unit of the depth", reason="metric")
    sizes, means = np.array(kept).T
    video: Fit = least_squares_fit(
        (pixels.estimate, pixels.target(space))
        for pixels in counted_pixels(pred, depth, cap, floor)
        if pixels.truth.numel()
    )
    return DriftCurve(fits[:, 0], fits[:, 1], *video, mean_target=float((sizes * means).sum() / sizes.sum()))
