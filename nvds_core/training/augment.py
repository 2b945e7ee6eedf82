"""Random changes of training batches; every draw comes from the step's generator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def uniform(g: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Uniform draws of the given shape."""
    return torch.rand(shape, generator=g) * (high - low) + low


def chance(g: torch.Generator, n: int, probability: float) -> Tensor:
    """Bool [n], true with the given probability."""
    return torch.rand(n, generator=g) < probability


def photometric(rgb: Tensor, g: torch.Generator) -> Tensor:
    """Change colours of clips [b,t,3,h,w] in 0..1: the same change for all frames of a clip, noise per frame."""
    b = rgb.shape[0]
    device = rgb.device
    one = (b, 1, 1, 1, 1)
    rgb = rgb.clamp(1e-3, 1) ** uniform(g, one, 0.65, 1.5).to(device)
    rgb = rgb * uniform(g, (b, 1, 3, 1, 1), 0.8, 1.2).to(device)
    grey = rgb.mean(dim=2, keepdim=True)
    colour = torch.where(chance(g, b, 0.1).view(one), torch.zeros(one), uniform(g, one, 0.4, 1.3)).to(device)
    rgb = grey + (rgb - grey) * colour
    mean = rgb.mean(dim=(1, 2, 3, 4), keepdim=True)
    rgb = (mean + (rgb - mean) * uniform(g, one, 0.7, 1.3).to(device) + uniform(g, one, -0.1, 0.1).to(device)).clamp(
        0, 1
    )
    blurred = blur(rgb.flatten(0, 1)).view_as(rgb)
    amount = torch.where(chance(g, b, 0.35).view(one), uniform(g, one, 0.3, 1.0), torch.zeros(one)).to(device)
    rgb = rgb + (blurred - rgb) * amount
    sigma = torch.where(chance(g, b, 0.5).view(one), uniform(g, one, 0.0, 0.03), torch.zeros(one)).to(device)
    return (rgb + sigma * torch.randn(rgb.shape, generator=g).to(device)).clamp(0, 1)


def blur(x: Tensor) -> Tensor:
    """Halve and double the resolution of [n,c,h,w]."""
    h, w = x.shape[2:]
    return F.interpolate(F.avg_pool2d(x, 2), (h, w), mode="bilinear", align_corners=False)


def zoom(maps: list[Tensor], g: torch.Generator) -> list[Tensor]:
    """Cut the same random part, perhaps mirrored or rolled, out of maps [n,c,h,w] and enlarge it to full size."""
    n = maps[0].shape[0]
    h, w = maps[0].shape[2:]
    aspect = uniform(g, (n,), 0.88, 1.14)
    size = uniform(g, (n,), 0.6, 1.0)
    sx, sy = (size * aspect).clamp(max=1.0), (size / aspect).clamp(max=1.0)
    cx, cy = (1 - sx) * uniform(g, (n,), -1, 1), (1 - sy) * uniform(g, (n,), -1, 1)
    mirror = torch.where(chance(g, n, 0.5), -1.0, 1.0)
    angle = torch.where(chance(g, n, 0.3), uniform(g, (n,), -0.12, 0.12), torch.zeros(n))
    cos, sin, ratio = angle.cos(), angle.sin(), h / w
    theta = torch.stack(
        [
            torch.stack([sx * mirror * cos, -sx * sin * ratio, cx], dim=1),
            torch.stack([sy * mirror * sin / ratio, sy * cos, cy], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [n, 1, h, w], align_corners=False).to(maps[0].device)
    return [F.grid_sample(m, grid, mode="bilinear", padding_mode="reflection", align_corners=False) for m in maps]


def smooth_field(g: torch.Generator, n: int, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Random fields [n,h,w] of unit variance at the grid points, interpolated bilinearly."""
    noise = torch.randn((n, 1, *grid), generator=g)
    return F.interpolate(noise, size, mode="bilinear", align_corners=False)[:, 0]


def flicker(disparity: Tensor, g: torch.Generator) -> Tensor:
    """Disturb disparity clips [b,t,h,w] (scaled to about 0..1) like a single-image predictor: every frame differently.

    Smooth fields at several scales, a change of the curve, a loss of detail and fine noise; part of the disturbance
    is common to all frames of a clip, because predictors also err consistently.
    """
    b, t, h, w = disparity.shape
    device = disparity.device
    common = torch.zeros(b, t, h, w)
    for grid, top in (((3, 4), 0.15), ((8, 12), 0.08), ((h // 4, w // 4), 0.03)):
        own = smooth_field(g, b * t, grid, (h, w)).view(b, t, h, w)
        shared = smooth_field(g, b, grid, (h, w)).view(b, 1, h, w)
        strength = uniform(g, (b, 1, 1, 1), 0.0, top)
        common = common + strength * (own + 0.5 * shared)
    curve = 1 + uniform(g, (b, 1, 1, 1), -0.3, 0.3) + 0.1 * torch.randn((b, t, 1, 1), generator=g)
    bent = disparity.clamp_min(1e-4) ** curve.clamp(0.5, 1.8).to(device)
    soft = blur(blur(bent))
    share = uniform(g, (b, 1, 1, 1), 0.0, 1.0).to(device)
    return bent + (soft - bent) * share + common.to(device)


def unit_range(disparity: Tensor) -> Tensor:
    """Min-max scale every frame [..., h, w] to 0..1, as the stabiliser's input is."""
    low = disparity.amin(dim=(-2, -1), keepdim=True)
    high = disparity.amax(dim=(-2, -1), keepdim=True)
    return (disparity - low) / (high - low).clamp_min(1e-6)
