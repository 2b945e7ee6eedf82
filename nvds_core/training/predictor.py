"""Training of `tiny`: single frames, affine-invariant loss with multi-scale gradients."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvds_core.predictors.tiny import RGB_MEAN, RGB_STD
from nvds_core.training.augment import chance, photometric, zoom
from nvds_core.training.loop import StepFunction
from nvds_core.training.losses import spatial_loss

SMALL_SHARE = 0.5  # of the steps run at half resolution


def predictor_input(rgb: Tensor) -> Tensor:
    """Normalise RGB [n,3,h,w] in 0..1 for `tiny`."""
    mean = torch.tensor(RGB_MEAN, device=rgb.device).view(1, 3, 1, 1)
    std = torch.tensor(RGB_STD, device=rgb.device).view(1, 3, 1, 1)
    return ((rgb - mean) / std).contiguous(memory_format=torch.channels_last)


def predictor_step(data: dict[str, np.ndarray], batch: int, device: torch.device) -> StepFunction:
    """A step on ``batch`` frames of a rendered set (`open_set`), or on twice as many at half the resolution.

    The small ones cost half as much and teach the coarse layout; both scales make the network less particular about
    the size it is run at.
    """
    scenes, frames = data["rgb"].shape[:2]

    def step(model: nn.Module, g: torch.Generator, progress: float) -> dict[str, Tensor]:
        small = bool(chance(g, 1, SMALL_SHARE))
        count = 2 * batch if small else batch
        picks = torch.randint(scenes * frames, (count,), generator=g)
        scene, frame = (picks // frames).numpy(), (picks % frames).numpy()
        rgb = torch.from_numpy(data["rgb"][scene, frame]).to(device).permute(0, 3, 1, 2).float() / 255
        truth = torch.from_numpy(data["disparity"][scene, frame]).to(device).float()[:, None]
        if small:
            rgb, truth = F.avg_pool2d(rgb, 2), F.avg_pool2d(truth, 2)
        rgb, truth = zoom([rgb, truth], g)
        rgb = photometric(rgb[:, None], g)[:, 0]
        disparity = model(predictor_input(rgb)).float()
        return {"spatial": spatial_loss(disparity[:, None], truth)}

    return step
