"""Disparity frames as 16-bit codes and back: one affine code per frame, 0 for pixels without a value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import StorageError

_TOP_CODE = 65535
_FLOAT16_MAX = 65504.0


def encode_uint16(
    block_nhw: NDArray[np.floating[Any]],
) -> tuple[NDArray[np.uint16], NDArray[np.float64], NDArray[np.float64]]:
    """Code each frame over its own range.

    Args:
        block_nhw: values [n, h, w] of a floating type no wider than float64; non-finite means invalid.

    Returns:
        (codes [n, h, w] uint16, offset [n], scale [n]): ``value = offset + scale * (code - 1)``, code 0 invalid.
        The frame's smallest value is exact, the error is at most scale / 2 = range / 131068 (plus the rounding to
        float32). A constant frame has scale 0, a frame without any value offset and scale 0.
    """
    codes = np.zeros(block_nhw.shape, np.uint16)
    offset, scale = np.zeros(len(block_nhw)), np.zeros(len(block_nhw))
    for index, frame in enumerate(block_nhw):
        valid = np.isfinite(frame)
        if not valid.any():
            continue
        # float64: the range of a float32 frame may exceed float32, its step may fall below
        values = frame.astype(np.float64)
        whole = bool(valid.all())
        low = values.min() if whole else values[valid].min()
        high = values.max() if whole else values[valid].max()
        offset[index], scale[index] = low, (high - low) / (_TOP_CODE - 1)
        if scale[index] > 0:
            values -= low
            values /= scale[index]
            np.rint(values, out=values)
        else:
            values.fill(0)
        values += 1
        codes[index] = values if whole else np.where(valid, values, 0)
    return codes, offset, scale


def decode_uint16(
    codes_nhw: NDArray[np.uint16], offset: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The float32 values [n, h, w] of `encode_uint16`; NaN where invalid."""
    values_nhw = np.empty(codes_nhw.shape, np.float32)
    for index, codes in enumerate(codes_nhw):
        values = codes.astype(np.float64)
        values -= 1
        values *= scale[index]
        values += offset[index]
        values_nhw[index] = values
        values_nhw[index][codes == 0] = np.nan
    return values_nhw


def to_float(block_nhw: NDArray[np.floating[Any]], dtype: str) -> NDArray[np.floating[Any]]:
    """The block as float16 or float32, every non-finite value as the one NaN.

    Raises:
        StorageError: a finite value that float16 cannot hold.
    """
    finite = np.isfinite(block_nhw)
    if dtype == "float16":
        largest = float(np.abs(block_nhw, where=finite, out=np.zeros(block_nhw.shape)).max(initial=0.0))
        if largest > _FLOAT16_MAX:
            raise StorageError(
                f"value {largest:g} does not fit float16; use encoding uint16 or float32", reason="format"
            )
    return np.where(finite, block_nhw, np.nan).astype(dtype)
