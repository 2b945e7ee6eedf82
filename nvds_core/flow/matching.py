"""Matching of two feature maps by a softmax over positions, and what GMFlow does with the flow that comes out.

GMFlow (Xu et al., CVPR 2022). Feature maps are ``[b, h, w, c]``, flows ``[b, 2, h, w]``, x first, in pixels of the map.
Everything is computed in float32 at least, whatever autocast is in force: the coordinates that are averaged here have
no room for eight bits of mantissa.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nvds_core.flow.warp import pixel_grid

# Scores held at once; the full matrix of a 384x896 pair has 29 million entries per direction. On a CPU 16 MiB stay near
# its caches (twice as fast as 64), an accelerator wants fewer and larger steps.
CPU_SCORES, ACCELERATOR_SCORES = 2**22, 2**26
OUTSIDE = -1e9  # score of a position outside the map, as released


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``softmax(query key^T / sqrt(c)) value`` without ever holding the whole matrix of scores.

    Args:
        query: ``[b, n, c]``.
        key: ``[b, m, c]``.
        value: ``[b, m, v]``; v is small here (2), for which the fused kernels of torch have no form.

    Returns:
        ``[b, n, v]`` in float32 or better.
    """
    query, key, value = _precise(query), _precise(key), _precise(value)
    rows = _rows_at_once(key.device, key.shape[0] * key.shape[1])
    scaled, key_t = query / query.shape[-1] ** 0.5, key.transpose(1, 2)
    with torch.autocast(query.device.type, enabled=False):
        parts = [torch.softmax(part @ key_t, dim=-1) @ value for part in scaled.split(rows, dim=1)]
    return torch.cat(parts, dim=1)


def match_globally(feature0: Tensor, feature1: Tensor) -> Tensor:
    """Flow from every position of map 0 to the expected position of its match anywhere in map 1."""
    b, h, w, _ = feature0.shape
    grid = pixel_grid(h, w, like=_precise(feature0[:0]))
    places = grid.flatten(2).transpose(1, 2).expand(b, -1, -1)
    expected = attend(feature0.flatten(1, 2), feature1.flatten(1, 2), places)
    return expected.transpose(1, 2).reshape(b, 2, h, w) - grid


def match_locally(feature0: Tensor, feature1: Tensor, *, radius: int) -> Tensor:
    """Flow to the expected position of the match among the ``(2 radius + 1)^2`` nearest positions inside map 1."""
    _, h, w, c = feature0.shape
    scores = window_scores(feature0, feature1, radius=radius) / c**0.5
    steps = torch.arange(-radius, radius + 1, device=scores.device)
    row_inside = _inside(h, steps)[:, None, :, None]
    column_inside = _inside(w, steps)[None, :, None, :]
    likely = scores.masked_fill(~(row_inside & column_inside), OUTSIDE).flatten(3).softmax(dim=-1)
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    offsets = torch.stack((dx.flatten(), dy.flatten()), dim=-1).to(likely.dtype)
    with torch.autocast(likely.device.type, enabled=False):
        return (likely @ offsets).permute(0, 3, 1, 2)


def window_scores(query: Tensor, key: Tensor, *, radius: int) -> Tensor:
    """Products of every query with the keys around its position; keys outside the map count as zero.

    Each row of queries is multiplied with the whole strip of keys it can see, and the band of wanted products is
    read off by its strides: many times the multiplications, and still faster than a sum per offset or gathering 81
    keys for every position, in a fraction of the memory.

    Args:
        query, key: ``[b, h, w, c]``.

    Returns:
        ``[b, h, w, k, k]`` with ``k = 2 radius + 1``, row offset before column offset.
    """
    b, h, w, c = query.shape
    side, wide = 2 * radius + 1, w + 2 * radius
    query = _precise(query)
    padded = F.pad(_precise(key), (0, 0, radius, radius, radius, radius)).contiguous()
    scores = query.new_empty(b, h, w, side, side)
    rows = _rows_at_once(query.device, w * side * wide)
    with torch.autocast(query.device.type, enabled=False):
        for item in range(b):
            for top in range(0, h, rows):
                lines = query[item, top : top + rows]
                n = lines.shape[0]
                strips = padded[item, top:].as_strided((n, side * wide, c), (wide * c, c, 1))
                products = (lines @ strips.transpose(1, 2)).contiguous()
                band = (w * side * wide, side * wide + 1, wide, 1)
                scores[item, top : top + n] = products.as_strided((n, w, side, side), band)
    return scores


def propagate_globally(query: Tensor, key: Tensor, flow: Tensor) -> Tensor:
    """Flow of every position as the mean over all positions, weighted by how alike their features are."""
    b, _, h, w = flow.shape
    spread = attend(query.flatten(1, 2), key.flatten(1, 2), flow.flatten(2).transpose(1, 2))
    return spread.transpose(1, 2).reshape(b, 2, h, w)


def propagate_locally(query: Tensor, key: Tensor, flow: Tensor, *, radius: int) -> Tensor:
    """The same over the nearest positions. Those outside the map take part with score 0 and flow 0, as released."""
    b, _, h, w = flow.shape
    likely = (window_scores(query, key, radius=radius) / query.shape[-1] ** 0.5).flatten(3).softmax(dim=-1)
    side = 2 * radius + 1
    near = F.unfold(_precise(flow), side, padding=radius).view(b, 2, side * side, h, w)
    return (near * likely.permute(0, 3, 1, 2).unsqueeze(1)).sum(dim=2)


def upsample_convex(flow: Tensor, weights: Tensor, *, factor: int) -> Tensor:
    """Full-size flow; every fine pixel is a convex combination of the 3x3 coarse ones around it (RAFT's rule).

    Args:
        flow: ``[b, 2, h, w]``.
        weights: ``[b, 9 factor^2, h, w]`` before the softmax, neighbour before row before column.

    Returns:
        ``[b, 2, factor h, factor w]`` in fine pixels.
    """
    b, _, h, w = flow.shape
    likely = _precise(weights).view(b, 9, factor, factor, h, w).softmax(dim=1)
    near = F.unfold(_precise(flow) * factor, 3, padding=1).view(b, 2, 9, h, w)
    # One neighbour at a time: the product of all nine with all fine pixels would be the largest tensor of the network.
    fine = sum(near[:, :, k, None, None] * likely[:, None, k] for k in range(9))
    assert isinstance(fine, Tensor)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(b, 2, factor * h, factor * w)


def _rows_at_once(device: torch.device, scores_per_row: int) -> int:
    return max(1, (CPU_SCORES if device.type == "cpu" else ACCELERATOR_SCORES) // scores_per_row)


def _inside(size: int, steps: Tensor) -> Tensor:
    """Which ``[size, k]`` of a position plus a step still lie on an axis of that many positions."""
    places = torch.arange(size, device=steps.device)[:, None] + steps
    return (places >= 0) & (places < size)


def _precise(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
