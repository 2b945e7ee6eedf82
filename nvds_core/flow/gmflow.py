"""GMFlow (Xu et al., CVPR 2022): optical flow by global matching, with the names of the released checkpoints.

`gmflow` is the network behind the published NVDS figures (``gmflow_sintel-0c07dcb3.pth``), `gmflow_refine` the one with
a second, local matching at 1/4 of the size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvds_core.flow.gmflow_encoder import Encoder
from nvds_core.flow.gmflow_transformer import FeatureTransformer, add_position
from nvds_core.flow.matching import (
    match_globally,
    match_locally,
    propagate_globally,
    propagate_locally,
    upsample_convex,
)
from nvds_core.flow.warp import flow_warp
from nvds_core.types import ShapeError

CHANNELS = 128
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Scale:
    """One round of matching. No radius means everywhere."""

    splits: int  # windows of the transformer per axis
    match_radius: int | None
    propagate_radius: int | None


class FeatureFlowAttention(nn.Module):
    """Spreads the flow to places without a match (occluded, outside) from places that look alike."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)

    def forward(self, feature: Tensor, flow: Tensor, radius: int | None) -> Tensor:
        """Flow ``[b, 2, h, w]`` spread by features ``[b, h, w, c]``."""
        query = self.q_proj(feature)
        if radius is None:
            # The released global form projects the query again, the local form projects the feature.
            return propagate_globally(query, self.k_proj(query), flow)
        return propagate_locally(query, self.k_proj(feature), flow, radius=radius)


class GMFlow(nn.Module):
    """The network; make one with `gmflow` or `gmflow_refine`.

    Pictures of any size are continued with their border pixels to a size that can be cut into windows
    (`padded_size`), half on each side, and the flow is cropped back.
    """

    def __init__(self, scales: tuple[Scale, ...], *, upsample_factor: int, multiple: int) -> None:
        super().__init__()
        self.scales, self.upsample_factor, self.multiple = scales, upsample_factor, multiple
        self.backbone = Encoder(scales=len(scales), channels=CHANNELS)
        self.transformer = FeatureTransformer(channels=CHANNELS)
        self.feature_flow_attn = FeatureFlowAttention(CHANNELS)
        self.upsampler = nn.Sequential(
            nn.Conv2d(2 + CHANNELS, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, upsample_factor**2 * 9, 1)
        )
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, img0: Tensor, img1: Tensor, bidirectional: bool = False, normalize: bool = True) -> Tensor:
        """Flow from picture 0 to picture 1, in pixels, x first.

        Args:
            img0, img1: ``[b, 3, h, w]`` RGB in 0..255, any size; with ``normalize=False`` already normalised.
            bidirectional: also the flow from picture 1 to picture 0, for little more work.
            normalize: apply ImageNet's mean and standard deviation.

        Returns:
            ``[b, 2, h, w]`` float32, or ``[2b, 2, h, w]`` when bidirectional: all forward flows, then all backward.

        Raises:
            ShapeError: the pictures are not ``[b, 3, h, w]`` of one shape, with at least one pixel.
        """
        if img0.shape != img1.shape:
            raise ShapeError(f"picture 0 {tuple(img0.shape)} != picture 1 {tuple(img1.shape)}; resize one of them")
        maps = self.encode(torch.cat((img0, img1)), normalize=normalize)
        halves = [feature.chunk(2) for feature in maps]
        size = (img0.shape[2], img0.shape[3])
        return self.match([first for first, _ in halves], [second for _, second in halves], size, bidirectional)

    def encode(self, images: Tensor, *, normalize: bool = True) -> list[Tensor]:
        """Features of pictures ``[n, 3, h, w]`` for `match`, lowest resolution first; each picture by itself.

        Raises:
            ShapeError: not ``[n, 3, h, w]`` with at least one pixel.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.numel() == 0:
            raise ShapeError(f"pictures are [b, 3, h, w] with at least one pixel, got {tuple(images.shape)}")
        images = images.to(self.mean.dtype)  # type: ignore[arg-type]
        if normalize:
            images = (images / 255.0 - self.mean) / self.std  # type: ignore[operator]
        padding = self._padding((images.shape[2], images.shape[3]))
        if any(padding):
            images = F.pad(images, padding, mode="replicate")
        maps: list[Tensor] = self.backbone(images)
        return maps

    def match(self, maps0: list[Tensor], maps1: list[Tensor], size: tuple[int, int], bidirectional: bool) -> Tensor:
        """Flow between pictures of ``size`` (height, width) from their features; shapes as `forward` returns them."""
        feature, flow = maps0[0], None
        for scale, feature0, feature1 in zip(self.scales, maps0, maps1, strict=True):
            if bidirectional and flow is not None:
                feature0, feature1 = torch.cat((feature0, feature1)), torch.cat((feature1, feature0))
            feature, flow = self._match_scale(scale, feature0, feature1, flow, bidirectional)
        assert flow is not None
        weights = self.upsampler(torch.cat((flow.to(feature.dtype), feature), dim=1))
        flow = upsample_convex(flow, weights, factor=self.upsample_factor)
        left, _, top, _ = self._padding(size)
        return flow[:, :, top : top + size[0], left : left + size[1]].contiguous()

    def _match_scale(
        self, scale: Scale, feature0: Tensor, feature1: Tensor, coarse: Tensor | None, bidirectional: bool
    ) -> tuple[Tensor, Tensor]:
        """Features ``[b, c, h, w]`` and flow at one scale; the first scale has no ``coarse`` flow yet."""
        base: Tensor | float = 0.0
        if coarse is not None:
            base = 2.0 * F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=True)
            feature1 = flow_warp(feature1, base)
        first, second = (add_position(x.permute(0, 2, 3, 1).contiguous(), scale.splits) for x in (feature0, feature1))
        first, second = self.transformer(first, second, scale.splits)
        if bidirectional and coarse is None:
            first, second = torch.cat((first, second)), torch.cat((second, first))
        if scale.match_radius is None:
            flow = base + match_globally(first, second)
        else:
            flow = base + match_locally(first, second, radius=scale.match_radius)
        return first.permute(0, 3, 1, 2), self.feature_flow_attn(first, flow, scale.propagate_radius)

    def padded_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which pictures of ``size`` are processed.

        The next multiple of `multiple`, and large enough for windows of two positions, which half a window needs.
        """
        coarsest_first = [self.upsample_factor << shift for shift in reversed(range(len(self.scales)))]
        least = max(2 * s.splits * stride for s, stride in zip(self.scales, coarsest_first, strict=True))
        height, width = (max(least, -(-side // self.multiple) * self.multiple) for side in size)
        return height, width

    def _padding(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Left, right, top and bottom; the odd pixel goes to the right and the bottom, as released."""
        height, width = self.padded_size(size)
        below, beside = height - size[0], width - size[1]
        return beside // 2, beside - beside // 2, below // 2, below - below // 2


def gmflow() -> GMFlow:
    """GMFlow with one scale (4.68 M parameters): global matching at 1/8 of the size."""
    return GMFlow((Scale(2, None, None),), upsample_factor=8, multiple=16)


def gmflow_refine() -> GMFlow:
    """GMFlow with refinement (4.72 M parameters): global matching at 1/8, then local matching at 1/4 of the size."""
    return GMFlow((Scale(2, None, None), Scale(8, 4, 1)), upsample_factor=4, multiple=32)
