"""3x3 convolutions with a quarter of the products, for CPUs: Winograd's minimal filtering F(4x4, 3x3).

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.2: a tile of 4x4 results is
``A^T [(G w G^T) * (B^T d B)] A`` for the 6x6 inputs d around it. With many channels the product in the middle is nearly
all of the work, and it is 36 instead of 144 products per channel pair and tile. Its rounding errors are larger than
those of the direct convolution; `python -m benchmarks.stabilizer` prints what both cost and how far they differ.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TILE: Final = 4  # results per side
REACH: Final = TILE + 2  # inputs per side
MIN_CHANNELS: Final = 96  # below, transforming the tiles costs what the products save
MAX_THREADS = 4  # one row of tiles is little work to share; the direct convolution spreads over all threads

_INPUT: Final = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL: Final = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT: Final = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution with stride 1 and padding 1 that takes the shorter way wherever that pays.

    It pays for float32 inference on a few CPU threads with `MIN_CHANNELS` or more input channels; else this is
    `nn.Conv2d`. Parameters and their names are the same.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, 1, 1)
        self._transformed: tuple[Tensor, int, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Maps [n, c, h, w] -> [n, c', h, w]."""
        if not self._shorter(x):
            return super().forward(x)
        weight, version = self.weight, self.weight._version
        kept = self._transformed  # with the weight itself, as another one could come to lie at its address
        if kept is None or kept[0].data_ptr() != weight.data_ptr() or kept[1] != version:
            kept = self._transformed = (weight.detach(), version, transform_kernel(weight))
        assert self.bias is not None
        return convolve(x, kept[2], self.bias)

    def _shorter(self, x: Tensor) -> bool:
        return (
            x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and self.in_channels >= MIN_CHANNELS
            and not torch.is_grad_enabled()
            and not self.weight.is_inference()  # whose changes nobody counts
            and not torch.is_autocast_enabled("cpu")
            and torch.get_num_threads() <= MAX_THREADS
        )


def transform_kernel(weight: Tensor) -> Tensor:
    """Weights [c', c, 3, 3] in the domain of the products, [36, c, c']."""
    g = torch.tensor(_KERNEL, dtype=torch.float64)
    products = torch.kron(g, g) @ weight.detach().double().permute(2, 3, 1, 0).flatten(2).flatten(0, 1)
    return products.float().view(REACH**2, weight.shape[1], weight.shape[0])


def convolve(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Convolve [n, c, h, w] with a kernel of `transform_kernel`; returns [n, c', h, w] with channels last in memory.

    One row of tiles at a time, which stays in the cache.
    """
    n, channels, h, w = x.shape
    rows, columns, outputs = -(-h // TILE), -(-w // TILE), kernel.shape[2]
    to_tiles = _both_axes(_INPUT)
    from_tiles = _both_axes(_OUTPUT)
    below, right = TILE * rows - h + 1, TILE * columns - w + 1
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, right, 1, below))
    result = x.new_empty(n, rows, TILE, columns, TILE, outputs)
    for image, target in zip(padded, result, strict=True):
        for row in range(rows):
            strip = image[TILE * row : TILE * row + REACH].unfold(1, REACH, TILE)  # [6, columns, c, 6]
            tiles = to_tiles @ strip.permute(0, 3, 1, 2).reshape(REACH**2, columns * channels)
            products = torch.bmm(tiles.view(REACH**2, columns, channels), kernel)
            values = (from_tiles @ products.flatten(1)).view(TILE, TILE, columns, outputs)
            torch.add(values.transpose(1, 2), bias, out=target[row])
    return result.view(n, TILE * rows, TILE * columns, outputs)[:, :h, :w].permute(0, 3, 1, 2)


def _both_axes(matrix: tuple[tuple[int, ...], ...]) -> Tensor:
    one = torch.tensor(matrix, dtype=torch.float32)
    return torch.kron(one, one)
