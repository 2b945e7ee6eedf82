"""Videos with poses and true depth for the figures of the test-time optimisation, with their flow and references."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.poses import COLOUR_FOCAL, SCENE, scene_frames
from benchmarks.poses import SIZE as SOURCE_SIZE
from nvds_core import tto
from nvds_core.flow import create_flow
from nvds_core.geometry.camera import relative_pose, scale_intrinsics
from nvds_core.geometry.poses import read_poses, resize_camera
from nvds_core.predictors.tiny import RGB_MEAN, RGB_STD
from nvds_core.synthetic import render, render_frame
from nvds_core.synthetic.still import still_scene
from nvds_core.types import Camera
from nvds_core.video.folders import read_picture

COLOUR_LENS = (COLOUR_FOCAL, COLOUR_FOCAL, (SOURCE_SIZE[0] - 1) / 2, (SOURCE_SIZE[1] - 1) / 2)
DEPTH_LENS = (585.0, 585.0, 320.0, 240.0)  # of the camera that the file beside the frames belongs to
SIN2_MIN, OFFLINE_MAX = 1e-3, 2.0  # what flow from pictures needs; the defaults of `nvds tto`
Pair = tuple[int, int]
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Footage:
    """A video with poses and true depth, at the working size; depth is 0 where unknown."""

    name: str
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    cam_from_world: NDArray[np.float64]


def synthetic_footage(seed: int, motion: str, frames: int, size: Size) -> Footage:
    near = float(np.median(render_frame(still_scene(seed, motion, frames=1, size=size), 0).depth))
    scene = still_scene(seed, motion, frames=frames, size=size, speed=0.25 * near)  # a few pixels per frame
    clip = render(scene, flow=False)
    return Footage(f"synthetic-{motion}", clip.rgb, clip.depth, clip.intrinsics, clip.cam_from_world)


def rgbd_footage(count: int, size: Size, cameras: dict[str, Camera] | None = None) -> Footage:
    """The first frames of `scene_frames`, colour and depth brought to one camera; with other poses than the data set's
    only the frames that have one."""
    paths = scene_frames()[:count]
    cameras = cameras or given_cameras(paths)
    paths = [path for path in paths if path.name in cameras]
    rgb, depth = [], []
    for path in paths:
        rgb.append(cv2.resize(read_picture(path), size, interpolation=cv2.INTER_AREA))
        stored = path.with_name(path.name.replace(".color.jpg", ".depth.png"))
        depth.append(splat(np.asarray(cv2.imread(str(stored), cv2.IMREAD_UNCHANGED), np.uint16), size))
    resized = [resize_camera(cameras[path.name], size) for path in paths]
    lens, poses = (np.array([getattr(camera, name) for camera in resized]) for name in ("intrinsics", "cam_from_world"))
    return Footage("rgbd_scene", np.stack(rgb), np.stack(depth), lens, poses)


def given_cameras(paths: list[Path]) -> dict[str, Camera]:
    """The poses of the data set, with the focal length of the colour camera."""
    names = [path.name for path in paths]
    return read_poses(SCENE, frame_names=names, frame_size=SOURCE_SIZE, intrinsics=COLOUR_LENS)


def splat(millimetres: NDArray[np.uint16], size: Size) -> NDArray[np.float32]:
    """Depth of the depth camera, metres, on the pixels of the colour camera; the nearest wins, 0 where none falls."""
    rows, columns = np.nonzero((millimetres > 0) & (millimetres < 65535))
    z = millimetres[rows, columns] / 1000.0
    lens = scale_intrinsics(COLOUR_LENS, SOURCE_SIZE, size)
    x = np.rint((columns - DEPTH_LENS[2]) / DEPTH_LENS[0] * lens[0] + lens[2]).astype(int)
    y = np.rint((rows - DEPTH_LENS[3]) / DEPTH_LENS[1] * lens[1] + lens[3]).astype(int)
    inside = (x >= 0) & (x < size[0]) & (y >= 0) & (y < size[1])
    nearest = np.full((size[1], size[0]), np.inf)
    np.minimum.at(nearest, (y[inside], x[inside]), z[inside])
    return np.where(np.isfinite(nearest), nearest, 0.0).astype(np.float32)


class PairFlow:
    """Flow and masks of the hierarchical pairs of a video, in memory: the videos of the benchmark are short."""

    def __init__(self, rgb: NDArray[np.uint8], flow_name: str) -> None:
        self.flow: dict[Pair, Tensor] = {}
        estimator = create_flow(flow_name)
        for i, j in tto.unordered(tto.pair_indices(len(rgb))):
            to_i, to_j = estimator.estimate(rgb[i], rgb[j])
            self.flow[i, j], self.flow[j, i] = torch.from_numpy(to_j), torch.from_numpy(to_i)
        self.mask = {(i, j): tto.consistency_mask(self.flow[i, j], self.flow[j, i]) for i, j in self.flow}
        self.kept = tto.keep_pairs({pair: float(mask.float().mean()) for pair, mask in self.mask.items()})


class Material:
    """Candidates and references of one video."""

    def __init__(self, footage: Footage, pairs: PairFlow, *, sin2_min: float = SIN2_MIN) -> None:
        self.footage, self.pairs, self.sin2_min = footage, pairs, sin2_min
        self.followed: dict[Pair, Tensor] = {}
        start = time.process_time()
        self.references = dict(tto.fuse_frames(pairs.kept, self.candidate))
        self.reference_seconds = time.process_time() - start

    def candidate(self, i: int, j: int) -> tuple[Tensor, Tensor]:
        """Depth and where it is a candidate, as `tasks.tto_reference` makes them."""
        lens, poses = torch.from_numpy(self.footage.intrinsics), self.footage.cam_from_world
        pose = torch.from_numpy(relative_pose(poses[i], poses[j]))[None]
        found = tto.pseudo_reference(
            self.pairs.flow[i, j][None], lens[i : i + 1], lens[j : j + 1], pose, offline_max=OFFLINE_MAX
        )
        self.followed[i, j] = found.valid[0] & self.pairs.mask[i, j]
        return found.depth[0], self.followed[i, j] & (found.sin2[0] > self.sin2_min)

    def video(self, method: str) -> tto.TuneVideo:
        """What a method trains on."""
        footage, pairs = self.footage, self.pairs
        inputs = ((footage.rgb / 255.0 - np.array(RGB_MEAN)) / np.array(RGB_STD)).astype(np.float32)
        inputs_b3hw = torch.from_numpy(inputs).permute(0, 3, 1, 2)
        masks = pairs.mask if method == "cvd" else self.followed
        choose: Callable[[list[Pair]], list[Pair]] = tto.unordered if method == "cvd" else tto.training_pairs
        return tto.TuneVideo(
            len(footage.rgb),
            lambda k: inputs_b3hw[k],
            lambda i, j: (pairs.flow[i, j], masks[i, j]),
            lambda k: (self.references[k].depth, self.references[k].confidence.float()),
            tuple(choose(list(pairs.kept))),
            footage.intrinsics,
            footage.cam_from_world,
        )
