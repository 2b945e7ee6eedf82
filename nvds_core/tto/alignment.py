"""From a network's affine disparity to depth in the unit of the poses: one scale and shift per video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvds_core.types import CoreError, ShapeError

FEWEST_POINTS = 20
FLATTEST = 0.2
FURTHEST = 50.0  # median depths; beyond it the affine disparity of these networks says nothing
HUBER = 1.345  # standard deviations: 95 % efficient for normal errors (Huber 1964)
MAD_TO_SIGMA = 1.4826
DRAWS, SCORED = 300, 2000
ROUNDS = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Alignment:
    """Depth of a disparity: ``unit / max(scale * disparity + shift, 1 / furthest)``.

    Attributes:
        scale, shift: of the disparity, so that 1 is the inverse of `unit`.
        unit: the median depth of the video, in the unit of the poses. Losses are computed in it, because they depend
            on the unit of depth.
        spread: median absolute error of the fitted inverse depth, as a share of that at the median depth.
        furthest: largest depth, in `unit`.
    """

    scale: float
    shift: float
    unit: float
    spread: float = 0.0
    furthest: float = FURTHEST

    def depth(self, disparity: Tensor) -> Tensor:
        """Depth in `unit`. Its gradient does not vanish where the largest depth is reached, so that training can bring
        such pixels back."""
        inverse = self.scale * disparity + self.shift
        held = inverse.detach().clamp_min(1 / self.furthest)
        return 1 / (held + (inverse - inverse.detach()))


def align_disparity(disparity: NDArray, depth: NDArray, weight: NDArray | None = None, *, seed: int = 0) -> Alignment:
    """Fit 1 / depth ~ a disparity + b robustly, with a > 0, on points of a whole video.

    Half of the points may be wrong: lines through random pairs of points are judged by their median error, the best
    is refined by weighted least squares with Huber's weights. A network that sees near and far the wrong way round, or
    not at all, gets a line with a fifth of the slope that would give its disparity the spread of the truth: it stays a
    depth that training can move.

    Args:
        disparity: the network's, any shape.
        depth: of sparse points or of the pseudo reference, of the same shape, in the unit of the poses.
        weight: of each point, for example its confidence; points of weight 0, and depths that are not finite and
            positive, do not count.

    Raises:
        CoreError: (reason ``no_parallax``) fewer than 20 points count.
        ShapeError: the arrays differ in shape.
    """
    if disparity.shape != depth.shape or (weight is not None and weight.shape != depth.shape):
        raise ShapeError(f"disparity {disparity.shape}, depth {depth.shape} and their weights must be of one shape")
    x, z = (np.asarray(array, np.float64).ravel() for array in (disparity, depth))
    w = np.ones_like(z) if weight is None else np.asarray(weight, np.float64).ravel()
    counts = np.isfinite(x) & np.isfinite(z) & (z > 0) & (w > 0)
    if counts.sum() < FEWEST_POINTS:
        raise CoreError(
            f"only {int(counts.sum())} points with known depth to fit the disparity to, {FEWEST_POINTS} are needed; "
            "the camera may not have moved enough",
            reason="no_parallax",
        )
    x, z, w = x[counts], z[counts], w[counts]
    unit = weighted_median(z, w)
    y = unit / z
    scale, shift = _refined(x, y, w, *_best_line(x, y, w, np.random.default_rng(seed)))
    least = FLATTEST * _spread(y, w) / max(_spread(x, w), 1e-12)
    if not scale > least:
        scale, shift = least or 1e-3, weighted_median(y, w) - least * weighted_median(x, w)
    spread = weighted_median(np.abs(scale * x + shift - y), w)
    return Alignment(float(scale), float(shift), float(unit), float(spread))


def weighted_median(values: Floats, weights: Floats) -> float:
    """The smallest value at which half of the weight is reached."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])


def _spread(values: Floats, weights: Floats) -> float:
    """Median absolute deviation from the median: half of the values may be wrong."""
    return weighted_median(np.abs(values - weighted_median(values, weights)), weights)


def _best_line(x: Floats, y: Floats, w: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Least median of squares (Rousseeuw 1984) over lines through two points, the rising ones only."""
    chance = w / w.sum()
    first, second = rng.choice(len(x), (2, DRAWS), p=chance)
    judges = rng.choice(len(x), min(SCORED, len(x)), p=chance)
    run = x[second] - x[first]
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = (y[second] - y[first]) / run
    rising = np.isfinite(scales) & (scales > 0)
    if not rising.any():
        return 0.0, weighted_median(y, w)
    scales = scales[rising]
    shifts = y[first][rising] - scales * x[first][rising]
    errors = np.median(np.abs(scales[:, None] * x[judges] + shifts[:, None] - y[judges]), axis=1)
    best = int(np.argmin(errors))
    return float(scales[best]), float(shifts[best])


def _refined(x: Floats, y: Floats, w: Floats, scale: float, shift: float) -> tuple[float, float]:
    for _ in range(ROUNDS):
        errors = np.abs(scale * x + shift - y)
        limit = max(HUBER * MAD_TO_SIGMA * weighted_median(errors, w), 1e-12)
        weights = w * np.minimum(1.0, limit / np.maximum(errors, limit * 1e-6))
        weights[errors > 4 * limit] = 0.0  # gross errors in inverse depth are huge; Huber alone would let them pull
        total = weights.sum()
        mean_x, mean_y = (weights @ x) / total, (weights @ y) / total
        variance = weights @ (x - mean_x) ** 2
        if not variance > 0:
            return 0.0, float(mean_y)
        scale = float((weights @ ((x - mean_x) * (y - mean_y))) / variance)
        shift = float(mean_y - scale * mean_x)
    return scale, shift


@torch.no_grad()
def thin_out(maps_hw: list[Tensor], step: int) -> list[Floats]:
    """Every ``step``-th row and column of several maps of one frame, flat, for a fit over many frames."""
    return [values[step // 2 :: step, step // 2 :: step].double().flatten().cpu().numpy() for values in maps_hw]
