"""MiDaS v2.1, large and small (Ranftl et al., TPAMI 2022), with the published state_dict names on timm encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor, nn

from nvds_core.predictors.building import build_quickly, check_picture
from nvds_core.predictors.fusion import FusionDecoder


class MidasNetwork(nn.Module):
    """Relative inverse depth of single pictures from a convolutional encoder of four stages and a fusion decoder."""

    UNUSED_PREFIXES = ("scratch.refinenet4.resConfUnit1.",)

    def __init__(self, encoder: Mapping[str, nn.Module], decoder: FusionDecoder) -> None:
        super().__init__()
        self.pretrained = nn.ModuleDict(encoder)
        self.scratch = decoder

    def forward(self, x: Tensor) -> Tensor:
        """Disparity up to scale and shift, near is large.

        Args:
            x: [b,3,h,w], RGB in 0..1 normalised by the mean and deviation of `nvds_core.preprocess`; h and w multiples
                of 32.

        Returns:
            [b,h,w], >= 0.

        Raises:
            ShapeError: for any other shape.
        """
        check_picture(x)
        maps = []
        for stage in self.pretrained.values():
            x = stage(x)
            maps.append(x)
        disparity: Tensor = self.scratch(maps)
        return disparity


def _large() -> MidasNetwork:
    net: Any = timm.create_model("resnext101_32x8d", num_classes=0)
    encoder = {
        "layer1": nn.Sequential(net.conv1, net.bn1, net.act1, net.maxpool, net.layer1),
        "layer2": net.layer2,
        "layer3": net.layer3,
        "layer4": net.layer4,
    }
    decoder = FusionDecoder(
        (256, 512, 1024, 2048), (256,) * 4, head=128, rectified_skip=True, projected=False, align_corners=False
    )
    return MidasNetwork(encoder, decoder)


def _small() -> MidasNetwork:
    net: Any = timm.create_model("tf_efficientnet_lite3", num_classes=0)
    # timm's bn1 holds the activation, which stood at index 2 of the published sequence
    encoder = {
        "layer1": nn.Sequential(net.conv_stem, net.bn1, nn.Identity(), *net.blocks[0:2]),
        "layer2": nn.Sequential(*net.blocks[2:3]),
        "layer3": nn.Sequential(*net.blocks[3:5]),
        "layer4": nn.Sequential(*net.blocks[5:7]),
    }
    decoder = FusionDecoder(
        (32, 48, 136, 384), (64, 128, 256, 512), head=32, rectified_skip=False, projected=True, align_corners=False
    )
    return MidasNetwork(encoder, decoder)


def midas_v21() -> MidasNetwork:
    """MiDaS v2.1 large (``midas_v21_384.pt``, 105 million parameters) with random weights."""
    return build_quickly(_large)


def midas_v21_small() -> MidasNetwork:
    """MiDaS v2.1 small (``midas_v21_small_256.pt``, 21 million parameters) with random weights."""
    return build_quickly(_small)
