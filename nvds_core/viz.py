"""Pictures of disparity for people: one fixed colour range, panels side by side, time slices that show flicker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from nvds_core.types import ShapeError

Picture = NDArray[np.uint8]
Values = NDArray[np.floating]

INVALID = (128, 128, 128)  # grey does not occur in inferno
PERCENTILES = (1.0, 99.0)  # a few wild pixels must not take the colours from all others
CAPTION_HEIGHT = 20
GAP = 4
_INK, _PAPER, _LINE = (235, 235, 235), (24, 24, 24), (255, 255, 255)


@dataclass(frozen=True)
class DisparityRange:
    """The disparity of the darkest and of the brightest colour, the same for all frames of a video."""

    low: float
    high: float

    def colours(self, disparity: Values) -> Picture:
        """RGB [..., 3] of disparity [...]; near is bright, not-finite values are grey."""
        span = self.high - self.low
        return inferno((disparity - self.low) / (span if span > 0 else 1.0))


def robust_range(samples: Iterable[Values], percentiles: tuple[float, float] = PERCENTILES) -> DisparityRange:
    """The range between two percentiles of all finite samples together; 0..1 when there are none."""
    kept = [values[np.isfinite(values)].ravel() for values in samples]
    finite = np.concatenate(kept) if kept else np.zeros(0)
    if not finite.size:
        return DisparityRange(0.0, 1.0)
    low, high = np.percentile(finite, percentiles)
    return DisparityRange(float(low), float(high))


def frame_range(disparity: Values) -> DisparityRange:
    """The range of one frame by itself, as the published colour pictures have it."""
    return robust_range([disparity], (0.0, 100.0))


def inferno(unit: Values) -> Picture:
    """The inferno colour, RGB [..., 3], of values [...] where 0..1 is dark to bright; beyond, the end colours.

    The table is OpenCV's: matplotlib's, rounded where matplotlib cuts off, so they differ by one level at most.
    """
    finite = np.isfinite(unit)
    index = np.clip(np.where(finite, unit, 0.0) * 256, 0, 255).astype(np.uint8)
    colours = _inferno_table()[index]
    colours[~finite] = INVALID
    return colours


@lru_cache(maxsize=1)
def _inferno_table() -> Picture:
    levels = np.arange(256, dtype=np.uint8)[:, None]
    table = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    return np.ascontiguousarray(table, dtype=np.uint8)


def captioned(picture: Picture, text: str) -> Picture:
    """The picture with a line of text above it."""
    bar = np.full((CAPTION_HEIGHT, picture.shape[1], 3), _PAPER, np.uint8)
    cv2.putText(bar, text, (6, CAPTION_HEIGHT - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
    return np.vstack([bar, picture])


def side_by_side(pictures: Sequence[Picture], labels: Sequence[str]) -> Picture:
    """Pictures [h, w, 3] of one height in a row, each under its label.

    Raises:
        ShapeError: no picture, another number of labels, or different heights.
    """
    heights = {picture.shape[0] for picture in pictures}
    if len(pictures) != len(labels) or len(heights) != 1:
        raise ShapeError(f"{len(pictures)} pictures of heights {sorted(heights)} and {len(labels)} labels do not fit")
    gap = np.full((heights.pop() + CAPTION_HEIGHT, GAP, 3), _PAPER, np.uint8)
    row: list[Picture] = []
    for picture, label in zip(pictures, labels, strict=True):
        row += [gap, captioned(picture, label)] if row else [captioned(picture, label)]
    return np.hstack(row)


def time_slice(volume: NDArray[np.generic], column: int) -> NDArray[np.generic]:
    """One pixel column over time: [h, t] of a volume [t, h, w], or [h, t, 3] of a video [t, h, w, 3]."""
    if volume.ndim not in (3, 4) or not 0 <= column < volume.shape[2]:
        raise ShapeError(f"a volume of shape {volume.shape} has no column {column}")
    return np.ascontiguousarray(np.swapaxes(volume[:, :, column], 0, 1))


def flickering_column(volume: Values) -> int:
    """The column of [t, h, w] that changes most abruptly: largest mean second difference in time."""
    if len(volume) < 3:
        return volume.shape[2] // 2
    change = np.zeros(volume.shape[2])
    for before, now, after in zip(volume[:-2], volume[1:-1], volume[2:], strict=True):
        change += np.nan_to_num(np.abs(after - 2.0 * now + before)).mean(axis=0)
    # the mean over neighbours: one thin edge is no good place to look at
    width = max(1, volume.shape[2] // 16)
    smooth = np.convolve(change, np.ones(width) / width, mode="valid")
    return int(np.argmax(smooth)) + width // 2


def strip_image(
    pictures: Sequence[Picture], slices: Sequence[Picture], labels: Sequence[str], column: int, *, scale: int = 1
) -> Picture:
    """Pictures of one moment with their time slices below, the sliced column marked by a line.

    Args:
        pictures: RGB [h, w, 3] of one size.
        slices: RGB [h, t, 3], one per picture; stretched to the pictures' width.
        labels: one per picture.
        column: where the slices were taken.
        scale: enlarge everything by this whole number.
    """
    height, width = pictures[0].shape[:2]
    size = (width * scale, height * scale)
    upper = []
    for picture in pictures:
        marked = picture.copy()
        marked[:, column] = _LINE
        upper.append(_resized(marked, size))
    frames = slices[0].shape[1]
    lower = [_resized(piece, size) for piece in slices]
    names = [f"{label}: column {column} over {frames} frames" for label in labels]
    return np.vstack([side_by_side(upper, labels), side_by_side(lower, names)])


def _resized(picture: Picture, size: tuple[int, int]) -> Picture:
    # nearest: a smooth enlargement would hide the jumps from frame to frame
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST), np.uint8)
