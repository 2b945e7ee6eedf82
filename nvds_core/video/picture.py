"""One decoded picture of PyAV as an upright RGB array, and what its storage says about it."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

# PyAV's default darkens 10-bit video by up to two levels of 255; with full chroma it is exact, and 8-bit yuv420p keeps
# the fast path, equal to what OpenCV delivers.
CONVERSION = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT


def display_matrix(picture: Any) -> NDArray[np.int32] | None:
    """The upper left 2x2 of FFmpeg's display matrix, [[a, b], [c, d]]: x' = a x + c y, y' = b x + d y.

    For the first frame only: asking for `side_data` ties a frame into a reference cycle, and frames then pile up until
    the garbage collector runs (90 MB at 320x240).
    """
    for side in picture.side_data:
        if side.type.name == "DISPLAYMATRIX":
            values = np.frombuffer(bytes(side), "<i4").reshape(3, 3)[:2, :2]
            return np.asarray(np.sign(np.where(np.abs(values) > 1000, values, 0)), np.int32)  # 16.16 fixed point
    return None


def orientation(picture: Any) -> tuple[int, bool]:
    """Clockwise rotation in degrees, and whether the picture is flipped left to right after it."""
    matrix = display_matrix(picture)
    if matrix is None or np.count_nonzero(matrix) != 2:  # none, or turned by an odd angle: left as stored
        return 0, False
    (a, b), (c, d) = matrix.tolist()
    mirrored = a * d - b * c < 0
    if mirrored:  # take the flip of x' away, what is left is a rotation
        a, c = -a, -c
    return {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}[(a, b)], mirrored


def upright(picture: Any, rotation: int, mirrored: bool) -> NDArray[np.uint8]:
    """Picture as shown: uint8 RGB [h, w, 3]; high bit depth is reduced, alpha dropped, interlacing left as is."""
    rgb = picture.to_ndarray(format="rgb24", interpolation=CONVERSION)
    rgb = np.rot90(rgb, -rotation // 90)
    return np.ascontiguousarray(rgb[:, ::-1] if mirrored else rgb)


def picture_warnings(picture: Any, stream: Any) -> list[str]:
    """What a user should know about how the pictures are stored."""
    found = []
    matrix = display_matrix(picture)
    if matrix is not None and np.count_nonzero(matrix) != 2:
        found.append(f"rotated by {picture.rotation} degrees, which is no quarter turn: left as stored")
    if any(component.is_alpha for component in picture.format.components):
        found.append("alpha channel dropped, colours kept as stored")
    if picture.interlaced_frame:
        found.append("interlaced, left as is")
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1:
        found.append(f"pixels are not square ({aspect}); frames are kept as stored")
    if picture.color_trc in (16, 18):  # SMPTE ST 2084 and HLG in FFmpeg's numbering
        found.append("high dynamic range, not tone-mapped: colours look flat")
    return found
