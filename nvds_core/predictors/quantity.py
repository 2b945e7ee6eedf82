"""Depth of foreign origin: disparity or metric depth, with holes, of any size - and what the pipeline makes of it."""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from nvds_core.types import ConfigError, DecodeError

Quantity = Literal["disparity", "depth"]
QUANTITIES: Final[tuple[Quantity, ...]] = get_args(Quantity)


def quantity_option(what: str, value: str) -> Quantity:
    """The option ``quantity`` of a predictor; ConfigError naming ``what`` for any other value."""
    for quantity in QUANTITIES:
        if value == quantity:
            return quantity
    raise ConfigError(f"{what}: quantity is {value!r}, must be {' or '.join(QUANTITIES)}")


def to_disparity(values: NDArray[Any], quantity: Quantity, name: str) -> NDArray[np.float32]:
    """A map [h,w] of disparity or depth, in any unit, as finite disparity: 1 / depth, holes as far as the farthest.

    Holes are values that are not finite and, in depth, those that are not above 0. They get the least disparity of
    their map: what sensors and renderers leave out is mostly sky.

    Raises:
        DecodeError: nothing but holes in the map called ``name``.
    """
    found = values.astype(np.float64)
    valid = np.isfinite(found)
    if quantity == "depth":
        valid &= found > 0
    if not valid.any():
        raise DecodeError(f"{name}: no valid pixel; write the map again, or leave the frame out of the video")
    if quantity == "depth":
        found = 1.0 / np.where(valid, found, 1.0)
    return np.where(valid, found, found[valid].min()).astype(np.float32)


def resize_map(disparity: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """A map [h,w] at ``size`` (W, H): means of pixels when it shrinks, bilinear when it grows."""
    height, width = disparity.shape
    if (width, height) == size:
        return disparity
    shrinks = width >= size[0] and height >= size[1]
    resized = cv2.resize(disparity, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32)
