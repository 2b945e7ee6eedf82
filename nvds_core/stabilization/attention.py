"""Cross-frame focal attention of NVDS: a target window looks at itself, its surroundings and three reference frames.

Every window of 7x7 target tokens sees 289 keys: 49 own, 132 of the ring around it, 25 pooled windows, and 49 + 25 + 9
tokens of the frames three, two and one steps away. A block works in three steps; callers can share the first two:

1. `FocalBlock.reference_keys`: keys and values of a reference frame, a function of frame, block and role only;
2. `FocalBlock.own_tokens`: queries, keys and values of the target;
3. `FocalBlock.forward`: gather the 289 keys of each window by one index table, attend, update the target.

The target stays cut into windows (`WindowGrid.split`) from the first block to the last; nothing is unfolded or rolled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvds_core.stabilization.windows import (
    ROLES,
    TARGET_POOL_KERNEL,
    WINDOW,
    WINDOW_TOKENS,
    WindowGrid,
    relative_index,
    ring_offsets,
    ring_selection,
)

OUTSIDE_SCORE = -100.0  # added to the score of a neighbour outside a pooled map
# On a CPU, intermediate results that leave the cache (and, if large, are mapped anew by every allocation) cost more
# than the arithmetic on them, see docs/performance.md. Results do not depend on these sizes.
CPU_WINDOWS = 4 * 256  # windows whose keys are gathered at once, times channels
CPU_MLP_TOKENS = 768 * 256  # tokens that go through the MLP at once, times channels


@dataclass(frozen=True)
class OwnTokens:
    """What a target contributes to its own attention: q [n,windows,49,dim]; keys and values of its tokens and of its
    pooled windows [n, windows*49 + windows, 2*dim]."""

    q: Tensor
    keys_values: Tensor


class FocalAttention(nn.Module):
    """Windowed attention of one target over its 289 keys per window."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        ring = len(ring_offsets())
        self.relative_position_bias_table_to_neighbors = nn.Parameter(torch.zeros(1, heads, WINDOW_TOKENS, ring))
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

    def keys_values(self, tokens: Tensor, factor: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Keys and values of tokens [n, m, dim], or of ``factor * tokens + shift``, as [n, m, 2*dim].

        No queries, which nobody would use.
        """
        weight, bias = self.qkv.weight[self.dim :], self.qkv.bias[self.dim :]
        if factor is not None and shift is not None:
            weight, bias = factor * weight, torch.addcmul(bias, shift, weight.sum(1))
        return F.linear(tokens, weight, bias)

    def forward(self, own: OwnTokens, references: Sequence[Tensor], grid: WindowGrid) -> Tensor:
        """Attend from every target token.

        Args:
            own: of the target; its first dimension may be 1, then it serves all n.
            references: keys and values of the three reference maps, oldest first, each [n, m, 2*dim].
            grid: the windows.

        Returns:
            The attended windows after the output projection, [n, windows, 49, dim].
        """
        n, heads, dim = len(references[0]), self.heads, self.dim
        outside_token = references[0].new_zeros(n, 1, 2 * dim)
        tokens = torch.cat([own.keys_values.expand(n, -1, -1), *references, outside_token], dim=1)
        q = own.q.expand(n, -1, -1, -1).unflatten(3, (heads, -1)).transpose(2, 3).flatten(0, 1)
        first = torch.arange(n, device=tokens.device) * tokens.shape[1]
        keys = (grid.keys + first[:, None, None]).flatten(0, 1)  # [n*windows, 289], rows of all tokens
        tokens = tokens.flatten(0, 1)
        penalty = (OUTSIDE_SCORE * grid.outside).to(q.dtype).repeat(n, 1)[:, None, None]
        bias = self.bias().to(q.dtype)
        attended = []
        for part in groups(len(keys), CPU_WINDOWS // dim, q):
            seen = tokens.index_select(0, keys[part].flatten()).view(-1, keys.shape[1], 2, heads, dim // heads)
            k, v = seen.permute(2, 0, 3, 1, 4)
            attended.append(attend(q[part], k, v, bias + penalty[part]).transpose(1, 2).flatten(2))
        return self.proj(torch.cat(attended)).unflatten(0, (n, -1))


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention with an additive bias: q [m,heads,49,d], k and v [m,heads,289,d], bias [m,heads,49,289]."""
    if not bias.requires_grad:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    # A bias that learns takes the fused call's slow path, which scales and copies queries and keys first.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return (scores + bias).softmax(dim=-1) @ v


def groups(count: int, cpu_size: int, like: Tensor) -> Iterator[slice]:
    """Slices that cover ``count`` items: small ones for inference on a CPU, else a single one."""
    size = max(1, cpu_size if like.device.type == "cpu" and not torch.is_grad_enabled() else count)
    return (slice(start, start + size) for start in range(0, count, size))


class Mlp(nn.Module):
    """Linear, GELU (erf form), linear."""

    def __init__(self, dim: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim * ratio)
        self.fc2 = nn.Linear(dim * ratio, dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, -2)
        at_once = groups(len(tokens), CPU_MLP_TOKENS // x.shape[-1], x)
        return torch.cat([self.fc2(F.gelu(self.fc1(tokens[part]))) for part in at_once]).view_as(x)


class FocalBlock(nn.Module):
    """One cross-attention block; only the target is updated, the references stay as they left the fusion."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.pool_layers = nn.ModuleList([nn.Linear(WINDOW_TOKENS, 1)])
        self.pool_layers_clips = nn.ModuleList([nn.Linear(role.pool**2, 1) for role in ROLES])
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.attn = FocalAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.mlp = Mlp(dim)

    def reference_keys(self, frame: Tensor, role: int) -> Tensor:
        """Keys and values of a reference frame [n,h,w,dim] in the given role (0 = oldest), [n, m, 2*dim]."""
        h, w = frame.shape[1:3]
        # Padding follows the norm: padding tokens are zero, and they are not masked, as released.
        x = F.pad(self.norm1(frame), (0, 0, 0, -w % WINDOW, 0, -h % WINDOW))
        spec = ROLES[role]
        n, height, width, dim = x.shape
        nh, nw = height // WINDOW, width // WINDOW
        if spec.scale != WINDOW:
            x = F.interpolate(x.permute(0, 3, 1, 2), (spec.scale * nh, spec.scale * nw), mode="bilinear")
            x = x.permute(0, 2, 3, 1)
        pool = self.pool_layers_clips[role]
        if spec.pool == 1:  # a factor and a shift of every token, which the keys' own weights can take along
            assert isinstance(pool, nn.Linear)
            return self.attn.keys_values(x.flatten(1, 2), pool.weight[0, 0], pool.bias)
        side_h, side_w = spec.stride * nh, spec.stride * nw
        x = x.reshape(n, side_h, spec.pool, side_w, spec.pool, dim).transpose(2, 3)
        x = pool_tokens(x.reshape(n, side_h * side_w, spec.pool**2, dim), pool)
        return self.attn.keys_values(x)

    def own_tokens(self, target: Tensor, grid: WindowGrid) -> OwnTokens:
        """Queries, keys and values of a target in windows [n, windows, 49, dim]."""
        x = self.norm1(target)
        if grid.padding is not None:
            x.masked_fill_(grid.padding, 0.0)
        q, keys_values = self.attn.qkv(x).split([self.attn.dim, 2 * self.attn.dim], dim=3)
        pooled = self.attn.keys_values(pool_tokens(x, self.pool_layers[0]))
        return OwnTokens(q, torch.cat([keys_values.flatten(1, 2), pooled], dim=1))

    def forward(
        self, target: Tensor, references: Sequence[Tensor], grid: WindowGrid, own: OwnTokens | None = None
    ) -> Tensor:
        """Update the target [n, windows, 49, dim] from itself and from ``reference_keys`` of roles 0, 1, 2."""
        attended = self.attn(own or self.own_tokens(target, grid), references, grid)
        target = target + attended
        return target + self.mlp(self.norm2(target))


def pool_tokens(x: Tensor, pool: nn.Module) -> Tensor:
    """One token per group by a linear layer over the group's tokens, [n, m, group, dim] -> [n, m, dim]."""
    assert isinstance(pool, nn.Linear)
    return (pool.weight @ x)[:, :, 0] + pool.bias
