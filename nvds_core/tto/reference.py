"""Pseudo reference depth of a frame pair: the depth whose reprojection lands as close as possible to the flow match.

The idea is Zeng & Kalantari's ("Test-Time Optimization for Video Depth Estimation Using Pseudo Reference Depth", CGF
2023). Their released formula gives a depth in the other camera and needs the network's depth; it is kept in
`nvds_core.tto.published` for comparison. The one here gives the depth of the pixel itself from flow and cameras alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nvds_core.tto.published import published_reference
from nvds_core.types import ConfigError, ShapeError

SIN2_MIN = 2e-6  # released: 0.08 degrees. 1e-3 (1.8 degrees) is clearly better where flow comes from pictures
NEAREST_DEPTH = 2e-6  # released, in units of the poses
BLOCK = 1 << 15  # pixels worked on at once: 256 KiB per float64 array

Variant = Literal["ours", "published"]


@dataclass(frozen=True, eq=False)
class PseudoReference:
    """One depth candidate per pixel of frame i, for each pair of a batch.

    Attributes:
        depth: ``[b, h, w]``, along the optical axis in the unit of the poses; NaN where it is not valid.
        valid: bool ``[b, h, w]``; the flow's own mask (`consistency_mask`) is not part of it.
        sin2: ``[b, h, w]``, squared sine of the angle between the two viewing rays, 0..1; NaN where there is no point.
    """

    depth: Tensor
    valid: Tensor
    sin2: Tensor


def pseudo_reference(
    flow: Tensor,
    intrinsics_i: Tensor,
    intrinsics_j: Tensor,
    cam_j_from_cam_i: Tensor,
    *,
    sin2_min: float = SIN2_MIN,
    baseline_min: float = 0.0,
    offline_max: float | None = None,
    variant: Variant = "ours",
    depth_j: Tensor | None = None,
) -> PseudoReference:
    """Depth of the pixels of frame i from their matches in frame j, in closed form.

    A pixel's ray, seen from camera j, is a line (the epipolar line); the depth is the one whose projection is the foot
    of the perpendicular from the match to that line, measured in pixels. Computed in float64.

    Args:
        flow: ``[b, 2, h, w]`` pixels, x first, from i to j; NaN where unknown.
        intrinsics_i, intrinsics_j: ``[b, 4]`` fx, fy, cx, cy in pixels of the flow's size.
        cam_j_from_cam_i: ``[b, 3, 4]``, OpenCV axes.
        sin2_min: smallest squared sine of the triangulation angle (excluded).
        baseline_min: smallest distance of the two cameras (excluded), in the unit of the poses.
        offline_max: pixels that a match may lie off its epipolar line (things that move, bad flow or poses); None
            allows any distance.
        variant: ``published`` is the released formula, which wants ``depth_j`` (``[b, h, w]``, the network's depth of
            frame j) and takes ``offline_max`` None only.

    Returns:
        Depth in float32, or in float64 if the flow is. Behind either camera, for parallel rays, at the epipole and for
        cameras in the same place there is none: NaN, not valid.

    Raises:
        ShapeError: arrays that do not fit together.
        ConfigError: unknown variant, or options that it lacks.
    """
    flow, lens_i, lens_j, pose = _checked(flow, intrinsics_i, intrinsics_j, cam_j_from_cam_i)
    if variant == "published":
        if depth_j is None or offline_max is not None:
            raise ConfigError('variant "published" needs depth_j and cannot limit the off-line distance')
        found = published_reference(flow, lens_i, lens_j, pose, torch.as_tensor(depth_j), sin2_min=sin2_min)
    elif variant == "ours":
        found = _nearest_on_line(flow, lens_i, lens_j, pose, sin2_min, offline_max)
    else:
        raise ConfigError(f'variant {variant!r} is unknown; take "ours" or "published"')
    depth, valid, sin2 = found
    valid &= (torch.linalg.vector_norm(pose[:, :, 3], dim=1) > baseline_min).view(-1, 1, 1)
    return PseudoReference(depth.masked_fill_(~valid, torch.nan), valid, sin2)


def _nearest_on_line(
    flow: Tensor, lens_i: Tensor, lens_j: Tensor, pose: Tensor, sin2_min: float, offline_max: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, where it is valid, and sin^2, each ``[b, h, w]``; rows in blocks that stay in the processor's cache."""
    batch, _, height, width = flow.shape
    step = max(1, min(height, BLOCK // max(1, batch * width)))
    solve = _ClosedForm(flow, lens_i, lens_j, pose, step)
    depth, sin2 = (flow.new_empty((batch, height, width), dtype=solve.dtype) for _ in range(2))
    valid = flow.new_empty((batch, height, width), dtype=torch.bool)
    with torch.inference_mode():  # calls of small operations cost as much as the numbers
        for start in range(0, height, step):
            rows = slice(start, min(start + step, height))
            solve(rows, depth[:, rows], sin2[:, rows])
            valid[:, rows] = solve.in_front(rows, depth[:, rows]) & (sin2[:, rows] > sin2_min)  # false for NaN
            if offline_max is not None:
                valid[:, rows] &= solve.near_line(rows, offline_max)
    return depth, valid, sin2


class _ClosedForm:
    """The closed form, a block of rows at a time.

    With the ray a = R r of a pixel, the translation t, the match q on the plane z = 1 of camera j and F = diag(fx, fy)
    of that camera, the epipolar line has the direction c = a_xy t_z - t_xy a_z, and with l = F^2 c
    d = l.(q t_z - t_xy) / l.(a_xy - q a_z); a common factor of l cancels. a x (a d + t) = a x t gives
    sin^2 = |a x t|^2 / (|a| |a d + t|)^2, in which no digits cancel as they would in 1 - cos^2.

    All that does not depend on the flow is linear in the pixel's coordinates: a part per column and a part per row.
    Depth is computed in float64; sin^2 in the dtype of the results, which costs it no more than the last digit.
    """

    def __init__(self, flow: Tensor, lens_i: Tensor, lens_j: Tensor, pose: Tensor, step: int) -> None:
        self.flow = flow
        self.dtype = torch.float64 if flow.dtype == torch.float64 else torch.float32
        batch, _, height, width = flow.shape
        columns = torch.arange(width, device=flow.device, dtype=torch.float64)
        rows = torch.arange(height, device=flow.device, dtype=torch.float64)
        self.fx, self.fy, cx, cy = (value.view(-1, 1, 1) for value in lens_j.unbind(1))
        self.x, self.y = (columns - cx) / self.fx, (rows.unsqueeze(1) - cy) / self.fy
        self.tx, self.ty, self.tz = (value.view(-1, 1, 1) for value in pose[:, :, 3].unbind(1))
        terms = _linear_terms(lens_i, lens_j, pose)
        self.columns = terms[:, :, :1] * (columns - lens_i[:, 2:3]).unsqueeze(1)  # [b, terms, w]
        self.rows = terms[:, :, 1:2] * (rows - lens_i[:, 3:4]).unsqueeze(1) + terms[:, :, 2:]
        self.space = columns.new_empty((batch, 6, step, width))  # allocating it for every block costs as much as it all
        self.coarse_space = self.space.new_empty((batch, 7, step, width), dtype=self.dtype)
        self.coarse_columns, self.coarse_rows = self.columns[:, 1:].to(self.dtype), self.rows[:, 1:].to(self.dtype)
        self.tz_coarse = self.tz.to(self.dtype)
        self.distance2 = (self.tx**2 + self.ty**2 + self.tz**2).to(self.dtype)

    def __call__(self, rows: slice, depth: Tensor, sin2: Tensor) -> None:
        """Fill in depth and sin^2 ``[b, rows, w]``."""
        ly, ax, ay, az, cx, cy = self._fine(rows)
        qx, qy = self._match(rows)
        above = torch.addcmul(-self.tx, qx, self.tz).mul_(cx).addcmul_(ly, torch.addcmul(-self.ty, qy, self.tz))
        below = torch.addcmul(ax, qx, az, value=-1).mul_(cx).addcmul_(ly, torch.addcmul(ay, qy, az, value=-1))
        depth.copy_(above.div_(below))
        ax, ay, az, cx, cy, axial, along = self._coarse(rows)
        length = ax.square_().addcmul_(ay, ay).addcmul_(az, az)
        cross = axial.square_().addcmul_(cx, cx).addcmul_(cy, cy)
        reach = torch.addcmul(self.distance2, along.addcmul_(length, depth), depth)  # |a d + t|^2
        torch.div(cross, reach.mul_(length), out=sin2)

    def in_front(self, rows: slice, depth: Tensor) -> Tensor:
        """Where the depths in both cameras are positive; false for NaN."""
        columns, rows_ = self.coarse_columns[:, 2, None], self.coarse_rows[:, 2, rows, None]
        other = torch.addcmul(self.tz_coarse, columns + rows_, depth)
        return torch.minimum(other, depth) > NEAREST_DEPTH

    def near_line(self, rows: slice, limit: float) -> Tensor:
        """Where |n.F(q - p)| is within the limit, for a point p of the line and its normal n = (-fy c_y, fx c_x)."""
        *_, cx, cy = self._fine(rows)
        axial = self.columns[:, 6, None] + self.rows[:, 6, rows, None]
        qx, qy = self._match(rows)
        off = (cy * qx).addcmul_(cx, qy, value=-1).add_(axial).mul_(self.fx * self.fy)
        return off.square_() <= limit**2 * ((self.fx * cx).square_() + (self.fy * cy).square_())

    def _match(self, rows: slice) -> tuple[Tensor, Tensor]:
        flow = self.flow[:, :, rows].double()
        return torch.addcmul(self.x, flow[:, 0], 1 / self.fx), torch.addcmul(self.y[:, rows], flow[:, 1], 1 / self.fy)

    def _fine(self, rows: slice) -> tuple[Tensor, ...]:
        space = self.space[:, :, : rows.stop - rows.start]
        return torch.add(self.columns[:, :6, None], self.rows[:, :6, rows, None], out=space).unbind(1)

    def _coarse(self, rows: slice) -> tuple[Tensor, ...]:
        space = self.coarse_space[:, :, : rows.stop - rows.start]
        return torch.add(self.coarse_columns[:, :, None], self.coarse_rows[:, :, rows, None], out=space).unbind(1)


def _linear_terms(lens_i: Tensor, lens_j: Tensor, pose: Tensor) -> Tensor:
    """``[b, 8, 3]``: what `_ClosedForm` needs of each ray, as factors of x - cx and y - cy of camera i and a constant.

    With a = R r, c = a_xy t_z - t_xy a_z and k = (fy / fx)^2 of camera j: k c_y, a (3), c (2), (a x t)_z and 2 a.t.
    """
    scale = torch.stack((1 / lens_i[:, 0], 1 / lens_i[:, 1], torch.ones_like(lens_i[:, 0])), dim=1)
    ax, ay, az = (pose[:, :, :3] * scale.unsqueeze(1)).unbind(1)  # each [b, 3]
    tx, ty, tz = (value.unsqueeze(1) for value in pose[:, :, 3].unbind(1))
    cx, cy = ax * tz - tx * az, ay * tz - ty * az
    aspect = (lens_j[:, 1:2] / lens_j[:, :1]) ** 2
    return torch.stack((aspect * cy, ax, ay, az, cx, cy, ax * ty - ay * tx, 2 * (ax * tx + ay * ty + az * tz)), dim=1)


def _checked(flow: Tensor, lens_i: Tensor, lens_j: Tensor, pose: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    flow = torch.as_tensor(flow).detach()
    if flow.ndim != 4 or flow.shape[1] != 2 or not flow.is_floating_point():
        raise ShapeError(f"flow is [b, 2, h, w] floating point, got {tuple(flow.shape)} {flow.dtype}")
    batch = flow.shape[0]
    arrays = []
    for name, array, shape in (
        ("intrinsics_i", lens_i, (4,)),
        ("intrinsics_j", lens_j, (4,)),
        ("cam_j_from_cam_i", pose, (3, 4)),
    ):
        array = torch.as_tensor(array)
        if tuple(array.shape) != (batch, *shape):
            raise ShapeError(f"{name} is {[batch, *shape]} for {batch} pairs, got {tuple(array.shape)}")
        arrays.append(array.to(flow.device, torch.float64))
    return flow, arrays[0], arrays[1], arrays[2]
