"""Errors and small value types shared by the whole core library."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class CoreError(Exception):
    """An error the user can act on: the message names the thing, the value and the way out.

    `reason` is a short stable slug for the ledger, for example ``decode`` or ``weights``.
    """

    reason = "error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class ShapeError(CoreError):
    """Arrays that do not fit together."""

    reason = "shape"


class DecodeError(CoreError):
    """A video or picture that cannot be read, or not to its end."""

    reason = "decode"


class WeightsError(CoreError):
    """Weights that are missing, damaged or made for another network."""

    reason = "weights"


class ConfigError(CoreError):
    """A setting that makes no sense."""

    reason = "config"


class PoseError(CoreError):
    """Camera poses that cannot be read or do not fit the frames."""

    reason = "poses"


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera at one place: OpenCV axes (x right, y down, z ahead), pixel centres at integers.

    Attributes:
        name: the frame it belongs to; cameras are matched to frames by it, never by position.
        intrinsics: fx, fy, cx, cy in pixels of a frame of `width` x `height`.
        cam_from_world: float64 [3, 4], x_cam = R x_world + t with R in SO(3).
    """

    name: str
    intrinsics: tuple[float, float, float, float]
    width: int
    height: int
    cam_from_world: NDArray[np.float64]

    @property
    def centre(self) -> NDArray[np.float64]:
        """[3] where the camera stands, in world units."""
        return -self.cam_from_world[:, :3].T @ self.cam_from_world[:, 3]
