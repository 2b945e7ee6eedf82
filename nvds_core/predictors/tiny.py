"""`tiny`: the project's own small single-image disparity network, trained on its synthetic scenes only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvds_core.types import ShapeError

CHANNELS = (24, 40, 80, 144, 192)  # at 1/2, 1/4, 1/8, 1/16, 1/32
BLOCKS = (0, 2, 2, 3, 2)
DECODER = 64
RGB_MEAN = (0.5, 0.5, 0.5)
RGB_STD = (0.25, 0.25, 0.25)


def _conv(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a skip."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, dilation, dilation, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.conv2(self.conv1(x))))


class TinyPredictor(nn.Module):
    """A residual encoder down to 1/32 with a global context vector, and a top-down decoder back to 1/2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, CHANNELS[0], stride=2)
        stages = []
        for level in range(1, len(CHANNELS)):
            # The last stage is dilated in its second block, so that a pixel sees the whole picture.
            blocks = [ResidualBlock(CHANNELS[level], 2 if level == 4 and i == 1 else 1) for i in range(BLOCKS[level])]
            stages.append(nn.Sequential(_conv(CHANNELS[level - 1], CHANNELS[level], stride=2), *blocks))
        self.stages = nn.ModuleList(stages)
        self.context = nn.Linear(CHANNELS[-1], CHANNELS[-1])
        self.lateral = nn.ModuleList([nn.Conv2d(c, DECODER, 1) for c in CHANNELS[1:]])
        self.refine = nn.ModuleList([ResidualBlock(DECODER) for _ in CHANNELS[1:]])
        self.merge = _conv(DECODER + CHANNELS[0], 32)
        self.head = nn.Sequential(_conv(32, 24), nn.Conv2d(24, 1, 3, 1, 1))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        nn.init.constant_(self.head[1].bias, 1.0)  # type: ignore[arg-type, union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """Disparity up to scale and shift, near is large.

        Args:
            x: [b,3,h,w], RGB in 0..1 normalised with `RGB_MEAN` and `RGB_STD`; h and w at least 32.

        Returns:
            [b,h,w], > 0.

        Raises:
            ShapeError: for any other shape.
        """
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < 32:
            raise ShapeError(f"expected [b,3,h,w] with h and w of at least 32, got {tuple(x.shape)}")
        half = self.stem(x)
        maps, y = [], half
        for stage in self.stages:
            y = stage(y)
            maps.append(y)
        maps[-1] = y + self.context(y.mean(dim=(2, 3)))[:, :, None, None]
        top = self.refine[-1](self.lateral[-1](maps[-1]))
        for level in range(len(maps) - 2, -1, -1):
            top = _resize(top, maps[level]) + self.lateral[level](maps[level])
            top = self.refine[level](top)
        y = self.merge(torch.cat([_resize(top, half), half], dim=1))
        return F.softplus(_resize(self.head(y), x)[:, 0].float())


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)
