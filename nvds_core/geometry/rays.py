"""Rays, points and projections of whole pictures, differentiable.

Conventions as in `nvds_core.geometry.camera`; ``b`` pictures at once. Depth is the distance along the optical axis.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nvds_core.flow.warp import pixel_grid

# "published" repeats the samplers of the released code (its losses, its masks), which leave out `align_corners` and so
# read beside the place; for comparisons only.
Sampling = Literal["exact", "published-loss", "published-mask"]
NEAREST_PLANE = 1e-6  # points nearer to the camera's plane, or behind it, are projected from there


def rays(intrinsics_b4: Tensor, height: int, width: int) -> Tensor:
    """Viewing rays ``[b, 3, h, w]`` with z = 1, in the dtype of the intrinsics."""
    fx, fy, cx, cy = (value.view(-1, 1, 1) for value in intrinsics_b4.unbind(1))
    x, y = pixel_grid(height, width, like=intrinsics_b4)[0]
    x, y = (x - cx) / fx, (y - cy) / fy
    return torch.stack((x, y, torch.ones_like(x)), dim=1)


def unproject(depth_bhw: Tensor, intrinsics_b4: Tensor) -> Tensor:
    """Points ``[b, 3, h, w]`` in camera axes of the pixels of a depth map."""
    return rays(intrinsics_b4.to(depth_bhw.dtype), *depth_bhw.shape[1:]) * depth_bhw.unsqueeze(1)


def transform(pose_b34: Tensor, points_b3hw: Tensor) -> Tensor:
    """Points in other axes."""
    flat = points_b3hw.flatten(2)
    return (pose_b34[:, :, :3] @ flat + pose_b34[:, :, 3:]).view_as(points_b3hw)


def project(points_b3hw: Tensor, intrinsics_b4: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel places ``[b, 2, h, w]`` of points in camera axes, and ``[b, h, w]`` true where they lie in front."""
    fx, fy, cx, cy = (value.view(-1, 1, 1) for value in intrinsics_b4.to(points_b3hw.dtype).unbind(1))
    x, y, z = points_b3hw.unbind(1)
    front = z > NEAREST_PLANE
    z = z.clamp_min(NEAREST_PLANE)
    return torch.stack((fx * x / z + cx, fy * y / z + cy), dim=1), front


def sample(values_bchw: Tensor, place_b2hw: Tensor, *, sampling: Sampling = "exact") -> Tensor:
    """Values at pixel places ``[b, 2, h, w]`` (bilinear); outside the picture its border goes on.

    NaN places give NaN-free values: they read the first pixel, for masks to sort out.
    """
    height, width = values_bchw.shape[2:]
    size = place_b2hw.new_tensor([width, height]).view(1, 2, 1, 1)
    extent = size if sampling == "published-mask" else (size - 1).clamp_min(1)
    grid = (2.0 * place_b2hw / extent - 1.0).permute(0, 2, 3, 1).nan_to_num(-1.0, 3.0, -3.0)
    return F.grid_sample(
        values_bchw, grid.to(values_bchw.dtype), padding_mode="border", align_corners=sampling == "exact"
    )
