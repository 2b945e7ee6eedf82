"""Camera poses of a video: given ones read, missing ones found by COLMAP. That there are none is a result too."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nvds_core.geometry.colmap import ColmapConfig, PoseResult, estimate_poses, write_pictures
from nvds_core.geometry.poses import read_poses, resize_camera, too_few, usable_frames
from nvds_core.types import Camera, ConfigError
from nvds_core.video import open_video, resolve_folder
from storage import ArtifactRef, ArtifactStore, VideoRef, artifact_key, open_arrays, write_arrays
from storage.locations import is_local, local_path, remove_tree, stage
from tasks.caching import StepReturn, produce, step
from tasks.digests import remote_frames
from tasks.frames import FrameArtifact
from tasks.pose_files import files_digest, locate_poses
from tasks.workspace import Workspace, public_text

STEP, VERSION = "poses", 1
FEWEST_GIVEN = 2  # frames; given poses have a scale, so one pair says something already

Lens = tuple[float, float, float, float]


@dataclass(frozen=True)
class PosesConfig:
    """Where poses come from.

    Attributes:
        path: poses that are there, in any form of `read_poses`, or a folder that has such an entry with the name of
            each video; None lets COLMAP find them.
        intrinsics: ``fx,fy,cx,cy`` in pixels of the source (pixel centres at integers): of given poses that lack
            them, and for COLMAP, which estimates a focal length otherwise.
        matching, features, refine_intrinsics, threads, time_limit: see `ColmapConfig`.
    """

    path: str | None = None
    intrinsics: str | None = None
    matching: Literal["auto", "sequential", "exhaustive"] = "auto"
    features: int = 4096
    refine_intrinsics: bool = False
    threads: int = 1
    time_limit: float = 3600.0

    def __post_init__(self) -> None:
        _ = self.colmap, self.lens  # find out now what makes no sense

    @property
    def lens(self) -> Lens | None:
        """The intrinsics as numbers."""
        if self.intrinsics is None:
            return None
        try:
            fx, fy, cx, cy = (float(word) for word in self.intrinsics.split(","))
        except ValueError:
            raise ConfigError(
                f"intrinsics {self.intrinsics!r} are not fx,fy,cx,cy; write 525,525,319.5,239.5"
            ) from None
        if not (fx > 0 and fy > 0 and np.isfinite([fx, fy, cx, cy]).all()):
            raise ConfigError(f"intrinsics {self.intrinsics!r}: focal lengths must be above 0, all numbers finite")
        return fx, fy, cx, cy

    @property
    def colmap(self) -> ColmapConfig:
        """Settings of COLMAP."""
        return ColmapConfig(
            matching=self.matching,
            features=self.features,
            intrinsics=self.lens,
            refine_intrinsics=self.refine_intrinsics,
            threads=self.threads,
            time_limit=self.time_limit,
        )


def check_poses(config: PosesConfig) -> None:
    """Raise ConfigError now, before the first video, if poses can come from nowhere."""
    if config.path is None and importlib.util.find_spec("pycolmap") is None:
        raise ConfigError("pycolmap is not installed; run: pip install 'nvds[tto]', or give poses with --poses")
    if config.path is not None and not Path(config.path).exists():
        raise ConfigError(f"poses {config.path}: no such file or folder; check the path")


def poses_ref(video: VideoRef, config: PosesConfig, limit: int | None) -> ArtifactRef:
    """The name of a video's poses: its content, its first `limit` frames, and the pose files or COLMAP.

    Raises:
        PoseError: no given poses for this video.
    """
    names = _folder_names(video)
    named = hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest() if names else None
    origin: tuple[object, ...]
    if config.path is None:
        origin = ("pycolmap", version("pycolmap"), config)
    else:
        path = locate_poses(Path(config.path), video.name, video.video_id)
        origin = ("given", files_digest(path), config.intrinsics)
    return ArtifactRef(STEP, artifact_key(STEP, VERSION, video.digest, limit, named, *origin))


@step(name="find-poses", task_run_name="find-poses {video.video_id}")
def find_poses(
    workspace: Workspace, video: VideoRef, frames: ArtifactRef, config: PosesConfig, limit: int | None
) -> StepReturn:
    """Write the cameras of the frames to go on with (`usable_frames`) at the size of the source.

    The status is ``ok`` or ``no_poses``.

    Raises:
        PoseError: given poses that are malformed or belong to other frames.
    """

    def make(folder: Path) -> int:
        pictures = FrameArtifact(workspace.store, frames)
        names = frame_names(video, pictures.frames)
        if config.path is None:
            found = _estimated(video, names, config, folder / "scratch")
            remove_tree(folder / "scratch")
        else:
            found = _given(locate_poses(Path(config.path), video.name, video.video_id), names, pictures, config)
        _write(folder / "arrays", found, names, "given" if config.path else f"pycolmap {version('pycolmap')}")
        return pictures.frames

    return produce(workspace, poses_ref(video, config, limit), make)


class PoseArtifact:
    """Poses written by `find_poses`."""

    def __init__(self, store: ArtifactStore, ref: ArtifactRef) -> None:
        self.attributes = open_arrays(store.path(ref) / "arrays").attributes
        self.positions: list[int] = [camera["index"] for camera in self.attributes["cameras"]]

    def cameras(self, size: tuple[int, int]) -> list[Camera]:
        """Cameras of the frames `positions`, at (width, height)."""
        return [resize_camera(camera_of(entry), size) for entry in self.attributes["cameras"]]

    def matrices(self, size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Intrinsics [n, 4] at (width, height) and cam_from_world [n, 3, 4] of the frames `positions`."""
        cameras = self.cameras(size)
        lens = np.array([camera.intrinsics for camera in cameras]).reshape(-1, 4)
        return lens, np.array([camera.cam_from_world for camera in cameras]).reshape(-1, 3, 4)


def described_cameras(cameras: list[Camera], positions: list[int]) -> list[dict[str, Any]]:
    """Cameras as JSON values."""
    return [
        {
            "frame": public_text(camera.name),
            "index": position,
            "width": camera.width,
            "height": camera.height,
            "intrinsics": [float(value) for value in camera.intrinsics],
            "cam_from_world": np.asarray(camera.cam_from_world, np.float64).tolist(),
        }
        for camera, position in zip(cameras, positions, strict=True)
    ]


def frame_names(video: VideoRef, count: int) -> list[str]:
    """Names of the first `count` frames: of their files, or ``frame_000000.png`` and so on for a video file."""
    names = _folder_names(video)
    return names[:count] if names else [f"frame_{index:06d}.png" for index in range(count)]


def _folder_names(video: VideoRef) -> list[str]:
    """File names of the frames of a folder, in order; nothing for a video file."""
    if video.kind != "frames":
        return []
    if not is_local(video.uri):
        return [PurePosixPath(name).name for name in remote_frames(video.uri) or []]
    found = resolve_folder(local_path(video.uri))
    return found[1] if found else []


def _given(path: Path, names: list[str], pictures: FrameArtifact, config: PosesConfig) -> PoseResult:
    source = pictures.source
    size = (int(str(source["width"])), int(str(source["height"])))
    times = pictures.times.tolist() if source["kind"] == "file" else None
    cameras = read_poses(path, frame_names=names, frame_times=times, frame_size=size, intrinsics=config.lens)
    used = usable_frames(names, cameras)
    total = len(names)
    if len(used) < FEWEST_GIVEN:
        share = f"{len(cameras)} of {total} frames, {too_few(len(cameras), total, FEWEST_GIVEN)}"
        return PoseResult("no_poses", {}, {}, len(cameras), total, f"{public_text(path)} has poses of {share}")
    reason = f"{total - len(used)} of {total} frames are left out ({len(cameras)} have poses)"
    return PoseResult(
        "ok", {name: cameras[name] for name in used}, {}, len(cameras), total, reason if len(used) < total else ""
    )


def _estimated(video: VideoRef, names: list[str], config: PosesConfig, scratch: Path) -> PoseResult:
    """COLMAP on the frames in the size of the source."""
    scratch.mkdir()
    source = stage(video.uri, scratch / "source")
    found = resolve_folder(source) if source.is_dir() else None
    if found is not None:
        paths = [found[0] / name for name in found[1][: len(names)]]
    else:
        with open_video(source, limit=len(names)) as reader:
            paths = write_pictures(scratch / "pictures", ((names[frame.index], frame.rgb) for frame in reader))
    return estimate_poses(paths, config=config.colmap, scratch=scratch)


def _write(folder: Path, found: PoseResult, names: list[str], origin: str) -> None:
    place = {name: index for index, name in enumerate(names)}
    positions = [place[name] for name in found.cameras]
    about = {
        "status": found.status,
        "reason": public_text(found.reason),
        "log_tail": public_text(found.log_tail),
        "registered": found.registered,
        "total": found.total,
        "origin": origin,
        "cameras": described_cameras(list(found.cameras.values()), positions),
    }
    write_arrays(folder, {}, json.loads(json.dumps(about))).close()


def camera_of(entry: dict[str, Any]) -> Camera:
    """A camera from what `described_cameras` says of it."""
    fx, fy, cx, cy = entry["intrinsics"]
    pose = np.array(entry["cam_from_world"])
    return Camera(entry["frame"], (fx, fy, cx, cy), entry["width"], entry["height"], pose)
