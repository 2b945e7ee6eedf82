"""Cameras with known answers, written in every format by independent code: plain formulas and pycolmap."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (640, 480)
INTRINSICS = (520.0, 510.0, 318.5, 241.25)  # pixel centres at integers
NAMES = [f"frame-{number:06d}" for number in (0, 3, 6, 9)]
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def world_from_cam(index: int) -> NDArray[np.float64]:
    """[4, 4] pose of the camera of frame `index`, OpenCV axes."""
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(np.array([0.1 * index - 0.2, 0.3 + 0.2 * index, -0.1 * index]))[0]
    pose[:3, 3] = (0.5 * index, -0.1, 0.2 * index * index)
    return pose


def cam_from_world(index: int) -> NDArray[np.float64]:
    """[3, 4], by a general matrix inverse."""
    return np.linalg.inv(world_from_cam(index))[:3]


def quaternion_wxyz(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """From axis and angle, so that no formula is shared with the reader."""
    vector = cv2.Rodrigues(rotation)[0].ravel()
    angle = np.linalg.norm(vector)
    return np.concatenate([[np.cos(angle / 2)], np.sin(angle / 2) * vector / angle])


def write_seven_scenes(folder: Path, indices: Sequence[int] = range(4)) -> Path:
    for index in indices:
        np.savetxt(folder / f"{NAMES[index]}.pose.txt", world_from_cam(index))
    fx, fy, cx, cy = INTRINSICS
    np.savetxt(folder / "camera-intrinsics.txt", [[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return folder


def write_tum(path: Path, times: Sequence[float]) -> Path:
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    for index, time in enumerate(times):
        pose = world_from_cam(index)
        w, x, y, z = quaternion_wxyz(pose[:3, :3])
        lines.append(" ".join(f"{value:.17g}" for value in (time, *pose[:3, 3], x, y, z, w)))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_nerfstudio(path: Path, **extra: object) -> Path:
    fx, fy, cx, cy = INTRINSICS
    frames = [
        {"file_path": f"./images/{name}.png", "transform_matrix": (world_from_cam(index) @ OPENGL).tolist()}
        for index, name in enumerate(NAMES)
    ]
    content = {"w": SIZE[0], "h": SIZE[1], "fl_x": fx, "fl_y": fy, "cx": cx + 0.5, "cy": cy + 0.5, "frames": frames}
    path.write_text(json.dumps({**content, **extra}))
    return path


def write_colmap_text(folder: Path, model: str = "PINHOLE", parameters: Sequence[float] | None = None) -> Path:
    fx, fy, cx, cy = INTRINSICS
    values = (fx, fy, cx + 0.5, cy + 0.5) if parameters is None else parameters
    folder.mkdir(parents=True, exist_ok=True)
    words = " ".join(f"{value:.17g}" for value in values)
    (folder / "cameras.txt").write_text(f"# Camera list\n7 {model} {SIZE[0]} {SIZE[1]} {words}\n")
    lines = ["# Image list", "#   POINTS2D[] as (X, Y, POINT3D_ID)"]
    for index, name in enumerate(NAMES):
        pose = cam_from_world(index)
        pose_words = " ".join(f"{value:.17g}" for value in (*quaternion_wxyz(pose[:, :3]), *pose[:, 3]))
        lines += [f"{index + 1} {pose_words} 7 {name}.color.jpg", "" if index % 2 else "1.5 2.5 -1"]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_colmap_binary(folder: Path, model: int = 1, parameters: Sequence[float] | None = None) -> Path:
    """The binary layout of COLMAP's documentation."""
    fx, fy, cx, cy = INTRINSICS
    values = (fx, fy, cx + 0.5, cy + 0.5) if parameters is None else parameters
    folder.mkdir(parents=True, exist_ok=True)
    camera = struct.pack("<IiQQ", 7, model, *SIZE) + struct.pack(f"<{len(values)}d", *values)
    (folder / "cameras.bin").write_bytes(struct.pack("<Q", 1) + camera)
    images = struct.pack("<Q", len(NAMES))
    for index, name in enumerate(NAMES):
        pose = cam_from_world(index)
        images += struct.pack("<I7dI", index + 1, *quaternion_wxyz(pose[:, :3]), *pose[:, 3], 7)
        images += f"{name}.color.jpg".encode() + b"\0" + struct.pack("<Q", index)
        images += struct.pack("<ddq", 1.5, 2.5, -1) * index
    (folder / "images.bin").write_bytes(images)
    return folder
