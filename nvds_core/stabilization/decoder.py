"""Feature fusion, detail branch and output head of the NVDS stabiliser."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvds_core.stabilization.winograd import Conv3x3


class TokenProjection(nn.Module):
    """Linear layer on the channels of a map, [n,c,h,w] -> [n,c',h,w]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FeatureTransform(nn.Module):
    """FTB: a convolution and a residual branch.

    The released source reads like ``y + branch(y)``, but the branch begins with an in-place ReLU that changes y before
    the sum, so the network was trained as ``relu(relu(y) + branch)``.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = Conv3x3(inputs, outputs)
        self.conv_branch = nn.Sequential(nn.ReLU(), Conv3x3(outputs, outputs), nn.ReLU(), Conv3x3(outputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        # The in-place sums and ReLUs spare a pass over memory each; autograd needs none of the overwritten values.
        y = F.relu_(self.conv1(x))
        _, conv_a, _, conv_b = self.conv_branch  # the first ReLU has been applied
        return F.relu_(conv_b(F.relu_(conv_a(y))).add_(y))


class FeatureFusion(nn.Module):
    """FFM: out = up(ftb2(ftb1(low) + high)); ``ftb1(low)`` depends on the target frame only and can be shared."""

    def __init__(self, inputs: int, outputs: int, *, upsample: bool) -> None:
        super().__init__()
        self.ftb1 = FeatureTransform(inputs, inputs)
        self.ftb2 = FeatureTransform(inputs, outputs)
        self.upsample = upsample

    def forward(self, shared: Tensor, high: Tensor, size: tuple[int, int]) -> Tensor:
        """Merge ``shared`` = ftb1(low) with ``high``; ``size`` is the output's (h, w)."""
        x = self.ftb2(shared + high)
        if not self.upsample:
            return x
        return F.interpolate(x, size, mode="bilinear", align_corners=True)


class OutputHead(nn.Module):
    """AO: 3x3 convolution, ReLU, 1x1 convolution to one channel (indices 1 to 3 follow the released checkpoint)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        middle = inputs // 2
        self.adapt_conv = nn.Sequential(
            nn.Conv2d(inputs, middle, 3, 1, 1), nn.Identity(), nn.ReLU(), nn.Conv2d(middle, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.adapt_conv(x)


class FrameFusion(nn.Module):
    """All encoder maps of a frame as one map at 1/4 resolution; mixed into ``Stabilizer`` below."""

    linear_c1: TokenProjection
    linear_c2: TokenProjection
    linear_c3: TokenProjection
    linear_c4: TokenProjection
    linear_fuse: nn.Sequential

    def fuse(self, maps: list[Tensor]) -> Tensor:
        """c1..c4 -> [n, dim, h/4, w/4]; concatenated in the order c4, c3, c2, c1."""
        c1, c2, c3, c4 = maps
        size = c1.shape[2:]
        coarse = [
            F.interpolate(project(c), size, mode="bilinear", align_corners=False)
            for project, c in ((self.linear_c4, c4), (self.linear_c3, c3), (self.linear_c2, c2))
        ]
        return self.linear_fuse(torch.cat([*coarse, self.linear_c1(c1)], dim=1))
