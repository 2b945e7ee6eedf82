"""Small exact clips for the tests of training: a picture that slides by whole pixels."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

STEP = 2  # pixels per frame, to the right


def sliding_disparity(clips: int = 2, frames: int = 4, height: int = 24, width: int = 32, seed: int = 0) -> Tensor:
    """Disparity [clips,frames,height,width] of a smooth random picture that moves right by `STEP` pixels per frame."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand((clips, 1, height // 4, (width + STEP * frames) // 4 + 1), generator=g)
    wide = F.interpolate(coarse, (height, width + STEP * frames), mode="bilinear", align_corners=False)[:, 0] + 0.5
    return torch.stack([wide[:, :, STEP * (frames - i) :][..., :width] for i in range(frames)], dim=1)


def sliding_set(clips: int = 3, frames: int = 5, height: int = 64, width: int = 64) -> dict[str, np.ndarray]:
    """A training set like `open_set` gives, made of sliding pictures with their exact flow and visibility."""
    disparity = sliding_disparity(clips, frames, height, width)
    noise = torch.rand((clips, frames, height, width, 3), generator=torch.Generator().manual_seed(9)) * 40
    rgb = (disparity[..., None] * 140 + noise).clamp(0, 255).to(torch.uint8)
    pairs = (clips, frames - 1)
    flow = np.zeros((*pairs, 2, height, width), np.float16)
    flow[:, :, 0] = STEP
    visible = np.ones((*pairs, height, width), bool)
    seen_before, seen_after = visible.copy(), visible.copy()
    seen_before[..., :STEP] = False  # came in at the left
    seen_after[..., width - STEP :] = False  # leaves at the right
    return {
        "rgb": rgb.numpy(),
        "disparity": disparity.numpy().astype(np.float16),
        "flow_to_previous": -flow,
        "visible_previous": seen_before,
        "flow_to_next": flow,
        "visible_next": seen_after,
    }
