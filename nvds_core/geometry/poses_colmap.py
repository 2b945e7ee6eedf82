"""COLMAP's sparse models, text and binary, read without COLMAP.

A model is a folder with `cameras` and `images`, each `.bin` or `.txt`. COLMAP keeps x_cam = R x_world + t with OpenCV
axes, quaternions w first, pixel centres at +0.5.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from nvds_core.geometry.poses_common import (
    numbers,
    read_bytes,
    read_table,
    read_text,
    rotation_from_quaternion,
    whole_number,
)
from nvds_core.geometry.poses_lens import PARAMETERS, Lens, lens_of_model
from nvds_core.types import Camera, PoseError

_MODELS = tuple(PARAMETERS)  # COLMAP numbers them in this order
_FISHEYE_MODELS = (
    "OPENCV_FISHEYE",
    "FULL_OPENCV",
    "FOV",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "THIN_PRISM_FISHEYE",
)
_LARGEST_COUNT = 10_000_000


def model_folder(path: Path) -> Path | None:
    """The folder of a COLMAP model at or below a path: itself, `sparse/0` or `sparse`; None if there is none.

    The text or binary file `images` or `cameras` of a model stands for its folder.
    """
    if path.is_file() and path.stem in ("images", "cameras") and path.suffix in (".txt", ".bin"):
        path = path.parent
    for folder in (path, path / "sparse" / "0", path / "sparse"):
        if any((folder / f"images{suffix}").is_file() for suffix in (".bin", ".txt")):
            return folder
    return None


def read_colmap(folder: Path, *, max_distortion: float) -> list[Camera]:
    """The registered images of a model, in the order of the file; names as COLMAP has them.

    Raises:
        PoseError: a file is missing, cut off or malformed, or a camera is no pinhole.
    """
    binary = (folder / "images.bin").is_file()
    suffix = ".bin" if binary else ".txt"
    if not (folder / f"cameras{suffix}").is_file():
        raise PoseError(f"{folder}: has images{suffix} but no cameras{suffix}; a model needs both", reason="not_found")
    read_cameras, read_images = (_cameras_bin, _images_bin) if binary else (_cameras_txt, _images_txt)
    lenses = read_cameras(folder / f"cameras{suffix}", max_distortion)
    return read_images(folder / f"images{suffix}", lenses)


def _camera(name: str, camera: int, pose: tuple[float, ...], lenses: dict[int, Lens], where: str) -> Camera:
    if camera not in lenses:
        raise PoseError(f"{where}: {name} has camera {camera}, which the cameras file lacks; export the model again")
    if not np.isfinite(pose).all():
        raise PoseError(f"{where}: the pose of {name} is not finite; export the model again")
    lens = lenses[camera]
    rotation = rotation_from_quaternion(pose[:4], f"{where} ({name})")
    cam_from_world = np.concatenate([rotation, np.array(pose[4:])[:, None]], axis=1)
    return Camera(name, lens.intrinsics, lens.width, lens.height, cam_from_world)


def _lens(model: str, width: int, height: int, values: list[float], where: str, max_distortion: float) -> Lens:
    names = PARAMETERS.get(model)
    if names is not None and len(values) != len(names):
        raise PoseError(f"{where}: {model} takes {len(names)} parameters ({', '.join(names)}), not {len(values)}")
    parameters = dict(zip(names or (), values, strict=False))
    return lens_of_model(model, parameters, width, height, where, max_distortion=max_distortion)


def _cameras_txt(path: Path, max_distortion: float) -> dict[int, Lens]:
    lenses = {}
    for where, words in read_table(path):
        if len(words) < 5:
            raise PoseError(f"{where}: {len(words)} columns; a camera is ID MODEL WIDTH HEIGHT PARAMETERS...")
        camera, width, height = (whole_number(word, where) for word in (words[0], *words[2:4]))
        lenses[camera] = _lens(words[1], width, height, numbers(words[4:], where), where, max_distortion)
    return lenses


def _images_txt(path: Path, lenses: dict[int, Lens]) -> list[Camera]:
    # Two lines per image. The second lists its points and may be empty, so empty lines count.
    lines = [
        (number, line) for number, line in enumerate(read_text(path).splitlines(), start=1) if not line.startswith("#")
    ]
    while lines and not lines[0][1].strip():
        lines.pop(0)
    cameras = []
    for number, line in lines[::2]:
        if not line.strip():
            continue
        where = f"{path}:{number}"
        words = line.split(maxsplit=9)
        if len(words) != 10:
            raise PoseError(
                f"{where}: {len(words)} columns; an image is ID QW QX QY QZ TX TY TZ CAMERA NAME, "
                "followed by a line of points that may be empty"
            )
        values = numbers(words[1:8], where)
        cameras.append(_camera(words[9].strip(), whole_number(words[8], where), tuple(values), lenses, where))
    return cameras


class _Bytes:
    """Reads packed little-endian values from a file and says where it ended too early."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.at = path, read_bytes(path), 0

    def take(self, layout: str) -> tuple[float, ...]:
        size = struct.calcsize(f"<{layout}")
        self.need(size)
        self.at += size
        return struct.unpack_from(f"<{layout}", self.data, self.at - size)

    def need(self, size: int) -> None:
        if self.at + size > len(self.data):
            raise PoseError(
                f"{self.path}: cut off at byte {len(self.data)}, {self.at + size} are needed; copy the model again"
            )

    def skip(self, size: int) -> None:
        self.need(size)
        self.at += size

    def count(self, what: str) -> int:
        (value,) = self.take("Q")
        if value > _LARGEST_COUNT:
            raise PoseError(f"{self.path}: {value} {what} at byte {self.at - 8}; this is no COLMAP model, or damaged")
        return int(value)

    def name(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            self.need(len(self.data) - self.at + 1)
        raw, self.at = self.data[self.at : end], end + 1
        return raw.decode("utf-8", errors="surrogateescape")


def _cameras_bin(path: Path, max_distortion: float) -> dict[int, Lens]:
    source, lenses = _Bytes(path), {}
    for _ in range(source.count("cameras")):
        where = f"{path}: byte {source.at}"
        camera, model, width, height = (int(value) for value in source.take("IiQQ"))
        known = _MODELS + _FISHEYE_MODELS
        name = known[model] if 0 <= model < len(known) else f"number {model}"
        values = source.take("d" * len(PARAMETERS.get(name, ())))
        lenses[camera] = _lens(name, width, height, list(values), f"{where} (camera {camera})", max_distortion)
    return lenses


def _images_bin(path: Path, lenses: dict[int, Lens]) -> list[Camera]:
    source, cameras = _Bytes(path), []
    for _ in range(source.count("images")):
        where = f"{path}: byte {source.at}"
        _, *pose, camera = source.take("I7dI")
        name = source.name()
        source.skip(source.count("points") * struct.calcsize("<ddq"))
        cameras.append(_camera(name, int(camera), tuple(pose), lenses, where))
    return cameras
