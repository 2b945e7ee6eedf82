"""Data sets as inputs of a run: each video as a folder of numbered frames, its poses as a file beside."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from nvds_core.datasets import Dataset, DatasetVideo, open_dataset
from nvds_core.geometry.poses import write_poses
from nvds_core.types import ConfigError, CoreError
from storage.locations import safe_name, write_bytes_atomic

FRAME_NAME = "frame_{:06d}"  # of our own, as every set has another way to name frames
NAME_LENGTH = 80
FEWEST_POSES = 2  # frames with a pose, below which a video counts as without


@dataclass(frozen=True, eq=False)
class BenchVideo:
    """One video of one set.

    Attributes:
        folder: its numbered frames.
        poses: the file of its cameras, None without.
        problem: why its frames could not be written.
    """

    dataset: Dataset
    video: DatasetVideo
    folder: Path
    poses: Path | None = None
    problem: CoreError | None = None

    @property
    def frame_digest(self) -> str:
        """SHA-256 over the names of video and frames: which frames, whatever is in them."""
        lines = "\n".join([self.video.name, *self.video.frame_names])
        return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def open_sets(specs: Sequence[str], frames: int | None, places: Mapping[str, str | None]) -> list[Dataset]:
    """The sets of a benchmark, each under a name of its own.

    Args:
        specs: as of `open_dataset`.
        frames: at most so many of each video.
        places: by name, the places of the sets that were there before; None where that is not known.

    Raises:
        ConfigError: a set that is not there, or the same set twice.
    """
    sets: list[Dataset] = []
    for spec in specs:
        dataset = open_dataset(spec, frames=frames)
        taken = {other.name for other in sets}
        name, place = dataset.name, safe_name(dataset.place, NAME_LENGTH)
        if name in taken or places.get(name) not in (None, place):
            name = f"{name}-{place}"
        if name in taken:
            raise ConfigError(f"{spec}: the set {name} is given twice; leave one out", reason="dataset")
        sets.append(dataclasses.replace(dataset, name=name, place=place))
    return sets


def write_inputs(out: Path, dataset: Dataset) -> list[BenchVideo]:
    """The videos of a set as folders of frames below ``out/inputs``; what is there already is kept."""
    names: dict[str, int] = {}
    written = []
    for video in dataset.videos:
        name = safe_name(video.name, NAME_LENGTH)
        names[name] = names.get(name, 0) + 1
        if names[name] > 1:
            raise ConfigError(f"{dataset.name}: two videos are called {name}; rename a folder", reason="dataset")
        folder = out / "inputs" / dataset.name / name
        problem = None
        try:
            write_frames(video, folder)
        except CoreError as error:  # one unreadable picture costs one video
            problem = error
        poses = out / "poses" / dataset.name / f"{name}.json"
        written.append(BenchVideo(dataset, video, folder, _written_poses(video, poses), problem))
    return written


def write_frames(video: DatasetVideo, folder: Path) -> None:
    """Write the frames as ``frame_000000.png`` .., as links where a file holds exactly that picture.

    Raises:
        DecodeError: a frame cannot be read.
    """
    marker = folder.with_name(f".{folder.name}.json")
    listed = json.dumps({"frames": list(video.frame_names), "stamp": video.stamp()}) + "\n"
    known = folder.is_dir() and marker.is_file() and marker.read_text(encoding="utf-8") == listed
    if known and all(frame.exists() for frame in folder.iterdir()):  # links end in nothing where a set was moved
        return
    beside = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        for index in range(len(video.frame_names)):
            _write_frame(video, index, beside / FRAME_NAME.format(index))
        marker.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    write_bytes_atomic(marker, listed.encode())


def _write_frame(video: DatasetVideo, index: int, path: Path) -> None:
    file = video.picture_file(index)
    if file is None:
        ok, data = cv2.imencode(".png", video.rgb(index)[:, :, ::-1])
        assert ok, "PNG takes every uint8 picture"
        path.with_suffix(".png").write_bytes(data.tobytes())
        return
    target = path.with_suffix(file.suffix.lower())
    try:
        target.symlink_to(file.absolute())
    except OSError:  # a file system without links
        shutil.copyfile(file, target)


def _written_poses(video: DatasetVideo, path: Path) -> Path | None:
    cameras = [
        dataclasses.replace(camera, name=FRAME_NAME.format(index))
        for index, camera in enumerate(video.cameras or ())
        if camera is not None
    ]
    if len(cameras) < FEWEST_POSES:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    write_poses(path, cameras)
    return path
