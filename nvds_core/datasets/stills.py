"""Sets of plain picture folders: the VDW test set, the NYUDv2 clips of NVDS, and DAVIS."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from nvds_core.datasets.base import Crop, Dataset, FileVideo, FrameFiles, Map, depth_picture, read_codes
from nvds_core.datasets.layout import Options, folders, no_layout, pictures
from nvds_core.metrics.published import FULL_SCALE, VDW_IGNORED
from nvds_core.types import DecodeError

NYU_AREA = Crop(45, 471, 41, 601)
INDOOR_CAP = 10.0


def read_vdw(place: Path, options: Options) -> Dataset:
    """The VDW test set: ``<video>/left/``, ``left_gt/`` (16-bit disparity), ``left_mask/`` (255 = ignore).

    Truth is disparity in 0..1, up to a scale and shift per video: there is no depth in metres.

    Raises:
        ConfigError: another layout.
    """
    roots = [place] if (place / "left_gt").is_dir() else [f for f in folders(place) if (f / "left_gt").is_dir()]
    if not roots:
        raise no_layout("VDW test", place, "<video>/left, left_gt and left_mask with pictures of the same names")
    return Dataset("vdw", "vdw", tuple(_vdw_video(root, options) for root in roots), "disparity", published="vdw")


def _vdw_video(root: Path, options: Options) -> FileVideo:
    truth = {path.stem: path for path in pictures(root / "left_gt")}
    masks = {path.stem: path for path in pictures(root / "left_mask")}
    frames = [
        FrameFiles(path.stem, path, truth.get(path.stem), masks.get(path.stem)) for path in pictures(root / "left")
    ]
    if not frames or not any(frame.truth and frame.mask for frame in frames):
        raise no_layout("VDW test", root, "left, left_gt and left_mask with pictures of the same names")
    return FileVideo(root.name, tuple(options.chosen(frames)), _vdw_truth)


def _vdw_truth(frame: FrameFiles) -> Map | None:
    if frame.truth is None or frame.mask is None:
        return None
    codes = read_codes(frame.truth)
    mask = cv2.imread(str(frame.mask), cv2.IMREAD_GRAYSCALE)
    if mask is None or mask.shape != codes.shape:
        raise DecodeError(f"{frame.mask}: damaged, or not of the size of {frame.truth.name}; fetch it again")
    disparity = codes.astype(np.float32) / FULL_SCALE
    disparity[(mask == VDW_IGNORED) | (codes == 0)] = np.nan
    return disparity


def read_nyu(place: Path, options: Options) -> Dataset:
    """The 654 clips of NVDS: ``<number>/rgb/000000.png .. 000003.png``, ``<number>/gt/000003.png`` in millimetres.

    Only the last frame of a clip has truth (the Eigen test image); the others are what a stabiliser refers to. The
    published protocol cuts the Eigen crop itself, so frames stay whole.

    Raises:
        ConfigError: another layout.
    """
    roots = [folder for folder in folders(place) if (folder / "rgb").is_dir() and (folder / "gt").is_dir()]
    if not roots:
        raise no_layout("NYUDv2 clips", place, "<number>/rgb/000000.png .. 000003.png and <number>/gt/000003.png")
    videos = []
    for root in sorted(roots, key=lambda folder: (len(folder.name), folder.name)):
        truth = {path.stem: path for path in pictures(root / "gt", (".png",))}
        frames = [FrameFiles(path.stem, path, truth.get(path.stem)) for path in pictures(root / "rgb")]
        if not frames or frames[-1].truth is None:
            raise no_layout("NYUDv2 clips", root, "a picture in gt with the name of the last one in rgb")
        videos.append(FileVideo(root.name, tuple(frames), depth_picture(1000.0)))
    return Dataset(
        *("nyu", "nyu", tuple(videos)), cap=INDOOR_CAP, area=NYU_AREA, published="nyu", split="654 Eigen test images"
    )


def read_davis(place: Path, options: Options) -> Dataset:
    """DAVIS: ``JPEGImages/480p/<video>/*.jpg``, the videos of ``ImageSets/2017/val.txt`` (option ``split``); no truth.

    Raises:
        ConfigError: another layout.
    """
    split = options.get("split", "val", ("val", "train", "all"))
    listed = place / "ImageSets" / "2017" / f"{split}.txt"
    images = place / "JPEGImages" / options.get("size", "480p")
    if not images.is_dir():
        raise no_layout("DAVIS", place, "JPEGImages/480p/<video>/00000.jpg")
    names = [folder.name for folder in folders(images)]
    if split != "all" and listed.is_file():
        wanted = set(listed.read_text(encoding="utf-8").split())
        names = [name for name in names if name in wanted]
    else:
        split = "all"
    videos = []
    for name in names:
        frames = [FrameFiles(path.stem, path) for path in options.chosen(pictures(images / name))]
        if frames:
            videos.append(FileVideo(name, tuple(frames), lambda frame: None))
    if not videos:
        raise no_layout("DAVIS", place, f"videos of {listed} in {images}")
    return Dataset("davis", "davis", tuple(videos), "none", split=split)
