"""Given poses on the disk: which of them belong to a video, and their content as a key."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nvds_core.geometry.poses import detect_kind
from nvds_core.geometry.poses_colmap import model_folder
from nvds_core.geometry.poses_text import INTRINSICS_NAMES, POSE_SUFFIX, TRAJECTORY_NAME
from nvds_core.types import ConfigError, PoseError
from storage import VideoRef

ENTRY_SUFFIXES = ("", ".json", ".txt")
MODEL_NAMES = ("cameras.bin", "cameras.txt", "images.bin", "images.txt", "frames.bin", "frames.txt", "rigs.bin")


def locate_poses(path: Path, name: str, video_id: str) -> Path:
    """The poses of a video: the path itself, or in a folder the entry with the video's id or name.

    Raises:
        PoseError: nothing there is known as poses.
    """
    try:
        detect_kind(path)
        return path
    except PoseError:
        if not path.is_dir():
            raise
    for stem in (video_id, name):
        for suffix in ENTRY_SUFFIXES:
            entry = path / f"{stem}{suffix}"
            if entry.exists():
                detect_kind(entry)
                return entry
    raise PoseError(
        f"{path}: neither poses nor an entry called {name} (a folder, or a file .json or .txt); "
        "name the poses of each video like the video"
    )


def check_poses_of_one_video(path: Path, videos: list[VideoRef]) -> None:
    """Refuse to give one set of poses to several videos.

    Raises:
        ConfigError: more than one video would take them.
    """
    takers = [video.name for video in videos if locate_poses(path, video.name, video.video_id) == path]
    if len(takers) > 1:
        raise ConfigError(
            f"{path} holds the poses of one video, but {len(takers)} would take them ({', '.join(takers[:3])}); "
            "put the poses of each into an entry with the video's name"
        )


def files_digest(path: Path) -> str:
    """SHA-256 over names and content of the files that poses at a path consist of.

    Raises:
        PoseError: they cannot be read.
    """
    whole = hashlib.sha256()
    for file in _files(path):
        try:
            content = file.read_bytes()
        except OSError as error:
            raise PoseError(f"{file}: cannot be read ({error.strerror})", reason="unreadable") from error
        whole.update(f"{file.name}\0{len(content)}\0".encode(errors="surrogateescape"))
        whole.update(content)
    return whole.hexdigest()


def _files(path: Path) -> list[Path]:
    kind = detect_kind(path)
    if kind == "colmap":
        folder = model_folder(path) or path
        return [folder / name for name in MODEL_NAMES if (folder / name).is_file()]
    folder = path if path.is_dir() else path.parent
    lens = [folder / name for name in INTRINSICS_NAMES if (folder / name).is_file()]
    if kind == "7scenes":
        return [*sorted(path.glob(f"*{POSE_SUFFIX}")), *lens]
    if kind == "tum":
        return [path / TRAJECTORY_NAME if path.is_dir() else path, *lens]
    return [path / "transforms.json" if path.is_dir() else path]
