"""What the tests of GMFlow share: filled networks, and its parts written out slowly after the published description.

The slow versions roll, mask, gather and loop in float64; none of them shares code with the package.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from nvds_core.flow.gmflow import GMFlow
from nvds_core.models import create_model
from tests.fill import fill


@lru_cache(maxsize=2)
def filled(name: str) -> GMFlow:
    """Network ``name`` with the weights of the golden data; do not change it."""
    with torch.inference_mode(False), torch.no_grad():  # a test of gradients shares it
        model = fill(create_model(name, pretrained=False))
        for key, value in model.state_dict().items():
            if key.startswith("transformer.") and ".norm" in key:
                value.mul_(0.25)  # keeps the matching away from a hard arg-max, where float noise would show
    assert isinstance(model, GMFlow)
    return model


def features(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal float64 numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rolled_attention(query: Tensor, key: Tensor, value: Tensor, splits: int, *, shifted: bool) -> Tensor:
    """Swin's way: roll the maps, cut equal windows, add -100 between positions that were apart, roll back."""
    _, h, w, c = query.shape
    high, wide = h // splits, w // splits
    up, left = (high // 2, wide // 2) if shifted and splits > 1 else (0, 0)
    query, key, value = (x.roll((-up, -left), dims=(1, 2)) for x in (query, key, value))
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    # After the roll the last `up` rows are those that came from the top; likewise for columns.
    region = (y >= h - up).long() * 2 + (x >= w - left).long()
    result = torch.empty_like(value)
    for top in range(0, h, high):
        for start in range(0, w, wide):
            place = (slice(None), slice(top, top + high), slice(start, start + wide))
            q, k, v = (x[place].flatten(1, 2) for x in (query, key, value))
            label = region[place[1:]].flatten()
            scores = q @ k.transpose(1, 2) / math.sqrt(c) - 100.0 * (label[:, None] != label)
            result[place] = (scores.softmax(-1) @ v).view_as(result[place])
    return result.roll((up, left), dims=(1, 2))


def whole_matrix_flow(feature0: Tensor, feature1: Tensor) -> Tensor:
    """Global matching by the full matrix of scores, ``[b, 2, h, w]``."""
    b, h, w, c = feature0.shape
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack((x, y), dim=-1).view(h * w, 2).double()
    likely = (feature0.reshape(b, h * w, c) @ feature1.reshape(b, h * w, c).mT / math.sqrt(c)).softmax(-1)
    return (likely @ places - places).mT.reshape(b, 2, h, w)


def looped_scores(query: Tensor, key: Tensor, radius: int) -> Tensor:
    """Products with the keys around each position, one at a time; 0 outside. ``[b, h, w, k, k]``."""
    b, h, w, _ = query.shape
    side = 2 * radius + 1
    scores = query.new_zeros(b, h, w, side, side)
    for y in range(h):
        for x in range(w):
            for i in range(side):
                for j in range(side):
                    row, column = y + i - radius, x + j - radius
                    if 0 <= row < h and 0 <= column < w:
                        scores[:, y, x, i, j] = (query[:, y, x] * key[:, row, column]).sum(-1)
    return scores


def sampled_flow(feature0: Tensor, feature1: Tensor, radius: int) -> Tensor:
    """Local matching as released: sample map 1 at every place of the window, ignore places outside."""
    b, h, w, c = feature0.shape
    flow = feature0.new_zeros(b, 2, h, w)
    for y in range(h):
        for x in range(w):
            places = [(i, j) for i in range(y - radius, y + radius + 1) for j in range(x - radius, x + radius + 1)]
            inside = [(i, j) for i, j in places if 0 <= i < h and 0 <= j < w]
            keys = torch.stack([feature1[:, i, j] for i, j in inside], dim=1)
            likely = ((keys * feature0[:, None, y, x]).sum(-1) / math.sqrt(c)).softmax(-1)
            steps = feature0.new_tensor([[j - x, i - y] for i, j in inside])
            flow[:, :, y, x] = likely @ steps
    return flow


def spread_over_neighbours(query: Tensor, key: Tensor, flow: Tensor, radius: int) -> Tensor:
    """Local propagation: zero scores and zero flow beyond the border take part."""
    _, h, w, c = query.shape
    likely = (looped_scores(query, key, radius) / math.sqrt(c)).flatten(3).softmax(-1)
    padded = F.pad(flow, (radius,) * 4)
    side = 2 * radius + 1
    result = torch.zeros_like(flow)
    for i in range(side):
        for j in range(side):
            result += likely[..., i * side + j][:, None] * padded[:, :, i : i + h, j : j + w]
    return result


def convex_pixel(flow: Tensor, weights: Tensor, factor: int, item: int, row: int, column: int) -> Tensor:
    """One fine pixel of convex upsampling, ``[2]``."""
    y, x, u, v = row // factor, column // factor, row % factor, column % factor
    _, _, h, w = flow.shape
    likely = weights[item, :, y, x].view(9, factor, factor)[:, u, v].softmax(0)
    total = flow.new_zeros(2)
    for k in range(9):
        i, j = y + k // 3 - 1, x + k % 3 - 1
        if 0 <= i < h and 0 <= j < w:
            total += likely[k] * factor * flow[item, :, i, j]
    return total
