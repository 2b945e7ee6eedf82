"""Backward warping along a flow, and the forward-backward test for occlusion.

Both follow GMFlow (Xu et al., CVPR 2022), as NVDS and its published figures use them.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from nvds_core.types import ShapeError

Padding = Literal["zeros", "border"]


@overload
def flow_warp(
    feature: Tensor, flow: Tensor, *, padding: Padding = "zeros", return_inside: Literal[False] = False
) -> Tensor: ...


@overload
def flow_warp(
    feature: Tensor, flow: Tensor, *, padding: Padding = "zeros", return_inside: Literal[True]
) -> tuple[Tensor, Tensor]: ...


def flow_warp(
    feature: Tensor, flow: Tensor, *, padding: Padding = "zeros", return_inside: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Fetch for every pixel the value at its own place plus its flow (bilinear).

    Args:
        feature: ``[b, c, h, w]`` float, the frame the flow points into.
        flow: ``[b, 2, h, w]``, x first, in pixels; integers are pixel centres.
        padding: what lies outside: ``zeros`` (also mixed into the outermost half-way samples) or ``border``.
        return_inside: also return which pixels were fetched from inside the image.

    Returns:
        ``[b, c, h, w]``, and with `return_inside` a bool ``[b, h, w]``: true where the sampled point lies
        between the first and the last pixel centre of both axes, limits included.

    Raises:
        ShapeError: batch or image size of feature and flow differ, or flow has not two channels.
    """
    if feature.ndim != 4 or flow.shape != (feature.shape[0], 2, *feature.shape[2:]):
        raise ShapeError(
            f"feature {tuple(feature.shape)} needs a flow [b, 2, h, w] of its size, got {tuple(flow.shape)}"
        )
    height, width = feature.shape[2:]
    # Half precision has no room for a place in the picture: the sampling is done in float32 at least.
    precise = torch.promote_types(torch.promote_types(feature.dtype, flow.dtype), torch.float32)
    flow = flow.to(precise)
    place = pixel_grid(height, width, like=flow) + flow
    # A side of one pixel has no extent to scale by; every point then samples that pixel.
    extent = place.new_tensor([max(width - 1, 1), max(height - 1, 1)]).view(1, 2, 1, 1)
    grid = (2.0 * place / extent - 1.0).permute(0, 2, 3, 1)
    warped = F.grid_sample(feature.to(precise), grid, mode="bilinear", padding_mode=padding, align_corners=True)
    warped = warped.to(feature.dtype)
    if not return_inside:
        return warped
    return warped, (grid.abs() <= 1.0).all(dim=-1)


def occlusion_masks(
    forward_flow: Tensor, backward_flow: Tensor, alpha: float = 0.01, beta: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Mark pixels whose forward and backward flow do not lead back to where they started.

    A pixel counts as occluded when ``|forward + warp(backward, forward)| > alpha * (|forward| + |backward|) + beta``.
    The right side takes both flows at the same pixel (nothing is warped) and serves both directions.

    Args:
        forward_flow: ``[b, 2, h, w]`` flow of frame 1 to frame 2, in pixels.
        backward_flow: ``[b, 2, h, w]`` flow of frame 2 to frame 1.
        alpha: share of the flow's length that is allowed as error.
        beta: pixels that are always allowed as error.

    Returns:
        ``(occluded_forward, occluded_backward)``, bool ``[b, h, w]``, true where occluded; the first belongs
        to the pixels of frame 1, the second to those of frame 2.

    Raises:
        ShapeError: the flows differ in shape or are not ``[b, 2, h, w]``.
    """
    if forward_flow.shape != backward_flow.shape:
        raise ShapeError(f"forward flow {tuple(forward_flow.shape)} != backward flow {tuple(backward_flow.shape)}")
    allowed = alpha * (forward_flow.norm(dim=1) + backward_flow.norm(dim=1)) + beta
    forward_gap = (forward_flow + flow_warp(backward_flow, forward_flow)).norm(dim=1)
    backward_gap = (backward_flow + flow_warp(forward_flow, backward_flow)).norm(dim=1)
    return forward_gap > allowed, backward_gap > allowed


def pixel_grid(height: int, width: int, *, like: Tensor) -> Tensor:
    """Pixel coordinates ``[1, 2, h, w]``, x first, on the device and in the dtype of `like`."""
    rows = torch.arange(height, device=like.device, dtype=like.dtype)
    columns = torch.arange(width, device=like.device, dtype=like.dtype)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x, y)).unsqueeze(0)
