"""The NVDS stabilisation network (Wang et al., "Neural Video Depth Stabilizer", ICCV 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvds_core.stabilization.attention import FocalBlock, OwnTokens
from nvds_core.stabilization.backbone import MIT_B0, MIT_B5, EncoderConfig, MixTransformer, initialize
from nvds_core.stabilization.decoder import FeatureFusion, FrameFusion, OutputHead, TokenProjection
from nvds_core.stabilization.windows import WindowGrid, window_grid
from nvds_core.types import ShapeError

REFERENCES = 3  # reference frames of a window; the fourth frame is the target
RGB_MEAN = (0.485, 0.456, 0.406)  # statistics of the released network's RGB input
RGB_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class NvdsConfig:
    """Sizes of the network; the defaults are the released configuration.

    ``head_channels`` are the outputs of the three fusion modules; the detail branch must match them:
    its half-resolution map has as many channels as the first, its full-resolution map as the second.
    """

    encoder: EncoderConfig = MIT_B5
    dim: int = 256
    attention_heads: int = 8
    blocks: int = 4
    head_channels: tuple[int, int, int] = (128, 64, 32)


NVDS = NvdsConfig()
NVDS_TINY = NvdsConfig(encoder=MIT_B0, dim=64, attention_heads=2, head_channels=(48, 24, 12))


class FocalDecoder(nn.Module):
    """The chain of cross-attention blocks."""

    def __init__(self, config: NvdsConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([FocalBlock(config.dim, config.attention_heads) for _ in range(config.blocks)])


class StabilizerHead(FrameFusion):
    """Fusion, cross-attention and output head; named ``Stabilizer`` in the released checkpoint."""

    def __init__(self, config: NvdsConfig) -> None:
        super().__init__()
        for i, channels in enumerate(config.encoder.channels, start=1):
            self.add_module(f"linear_c{i}", TokenProjection(channels, config.dim))
        self.linear_fuse = nn.Sequential(nn.Conv2d(4 * config.dim, config.dim, 1, bias=False), nn.ReLU())
        self.decoder_focal = FocalDecoder(config)
        first, second, third = config.head_channels
        self.ffm2 = FeatureFusion(config.dim, first, upsample=True)
        self.ffm1 = FeatureFusion(first, second, upsample=True)
        self.ffm0 = FeatureFusion(second, third, upsample=False)
        self.AO = OutputHead(third)


@dataclass(frozen=True)
class TargetDetail:
    """What the head needs of the target frame and nothing else: the same for both directions."""

    coarse: Tensor  # ffm2.ftb1 of the fused map, [n, dim, h/4, w/4]
    half: Tensor  # ffm1.ftb1 of the half-resolution edges
    full: Tensor  # ffm0.ftb1 of the full-resolution edges


class NvdsNetwork(nn.Module):
    """Stabilises the last of four frames.

    `forward` is the published form. `encode`, `detail` and `decode` are its parts, so that a caller that
    slides over a video can encode each frame once.
    """

    UNUSED_PREFIXES = ("Stabilizer.conv_seg.",)

    def __init__(self, config: NvdsConfig = NVDS) -> None:
        super().__init__()
        self.config = config
        first, second, _ = config.head_channels
        self.backbone = MixTransformer(config.encoder)
        self.Stabilizer = StabilizerHead(config)
        self.edge_conv = nn.Sequential(nn.Conv2d(3, second, 3, 1, 1), nn.ReLU())
        self.edge_conv1 = nn.Sequential(nn.Conv2d(second, first, 3, 2, 1), nn.ReLU())

    def encode(self, frames: Tensor) -> Tensor:
        """Fused features of single frames: [n,4,h,w] (normalised RGB, disparity 0..1) -> [n, h/4, w/4, dim]."""
        check_frame_size(frames)
        maps = self.backbone(frames)
        with self._full_precision(frames):
            return self.Stabilizer.fuse([self._full(m) for m in maps]).permute(0, 2, 3, 1)

    def detail(self, fused: Tensor, rgb: Tensor) -> TargetDetail:
        """Per-target parts of the head from ``fused`` [n,h/4,w/4,dim] and normalised ``rgb`` [n,3,h,w]."""
        head = self.Stabilizer
        full = self.edge_conv(rgb.contiguous(memory_format=torch.channels_last))  # as all other maps of the head
        half = self.edge_conv1(full)
        coarse = fused.permute(0, 3, 1, 2)
        return TargetDetail(head.ffm2.ftb1(coarse), head.ffm1.ftb1(half), head.ffm0.ftb1(full))

    def reference_keys(self, frame: Tensor, role: int) -> list[Tensor]:
        """What each block sees of a reference frame [n, h/4, w/4, dim] in a role (0 = oldest), whatever the target."""
        return [block.reference_keys(frame, role) for block in self._blocks()]

    def own_tokens(self, target: Tensor) -> OwnTokens:
        """What the first block sees of the target [n, h/4, w/4, dim] itself, whatever the references."""
        grid = _grid_of(target)
        return self._blocks()[0].own_tokens(grid.split(target), grid)

    def attend(self, target: Tensor, keys: Iterable[Sequence[Tensor]], own: OwnTokens | None = None) -> Tensor:
        """Pass the target map [n, h/4, w/4, dim] through all blocks.

        Args:
            target: fused features.
            keys: for each block the three reference keys, oldest first.
            own: `own_tokens` of the target, if the caller has them.
        """
        grid = _grid_of(target)
        windows = grid.split(target)
        for block, references in zip(self._blocks(), keys, strict=True):
            windows = block(windows, references, grid, own)
            own = None
        return grid.join(windows)

    def decode(self, target: Tensor, references: list[Tensor], detail: TargetDetail) -> Tensor:
        """Disparity of the target frame from the features of its window, [n,1,h,w], >= 0, up to scale."""
        return F.relu(self.decode_linear(target, references, detail))

    def decode_linear(self, target: Tensor, references: list[Tensor], detail: TargetDetail) -> Tensor:
        """`decode` before its last ReLU; for training, because a ReLU that is zero everywhere never learns again."""
        keys = (
            [block.reference_keys(frame, role) for role, frame in enumerate(references)] for block in self._blocks()
        )
        return self.finish(self.attend(target, keys), detail)

    def finish(self, attended: Tensor, detail: TargetDetail) -> Tensor:
        """The head: disparity before the last ReLU, [n,1,h,w], from the attended map [n, h/4, w/4, dim]."""
        head = self.Stabilizer
        coarse, half, full, x = map(self._full, (detail.coarse, detail.half, detail.full, attended))
        with self._full_precision(x):
            x = head.ffm2(coarse, x.permute(0, 3, 1, 2), (half.shape[2], half.shape[3]))
            x = head.ffm1(half, x, (full.shape[2], full.shape[3]))
            x = head.ffm0(full, x, (full.shape[2], full.shape[3]))
            return head.AO(x)

    def _full_precision(self, like: Tensor) -> AbstractContextManager[object]:
        """No autocast in inference: fusion and head decide how steady the result is, and are a small part of the work.

        With them in bfloat16, OPW of a nearly still film rose by a sixth (`python -m benchmarks.stabilizer --opw`).
        """
        return nullcontext() if torch.is_grad_enabled() else torch.autocast(like.device.type, enabled=False)

    def _full(self, x: Tensor) -> Tensor:
        return x if torch.is_grad_enabled() else x.to(next(self.edge_conv.parameters()).dtype)

    def _blocks(self) -> list[FocalBlock]:
        return [block for block in self.Stabilizer.decoder_focal.blocks if isinstance(block, FocalBlock)]

    def forward(self, window: Tensor) -> Tensor:
        """Stabilise the target of each window.

        Args:
            window: [n,4,4,h,w]; four frames, oldest first, the last is the target; channels are RGB normalised
                with `RGB_MEAN`, `RGB_STD` and the disparity scaled to 0..1 per frame. h and w are multiples of 4.

        Returns:
            Disparity of the target up to scale, [n,1,h,w], >= 0.

        Raises:
            ShapeError: for any other shape.
        """
        if window.ndim != 5 or window.shape[1:3] != (REFERENCES + 1, 4):
            raise ShapeError(f"a window is [n,4,4,h,w] (four RGB-D frames, the target last), got {tuple(window.shape)}")
        n = window.shape[0]
        fused = self.encode(window.flatten(0, 1))
        fused = fused.view(n, REFERENCES + 1, *fused.shape[1:])
        target = fused[:, REFERENCES]
        detail = self.detail(target, window[:, REFERENCES, :3])
        return self.decode(target, [fused[:, i] for i in range(REFERENCES)], detail)


def nvds() -> NvdsNetwork:
    """The released configuration with random weights."""
    model = NvdsNetwork(NVDS)
    initialize(model)
    return model


def nvds_tiny() -> NvdsNetwork:
    """The small configuration with random weights."""
    model = NvdsNetwork(NVDS_TINY)
    initialize(model)
    return model


def _grid_of(fused: Tensor) -> WindowGrid:
    return window_grid(fused.shape[1], fused.shape[2], fused.device)


def check_frame_size(frames: Tensor) -> None:
    """Raise ShapeError unless ``frames`` is [n,4,h,w] with h and w multiples of 4 of at least 32."""
    if frames.ndim != 4 or frames.shape[1] != 4:
        raise ShapeError(f"frames are [n,4,h,w] (RGB and disparity), got {tuple(frames.shape)}")
    h, w = frames.shape[2:]
    if h % 4 or w % 4 or min(h, w) < 32:
        raise ShapeError(f"height and width must be multiples of 4 and at least 32, got {h}x{w}; resize the frames")


def normalize_rgb(rgb: Tensor) -> Tensor:
    """RGB [...,3,h,w] in 0..1 to the network's statistics."""
    mean = torch.tensor(RGB_MEAN, dtype=rgb.dtype, device=rgb.device).view(3, 1, 1)
    std = torch.tensor(RGB_STD, dtype=rgb.dtype, device=rgb.device).view(3, 1, 1)
    return (rgb - mean) / std
