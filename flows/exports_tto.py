"""What test-time optimisation adds to a volume, in other people's formats: clouds, poses, the released folders."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.exports import ExportSource, filled, write_png
from flows.preview import source_frames
from nvds_core.geometry.camera import flip_opengl, invert_pose
from nvds_core.geometry.clouds import encode_ply, world_points
from nvds_core.geometry.poses import resize_camera, write_poses
from nvds_core.tto import Alignment, TuneConfig, align_disparity
from nvds_core.tto.material import FIT_POINTS
from nvds_core.tto.raw import encode_raw
from nvds_core.types import Camera, ConfigError
from tasks.poses import camera_of

OWN_DEPTH = ("ok", "diverged")  # statuses that come with an alignment of the network's disparity
LIMITS = "_eps2_2e-06_gdt_10.0_dmm_0.0"  # the released defaults, which its folders are named after
REFERENCES, MASKS = f"depth_gt_predicted{LIMITS}_prepro1", f"mask_rectified_median{LIMITS}"
CONFIDENCES = f"depth_median_confidence_map{LIMITS}_ctm0.1"
log = logging.getLogger("nvds")


def export_ply(source: ExportSource, target: Path) -> Path:
    """Write a folder of one cloud per frame with a camera: ``frame_000000.ply``, in the world and unit of the cameras.

    Colours are those of the source; without it the points have none, and the log says so. Pixels without disparity, and
    those as far as depth is told apart, give no point.

    Raises:
        ConfigError: the volume has no cameras, or no depth in their unit.
    """
    cameras, alignment = cameras_of(source), alignment_of(source, source.result)

    def fill(folder: Path) -> None:
        folder.mkdir()
        with _pictures(source) as pictures:
            for index, picture in zip(range(max(cameras) + 1), pictures, strict=False):
                if index in cameras:
                    inverse = _inverse_depth(alignment, source.volume.frame(source.result, index))
                    known = inverse > 1 / alignment.furthest  # false for NaN
                    points = world_points(_depth(alignment, inverse), cameras[index])[known]
                    colours = None if picture is None else picture[known]
                    (folder / f"frame_{index:06d}.ply").write_bytes(encode_ply(points, colours))

    return filled(target, fill)


def export_poses(source: ExportSource, target: Path) -> Path:
    """Write the cameras, at the size of the source, as the file that ``--poses`` reads.

    Raises:
        ConfigError: the volume has no cameras.
    """
    described = source.record["source"]
    size = int(described["width"]), int(described["height"])
    cameras = [resize_camera(camera, size) for camera in cameras_of(source).values()]
    target.parent.mkdir(parents=True, exist_ok=True)
    write_poses(target, cameras)
    return target


def export_tto(source: ExportSource, target: Path) -> Path:
    """Write what the released code leaves behind of a video, under its names, in the unit of the cameras.

    Initial and final maps are inverse depth, the reference is depth; frames without a camera have NaN in
    ``metadata_scaled.npz``.

    Raises:
        ConfigError: the volume has no cameras, or no depth in their unit.
    """
    cameras = cameras_of(source)
    account, config = source.record["tto"], source.record["config"]
    network = str(config["predictor"]["name"]).replace("/", "-").replace(":", "-")
    ranged = f"R_{config['tto']['pairs']['mode']}_{network}"
    alignments = {result: alignment_of(source, result) for result in ("initial", "optimized")}
    maps = {"initial": f"depth_{network}/depth", "optimized": f"{ranged}/{_tag(account, config)}/depth"}

    def fill(folder: Path) -> None:
        for name in (*maps.values(), REFERENCES, MASKS, CONFIDENCES):
            (folder / name).mkdir(parents=True)
        (folder / "frames.txt").write_text(_frame_list(source))
        _write_cameras(folder / ranged, cameras, source.volume.frames)
        for index in range(source.volume.frames):
            for result, name in maps.items():
                inverse = _inverse_depth(alignments[result], source.volume.frame(result, index))
                depth = _depth(alignments[result], inverse)
                (folder / name / f"frame_{index:06d}.raw").write_bytes(encode_raw(1 / depth))
            _write_reference(folder, source, index)

    return filled(target, fill)


def cameras_of(source: ExportSource) -> dict[int, Camera]:
    """Cameras by frame, at the size of the volume.

    Raises:
        ConfigError: there are none; says why.
    """
    found = source.volume.attributes.get("cameras") or []
    if found:
        return {int(entry["index"]): camera_of(entry) for entry in found}
    name, account = source.record["video_id"], source.record.get("tto")
    if account is None:
        raise ConfigError(f"{name} has no cameras, as 'nvds run' looks for none; run 'nvds tto' on it first")
    raise ConfigError(
        f"{name} has no cameras: {account['status']}, {account['reason'] or 'no reason told'}; give poses with "
        "'nvds tto --poses'"
    )


def alignment_of(source: ExportSource, result: str) -> Alignment:
    """From a result's disparity to depth in the unit of the cameras.

    That of the optimised network was fitted before the training; other results are fitted to the reference depth.

    Raises:
        ConfigError: the video was not optimised, so that there is no such depth.
    """
    account = source.record["tto"]
    if account["status"] not in OWN_DEPTH:
        raise ConfigError(
            f"{source.record['video_id']} has no depth in the unit of its cameras: {account['status']}, "
            f"{account['reason']}; '--to poses' and '--to npz' need none"
        )
    if result == "optimized":
        return Alignment(**account["alignment"])
    volume = source.volume
    step = max(1, int(math.sqrt(math.prod(volume.shape) / FIT_POINTS)))
    samples: list[list[NDArray[Any]]] = [[], [], []]
    for index in cameras_of(source):
        maps = (
            volume.frame(result, index),
            *(volume.read_further(name, index, index + 1)[0] for name in ("reference", "confidence")),
        )
        for column, values in zip(samples, maps, strict=True):
            column.append(values[step // 2 :: step, step // 2 :: step].ravel())
    disparity, reference, confidence = (np.concatenate(column) for column in samples)
    return align_disparity(disparity, reference, confidence)


def _inverse_depth(alignment: Alignment, disparity: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 / depth, in the inverse of the alignment's unit and without its limit; NaN where the disparity is."""
    return np.asarray(alignment.scale * disparity.astype(np.float64) + alignment.shift)


def _depth(alignment: Alignment, inverse: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depth in the unit of the cameras, up to the furthest."""
    return np.asarray(alignment.unit / np.maximum(inverse, 1 / alignment.furthest))


@contextmanager
def _pictures(source: ExportSource) -> Iterator[Iterator[NDArray[np.uint8] | None]]:
    """The frames' RGB at the size of the volume, or None for each if the source is gone or has changed."""
    with ExitStack() as stack:
        frames: Iterator[NDArray[np.uint8] | None]
        try:
            frames = stack.enter_context(source_frames(source))
        except ConfigError as error:
            if error.reason != "source":
                raise
            log.warning("points without colours: %s", error)
            frames = repeat(None)
        yield frames


def _tag(account: dict[str, Any], config: dict[str, Any]) -> str:
    """The released name of hyper-parameters: B and R weigh CVD's terms, PL1 the pull to the initial weights."""
    tune = TuneConfig(**config["tto"]["tune"])
    return f"B{tune.disparity_weight:g}_R1.0_PL1-0_LR{account['learning_rate']:g}_BS{tune.pairs_at_once}_Oadam"


def _frame_list(source: ExportSource) -> str:
    """``frames.txt``: count, width and height, then the time of each frame."""
    frames, height, width = source.volume.shape
    times = source.volume.time
    return "\n".join(str(value) for value in (frames, width, height, *([] if times is None else times.tolist()), ""))


def _write_cameras(folder: Path, cameras: dict[int, Camera], frames: int) -> None:
    """``metadata_scaled.npz`` and ``scales.csv``: row i belongs to frame i, unlike in the released code, where a frame
    without a pose shifts all later ones."""
    intrinsics, extrinsics = np.full((frames, 4), np.nan), np.full((frames, 3, 4), np.nan)
    for index, camera in cameras.items():
        intrinsics[index] = camera.intrinsics
        extrinsics[index] = flip_opengl(invert_pose(camera.cam_from_world))
    scales = np.array([(index, 1.0) for index in cameras])
    np.savez(folder / "metadata_scaled.npz", intrinsics=intrinsics, extrinsics=extrinsics, scales=scales)
    (folder / "scales.csv").write_text("".join(f"{index},1.0\n" for index in cameras))


def _write_reference(folder: Path, source: ExportSource, index: int) -> None:
    depth, confidence = (source.volume.read_further(name, index, index + 1)[0] for name in ("reference", "confidence"))
    name = f"depth_{index:06d}_gt_predicted_median.raw"
    (folder / REFERENCES / name).write_bytes(encode_raw(np.nan_to_num(depth, nan=0.0)))
    known = np.where(np.isfinite(depth), 255, 0).astype(np.uint8)
    write_png(folder / MASKS / f"mask_{index:06d}.png", known, compression=3)
    votes = io.BytesIO()
    np.savez_compressed(votes, points=confidence.astype(np.int64))
    (folder / CONFIDENCES / f"frame_{index:06d}.npz").write_bytes(votes.getvalue())
