"""Mix Transformer encoder (SegFormer, Xie et al., NeurIPS 2021) with four input channels: RGB and disparity.

Written from the description of the published network; parameter names are those of the released NVDS checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH_NORM_EPS = 1e-5  # LayerNorm after a patch embedding and after the key/value reduction
BLOCK_NORM_EPS = 1e-6  # LayerNorms inside a block and at the end of a stage


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the four stages: channels, blocks, attention heads, key/value reduction per side."""

    channels: tuple[int, int, int, int] = (64, 128, 320, 512)
    depths: tuple[int, int, int, int] = (3, 6, 40, 3)
    heads: tuple[int, int, int, int] = (1, 2, 5, 8)
    reductions: tuple[int, int, int, int] = (8, 4, 2, 1)
    mlp_ratio: int = 4


MIT_B5 = EncoderConfig()
MIT_B0 = EncoderConfig(channels=(32, 64, 160, 256), depths=(2, 2, 2, 2))


class PatchEmbedding(nn.Module):
    """Strided overlapping convolution and LayerNorm: [n,c,h,w] to tokens [n,h'*w',c'] and their grid."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(outputs, eps=PATCH_NORM_EPS)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x = self.proj(x)
        grid = (x.shape[2], x.shape[3])
        return self.norm(x.flatten(2).transpose(1, 2)), grid


class ReducedAttention(nn.Module):
    """Self-attention whose keys and values come from a map reduced by a strided convolution."""

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        if reduction > 1:
            self.sr = nn.Conv2d(dim, dim, reduction, reduction)
            self.norm = nn.LayerNorm(dim, eps=PATCH_NORM_EPS)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        n, tokens, dim = x.shape
        source = x
        if self.reduction > 1:
            reduced = self.sr(x.transpose(1, 2).reshape(n, dim, *grid))
            source = self.norm(reduced.flatten(2).transpose(1, 2))
        q = self.q(x).view(n, tokens, self.heads, -1).transpose(1, 2)
        k, v = self.kv(source).view(n, -1, 2, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(n, tokens, dim))


class DepthwiseConv(nn.Module):
    """3x3 depthwise convolution on tokens; it is the only place where position enters the encoder."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, 1, 1, groups=dim)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        n, _, dim = x.shape
        return self.dwconv(x.transpose(1, 2).reshape(n, dim, *grid)).flatten(2).transpose(1, 2)


class MixMlp(nn.Module):
    """Linear, depthwise convolution, GELU (erf form), linear."""

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim * ratio)
        self.dwconv = DepthwiseConv(dim * ratio)
        self.fc2 = nn.Linear(dim * ratio, dim)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.fc2(F.gelu(self.dwconv(self.fc1(x), grid)))


class MixBlock(nn.Module):
    """Pre-norm transformer block of the encoder."""

    def __init__(self, dim: int, heads: int, reduction: int, ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
        self.attn = ReducedAttention(dim, heads, reduction)
        self.norm2 = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
        self.mlp = MixMlp(dim, ratio)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        x = x + self.attn(self.norm1(x), grid)
        return x + self.mlp(self.norm2(x), grid)


class MixTransformer(nn.Module):
    """Four stages at 1/4, 1/8, 1/16 and 1/32 of the input."""

    def __init__(self, config: EncoderConfig, inputs: int = 4) -> None:
        super().__init__()
        self.stages = len(config.channels)
        widths = (inputs, *config.channels)
        for i in range(self.stages):
            kernel, stride = (7, 4) if i == 0 else (3, 2)
            dim = config.channels[i]
            blocks = [
                MixBlock(dim, config.heads[i], config.reductions[i], config.mlp_ratio) for _ in range(config.depths[i])
            ]
            # The names of the released checkpoint count stages from 1.
            self.add_module(f"patch_embed{i + 1}", PatchEmbedding(widths[i], dim, kernel, stride))
            self.add_module(f"block{i + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{i + 1}", nn.LayerNorm(dim, eps=BLOCK_NORM_EPS))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps c1..c4 of frames ``x`` [n,4,h,w], each [n,c,h/s,w/s] with s = 4, 8, 16, 32."""
        maps: list[Tensor] = []
        for i in range(1, self.stages + 1):
            tokens, grid = self.get_submodule(f"patch_embed{i}")(x)
            blocks = self.get_submodule(f"block{i}")
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                tokens = block(tokens, grid)
            tokens = self.get_submodule(f"norm{i}")(tokens)
            x = tokens.transpose(1, 2).reshape(x.shape[0], -1, *grid)
            maps.append(x)
        return maps


def initialize(module: nn.Module) -> None:
    """Truncated-normal linears and fan-out normal convolutions, for training from scratch."""
    for m in module.modules():
        if isinstance(m, nn.Linear):
            nn.init.trunc_normal_(m.weight, std=0.02)
            nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Conv2d):
            fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels // m.groups
            torch.nn.init.normal_(m.weight, std=(2.0 / fan_out) ** 0.5)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
