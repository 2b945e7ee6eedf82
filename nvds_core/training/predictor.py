"""Training of `tiny`: single frames, affine-invariant loss with multi-scale gradients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from nvds_core.predictors.tiny import RGB_MEAN, RGB_STD
from nvds_core.training.augment import chance, photometric, zoom
from nvds_core.training.loop import StepFunction
from nvds_core.training.losses import spatial_loss


def predictor_input(rgb: Tensor) -> Tensor:
    """Normalise RGB [n,3,h,w] in 0..1 for `tiny`."""
    mean = torch.tensor(RGB_MEAN, device=rgb.device).view(1, 3, 1, 1)
    std = torch.tensor(RGB_STD, device=rgb.device).view(1, 3, 1, 1)
    return ((rgb - mean) / std).contiguous(memory_format=torch.channels_last)


def predictor_step(data: dict[str, np.ndarray], batch: int, device: torch.device) -> StepFunction:
    """A step on ``batch`` frames drawn from a rendered set (`open_set`), one frame of each drawn scene."""
    scenes, frames = data["rgb"].shape[:2]

    def step(model: nn.Module, g: torch.Generator) -> dict[str, Tensor]:
        picks = torch.randint(scenes * frames, (batch,), generator=g)
        scene, frame = (picks // frames).numpy(), (picks % frames).numpy()
        rgb = torch.from_numpy(data["rgb"][scene, frame]).to(device).permute(0, 3, 1, 2).float() / 255
        truth = torch.from_numpy(data["disparity"][scene, frame]).to(device).float()[:, None]
        rgb, truth = zoom([rgb, truth], g)
        upside = chance(g, batch, 0.02).to(device).view(-1, 1, 1, 1)  # a little, so that height is no proof of depth
        rgb, truth = (torch.where(upside, m.flip(2), m) for m in (rgb, truth))
        rgb = photometric(rgb[:, None], g)[:, 0]
        disparity = model(predictor_input(rgb)).float()
        return {"spatial": spatial_loss(disparity[:, None], truth)}

    return step
