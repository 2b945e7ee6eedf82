"""TAE, the temporal alignment error: depth carried into the neighbouring frame by known cameras.

As in the evaluations of Depth Any Video and Video Depth Anything: pixels are rounded, there is no z-buffer, both
directions count, and the figure is a percentage.  It needs a static scene and depth that is already aligned to the
unit of the poses, by one scale and shift per video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from nvds_core.geometry.camera import relative_pose
from nvds_core.geometry.rays import project, transform, unproject
from nvds_core.metrics.alignment import FloatArray, Maps, as_map
from nvds_core.types import Camera, ShapeError


@dataclass(frozen=True, eq=False)
class TaeResult:
    """TAE of one video.

    Attributes:
        pairs: float64 ``[t - 1]``, mean of both directions of each pair, as a share; NaN where it could not be
            measured: a frame without a pose, or nothing that one frame sees of the other.
    """

    pairs: FloatArray

    @property
    def mean(self) -> float:
        """Mean over the measured pairs, in percent; NaN without any."""
        measured = self.pairs[np.isfinite(self.pairs)]
        return 100.0 * float(measured.mean()) if measured.size else float("nan")


def tae(depth: Maps, cameras: Sequence[Camera | None]) -> TaeResult:
    """Temporal alignment error of aligned depth.

    Args:
        depth: ``[t, h, w]`` in the unit of the poses; zero, negative and NaN is unknown.
        cameras: one per frame, for pictures of this size; None where there is no pose.

    Raises:
        ShapeError: not one camera per frame, or cameras of another picture size.
    """
    if len(cameras) != len(depth):
        raise ShapeError(f"{len(depth)} frames of depth need {len(depth)} cameras or None, got {len(cameras)}")
    pairs = np.full(max(len(depth) - 1, 0), np.nan)
    for index, (first, second) in enumerate(pairwise(cameras)):
        if first is None or second is None:
            continue
        maps = [as_map(depth[at]).double() for at in (index, index + 1)]
        for camera in (first, second):
            if (camera.height, camera.width) != tuple(maps[0].shape):
                size = f"{camera.width}x{camera.height}"
                raise ShapeError(f"camera {camera.name} is for {size}, the depth is {tuple(maps[0].shape)}; resize it")
        there = _directed_error(maps[0], maps[1], first, second)
        pairs[index] = (there + _directed_error(maps[1], maps[0], second, first)) / 2
    return TaeResult(pairs)


def _directed_error(source: Tensor, other: Tensor, camera: Camera, other_camera: Camera) -> float:
    """Mean of |z - D| / D: depth z of the source's pixels in the other camera, D found at the rounded pixel there."""
    lens, other_lens = (source.new_tensor([view.intrinsics]) for view in (camera, other_camera))
    pose = torch.as_tensor(relative_pose(camera.cam_from_world, other_camera.cam_from_world), device=source.device)
    points = transform(pose[None].to(source), unproject(source[None], lens))
    place, front = project(points, other_lens)
    x, y = place[0].nan_to_num(-1.0).round().unbind(0)
    height, width = source.shape
    lands = front[0] & (source > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = other[y[lands].long(), x[lands].long()]
    counts = found.isfinite() & (found > 0)
    if not counts.any():
        return float("nan")
    z = points[0, 2][lands][counts]
    return float(((z - found[counts]).abs() / found[counts]).mean())
