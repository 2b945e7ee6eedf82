"""What fine-tuning reads of a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nvds_core.geometry.camera import relative_pose
from nvds_core.tto.alignment import Alignment, align_disparity, thin_out
from nvds_core.tto.losses import PairBatch
from nvds_core.types import ConfigError, ShapeError

FIT_POINTS = 200_000


@dataclass(frozen=True, eq=False)
class TuneVideo:
    """One video of n frames, read piece by piece: nothing below is held in memory by this class.

    Attributes:
        n: number of frames.
        frame: of a position, float32 ``[3, h, w]``, ready for the network.
        pair: of two positions (i, j), flow ``[2, h, w]`` in pixels and the mask ``[h, w]`` of where it counts, both on
            the grid of i.
        reference: of a position, depth ``[h, w]`` in the unit of the poses and its weight ``[h, w]`` (confidence, 0
            where there is none).
        pairs: the pairs to train on, (earlier, later); see `training_pairs` and `unordered`.
        intrinsics: float64 ``[n, 4]`` in pixels of the frames.
        cam_from_world: float64 ``[n, 3, 4]``, OpenCV axes.
    """

    n: int
    frame: Callable[[int], Tensor]
    pair: Callable[[int, int], tuple[Tensor, Tensor]]
    reference: Callable[[int], tuple[Tensor, Tensor]]
    pairs: tuple[tuple[int, int], ...]
    intrinsics: NDArray[np.float64]
    cam_from_world: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.intrinsics.shape != (self.n, 4) or self.cam_from_world.shape != (self.n, 3, 4):
            raise ShapeError(
                f"{self.n} frames need intrinsics [n, 4] and poses [n, 3, 4], got {self.intrinsics.shape} "
                f"and {self.cam_from_world.shape}"
            )
        wrong = [pair for pair in self.pairs if not 0 <= pair[0] < pair[1] < self.n]
        if wrong or not self.pairs:
            raise ConfigError(f"pairs must be (earlier, later) positions in 0..{self.n - 1}, at least one; {wrong[:3]}")

    def frames(self, positions: list[int], device: torch.device) -> Tensor:
        """``[b, 3, h, w]``."""
        return torch.stack([self.frame(position) for position in positions]).to(device)

    def references(self, positions: list[int], unit: float, device: torch.device) -> tuple[Tensor, Tensor]:
        """Depth in `unit` and weight, ``[b, h, w]``."""
        found = [self.reference(position) for position in positions]
        depth = torch.stack([depth for depth, _ in found]).to(device, torch.float32) / unit
        return depth, torch.stack([weight for _, weight in found]).to(device, torch.float32)

    def pair_batch(self, pairs: list[tuple[int, int]], unit: float, device: torch.device) -> PairBatch:
        """Both directions of some pairs, lengths in `unit`."""
        there, back = [self.pair(i, j) for i, j in pairs], [self.pair(j, i) for i, j in pairs]
        flow_ij, mask_ij, flow_ji, mask_ji = (
            torch.stack([found[k] for found in way]).to(device) for way in (there, back) for k in (0, 1)
        )
        first, second = (list(side) for side in zip(*pairs, strict=True))
        poses = []
        for i, j in ((first, second), (second, first)):
            pose = relative_pose(self.cam_from_world[i], self.cam_from_world[j])
            pose[:, :, 3] /= unit
            poses.append(torch.from_numpy(pose).to(device, torch.float32))
        lens_i, lens_j = (torch.from_numpy(self.intrinsics[k]).to(device, torch.float32) for k in (first, second))
        return PairBatch(flow_ij, flow_ji, mask_ij, mask_ji, lens_i, lens_j, poses[0], poses[1])


@torch.inference_mode()
def disparities(network: nn.Module, video: TuneVideo, *, batch: int, device: torch.device) -> Iterator[Tensor]:
    """The network's disparity of each frame, ``[h, w]`` float32 on the CPU, in evaluation mode."""
    network.eval()
    for start in range(0, video.n, batch):
        positions = list(range(start, min(start + batch, video.n)))
        yield from network(video.frames(positions, device)).float().cpu()


def align_network(
    network: nn.Module, video: TuneVideo, *, batch: int = 4, device: torch.device | str = "cpu"
) -> Alignment:
    """Fit the network's disparity to the references of a video, on at most 200,000 of their pixels.

    Raises:
        CoreError: (reason ``no_parallax``) the references have fewer than 20 pixels there.
    """
    points: list[list[NDArray[np.float64]]] = []
    for position, disparity in enumerate(disparities(network, video, batch=batch, device=torch.device(device))):
        step = max(1, int(np.sqrt(video.n * disparity.numel() / FIT_POINTS)))
        points.append(thin_out([disparity, *video.reference(position)], step))
    disparity_n, depth_n, weight_n = (np.concatenate(column) for column in zip(*points, strict=True))
    return align_disparity(disparity_n, depth_n, weight_n)
