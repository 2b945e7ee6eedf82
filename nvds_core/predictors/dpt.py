"""DPT-Large and DPT-Hybrid (Ranftl et al., ICCV 2021), with the published state_dict names on timm transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import StdConv2dSame, pad_same
from torch import Tensor, nn

from nvds_core.predictors.building import build_quickly, check_picture
from nvds_core.predictors.fusion import FusionDecoder

WIDTH = 256  # of all maps in the decoder
INVERSE_FLOOR = 1e-8  # of the metric variants, before the inversion
KITTI = (0.00006016, 0.00579)  # scale and shift of dpt_hybrid_kitti
NYU = (0.000305, 0.1378)  # scale and shift of dpt_hybrid_nyu


class StandardizedConv(nn.Conv2d):
    """A convolution, padded as TensorFlow's SAME, whose kernels are brought to mean 0 and deviation 1.

    The published weights were trained with (w - mean) / (deviation + 1e-5), as timm 0.4.5 computes it; timm 1 divides
    by sqrt(variance + 1e-8), which shows in the third digit of the disparity.
    """

    EPS = 1e-5

    @classmethod
    def like(cls, conv: nn.Conv2d) -> StandardizedConv:
        """A convolution of the same sizes that takes over the parameters."""
        made = cls(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, bias=False)  # type: ignore[arg-type]
        made.weight = conv.weight
        return made

    def forward(self, x: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
        weight = (self.weight - mean) / (deviation + self.EPS)
        padded = pad_same(x, list(self.kernel_size), list(self.stride))
        return F.conv2d(padded, weight, None, self.stride)


class Readout(nn.Module):
    """Tell every patch what the class token knows: a linear layer on both together, then GELU."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU())

    def forward(self, tokens: Tensor) -> Tensor:
        """[b,n,dim] of tokens [b,1+n,dim], the class token first."""
        linear: Any = self.project[0]
        dim = tokens.shape[-1]
        # The class token's half of the product is the same for all patches.
        patches = F.linear(tokens[:, 1:], linear.weight[:, :dim])
        shared = F.linear(tokens[:, :1], linear.weight[:, dim:], linear.bias)
        return self.project[1](patches + shared)  # type: ignore[no-any-return]


class Reassemble(nn.Sequential):
    """Tokens of one hook to a map [b,channels,...] at the decoder's scale (``act_postprocess`` in the checkpoints)."""

    def __init__(self, dim: int, channels: int, resize: nn.Module | None) -> None:
        # Indices 1 and 2 held the reshaping to the grid, which needs its size and is done in `forward`.
        layers = [Readout(dim), nn.Identity(), nn.Identity(), nn.Conv2d(dim, channels, 1)]
        super().__init__(*layers, *([] if resize is None else [resize]))

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:  # type: ignore[override]
        x = self[0](tokens).transpose(1, 2).unflatten(2, grid)
        for layer in list(self)[3:]:
            x = layer(x)
        return x


class DptNetwork(nn.Module):
    """Relative inverse depth of single pictures from a vision transformer and a fusion decoder.

    Args:
        transformer: timm's VisionTransformer without head.
        hooks: the blocks after which tokens are read, in order.
        reassemblies: one per hook.
        inputs: channels of the decoder's four maps; those that no hook makes come from the convolutional stem.
    """

    UNUSED_PREFIXES = ("pretrained.model.head.", "pretrained.model.norm.", "scratch.refinenet4.resConfUnit1.")

    def __init__(
        self, transformer: nn.Module, hooks: Sequence[int], reassemblies: Sequence[Reassemble], inputs: Sequence[int]
    ) -> None:
        super().__init__()
        self.hooks = tuple(hooks)
        transformer.norm = nn.Identity()  # tokens are read before it
        self.pretrained = nn.ModuleDict({"model": transformer})
        first = len(inputs) - len(hooks) + 1
        for k, reassemble in enumerate(reassemblies, start=first):
            self.pretrained[f"act_postprocess{k}"] = reassemble
        self.scratch = FusionDecoder(
            inputs, (WIDTH,) * len(inputs), head=128, rectified_skip=False, projected=True, align_corners=True
        )

    def forward(self, x: Tensor) -> Tensor:
        """Disparity up to scale and shift, near is large.

        Args:
            x: [b,3,h,w], RGB in 0..1 normalised by mean and deviation 0.5; h and w multiples of 32.

        Returns:
            [b,h,w], >= 0.

        Raises:
            ShapeError: for any other shape.
        """
        check_picture(x)
        maps, patches = self._patches(x)
        grid = (patches.shape[2], patches.shape[3])
        first = len(maps) + 1
        for k, tokens in enumerate(self._tokens(patches), start=first):
            maps.append(self.pretrained[f"act_postprocess{k}"](tokens, grid))
        disparity: Tensor = self.scratch(maps)
        return disparity

    def _patches(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps of the convolutional stem, if there is one, and the embedded patches [b,dim,h/16,w/16]."""
        transformer: Any = self.pretrained["model"]
        embed = transformer.patch_embed
        stem = getattr(embed, "backbone", None)
        if stem is None:
            return [], embed.proj(x)
        fine = stem.stages[0](stem.stem(x))
        middle = stem.stages[1](fine)
        return [fine, middle], embed.proj(stem.norm(stem.stages[2](middle)))

    def _tokens(self, patches: Tensor) -> list[Tensor]:
        """Tokens [b,1+n,dim], the class token first, as they leave each hooked block."""
        net: Any = self.pretrained["model"]
        x = patches.flatten(2).transpose(1, 2)
        x = torch.cat([net.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + resize_position_embedding(net.pos_embed, (patches.shape[2], patches.shape[3]))
        read = []
        for i, block in enumerate(net.blocks):
            x = block(x)
            if i in self.hooks:
                read.append(x)
        return read


def resize_position_embedding(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embedding [1,1+n,dim] of a square grid, class token first, for a grid of other height and width.

    Bilinear without antialiasing, as published; timm's own resizing is bicubic with antialiasing, which changes the
    disparity by several per cent.
    """
    own, patches = embedding[:, :1], embedding[:, 1:]
    side = round(patches.shape[1] ** 0.5)
    square = patches.transpose(1, 2).unflatten(2, (side, side))
    resized = F.interpolate(square, grid, mode="bilinear", align_corners=False)
    return torch.cat([own, resized.flatten(2).transpose(1, 2)], dim=1)


def metric_depth(inverse: Tensor, scale: float, shift: float) -> Tensor:
    """Depth in metres of the metric variants, whose networks give an affine function of inverse depth.

    ``1 / max(scale * inverse + shift, 1e-8)`` with `KITTI` or `NYU`, the constants of the published weights.
    """
    return (inverse * scale + shift).clamp(min=INVERSE_FLOOR).reciprocal()


def _large() -> DptNetwork:
    dim, channels = 1024, (256, 512, 1024, 1024)
    resizes = [
        nn.ConvTranspose2d(channels[0], channels[0], 4, 4),
        nn.ConvTranspose2d(channels[1], channels[1], 2, 2),
        None,
        nn.Conv2d(channels[3], channels[3], 3, 2, 1),
    ]
    reassemblies = [Reassemble(dim, c, resize) for c, resize in zip(channels, resizes, strict=True)]
    transformer = timm.create_model("vit_large_patch16_384", num_classes=0)
    return DptNetwork(transformer, (5, 11, 17, 23), reassemblies, channels)


def _hybrid() -> DptNetwork:
    dim = 768
    transformer = timm.create_model("vit_base_r50_s16_384", num_classes=0)
    for parent in list(transformer.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, StdConv2dSame):
                setattr(parent, name, StandardizedConv.like(child))
    reassemblies = [Reassemble(dim, dim, None), Reassemble(dim, dim, nn.Conv2d(dim, dim, 3, 2, 1))]
    return DptNetwork(transformer, (8, 11), reassemblies, (256, 512, dim, dim))


def dpt_large() -> DptNetwork:
    """DPT-Large (``dpt_large-midas-2f21e586.pt``, 344 million parameters, 1.4 GB) with random weights."""
    return build_quickly(_large)


def dpt_hybrid() -> DptNetwork:
    """DPT-Hybrid (``dpt_hybrid-midas-501f0c75.pt``, 123 million parameters) with random weights."""
    return build_quickly(_hybrid)
