"""Small data sets written in the formats of the real ones, byte by byte and without the readers' code."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

PIEH = struct.pack("<f", 202021.25)


def picture(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """A smooth coloured picture, RGB."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def write_rgb(path: Path, rgb: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[:, :, ::-1])


def write_codes(path: Path, codes: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), codes)


def depth_codes(seed: int, height: int, width: int, low: int = 1000, high: int = 4000) -> NDArray[np.uint16]:
    """Codes with a hole of zeros at the top left."""
    ramp = np.linspace(low, high, height * width).reshape(height, width) + 10 * seed
    codes = ramp.astype(np.uint16)
    codes[:3, :5] = 0
    return codes


def pose(step: float) -> NDArray[np.float64]:
    """[4, 4] camera to world: turned about y by `step`, moved along x by it."""
    c, s = np.cos(step), np.sin(step)
    return np.array([[c, 0, s, step], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1.0]])


def write_matrix(path: Path, matrix: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(" ".join(f"{v:.9f}" for v in row) for row in matrix) + "\n")


def make_vdw(root: Path, *, videos: int = 2, frames: int = 3, size: tuple[int, int] = (40, 64)) -> Path:
    for video in range(videos):
        folder = root / f"{423 + video:06d}"
        for index in range(frames):
            name = f"frame_{index:06d}.png"
            write_rgb(folder / "left" / name, picture(video * 10 + index, *size))
            write_codes(folder / "left_gt" / name, depth_codes(index, *size, low=9000, high=60000))
            mask = np.zeros(size, np.uint8)
            mask[-4:] = 255
            write_codes(folder / "left_mask" / name, mask)
    return root


def make_sintel(root: Path, *, frames: int = 3, size: tuple[int, int] = (32, 72)) -> Path:
    height, width = size
    for video in ("alley_1", "market_5"):
        for index in range(frames):
            stem = f"frame_{index + 1:04d}"
            for rendering in ("clean", "final"):
                write_rgb(root / "training" / rendering / video / f"{stem}.png", picture(index, *size))
            depth = np.linspace(1, 90, height * width, dtype="<f4") + index
            path = root / "training" / "depth" / video / f"{stem}.dpt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PIEH + struct.pack("<2i", width, height) + depth.tobytes())
            lens = np.array([[90.0, 0, (width - 1) / 2], [0, 91.0, (height - 1) / 2], [0, 0, 1]])
            path = root / "training" / "camdata_left" / video / f"{stem}.cam"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PIEH + lens.tobytes() + np.linalg.inv(pose(0.1 * index))[:3].tobytes())
            if index + 1 < frames:
                flow = np.zeros((height, width, 2), "<f4")
                flow[..., 0], flow[..., 1] = 2.5, np.arange(height)[:, None]
                path = root / "training" / "flow" / video / f"{stem}.flo"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"PIEH" + struct.pack("<2i", width, height) + flow.tobytes())
    return root


def make_nyu(root: Path, *, clips: int = 2) -> Path:
    for clip in range(1, clips + 1):
        for index in range(4):
            write_rgb(root / str(clip) / "rgb" / f"{index:06d}.png", picture(clip * 4 + index, 480, 640))
        write_codes(root / str(clip) / "gt" / "000003.png", depth_codes(clip, 480, 640))
    return root


def make_davis(root: Path) -> Path:
    for video in ("bear", "camel", "dog"):
        for index in range(2):
            write_rgb(root / "JPEGImages" / "480p" / video / f"{index:05d}.jpg", picture(index, 48, 86))
    listed = root / "ImageSets" / "2017" / "val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("bear\ndog\n")
    return root


def make_kitti(root: Path, *, frames: int = 3) -> Path:
    drive = "2011_09_26_drive_0002_sync"
    for index in range(5, 5 + frames):
        sparse = np.zeros((75, 249), np.uint16)
        sparse[10::4, ::3] = 256 * (5 + index)
        name = f"{index:010d}.png"
        write_codes(
            root / "data_depth_annotated" / "val" / drive / "proj_depth" / "groundtruth" / "image_02" / name, sparse
        )
    for index in range(5 + frames):  # the first raw frames have no annotation
        write_rgb(root / "2011_09_26" / drive / "image_02" / "data" / f"{index:010d}.png", picture(index, 75, 249))
    return root


def make_scannet(root: Path, *, scenes: int = 2, frames: int = 7) -> Path:
    for scene in range(scenes):
        folder = root / f"scene{707 + scene:04d}_00"
        for index in range(frames):
            write_rgb(folder / "color" / f"{index}.jpg", picture(index, 96, 128))
            write_codes(folder / "depth" / f"{index}.png", depth_codes(index, 48, 64))
            write_matrix(folder / "pose" / f"{index}.txt", pose(0.05 * index))
        (folder / "pose" / "3.txt").write_text("-inf -inf -inf -inf\n" * 4)
        lens = np.array([[57.0, 0, 31.5, 0], [0, 58.0, 23.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        write_matrix(folder / "intrinsic" / "intrinsic_depth.txt", lens)
    return root


def make_seven_scenes(scene: Path) -> Path:
    for sequence in (1, 3, 5):
        folder = scene / f"seq-{sequence:02d}"
        for index in range(3):
            write_rgb(folder / f"frame-{index:06d}.color.png", picture(index, 48, 64))
            codes = depth_codes(index, 48, 64)
            codes[-1] = 65535
            write_codes(folder / f"frame-{index:06d}.depth.png", codes)
            write_matrix(folder / f"frame-{index:06d}.pose.txt", pose(0.1 * index))
    (scene / "TestSplit.txt").write_text("sequence3\nsequence5\n")
    return scene


def make_tum(folder: Path, *, frames: int = 5, offset: float = 0.004) -> Path:
    """Colour at 30 Hz, depth a little later with one frame missing, poses at 100 Hz; 5000 codes per metre."""
    lines: dict[str, list[str]] = {"rgb": ["# color images"], "depth": ["# depth maps"]}
    start = 1305031102.175304
    for index in range(frames):
        time = start + index / 30
        write_rgb(folder / "rgb" / f"{time:.6f}.png", picture(index, 48, 64))
        lines["rgb"].append(f"{time:.6f} rgb/{time:.6f}.png")
        if index == 2:
            continue
        write_codes(folder / "depth" / f"{time + offset:.6f}.png", depth_codes(index, 48, 64, 5000, 20000))
        lines["depth"].append(f"{time + offset:.6f} depth/{time + offset:.6f}.png")
    for name, rows in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")
    rows = [f"{start + 0.01 * i:.4f} {0.01 * i:.4f} 0 0 0 0 0 1" for i in range(int(frames * 3.4) + 1)]
    (folder / "groundtruth.txt").write_text("# ground truth\n" + "\n".join(rows) + "\n")
    return folder
