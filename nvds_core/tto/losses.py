"""The two losses that fine-tune a network on a video: against the pseudo reference depth, and CVD's.

Both compare frames of a pair in one direction; training takes the mean of both directions. Terms are weighted means per
pair and then means over the batch. `sampling="published-loss"` repeats the released code, for comparisons with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nvds_core.flow.warp import pixel_grid
from nvds_core.geometry.rays import Sampling, project, sample, transform, unproject

# Of the distance between points, as in the released demo. The released default, 2.5, outweighs the reference eleven
# times per unit of depth: networks then become flat rather than right (`python -m benchmarks.tto --point-weight 2.5`).
POINT_WEIGHT = 0.03
DISPARITY_WEIGHT = 0.1  # CVD (Luo et al., SIGGRAPH 2020) with its mannequin network
SMALLEST_WEIGHT = 1e-6
SMALLEST_DEPTH = 1e-6


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Flow, masks and cameras of b pairs (i, j).

    Attributes:
        flow_ij, flow_ji: ``[b, 2, h, w]`` pixels, on the grids of i and of j.
        mask_ij, mask_ji: ``[b, h, w]``, bool or weights, on the same grids.
        intrinsics_i, intrinsics_j: ``[b, 4]``.
        cam_j_from_cam_i, cam_i_from_cam_j: ``[b, 3, 4]``.
    """

    flow_ij: Tensor
    flow_ji: Tensor
    mask_ij: Tensor
    mask_ji: Tensor
    intrinsics_i: Tensor
    intrinsics_j: Tensor
    cam_j_from_cam_i: Tensor
    cam_i_from_cam_j: Tensor

    def reversed(self) -> PairBatch:
        """The same pairs the other way round."""
        return replace(
            self,
            flow_ij=self.flow_ji,
            flow_ji=self.flow_ij,
            mask_ij=self.mask_ji,
            mask_ji=self.mask_ij,
            intrinsics_i=self.intrinsics_j,
            intrinsics_j=self.intrinsics_i,
            cam_j_from_cam_i=self.cam_i_from_cam_j,
            cam_i_from_cam_j=self.cam_j_from_cam_i,
        )


def weighted_mean(values_bhw: Tensor, weights_bhw: Tensor) -> Tensor:
    """``[b]``; 0 where all weights are 0. Values of weight 0 do not count, whatever they are."""
    weights = weights_bhw.to(values_bhw.dtype)
    values = torch.where(weights > 0, values_bhw, 0.0)
    return (weights * values).flatten(1).sum(dim=1) / weights.flatten(1).sum(dim=1).clamp_min(SMALLEST_WEIGHT)


def log_loss(
    depth_i: Tensor,
    reference_i: Tensor,
    weight_i: Tensor,
    *,
    depth_j: Tensor | None = None,
    flow_ij: Tensor | None = None,
) -> Tensor:
    """Mean over the batch of |log10(1 + reference) - log10(1 + depth)|.

    Its value depends on the unit of depth: divide by the median depth of the video first.

    Args:
        depth_i: ``[b, h, w]``, the network's.
        reference_i: ``[b, h, w]`` in the same unit.
        weight_i: ``[b, h, w]``, mask times confidence.
        depth_j, flow_ij: if given, the network's depth of j where the flow leads is compared instead, as the released
            code does, whose reference is a depth of j.
    """
    depth = depth_i
    if depth_j is not None and flow_ij is not None:
        place = pixel_grid(*flow_ij.shape[2:], like=flow_ij) + flow_ij
        depth = sample(depth_j.unsqueeze(1), place, sampling="published-loss")[:, 0]
    gap = (torch.log10(1 + reference_i) - torch.log10(1 + depth)).abs()
    return weighted_mean(gap, weight_i).mean()


def point_loss(depth_i: Tensor, depth_j: Tensor, pair: PairBatch, *, sampling: Sampling = "exact") -> Tensor:
    """Mean distance of the points of i from the points that j has where the flow leads, in the unit of depth."""
    matched, _ = _matched_points(depth_j, pair, sampling)
    own = transform(pair.cam_j_from_cam_i.to(depth_i.dtype), unproject(depth_i, pair.intrinsics_i))
    return weighted_mean(torch.linalg.vector_norm(own - matched, dim=1), pair.mask_ij).mean()


def cvd_loss(
    depth_i: Tensor,
    depth_j: Tensor,
    pair: PairBatch,
    *,
    focal: Tensor | float,
    disparity_weight: float = DISPARITY_WEIGHT,
    sampling: Sampling = "exact",
) -> tuple[Tensor, Tensor]:
    """CVD's spatial and disparity terms, the second already weighted.

    Args:
        focal: pixels, the mean focal length of the batch; it turns disparity into pixels.
    """
    matched, place = _matched_points(depth_j, pair, sampling)
    own = transform(pair.cam_j_from_cam_i.to(depth_i.dtype), unproject(depth_i, pair.intrinsics_i))
    landing, front = project(own, pair.intrinsics_j)
    weights = pair.mask_ij.to(depth_i.dtype) * front
    spatial = weighted_mean(torch.linalg.vector_norm(landing - place, dim=1), weights)
    z_own, z_matched = (points[:, 2].clamp_min(SMALLEST_DEPTH) for points in (own, matched))
    disparity = weighted_mean((1 / z_own - 1 / z_matched).abs(), weights)
    return spatial.mean(), disparity_weight * focal * disparity.mean()


def _matched_points(depth_j: Tensor, pair: PairBatch, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Points of j, in its axes, at the ends of the flow, and these places."""
    flow = pair.flow_ij.to(depth_j.dtype)
    place = pixel_grid(*flow.shape[2:], like=flow) + flow
    return sample(unproject(depth_j, pair.intrinsics_j), place, sampling=sampling), place
