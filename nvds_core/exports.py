"""One map as a file, the way the scripts of MiDaS and DPT write it: 16-bit PNG, inferno PNG, PFM.

All stretch a map to its own range, so equal codes of two frames do not mean equal disparity; PFM keeps the values.
"""

from __future__ import annotations

import re

import cv2
import numpy as np
from numpy.typing import NDArray

from nvds_core.types import DecodeError, ShapeError

Map = NDArray[np.floating]

CONSTANT = float(np.finfo(np.float64).eps)  # a range up to this counts as constant
KITTI_FACTOR, NYU_FACTOR = 256.0, 1000.0  # codes per metre of the two benchmarks' depth pictures
_PFM_HEADER = re.compile(rb"\APf\s+(\d+)\s+(\d+)\s+([-+]?[0-9.eE+-]+)\n")


def gray16(values: Map) -> NDArray[np.uint16]:
    """``trunc(65535 * (d - min) / (max - min))`` of a map [h,w], in float32.

    Values that are not finite count as 0; a constant map becomes zeros.
    """
    return _stretched(values, 65535).astype(np.uint16)


def inferno_bgr(values: Map) -> NDArray[np.uint8]:
    """Inferno colours [h,w,3], blue first, of a map [h,w] stretched to 8 bits by the rule of `gray16`."""
    colours = cv2.applyColorMap(_stretched(values, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.asarray(colours, np.uint8)


def metric_gray16(depth: Map, factor: float) -> NDArray[np.uint16]:
    """Depth [h,w] in metres times ``factor``, not stretched: `KITTI_FACTOR` or `NYU_FACTOR`.

    Truncated and held at 65535; values that are not finite become 0, the code for no depth.
    """
    _check_map(depth)
    codes = np.nan_to_num(depth.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0) * np.float32(factor)
    return np.clip(codes, 0, 65535).astype(np.uint16)


def encode_png(picture: NDArray[np.uint16] | NDArray[np.uint8]) -> bytes:
    """PNG file of `gray16`, `metric_gray16` or `inferno_bgr` (blue first)."""
    if picture.size == 0:
        raise ShapeError(f"a picture of shape {picture.shape} has no pixels to write")
    coded, data = cv2.imencode(".png", picture)
    if not coded:
        raise ShapeError(f"OpenCV cannot encode a picture of {picture.dtype} {picture.shape}")
    return data.tobytes()


def encode_pfm(values: Map) -> bytes:
    """PFM file of a map [h,w]: little-endian float32, bottom row first, values as they are."""
    _check_map(values)
    height, width = values.shape
    return f"Pf\n{width} {height}\n{-1:f}\n".encode() + values[::-1].astype("<f4").tobytes()


def decode_pfm(data: bytes) -> NDArray[np.float32]:
    """The map [h,w] of a grey PFM file in either byte order.

    Raises:
        DecodeError: not a grey PFM file, or not all of it.
    """
    header = _PFM_HEADER.match(data)
    if header is None:
        raise DecodeError(f"not a grey PFM file: it begins with {data[:12]!r} instead of 'Pf', width, height and scale")
    width, height, scale = int(header[1]), int(header[2]), header[3]
    body = data[header.end() :]
    if len(body) != 4 * width * height:
        raise DecodeError(f"PFM of {width}x{height} has {len(body)} bytes of values instead of {4 * width * height}")
    values = np.frombuffer(body, "<f4" if scale.startswith(b"-") else ">f4").reshape(height, width)
    return values[::-1].astype(np.float32)


def _stretched(values: Map, top: int) -> NDArray[np.float32]:
    _check_map(values)
    clean = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = clean.min(), clean.max()
    if not high - low > CONSTANT:
        return np.zeros_like(clean)
    # this order of operations in float32 gives the published files
    return np.asarray(np.float32(top) * (clean - low) / (high - low), np.float32)


def _check_map(values: Map) -> None:
    if values.ndim != 2 or values.size == 0:
        raise ShapeError(f"expected one map [h,w], got shape {values.shape}")
