"""The convolutional decoder of MiDaS v2.1 and DPT (``scratch`` in their checkpoints).

Four maps at 1/4, 1/8, 1/16 and 1/32 are brought to common widths and joined from the coarsest to the finest; the head
returns to the size of the picture (Ranftl et al., "Towards Robust Monocular Depth Estimation", TPAMI 2022, and "Vision
Transformers for Dense Prediction", ICCV 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_WIDTH = 32


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions around a skip.

    In MiDaS v2.1 large the first ReLU works in place, so that the skip carries relu(x); elsewhere it carries x.
    """

    def __init__(self, channels: int, *, rectified_skip: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.rectified_skip = rectified_skip

    def forward(self, x: Tensor) -> Tensor:
        rectified = F.relu(x)
        y = self.conv2(F.relu(self.conv1(rectified)))
        return y + (rectified if self.rectified_skip else x)


class FusionBlock(nn.Module):
    """Add a finer map to the path so far, refine, and double the size.

    The published 1x1 ``out_conv`` follows the doubling. Both are linear and the weights of the interpolation sum to
    one, so it is applied before, to a quarter of the pixels; results agree up to rounding.
    """

    def __init__(self, inputs: int, outputs: int, *, coarsest: bool, rectified_skip: bool, projected: bool) -> None:
        super().__init__()
        if not coarsest:
            self.resConfUnit1 = ResidualUnit(inputs, rectified_skip=rectified_skip)
        self.resConfUnit2 = ResidualUnit(inputs, rectified_skip=rectified_skip)
        self.out_conv = nn.Conv2d(inputs, outputs, 1) if projected else nn.Identity()

    def forward(self, path: Tensor, finer: Tensor | None = None) -> Tensor:
        if finer is not None:
            path = path + self.resConfUnit1(finer)
        path = self.out_conv(self.resConfUnit2(path))
        return F.interpolate(path, scale_factor=2.0, mode="bilinear", align_corners=True)


class DisparityHead(nn.Sequential):
    """From the finest path at 1/2 to disparity >= 0 at full size."""

    def __init__(self, inputs: int, middle: int, *, align_corners: bool) -> None:
        super().__init__(
            nn.Conv2d(inputs, middle, 3, padding=1),
            nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=align_corners),
            nn.Conv2d(middle, HEAD_WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(HEAD_WIDTH, 1, 1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in list(self)[:4]:
            x = layer(x)
        # Eight bits of mantissa would show as steps in the disparity: under autocast, the last layer stays in float32.
        last: Any = self[4]
        with torch.autocast(x.device.type, enabled=False):
            disparity: Tensor = self[5](last(x.to(last.weight.dtype)))
        return disparity[:, 0]


class FusionDecoder(nn.Module):
    """Disparity [b,h,w] from maps at 1/4, 1/8, 1/16 and 1/32.

    Args:
        inputs: channels of the four maps, finest first.
        widths: channels they are brought to.
        head: channels inside the head.
        rectified_skip: see `ResidualUnit`.
        projected: whether fusion blocks end with ``out_conv``, to the width of the next finer map.
        align_corners: of the head's doubling; the fusion blocks' always aligns corners.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        widths: Sequence[int],
        *,
        head: int,
        rectified_skip: bool,
        projected: bool,
        align_corners: bool,
    ) -> None:
        super().__init__()
        levels = len(inputs)
        for i, (channels, width) in enumerate(zip(inputs, widths, strict=True), start=1):
            self.add_module(f"layer{i}_rn", nn.Conv2d(channels, width, 3, padding=1, bias=False))
            block = FusionBlock(
                width,
                widths[max(i - 2, 0)],
                coarsest=i == levels,
                rectified_skip=rectified_skip,
                projected=projected,
            )
            self.add_module(f"refinenet{i}", block)
        self.output_conv = DisparityHead(widths[0], head, align_corners=align_corners)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        levels = len(maps)
        adapted = [self.get_submodule(f"layer{i}_rn")(y) for i, y in enumerate(maps, start=1)]
        path = self.get_submodule(f"refinenet{levels}")(adapted[-1])
        for i in range(levels - 1, 0, -1):
            path = self.get_submodule(f"refinenet{i}")(path, adapted[i - 1])
        disparity: Tensor = self.output_conv(path)
        return disparity
