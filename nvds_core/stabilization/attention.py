"""Cross-frame focal attention of NVDS: a target window looks at itself, its surroundings and three reference frames.

Every window of 7x7 target tokens sees 289 keys: 49 own, 132 of the ring around it, 25 pooled windows, and 49 + 25 + 9
tokens of the frames three, two and one steps away. Section numbers refer to the description of the released network.
All keys of a map are gathered with one precomputed index table, so nothing is unfolded or rolled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WINDOW = 7
EXPAND = 3  # width of the ring around a window
OUTSIDE_SCORE = -100.0  # added to the score of a neighbour outside a pooled map
TARGET_POOL_KERNEL = 5  # pooled target windows around a window, per side


@dataclass(frozen=True)
class ReferenceRole:
    """How a reference frame is seen: resized to scale * (nh, nw), pooled by ``pool``, ``kernel`` tokens per side."""

    scale: int
    pool: int
    kernel: int

    @property
    def stride(self) -> int:
        """Tokens of the pooled map per window and side."""
        return self.scale // self.pool


# Oldest frame first: the finest view belongs to the oldest frame, as released.
ROLES = (ReferenceRole(7, 1, 7), ReferenceRole(4, 1, 5), ReferenceRole(6, 3, 3))


def relative_index(kernel: int) -> Tensor:
    """Row of a bias table for each (query, key) pair, int64 [49, kernel*kernel]; queries 7x7, keys kernel x kernel."""
    q = torch.arange(WINDOW)
    k = torch.arange(kernel)
    offset = q[:, None] - k[None, :] + kernel - 1  # [7, kernel]
    table = offset[:, None, :, None] * (WINDOW + kernel - 1) + offset[None, :, None, :]
    return table.reshape(WINDOW * WINDOW, kernel * kernel)


def ring_offsets() -> Tensor:
    """Offsets (row, column) of the 132 ring tokens from a window's first token; 12 of them occur twice, as released."""
    offsets = []
    for dy, dx in ((EXPAND, EXPAND), (EXPAND, -EXPAND), (-EXPAND, EXPAND), (-EXPAND, -EXPAND)):
        for r in range(WINDOW):
            for c in range(WINDOW):
                if not (0 <= dy + r < WINDOW and 0 <= dx + c < WINDOW):
                    offsets.append((dy + r, dx + c))
    return torch.tensor(offsets)


def ring_selection() -> Tensor:
    """The ring as indices into the four shifted windows laid end to end (4 * 49), int64 [132]."""
    kept, start = [], 0
    for dy, dx in ((EXPAND, EXPAND), (EXPAND, -EXPAND), (-EXPAND, EXPAND), (-EXPAND, -EXPAND)):
        for r in range(WINDOW):
            for c in range(WINDOW):
                if not (0 <= dy + r < WINDOW and 0 <= dx + c < WINDOW):
                    kept.append(start + r * WINDOW + c)
        start += WINDOW * WINDOW
    return torch.tensor(kept)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # a table first made during inference must also serve training
def key_table(nh: int, nw: int) -> tuple[Tensor, Tensor]:
    """Which tokens the windows of an nh x nw grid see.

    Tokens are numbered through: the target map, the pooled target, the three reference maps, and one last zero
    token that stands for every position outside a pooled map.

    Returns:
        index int64 [nh*nw, 289], outside bool [nh*nw, 289].
    """
    rows, cols = torch.meshgrid(torch.arange(nh), torch.arange(nw), indexing="ij")
    rows, cols = rows.reshape(-1, 1), cols.reshape(-1, 1)
    height, width = WINDOW * nh, WINDOW * nw
    own = torch.cartesian_prod(torch.arange(WINDOW), torch.arange(WINDOW))
    around = torch.cat([own, ring_offsets()])
    # Positions of the ring wrap around the padded map and are not masked, as released.
    y = (rows * WINDOW + around[:, 0]) % height
    x = (cols * WINDOW + around[:, 1]) % width
    index, outside = [y * width + x], [torch.zeros_like(y, dtype=torch.bool)]

    start = height * width
    grids = [(nh, nw, TARGET_POOL_KERNEL, 1)]
    grids += [(role.stride * nh, role.stride * nw, role.kernel, role.stride) for role in ROLES]
    for grid_h, grid_w, kernel, stride in grids:
        reach = torch.arange(kernel) - kernel // 2
        near = torch.cartesian_prod(reach, reach)
        # Centred on the window's first token, not on its middle, as released.
        y, x = rows * stride + near[:, 0], cols * stride + near[:, 1]
        out = (y < 0) | (y >= grid_h) | (x < 0) | (x >= grid_w)
        index.append(torch.where(out, -1, start + y * grid_w + x))
        outside.append(out)
        start += grid_h * grid_w
    joined = torch.cat(index, dim=1)
    return torch.where(joined < 0, start, joined), torch.cat(outside, dim=1)


class FocalAttention(nn.Module):
    """Windowed attention of one target map over its 289 keys per window."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        tokens, ring = WINDOW * WINDOW, len(ring_offsets())
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.relative_position_bias_table_to_neighbors = nn.Parameter(torch.zeros(1, heads, tokens, ring))
        self.relative_position_bias_table_to_windows_0 = nn.Parameter(self._table(heads, TARGET_POOL_KERNEL))
        # Index tables are stored in the released checkpoints; here they are rebuilt and only compared on loading.
        self.register_buffer("relative_position_index", relative_index(WINDOW))
        self.register_buffer("valid_ind_rolled", ring_selection())
        self.register_buffer("relative_position_index_0", relative_index(TARGET_POOL_KERNEL))
        for i, role in enumerate(ROLES):
            name = f"relative_position_bias_table_to_windows_clips_{i}"
            self.register_parameter(name, nn.Parameter(self._table(heads, role.kernel)))
            self.register_buffer(f"relative_position_index_clips_{i}", relative_index(role.kernel))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    @staticmethod
    def _table(heads: int, kernel: int) -> Tensor:
        return torch.zeros(heads, (WINDOW + kernel - 1) ** 2)

    def bias(self) -> Tensor:
        """Position bias of all keys, [heads, 49, 289]."""
        parts = [
            self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1),
            self.relative_position_bias_table_to_neighbors[0],
            self.relative_position_bias_table_to_windows_0[:, self.get_buffer("relative_position_index_0")],
        ]
        for i in range(len(ROLES)):
            table = self.get_parameter(f"relative_position_bias_table_to_windows_clips_{i}")
            parts.append(table[:, self.get_buffer(f"relative_position_index_clips_{i}")])
        return torch.cat(parts, dim=2)

    def keys_values(self, tokens: Tensor) -> Tensor:
        """Keys and values of tokens [n, m, dim] -> [n, m, 2*dim]."""
        return F.linear(tokens, self.qkv.weight[self.dim :], self.qkv.bias[self.dim :])

    def forward(self, target: Tensor, pooled: Tensor, references: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """Attend from every target token.

        Args:
            target: normalised padded target map [n, 7nh, 7nw, dim].
            pooled: one token per window [n, nh*nw, dim].
            references: keys and values of the three reference maps, oldest first, each [n, m, 2*dim].
            grid: (nh, nw).

        Returns:
            The attended map after the output projection, [n, 7nh, 7nw, dim].
        """
        n, height, width, dim = target.shape
        nh, nw = grid
        windows, heads, depth = nh * nw, self.heads, dim // self.heads
        qkv = self.qkv(target).view(n, height * width, 3 * dim)
        outside_token = qkv.new_zeros(n, 1, 2 * dim)
        keys_values = torch.cat([qkv[..., dim:], self.keys_values(pooled), *references, outside_token], dim=1)
        index, outside = (t.to(target.device) for t in key_table(nh, nw))
        by_head = keys_values.view(n, -1, 2, heads, depth).permute(2, 0, 3, 1, 4)  # [2, n, heads, m, depth]
        k, v = by_head.reshape(2, n * heads, -1, depth).index_select(2, index.reshape(-1)).unbind(0)
        k, v = (x.view(n, heads * windows, -1, depth) for x in (k, v))
        q = qkv[..., :dim].view(n, nh, WINDOW, nw, WINDOW, heads, depth).permute(0, 5, 1, 3, 2, 4, 6)
        q = q.reshape(n, heads * windows, WINDOW * WINDOW, depth)
        bias = self.bias()[:, None] + OUTSIDE_SCORE * outside[:, None, :]  # [heads, windows, 49, 289]
        out = attend(q, k, v, bias.flatten(0, 1).to(q.dtype))
        out = out.view(n, heads, nh, nw, WINDOW, WINDOW, depth).permute(0, 2, 4, 3, 5, 1, 6)
        return self.proj(out.reshape(n, height, width, dim))


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention with an additive bias: q [n,w,49,d], k and v [n,w,289,d], bias [w,49,289]."""
    if not bias.requires_grad:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
    # A bias that learns takes the fused call's slow path, which scales and copies queries and keys first.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return (scores + bias).softmax(dim=-1) @ v


class Mlp(nn.Module):
    """Linear, GELU (erf form), linear."""

    def __init__(self, dim: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim * ratio)
        self.fc2 = nn.Linear(dim * ratio, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class FocalBlock(nn.Module):
    """One cross-attention block; only the target is updated, the references stay as they left the fusion."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.pool_layers = nn.ModuleList([nn.Linear(WINDOW * WINDOW, 1)])
        self.pool_layers_clips = nn.ModuleList([nn.Linear(role.pool**2, 1) for role in ROLES])
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.attn = FocalAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.mlp = Mlp(dim)

    def _normalized(self, x: Tensor) -> Tensor:
        """LayerNorm, then zero padding right and bottom to whole windows (in this order: padding tokens are zero)."""
        h, w = x.shape[1:3]
        return F.pad(self.norm1(x), (0, 0, 0, -w % WINDOW, 0, -h % WINDOW))

    def reference_keys(self, frame: Tensor, role: int) -> Tensor:
        """Keys and values of a reference frame [n,h,w,dim] in the given role (0 = oldest), [n, m, 2*dim].

        They depend on frame, block and role only, not on the target.
        """
        spec, x = ROLES[role], self._normalized(frame)
        n, height, width, dim = x.shape
        nh, nw = height // WINDOW, width // WINDOW
        if spec.scale != WINDOW:
            x = F.interpolate(x.permute(0, 3, 1, 2), (spec.scale * nh, spec.scale * nw), mode="bilinear")
            x = x.permute(0, 2, 3, 1)
        pool = self.pool_layers_clips[role]
        side_h, side_w = spec.stride * nh, spec.stride * nw
        x = x.reshape(n, side_h, spec.pool, side_w, spec.pool, dim).permute(0, 1, 3, 5, 2, 4)
        x = pool(x.reshape(n, side_h * side_w, dim, spec.pool**2)).squeeze(-1)
        return self.attn.keys_values(x)

    def forward(self, target: Tensor, references: list[Tensor]) -> Tensor:
        """Update the target map [n,h,w,dim] from itself and from ``reference_keys`` of roles 0, 1, 2."""
        h, w = target.shape[1:3]
        x = self._normalized(target)
        n, height, width, dim = x.shape
        nh, nw = height // WINDOW, width // WINDOW
        windows = x.view(n, nh, WINDOW, nw, WINDOW, dim).permute(0, 1, 3, 5, 2, 4)
        pooled = self.pool_layers[0](windows.reshape(n, nh * nw, dim, WINDOW * WINDOW)).squeeze(-1)
        target = target + self.attn(x, pooled, references, (nh, nw))[:, :h, :w]
        return target + self.mlp(self.norm2(target))
