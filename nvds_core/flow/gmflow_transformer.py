"""GMFlow's transformer: windowed self- and cross-attention that makes the features of two pictures comparable.

Feature maps are ``[b, h, w, c]`` here. Every map is cut into ``splits x splits`` windows; every second block cuts half
a window later.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEMPERATURE = 10_000.0  # of the sine embedding
PERCEPTRON_ROWS = 4096  # positions at once on a CPU: the hidden layer is eight times as wide as a feature


class Band(NamedTuple):
    """Equal windows side by side along one axis: where they begin and end together, and how many they are."""

    start: int
    stop: int
    pieces: int


def bands(size: int, splits: int, *, shifted: bool) -> list[Band]:
    """The windows along an axis of ``size`` positions, in groups of equal length.

    The released code rolls the map by half a window, cuts it, and forbids attention between what lay apart before
    (Swin's mask of -100, exp(-100) = 4e-44). That is attention within the pieces of the unrolled map that one gets by
    cutting at half a window, one and a half, and so on; so the map is cut there, and nothing is rolled or masked.
    A window of one position has no half, and one window has no neighbour: they are not shifted.
    """
    window = size // splits
    half = window // 2 if shifted and splits > 1 else 0
    if half == 0:
        return [Band(0, size, splits)]
    end = size - window + half
    return [Band(0, half, 1), Band(half, end, splits - 1), Band(end, size, 1)]


def window_attention(query: Tensor, key: Tensor, value: Tensor, splits: int, *, shifted: bool) -> Tensor:
    """Attention of one head within each window; all ``[b, h, w, c]``, h and w multiples of ``splits``."""
    _, h, w, _ = query.shape
    result = torch.empty_like(value)
    for rows in bands(h, splits, shifted=shifted):
        for columns in bands(w, splits, shifted=shifted):
            q, k, v = (_cut(x, rows, columns) for x in (query, key, value))
            mixed = F.scaled_dot_product_attention(q, k, v)
            block = result[:, rows.start : rows.stop, columns.start : columns.stop]
            block.copy_(_join(mixed, rows, columns, block.shape))
    return result


def _cut(x: Tensor, rows: Band, columns: Band) -> Tensor:
    """Windows ``[b * windows, 1 head, positions, c]`` of one group."""
    block = x[:, rows.start : rows.stop, columns.start : columns.stop]
    b, h, w, c = block.shape
    cut = block.reshape(b, rows.pieces, h // rows.pieces, columns.pieces, w // columns.pieces, c)
    return cut.transpose(2, 3).reshape(b * rows.pieces * columns.pieces, 1, -1, c)


def _join(windows: Tensor, rows: Band, columns: Band, shape: torch.Size) -> Tensor:
    b, h, w, c = shape
    cut = windows.view(b, rows.pieces, columns.pieces, h // rows.pieces, w // columns.pieces, c)
    return cut.transpose(2, 3).reshape(shape)


def add_position(feature: Tensor, splits: int) -> Tensor:
    """Add a sine embedding of the place within the window to features ``[b, h, w, c]``; float32 or better."""
    _, h, w, c = feature.shape
    feature = feature.to(torch.promote_types(feature.dtype, torch.float32))
    rows = _sines(h // splits, c // 2, like=feature).repeat(splits, 1)
    columns = _sines(w // splits, c // 2, like=feature).repeat(splits, 1)
    embedding = torch.cat((rows[:, None].expand(h, w, -1), columns[None].expand(h, w, -1)), dim=-1)
    return feature + embedding


def _sines(size: int, channels: int, *, like: Tensor) -> Tensor:
    """Sine (even) and cosine (odd channels) of positions 1..size scaled to 2 pi, ``[size, channels]``."""
    place = torch.arange(1, size + 1, device=like.device, dtype=torch.float64)
    place = place / (size + 1e-6) * 2 * math.pi
    pair = torch.arange(0, channels, 2, device=like.device, dtype=torch.float64)
    angle = place[:, None] / TEMPERATURE ** (pair / channels)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).to(like.dtype)


class AttentionLayer(nn.Module):
    """Attention from ``source`` to ``target`` with a residual; the cross layer has a two-layer perceptron as well."""

    def __init__(self, channels: int, *, perceptron: bool) -> None:
        super().__init__()
        self.q_proj = nn.Linear(channels, channels, bias=False)
        self.k_proj = nn.Linear(channels, channels, bias=False)
        self.v_proj = nn.Linear(channels, channels, bias=False)
        self.merge = nn.Linear(channels, channels, bias=False)
        self.norm1 = nn.LayerNorm(channels)
        self.mlp: nn.Sequential | None = None
        if perceptron:
            wide = 2 * channels  # source and message side by side
            self.mlp = nn.Sequential(
                nn.Linear(wide, 4 * wide, bias=False), nn.GELU(), nn.Linear(4 * wide, channels, bias=False)
            )
            self.norm2 = nn.LayerNorm(channels)

    def forward(self, source: Tensor, target: Tensor, splits: int, *, shifted: bool) -> Tensor:
        query, key, value = self.q_proj(source), self.k_proj(target), self.v_proj(target)
        message = self.norm1(self.merge(window_attention(query, key, value, splits, shifted=shifted)))
        if self.mlp is not None:
            message = self.norm2(self._perceptron(self.mlp, source, message))
        return source + message

    def _perceptron(self, mlp: nn.Sequential, source: Tensor, message: Tensor) -> Tensor:
        if source.device.type != "cpu":
            hidden: Tensor = mlp(torch.cat((source, message), dim=-1))
            return hidden
        pairs = zip(*(x.flatten(0, 2).split(PERCEPTRON_ROWS) for x in (source, message)), strict=True)
        return torch.cat([mlp(torch.cat(pair, dim=-1)) for pair in pairs]).view(source.shape)


class Block(nn.Module):
    """Self-attention, then cross-attention to the other picture as it was before this block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.self_attn = AttentionLayer(channels, perceptron=False)
        self.cross_attn_ffn = AttentionLayer(channels, perceptron=True)

    def forward(self, source: Tensor, target: Tensor, splits: int, *, shifted: bool) -> Tensor:
        source = self.self_attn(source, source, splits, shifted=shifted)
        return self.cross_attn_ffn(source, target, splits, shifted=shifted)


class FeatureTransformer(nn.Module):
    """Six blocks over both pictures at once: the batch holds picture 0 and then picture 1."""

    def __init__(self, *, channels: int = 128, blocks: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(channels) for _ in range(blocks))

    def forward(self, feature0: Tensor, feature1: Tensor, splits: int) -> tuple[Tensor, Tensor]:
        """Features ``[b, h, w, c]`` of both pictures, with positions added, to features that can be matched."""
        both = torch.cat((feature0, feature1))
        for i, block in enumerate(self.layers):
            first, second = both.chunk(2)
            both = block(both, torch.cat((second, first)), splits, shifted=i % 2 == 1)
        first, second = both.chunk(2)
        return first, second
