"""Where the flow of a pair can be trusted."""

from __future__ import annotations

import torch
from torch import Tensor

from nvds_core.flow.warp import pixel_grid
from nvds_core.geometry.rays import Sampling, sample
from nvds_core.types import ShapeError

FLOW_THRESHOLD = 1.0  # pixels at the working size (released code)
OVERLAP_RATIO = 0.2  # share of trusted pixels below which a pair is dropped (released code; 0.5 for KITTI)


def consistency_mask(
    flow_ij: Tensor, flow_ji: Tensor, threshold: float = FLOW_THRESHOLD, *, sampling: Sampling = "exact"
) -> Tensor:
    """Pixels of frame i whose match lies inside frame j and whose flow there leads back to within ``threshold``.

    The released code also compares colours, with a threshold that no two colours in 0..1 can exceed; left out here.

    Args:
        flow_ij: ``[b, 2, h, w]`` or ``[2, h, w]`` pixels, x first, on the grid of i; NaN where there is none.
        flow_ji: the flow back, on the grid of j.
        threshold: pixels, the largest gap allowed (excluded).

    Returns:
        bool ``[b, h, w]`` or ``[h, w]``.

    Raises:
        ShapeError: the flows differ in shape or are not flows.
    """
    forward, back = torch.as_tensor(flow_ij), torch.as_tensor(flow_ji)
    if forward.shape != back.shape or forward.ndim not in (3, 4) or forward.shape[-3] != 2:
        raise ShapeError(
            f"flows are [b, 2, h, w] or [2, h, w], both alike; got {tuple(forward.shape)} and {tuple(back.shape)}"
        )
    if forward.ndim == 3:
        return consistency_mask(forward[None], back[None], threshold, sampling=sampling)[0]
    height, width = forward.shape[2:]
    place = pixel_grid(height, width, like=forward) + forward
    x, y = place.unbind(1)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    gap = (forward + sample(back, place, sampling=sampling)).square().sum(dim=1)
    return inside & (gap < threshold**2)


def overlap(mask: Tensor) -> Tensor:
    """Share of trusted pixels, ``[b]`` of masks ``[b, h, w]``."""
    return mask.flatten(1).float().mean(dim=1)


def keep_pairs(shares: dict[tuple[int, int], float], *, overlap_ratio: float = OVERLAP_RATIO) -> list[tuple[int, int]]:
    """Directed pairs that have enough overlap in both directions, in their given order; maybe none."""
    return [
        (i, j)
        for (i, j), share in shares.items()
        if share >= overlap_ratio and shares.get((j, i), 0.0) >= overlap_ratio
    ]
