"""The released formula of the pseudo reference depth, for comparison only.

libingzeng/video_depth (MIT), as it behaves. Two properties make it worse than `nvds_core.tto.reference`: the viewing
ray of a match is interpolated from depth-weighted points and half a pixel off, and the depth it gives belongs to the
OTHER camera, so that the median over pairs mixes depths of different cameras.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvds_core.flow.warp import pixel_grid
from nvds_core.geometry.rays import rays, sample, transform, unproject
from nvds_core.types import ShapeError

LARGEST_DEPTH = 1e3  # what near-parallel rays are given; they pass as valid
NEAREST_DEPTH = 2e-6


def published_reference(
    flow: Tensor, lens_i: Tensor, lens_j: Tensor, pose: Tensor, depth_j: Tensor, *, sin2_min: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Depth in camera j on the grid of i, its validity, and sin^2 of the angle of the two rays.

    Args: as `nvds_core.tto.pseudo_reference` takes them, cameras in float64; ``depth_j`` is ``[b, h, w]``, the
        network's depth of frame j.

    Raises:
        ShapeError: depth_j is not of the flow's size.
    """
    if depth_j.shape != flow[:, 0].shape:
        raise ShapeError(f"depth_j {tuple(depth_j.shape)} does not fit the flow {tuple(flow.shape)}")
    height, width = flow.shape[2:]
    match = pixel_grid(height, width, like=lens_i) + flow
    turn, shift = pose[:, :, :3], pose[:, :, 3]
    i_from_j = torch.cat([turn.mT, -turn.mT @ shift[..., None]], dim=2)
    centre = i_from_j[:, :, 3].view(-1, 3, 1, 1).expand(-1, 3, height, width)  # of camera j, in axes of i

    seen_j = sample(unproject(depth_j.double(), lens_j), match, sampling="published-loss")
    seen_i = transform(i_from_j, seen_j)
    flat = seen_i / seen_i[:, 2:]
    ray_j = torch.nn.functional.normalize(seen_i - centre, dim=1, eps=0)
    normal = torch.linalg.cross(ray_j, centre, dim=1)
    line = torch.stack((-normal[:, 1], normal[:, 0], torch.zeros_like(normal[:, 0])), dim=1)
    line = torch.nn.functional.normalize(line, dim=1)
    own = rays(lens_i, height, width)
    foot = flat + ((own - flat) * line).sum(dim=1, keepdim=True) * line
    ray_i = torch.nn.functional.normalize(foot, dim=1)

    cosine, along_i, along_j = ((a * b).sum(dim=1) for a, b in ((ray_i, ray_j), (ray_i, centre), (ray_j, centre)))
    sin2 = 1 - cosine.square()
    parallel = sin2.abs() <= sin2_min
    reach_i = (along_i - cosine * along_j) / sin2
    reach_j = cosine * reach_i - along_j
    reach_i, reach_j = (reach.masked_fill(parallel, LARGEST_DEPTH) for reach in (reach_i, reach_j))
    axis = turn[:, 2].view(-1, 3, 1, 1)  # the optical axis of j, in axes of i
    depth = (reach_j * (ray_j * axis).sum(dim=1)).abs().clamp_min(NEAREST_DEPTH)
    valid = (reach_i > NEAREST_DEPTH) & (reach_j > NEAREST_DEPTH)
    wanted = torch.float64 if flow.dtype == torch.float64 else torch.float32
    return depth.to(wanted), valid, sin2.to(wanted)
