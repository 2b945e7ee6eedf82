"""GMFlow's convolutional encoder: one picture to feature maps at 1/8, or at 1/8 and 1/4, of its size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance normalisation, and a 1x1 convolution beside them where the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride), nn.InstanceNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(F.instance_norm(self.conv1(x)))
        y = F.relu(F.instance_norm(self.conv2(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Encoder(nn.Module):
    """Features of 128 channels, lowest resolution first.

    With two scales, ONE 3x3 kernel (``trident_conv``) makes both maps: with stride 2 the one at 1/8, with stride 1 the
    one at 1/4.
    """

    def __init__(self, *, scales: int, channels: int = 128) -> None:
        super().__init__()
        self.scales = scales
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64), ResidualBlock(64, 64))
        self.layer2 = nn.Sequential(ResidualBlock(64, 96, stride=2), ResidualBlock(96, 96))
        last_stride = 2 if scales == 1 else 1
        self.layer3 = nn.Sequential(ResidualBlock(96, 128, stride=last_stride), ResidualBlock(128, 128))
        self.conv2 = nn.Conv2d(128, channels, 1)
        if scales == 2:
            self.trident_conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps ``[n, c, h, w]`` of normalised pictures ``[n, 3, H, W]``."""
        x = F.relu(F.instance_norm(self.conv1(x)))
        x = self.conv2(self.layer3(self.layer2(self.layer1(x))))
        if self.scales == 1:
            return [x]
        return [F.conv2d(x, self.trident_conv.weight, stride=2, padding=1), self.trident_conv(x)]
