"""What several tests of the optimisation share: golden cases, and still scenes with exact flow and poses."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from nvds_core.geometry.camera import flip_opengl, invert_pose, nearest_rotation, relative_pose
from nvds_core.synthetic.still import ExactVideo, still_scene

GOLDEN_CASES = ("exact_lateral", "noisy_lateral", "exact_forward", "rotation_pair")
MOTIONS = ("sideways", "diagonal", "forward")


class GoldenCase:
    """Arrays of one golden case in this project's names and layout; skips where only a copy without it is there."""

    def __init__(self, arrays: Mapping[str, np.ndarray], name: str) -> None:
        self.arrays = {key.split("/")[1]: value for key, value in arrays.items() if key.split("/")[0] == name}
        if not self.arrays:
            pytest.skip(f"{name} is not in the reduced golden data")
        self.pairs = [tuple(pair) for pair in self["dpairs"].tolist()]
        self.i, self.j = np.array(self.pairs).T
        self.number = {pair: k for k, pair in enumerate(self.pairs)}
        self.flow = torch.from_numpy(self["flow"]).permute(0, 3, 1, 2).contiguous()
        self.flow_back = self.flow[[self.number[j, i] for i, j in self.pairs]]
        world_from_cam = self["extrinsics"].astype(np.float64)
        world_from_cam[..., :3] = nearest_rotation(world_from_cam[..., :3])
        self.cam_from_world = invert_pose(flip_opengl(world_from_cam))
        self.intrinsics = torch.from_numpy(self["intrinsics"]).double()
        self.options = dict(
            zip(
                ("baseline_min", "w3", "eps", "eps2", "gdt", "max_depth", "ctm", "lambda_b", "lambda_r"),
                self["options"].tolist(),
                strict=True,
            )
        )

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def cameras(self, i: np.ndarray, j: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Intrinsics of both frames and cam_j_from_cam_i of pairs."""
        pose = relative_pose(self.cam_from_world[i], self.cam_from_world[j])
        return self.intrinsics[i], self.intrinsics[j], torch.from_numpy(pose)


@cache
def still_video(seed: int, motion: str) -> ExactVideo:
    return ExactVideo(still_scene(seed, motion, frames=5, size=(96, 72)))


def cameras(video: ExactVideo, i: int, j: int) -> tuple[Tensor, Tensor, Tensor]:
    """Intrinsics of both frames and cam_j_from_cam_i, as batches of one."""
    lens = torch.from_numpy(video.scene.intrinsics)
    return lens[i : i + 1], lens[j : j + 1], torch.from_numpy(video.relative_pose(i, j))[None]
