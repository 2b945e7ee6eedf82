"""The `.raw` file of CVD and of the released test-time optimisation: one float32 map behind a short header."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from nvds_core.types import ShapeError

_HEADER = struct.Struct("<iiiQ")  # height, width, OpenCV's type number, bytes of a pixel
CV_32F, CV_CHANNEL = 5, 8


def encode_raw(values: NDArray[np.floating]) -> bytes:
    """A map ``[h, w]`` or ``[h, w, c]`` as a `.raw` file, rows from top to bottom.

    Raises:
        ShapeError: any other shape.
    """
    if values.ndim not in (2, 3):
        raise ShapeError(f"a .raw file holds [h, w] or [h, w, c], got {values.shape}")
    height, width, channels = (*values.shape, 1)[:3]
    header = _HEADER.pack(height, width, CV_32F + CV_CHANNEL * (channels - 1), 4 * channels)
    return header + np.ascontiguousarray(values, "<f4").tobytes()
