"""Fine-tuning figures: AbsRel, OPW and time of the initial depth, CVD and the pseudo reference method in one run.

Part of `python -m benchmarks.tto --tune`. Flow is DIS and poses are given; both methods start from the same network,
alignment, flow and masks, and train for the same number of epochs on the pairs that each of them defines.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvds_core import tto
from nvds_core.flow import create_flow
from nvds_core.geometry.camera import invert_pose, nearest_rotation, relative_pose, scale_intrinsics
from nvds_core.metrics import opw_video, video_errors
from nvds_core.models import create_model
from nvds_core.predictors.tiny import RGB_MEAN, RGB_STD
from nvds_core.synthetic import render, render_frame
from nvds_core.synthetic.still import still_scene

SIZE = (256, 192)
SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "rgbd_scene"
SYNTHETIC = ((900, "sideways"), (901, "diagonal"), (902, "forward"))  # the first seeds that are held out for tables
COLOUR_LENS = (525.0, 525.0, 319.5, 239.5)  # of 7-Scenes; the file beside it belongs to the depth camera
DEPTH_LENS = (585.0, 585.0, 320.0, 240.0)
SIN2_MIN, OFFLINE_MAX = 1e-3, 2.0  # what flow from pictures needs
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Footage:
    """A video with poses and true depth, at the working size; depth is 0 where unknown."""

    name: str
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    cam_from_world: NDArray[np.float64]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, default=20, help="of each fine-tuning")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--point-weight", type=float, default=tto.TuneConfig.point_weight)
    parser.add_argument("--frames", type=int, default=16, help="of each synthetic video")
    parser.add_argument("--only", default="", help="name of one video")
    parser.add_argument("--flow", default="dis")


def synthetic_footage(seed: int, motion: str, frames: int) -> Footage:
    near = float(np.median(render_frame(still_scene(seed, motion, frames=1, size=SIZE), 0).depth))
    scene = still_scene(seed, motion, frames=frames, size=SIZE, speed=0.25 * near)  # a few pixels per frame
    clip = render(scene, flow=False)
    return Footage(f"synthetic-{motion}", clip.rgb, clip.depth, clip.intrinsics, clip.cam_from_world)


def rgbd_footage(folder: Path, count: int = 40, stride: int = 5) -> Footage:
    """The frames nearest to every fifth of the original numbering, colour and depth brought to one camera."""
    numbers = sorted(int(path.name[6:12]) for path in folder.glob("frame-*.color.jpg"))
    chosen = [min(numbers, key=lambda number: abs(number - stride * k)) for k in range(count)]
    rgb, depth, poses = [], [], []
    for number in chosen:
        stem = str(folder / f"frame-{number:06d}")
        picture = cv2.cvtColor(cv2.imread(f"{stem}.color.jpg"), cv2.COLOR_BGR2RGB)
        rgb.append(cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA))
        depth.append(splat(cv2.imread(f"{stem}.depth.png", cv2.IMREAD_UNCHANGED)))
        poses.append(np.loadtxt(f"{stem}.pose.txt")[:3])
    world_from_cam = np.stack(poses)
    world_from_cam[:, :, :3] = nearest_rotation(world_from_cam[:, :, :3])
    lens = np.tile(scale_intrinsics(COLOUR_LENS, (640, 480), SIZE), (count, 1))
    return Footage("rgbd_scene", np.stack(rgb), np.stack(depth), lens, invert_pose(world_from_cam))


def splat(millimetres: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Depth of the depth camera, metres, on the pixels of the colour camera; the nearest wins, 0 where none falls."""
    rows, columns = np.nonzero((millimetres > 0) & (millimetres < 65535))
    z = millimetres[rows, columns] / 1000.0
    lens = scale_intrinsics(COLOUR_LENS, (640, 480), SIZE)
    x = np.rint((columns - DEPTH_LENS[2]) / DEPTH_LENS[0] * lens[0] + lens[2]).astype(int)
    y = np.rint((rows - DEPTH_LENS[3]) / DEPTH_LENS[1] * lens[1] + lens[3]).astype(int)
    inside = (x >= 0) & (x < SIZE[0]) & (y >= 0) & (y < SIZE[1])
    nearest = np.full((SIZE[1], SIZE[0]), np.inf)
    np.minimum.at(nearest, (y[inside], x[inside]), z[inside])
    return np.where(np.isfinite(nearest), nearest, 0.0).astype(np.float32)


class Material:
    """Flow, masks, references of one video, all in memory: the videos of the benchmark are short."""

    def __init__(self, footage: Footage, flow_name: str) -> None:
        self.footage = footage
        self.flow: dict[tuple[int, int], Tensor] = {}
        estimator = create_flow(flow_name)
        for i, j in tto.unordered(tto.pair_indices(len(footage.rgb))):
            to_i, to_j = estimator.estimate(footage.rgb[i], footage.rgb[j])
            self.flow[i, j], self.flow[j, i] = torch.from_numpy(to_j), torch.from_numpy(to_i)
        start = time.perf_counter()
        self.mask = {(i, j): tto.consistency_mask(self.flow[i, j], self.flow[j, i]) for i, j in self.flow}
        shares = {pair: float(mask.float().mean()) for pair, mask in self.mask.items()}
        self.kept = tto.keep_pairs(shares)
        self.mask_seconds = time.perf_counter() - start
        start = time.perf_counter()
        self.valid: dict[tuple[int, int], Tensor] = {}
        self.references = dict(tto.fuse_frames(self.kept, self._candidate))
        self.reference_seconds = time.perf_counter() - start

    def _candidate(self, i: int, j: int) -> tuple[Tensor, Tensor]:
        lens, poses = torch.from_numpy(self.footage.intrinsics), self.footage.cam_from_world
        pose = torch.from_numpy(relative_pose(poses[i], poses[j]))[None]
        found = tto.pseudo_reference(
            self.flow[i, j][None], lens[i : i + 1], lens[j : j + 1], pose, sin2_min=SIN2_MIN, offline_max=OFFLINE_MAX
        )
        self.valid[i, j] = found.valid[0] & self.mask[i, j]
        return found.depth[0], self.valid[i, j]

    def video(self, method: str) -> tto.TuneVideo:
        footage = self.footage
        inputs = ((footage.rgb / 255.0 - np.array(RGB_MEAN)) / np.array(RGB_STD)).astype(np.float32)
        inputs_b3hw = torch.from_numpy(inputs).permute(0, 3, 1, 2)
        masks = self.mask if method == "cvd" else self.valid
        pairs = tto.unordered(self.kept) if method == "cvd" else tto.training_pairs(self.kept)
        return tto.TuneVideo(
            len(footage.rgb),
            lambda k: inputs_b3hw[k],
            lambda i, j: (self.flow[i, j], masks[i, j]),
            lambda k: (self.references[k].depth, self.references[k].confidence.float()),
            tuple(pairs),
            footage.intrinsics,
            footage.cam_from_world,
        )


def scores(footage: Footage, depth: NDArray[np.float32], to_previous: NDArray[np.float32]) -> dict[str, float]:
    errors = video_errors(depth, footage.depth, align="median", space="depth", floor=None)
    return {
        "abs_rel": errors.abs_rel,
        "delta1": errors.delta1,
        "opw": opw_video(footage.rgb, 1 / depth, to_previous).mean,
    }


def reference_error(material: Material) -> dict[str, float]:
    """How good the references are, with the scale of the poses."""
    truth, found = material.footage.depth, material.references
    ratio, confidence = [], []
    for frame, reference in found.items():
        known = reference.valid.numpy() & (truth[frame] > 0)
        ratio.append(reference.depth.numpy()[known] / truth[frame][known])
        confidence.append(reference.confidence.numpy()[known])
    error = np.abs(np.concatenate(ratio) / np.median(np.concatenate(ratio)) - 1)
    sure = np.concatenate(confidence) >= 3
    share = float(np.mean([float(reference.valid.float().mean()) for reference in found.values()]))
    return {"valid": share, "median": float(np.median(error)), "sure": float(np.median(error[sure]))}


def tune(footage: Footage, options: argparse.Namespace, say: Callable[[str], None]) -> Row:
    material = Material(footage, options.flow)
    number = len(footage.rgb)
    to_previous = np.stack([material.flow[k + 1, k].numpy() for k in range(number - 1)])
    about = reference_error(material)
    say(
        f"\n{footage.name}: {number} frames, {len(material.kept)} directed pairs kept, references "
        f"{about['valid']:.0%} valid, median error {about['median']:.3f}, {about['sure']:.3f} where 3 or more agree"
    )
    say("method     AbsRel  delta1     OPW  pairs  best epoch   loss before -> after   seconds")
    row: Row = {"video": footage.name, "frames": number, "references": about, "methods": {}}
    for method in ("initial", "cvd", "pseudo"):
        model = create_model("tiny").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        video = material.video(method)
        alignment = tto.align_network(model, video)
        line, seconds = "", 0.0
        if method != "initial":
            config = tto.TuneConfig(
                method=method,
                epochs=options.epochs,
                learning_rate=options.learning_rate,
                point_weight=options.point_weight,
            )
            result = tto.finetune(model, video, alignment, config)
            seconds = result.seconds + (material.reference_seconds if method == "pseudo" else 0.0)
            before, after = result.validation[0], result.validation[result.best_epoch]
            line = f"{len(video.pairs):5} {result.best_epoch:8}/{options.epochs} {before:12.4f} -> {after:.4f}"
        maps = torch.stack(list(tto.disparities(model, video, batch=4, device=torch.device("cpu"))))
        depth = (alignment.depth(maps) * alignment.unit).numpy()
        row["methods"][method] = {**scores(footage, depth, to_previous), "seconds": seconds}
        found = row["methods"][method]
        say(f"{method:8} {found['abs_rel']:8.4f} {found['delta1']:7.3f} {found['opw']:7.3f} {line:40} {seconds:9.1f}")
    before, cvd, pseudo = (row["methods"][method] for method in ("initial", "cvd", "pseudo"))
    row["lower"] = 1 - pseudo["abs_rel"] / before["abs_rel"]
    row["time_ratio"] = cvd["seconds"] / pseudo["seconds"]
    say(f"pseudo: AbsRel {row['lower']:.0%} lower than initial; time CVD / pseudo {row['time_ratio']:.2f}")
    return row


def measure(options: argparse.Namespace, *, quiet: bool) -> list[Row]:
    """One row per video."""

    def say(text: str) -> None:
        if not quiet:
            print(text, flush=True)

    makers: dict[str, Callable[[], Footage]] = {
        f"synthetic-{motion}": lambda seed=seed, motion=motion: synthetic_footage(seed, motion, options.frames)
        for seed, motion in SYNTHETIC
    }
    if SHARED.is_dir():
        makers["rgbd_scene"] = lambda: rgbd_footage(SHARED)
    else:
        say("rgbd_scene: ../shared/data is not beside this checkout, left out")
    return [tune(maker(), options, say) for name, maker in makers.items() if options.only in ("", name)]
