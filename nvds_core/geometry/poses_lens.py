"""Lenses: the pinhole part of a camera of a pose file, and how far it is from being one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nvds_core.geometry.poses_common import Floats
from nvds_core.types import PoseError

COLMAP_PIXEL_CENTRE = 0.5
"""COLMAP, and nerfstudio after it, put the centre of the top-left pixel at (0.5, 0.5); here it is (0, 0)."""

PARAMETERS = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
}
"""COLMAP's camera models that are a pinhole and polynomial distortion, and the order of their parameters."""


@dataclass(frozen=True)
class Lens:
    """fx, fy, cx, cy (pixel centres at integers) in pixels of a frame of `width` x `height`."""

    intrinsics: tuple[float, float, float, float]
    width: int
    height: int


def checked_lens(intrinsics: tuple[float, float, float, float], width: int, height: int, where: str) -> Lens:
    """A lens whose numbers can be true.

    Raises:
        PoseError: a size or focal length that is not positive and finite, or a principal point far outside the frame.
    """
    fx, fy, cx, cy = intrinsics
    if width < 1 or height < 1:
        raise PoseError(f"{where}: a frame of {width}x{height} pixels; give the size the intrinsics belong to")
    if not (0 < fx < np.inf and 0 < fy < np.inf):
        raise PoseError(f"{where}: focal lengths {fx:g}, {fy:g}; they must be positive, in pixels")
    if not (-width < cx < 2 * width and -height < cy < 2 * height):
        raise PoseError(
            f"{where}: principal point ({cx:g}, {cy:g}) far outside a frame of {width}x{height}; "
            "intrinsics are in pixels of the stated size"
        )
    return Lens(intrinsics, width, height)


def lens_of_model(
    model: str, parameters: dict[str, float], width: int, height: int, where: str, *, max_distortion: float
) -> Lens:
    """The pinhole lens of a camera model of COLMAP.

    Args:
        parameters: by the names of `PARAMETERS`, principal point with COLMAP's pixel centres.
        max_distortion: pixels by which distortion, which is dropped, may move the content of the frame.

    Raises:
        PoseError: a model that is no pinhole with polynomial distortion, or more distortion than allowed.
    """
    if model not in PARAMETERS:
        raise PoseError(f"{where}: camera model {model} is not supported ({', '.join(PARAMETERS)} are); {_UNDISTORT}")
    fx, fy = (parameters.get(name, parameters.get("f", 0.0)) for name in ("fx", "fy"))
    centre = parameters["cx"] - COLMAP_PIXEL_CENTRE, parameters["cy"] - COLMAP_PIXEL_CENTRE
    lens = checked_lens((fx, fy, *centre), width, height, where)
    shift = distortion_in_pixels(lens, *(parameters.get(name, 0.0) for name in ("k1", "k2", "p1", "p2")))
    if not shift <= max_distortion:
        raise PoseError(
            f"{where}: {model} distorts the frame by up to {shift:.1f} pixels, more than {max_distortion:g}; "
            f"{_UNDISTORT}"
        )
    return lens


_UNDISTORT = "undistort the frames (COLMAP's image_undistorter) and give the poses it writes"


def distortion_in_pixels(lens: Lens, k1: float, k2: float, p1: float, p2: float) -> float:
    """The farthest that OpenCV's polynomial distortion moves a point of the frame, in pixels."""
    if not any((k1, k2, p1, p2)):
        return 0.0
    fx, fy, cx, cy = lens.intrinsics
    x = (np.linspace(0, lens.width - 1, 33)[None, :] - cx) / fx
    y = (np.linspace(0, lens.height - 1, 33)[:, None] - cy) / fy
    squared: Floats = x * x + y * y
    radial = squared * (k1 + k2 * squared)
    shift_x = x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x)
    shift_y = y * radial + 2 * p2 * x * y + p1 * (squared + 2 * y * y)
    return float(np.hypot(fx * shift_x, fy * shift_y).max())
