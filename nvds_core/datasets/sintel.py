"""MPI Sintel: rendered film with depth, cameras and flow in small binary files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nvds_core.datasets.base import Dataset, FileVideo, FrameFiles, Map
from nvds_core.datasets.layout import Options, folders, no_layout, pictures
from nvds_core.geometry.poses_common import rigid_from_matrix
from nvds_core.types import Camera, DecodeError

TAG = np.float32(202021.25)  # of all three file kinds; as text the bytes read PIEH
CAP = 70.0


def read_sintel(place: Path, options: Options) -> Dataset:
    """Sintel: ``training/{clean,final}/<video>``, ``training/depth``, ``training/camdata_left``.

    Option ``pass``: ``final`` (default) or ``clean``.

    Raises:
        ConfigError: another layout.
    """
    root = place / "training" if (place / "training").is_dir() else place
    rendering = options.get("pass", "final", ("final", "clean"))
    if not (root / rendering).is_dir() or not (root / "depth").is_dir():
        raise no_layout("MPI Sintel", place, f"training/{rendering}/<video>/frame_0001.png and training/depth")
    videos = []
    for folder in folders(root / rendering):
        frames = [
            FrameFiles(path.stem, path, _beside(root / "depth" / folder.name / f"{path.stem}.dpt"))
            for path in options.chosen(pictures(folder))
        ]
        cameras = _cameras(root / "camdata_left" / folder.name, frames)
        if frames:
            videos.append(FileVideo(folder.name, tuple(frames), _decode, full_cameras=cameras))
    if not videos:
        raise no_layout("MPI Sintel", place, f"training/{rendering}/<video>/frame_0001.png")
    return Dataset("sintel", f"sintel-{rendering}", tuple(videos), cap=CAP, split=f"training, {rendering} pass")


def read_dpt(path: Path) -> NDArray[np.float32]:
    """Depth of a ``.dpt`` file, float32 [h, w] metres: tag, width, height (int32), values.

    Raises:
        DecodeError: another tag, or not as long as its header says.
    """
    values, width, height = _tagged(path, values_per_pixel=1)
    return values.reshape(height, width)


def read_flo(path: Path) -> NDArray[np.float32]:
    """Flow of a ``.flo`` file, float32 [2, h, w] pixels, x first: tag, width, height (int32), u v per pixel.

    Raises:
        DecodeError: as `read_dpt`.
    """
    values, width, height = _tagged(path, values_per_pixel=2)
    return np.ascontiguousarray(values.reshape(height, width, 2).transpose(2, 0, 1))


def read_cam(path: Path) -> tuple[tuple[float, float, float, float], NDArray[np.float64]]:
    """Intrinsics fx, fy, cx, cy and cam_from_world [3, 4] of a ``.cam`` file: tag, then float64 3x3 and 3x4.

    Sintel's principal point is ((w - 1) / 2, (h - 1) / 2): pixel centres at integers, as here.

    Raises:
        DecodeError: another tag or length.
        PoseError: no rigid transform.
    """
    data = _bytes(path)
    if len(data) != 4 + 21 * 8 or np.frombuffer(data, "<f4", 1)[0] != TAG:
        raise DecodeError(f"{path}: {len(data)} bytes, no .cam file of Sintel (172 bytes); fetch it again")
    numbers = np.frombuffer(data, "<f8", offset=4)
    lens, pose = numbers[:9].reshape(3, 3), numbers[9:].reshape(3, 4)
    intrinsics = float(lens[0, 0]), float(lens[1, 1]), float(lens[0, 2]), float(lens[1, 2])
    return intrinsics, rigid_from_matrix(pose, str(path))


def _decode(frame: FrameFiles) -> Map | None:
    return None if frame.truth is None else read_dpt(frame.truth)


def _cameras(folder: Path, frames: list[FrameFiles]) -> tuple[Camera | None, ...] | None:
    if not folder.is_dir() or not frames or frames[0].truth is None:
        return None
    height, width = read_dpt(frames[0].truth).shape
    cameras: list[Camera | None] = []
    for frame in frames:
        path = folder / f"{frame.name}.cam"
        cameras.append(Camera(frame.name, *_sized(read_cam(path), width, height)) if path.is_file() else None)
    return tuple(cameras)


def _sized(
    lens_and_pose: tuple[tuple[float, float, float, float], NDArray[np.float64]], width: int, height: int
) -> tuple[tuple[float, float, float, float], int, int, NDArray[np.float64]]:
    intrinsics, pose = lens_and_pose
    return intrinsics, width, height, pose


def _beside(path: Path) -> Path | None:
    return path if path.is_file() else None


def _tagged(path: Path, *, values_per_pixel: int) -> tuple[NDArray[np.float32], int, int]:
    data = _bytes(path)
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != TAG:
        raise DecodeError(f"{path}: does not begin with Sintel's tag {TAG}; fetch it again")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, offset=4))
    wanted = 12 + 4 * values_per_pixel * width * height
    if width < 1 or height < 1 or len(data) != wanted:
        raise DecodeError(f"{path}: {len(data)} bytes, {width}x{height} needs {wanted}; cut off? Fetch it again")
    return np.frombuffer(data, "<f4", offset=12).copy(), width, height


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DecodeError(f"{path}: cannot be read ({error.strerror})", reason="unreadable") from error
