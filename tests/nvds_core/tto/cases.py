"""What several tests of the optimisation share: golden cases, and still scenes with exact flow and poses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from torch import Tensor

from nvds_core.geometry.camera import flip_opengl, invert_pose, nearest_rotation, relative_pose
from nvds_core.synthetic import Scene, make_scene
from nvds_core.synthetic.flow import flow_between
from nvds_core.synthetic.geometry import Surfaces, visible_surfaces

GOLDEN_CASES = ("exact_lateral", "noisy_lateral", "exact_forward", "rotation_pair")
MOTIONS = {"sideways": (0.08, 0.0, 0.0), "diagonal": (0.05, 0.03, 0.05), "forward": (0.0, 0.0, 0.09)}


class GoldenCase:
    """Arrays of one golden case as this project names and lays them out."""

    def __init__(self, arrays: Mapping[str, np.ndarray], name: str) -> None:
        self.arrays = {key.split("/")[1]: value for key, value in arrays.items() if key.split("/")[0] == name}
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


def still_scene(seed: int, motion: str, *, frames: int, size: tuple[int, int]) -> Scene:
    """A synthetic room in which nothing moves but the camera, straight and with a slight turn."""
    scene = make_scene(seed, frames=frames, size=size, kind="room").without_imaging()
    steps = np.arange(frames)[:, None] * np.array(MOTIONS[motion])
    first = scene.cam_from_world[0]
    angle = 0.01 * np.arange(frames) * (motion != "forward")
    turn = np.eye(3) + np.zeros((frames, 3, 3))
    turn[:, 0, 0], turn[:, 0, 2], turn[:, 2, 0], turn[:, 2, 2] = (
        np.cos(angle),
        np.sin(angle),
        -np.sin(angle),
        np.cos(angle),
    )
    poses = np.concatenate([turn @ first[:, :3], turn @ (first[:, 3:] - steps[..., None])], axis=2)
    still = tuple(dataclasses.replace(solid, world_from_object=solid.world_from_object[:1]) for solid in scene.solids)
    lens = np.repeat(scene.intrinsics[:1], frames, axis=0)
    return dataclasses.replace(scene, solids=still, cam_from_world=poses, intrinsics=lens)


class StillVideo:
    """Depth, and exact flow between any two frames, of a still scene."""

    def __init__(self, seed: int, motion: str, *, frames: int = 5, size: tuple[int, int] = (96, 72)) -> None:
        self.scene = still_scene(seed, motion, frames=frames, size=size)
        self.surfaces: list[Surfaces] = [visible_surfaces(self.scene, frame) for frame in range(frames)]
        self.depth = np.stack([surfaces.depth_map for surfaces in self.surfaces])

    def flow(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Flow [2, h, w] from i to j and what of i is hidden in j."""
        return flow_between(self.scene, i, j, self.surfaces[i], self.surfaces[j])

    def cameras(self, i: int, j: int) -> tuple[Tensor, Tensor, Tensor]:
        lens = torch.from_numpy(self.scene.intrinsics)
        pose = relative_pose(self.scene.cam_from_world[i], self.scene.cam_from_world[j])
        return lens[i : i + 1], lens[j : j + 1], torch.from_numpy(pose)[None]


@cache
def still_video(seed: int, motion: str) -> StillVideo:
    return StillVideo(seed, motion)
