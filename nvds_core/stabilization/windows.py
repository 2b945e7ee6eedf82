"""How a feature map is cut into 7x7 windows, and which 289 tokens each window sees.

Section numbers of the released network's description are not repeated here; every odd rule is marked "as released".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 7
WINDOW_TOKENS = WINDOW * WINDOW
EXPAND = 3  # width of the ring around a window
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


@dataclass(frozen=True)
class WindowGrid:
    """The nh x nw windows of a map of h x w tokens, padded right and bottom to whole windows; see `window_grid`.

    Attributes:
        padding: which tokens of the windows are padding, bool [windows, 49, 1]; None if there is none.
        keys: the tokens that each window sees, see `key_table`, int64 [windows, 289].
        outside: which of these lie outside a pooled map, bool [windows, 289].
    """

    h: int
    w: int
    nh: int
    nw: int
    padding: Tensor | None
    keys: Tensor
    outside: Tensor

    def split(self, maps: Tensor) -> Tensor:
        """Maps [n,h,w,dim] as windows [n, nh*nw, 49, dim], row by row; padding tokens are zero."""
        n, _, _, dim = maps.shape
        padded = F.pad(maps, (0, 0, 0, self.nw * WINDOW - self.w, 0, self.nh * WINDOW - self.h))
        windows = padded.view(n, self.nh, WINDOW, self.nw, WINDOW, dim).transpose(2, 3)
        return windows.reshape(n, self.nh * self.nw, WINDOW_TOKENS, dim)

    def join(self, windows: Tensor) -> Tensor:
        """The inverse of `split`: [n, nh*nw, 49, dim] to [n,h,w,dim]."""
        n, _, _, dim = windows.shape
        rows = windows.view(n, self.nh, self.nw, WINDOW, WINDOW, dim).transpose(2, 3)
        return rows.reshape(n, self.nh * WINDOW, self.nw * WINDOW, dim)[:, : self.h, : self.w]


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # tables first made during inference must also serve training
def window_grid(h: int, w: int, device: torch.device) -> WindowGrid:
    """The grid of a map of h x w tokens with its tables on ``device``; the last few sizes are remembered."""
    nh, nw = -(-h // WINDOW), -(-w // WINDOW)
    keys, outside = key_table(nh, nw)
    grid = WindowGrid(h, w, nh, nw, None, keys.to(device), outside.to(device))
    if (h, w) == (nh * WINDOW, nw * WINDOW):
        return grid
    padding = grid.split(torch.ones(1, h, w, 1))[0] == 0
    return WindowGrid(h, w, nh, nw, padding.to(device), grid.keys, grid.outside)


def relative_index(kernel: int) -> Tensor:
    """Row of a bias table for each (query, key) pair, int64 [49, kernel*kernel]; queries 7x7, keys kernel x kernel."""
    q = torch.arange(WINDOW)
    k = torch.arange(kernel)
    offset = q[:, None] - k[None, :] + kernel - 1  # [7, kernel]
    table = offset[:, None, :, None] * (WINDOW + kernel - 1) + offset[None, :, None, :]
    return table.reshape(WINDOW_TOKENS, kernel * kernel)


def shifted_windows() -> tuple[np.ndarray, np.ndarray]:
    """Four copies of the window moved by 3 tokens both ways: offsets [196,2], and which lie outside the window [196].

    The 132 outside tokens are the ring; 12 of them occur twice, as released. In numpy, because networks are also built
    on torch's meta device, where which tokens lie outside cannot be known.
    """
    shifts = np.array([(EXPAND, EXPAND), (EXPAND, -EXPAND), (-EXPAND, EXPAND), (-EXPAND, -EXPAND)])
    own = np.argwhere(np.ones((WINDOW, WINDOW)))
    offsets = (shifts[:, None] + own).reshape(-1, 2)
    return offsets, np.any((offsets < 0) | (offsets >= WINDOW), axis=1)


def ring_offsets() -> Tensor:
    """Offsets (row, column) of the ring's tokens from a window's first token, int64 [132,2]."""
    offsets, outside = shifted_windows()
    return torch.tensor(offsets[outside].tolist())


def ring_selection() -> Tensor:
    """The ring as indices into the four shifted windows laid end to end, int64 [132]."""
    return torch.tensor(np.flatnonzero(shifted_windows()[1]).tolist())


def key_table(nh: int, nw: int) -> tuple[Tensor, Tensor]:
    """Which tokens the windows of an nh x nw grid see.

    Tokens are numbered through: the target's windows one after the other, the pooled target, the three reference maps
    row by row, and one last zero token that stands for every position outside a pooled map.

    Returns:
        index int64 [nh*nw, 289], outside bool [nh*nw, 289].
    """
    rows, cols = torch.meshgrid(torch.arange(nh), torch.arange(nw), indexing="ij")
    rows, cols = rows.reshape(-1, 1), cols.reshape(-1, 1)
    own = torch.cartesian_prod(torch.arange(WINDOW), torch.arange(WINDOW))
    around = torch.cat([own, ring_offsets()])
    # Positions of the ring wrap around the padded map and are not masked, as released.
    y = (rows * WINDOW + around[:, 0]) % (WINDOW * nh)
    x = (cols * WINDOW + around[:, 1]) % (WINDOW * nw)
    window = (y // WINDOW) * nw + x // WINDOW
    index = [window * WINDOW_TOKENS + (y % WINDOW) * WINDOW + x % WINDOW]
    outside = [torch.zeros_like(y, dtype=torch.bool)]

    start = WINDOW_TOKENS * nh * nw
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
