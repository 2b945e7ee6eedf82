"""Indoor RGB-D sets: ScanNet, 7-Scenes, TUM RGB-D and Bonn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nvds_core.datasets.base import Crop, Dataset, DatasetVideo, FileVideo, FrameFiles, depth_picture
from nvds_core.datasets.layout import PICTURES, Options, folders, no_layout, pictures
from nvds_core.geometry.camera import invert_pose, scale_intrinsics
from nvds_core.geometry.poses import TIME_GAP, read_poses
from nvds_core.geometry.poses_common import numbers, read_matrix, read_table, rigid_from_matrix
from nvds_core.geometry.poses_text import INTRINSICS_NAMES, POSE_SUFFIX, TRAJECTORY_NAME, associate, read_trajectory
from nvds_core.types import Camera, ConfigError
from nvds_core.video.folders import read_picture

CAP = 10.0
MILLIMETRES = depth_picture(1000.0, unknown=(0, 65535))
TUM_CODES_PER_METRE = 5000.0

SCANNET_VIDEOS, SCANNET_FRAMES, SCANNET_STRIDE = 100, 90, 3  # DepthCrafter's list: 270 frames, every third
SCANNET_CROP = (8, 11)  # black borders: rows above and below, columns left and right

BONN_FIRST, BONN_FRAMES = 30, 110  # frames 30 .. 139
BONN_VIDEOS = ("balloon2", "crowd2", "crowd3", "person_tracking", "synchronous")  # DepthCrafter's meta_bonn.csv

KINECT_SIZE = (640, 480)
SEVEN_SCENES_LENS = (585.0, 585.0, 320.0, 240.0)  # of the set's page, for both of its cameras
TUM_LENSES = {  # the ROS calibration of each Kinect's colour camera, from the benchmark's page on intrinsics
    "freiburg1": (517.3, 516.5, 318.6, 255.3),
    "freiburg2": (520.9, 521.0, 325.1, 249.7),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
}
TUM_MOVING = ("walking", "sitting", "desk_with_person")

Lens = tuple[float, float, float, float]


def read_scannet(place: Path, options: Options) -> Dataset:
    """ScanNet as extracted from ``.sens``: ``<scene>/color/0.jpg``, ``depth/0.png``, ``pose/0.txt``, ``intrinsic/``.

    The first 100 scenes by name, every third of the first 270 frames. Colour is resized to the size of the depth, then
    8 rows and 11 columns are cut off on each side.

    Raises:
        ConfigError: another layout.
    """
    roots = [folder for folder in folders(place) if (folder / "color").is_dir() and (folder / "depth").is_dir()]
    if not roots:
        raise no_layout("ScanNet", place, "<scene>/color/0.jpg, depth/0.png, pose/0.txt")
    videos = tuple(_scannet_video(root, options) for root in roots[:SCANNET_VIDEOS])
    rows, columns = SCANNET_CROP
    crop = f"{rows} rows and {columns} columns on each side"
    return Dataset("scannet", "scannet", videos, cap=CAP, crop=crop, split=f"first {SCANNET_VIDEOS} scenes by name")


def _scannet_video(root: Path, options: Options) -> DatasetVideo:
    depth = {path.stem: path for path in pictures(root / "depth", (".png",))}
    colour = options.chosen(pictures(root / "color"), most=SCANNET_FRAMES, stride=SCANNET_STRIDE)
    frames = [FrameFiles(path.stem, path, depth[path.stem]) for path in colour if path.stem in depth]
    if not frames:
        raise no_layout("ScanNet", root, "depth/0.png for color/0.jpg")
    lens_file = root / "intrinsic" / "intrinsic_depth.txt"
    cameras: tuple[Camera | None, ...] | None = None
    if lens_file.is_file() and (root / "pose").is_dir():
        matrix = read_matrix(lens_file)
        lens = (float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2]))
        truth = MILLIMETRES(frames[0])
        assert truth is not None
        cameras = tuple(_posed(frame.name, root / "pose" / f"{frame.name}.txt", lens, truth.shape) for frame in frames)
    video = FileVideo(root.name, tuple(frames), MILLIMETRES, _scannet_crop, fit=True, full_cameras=cameras, static=True)
    return video


def _scannet_crop(height: int, width: int) -> Crop:
    rows, columns = SCANNET_CROP
    return Crop(rows, height - rows, columns, width - columns)


def _posed(name: str, path: Path, lens: Lens, size: tuple[int, ...]) -> Camera | None:
    """A camera from a 4x4 camera-to-world matrix; None where the file is absent or marks a lost pose."""
    if not path.is_file():
        return None
    matrix = read_matrix(path)
    if not np.isfinite(matrix).all():
        return None
    return Camera(name, lens, size[1], size[0], invert_pose(rigid_from_matrix(matrix, str(path))))


def read_seven_scenes(place: Path, options: Options) -> Dataset:
    """7-Scenes: ``frame-000000.color.png``, ``.depth.png`` (mm, 0 or 65535 = unknown), ``.pose.txt``.

    A folder of frames, a scene with ``seq-01`` .., or all scenes. Of a scene with ``TestSplit.txt`` the sequences
    listed there (option ``split=all`` takes all). Intrinsics stand in ``camera-intrinsics.txt``, or are the set's own.

    Raises:
        ConfigError: another layout.
    """
    split = options.get("split", "test", ("test", "all"))
    if _has_poses(place):
        sequences = {place.name: place}
    else:
        scenes = [place] if any(map(_has_poses, folders(place))) else folders(place)
        sequences = {f"{scene.name}-{seq.name}": seq for scene in scenes for seq in _sequences(scene, split)}
    if not sequences:
        raise no_layout(
            "7-Scenes", place, "frame-000000.color.png, .depth.png, .pose.txt, in seq-01 of a scene or here"
        )
    videos = tuple(_seven_scenes_video(name, root, options) for name, root in sequences.items())
    return Dataset("7scenes", "7scenes", videos, cap=CAP, split=split if len(sequences) > 1 else "one sequence")


def _has_poses(folder: Path) -> bool:
    return next(folder.glob(f"*{POSE_SUFFIX}"), None) is not None


def _sequences(scene: Path, split: str) -> list[Path]:
    found = [folder for folder in folders(scene) if _has_poses(folder)]
    listed = scene / "TestSplit.txt"
    if split != "test" or not listed.is_file():
        return found
    digits = ["".join(filter(str.isdigit, line)) for line in listed.read_text(encoding="utf-8").splitlines()]
    numbers_listed = {int(number) for number in digits if number}
    return [folder for folder in found if int("".join(filter(str.isdigit, folder.name)) or 0) in numbers_listed]


def _seven_scenes_video(name: str, root: Path, options: Options) -> DatasetVideo:
    colour = [path for path in pictures(root) if path.stem.endswith(".color")]
    frames = []
    for path in options.chosen(colour):
        stem = path.stem.removesuffix(".color")
        depth = root / f"{stem}.depth.png"
        frames.append(FrameFiles(stem, path, depth if depth.is_file() else None))
    if not frames:
        raise no_layout("7-Scenes", root, f"pictures *.color.png beside *{POSE_SUFFIX}")
    height, width = read_picture(frames[0].rgb).shape[:2]
    beside = any((root / file).is_file() for file in INTRINSICS_NAMES)
    lens = None if beside else _kinect_lens(SEVEN_SCENES_LENS, width, height)
    posed = read_poses(root, frame_size=(width, height), intrinsics=lens, kind="7scenes")  # of frames not taken, too
    cameras = tuple(posed.get(frame.name) for frame in frames)
    return FileVideo(name, tuple(frames), MILLIMETRES, full_cameras=cameras, static=True)


def read_tum(place: Path, options: Options) -> Dataset:
    """TUM RGB-D: ``rgb.txt``, ``depth.txt``, ``groundtruth.txt``; depth in 1/5000 m.

    Colour, depth and poses are recorded at times of their own; each colour frame takes the nearest depth and pose
    within 0.02 s, closest pairs first (the benchmark's ``associate.py``). Colour frames without depth are left out.

    Raises:
        ConfigError: another layout, or a camera whose intrinsics are not known.
    """
    videos = []
    for root in _trajectories(place, "TUM RGB-D"):
        frames, times = _associated(root)
        if not frames:
            raise no_layout("TUM RGB-D", root, f"colour and depth within {TIME_GAP} s of each other")
        chosen = options.chosen(list(zip(frames, times, strict=True)))
        frames, times = [frame for frame, _ in chosen], [time for _, time in chosen]
        moving = any(word in root.name for word in TUM_MOVING)
        cameras = _tum_cameras(root, frames, times)
        decode = depth_picture(TUM_CODES_PER_METRE)
        videos.append(FileVideo(root.name, tuple(frames), decode, full_cameras=cameras, static=not moving))
    return Dataset("tum", "tum", tuple(videos), cap=CAP)


def read_bonn(place: Path, options: Options) -> Dataset:
    """Bonn RGB-D Dynamic: as TUM RGB-D, frames 30 to 139 of the five videos of the published tables (or of all there).

    People move in all of them and the poses are those of a marker, so there are no cameras here, and no TAE.

    Raises:
        ConfigError: another layout.
    """
    found = _trajectories(place, "Bonn RGB-D")
    listed = [root for root in found if root.name.removeprefix("rgbd_bonn_") in BONN_VIDEOS]
    videos = []
    for root in listed or found:
        frames = options.chosen(_associated(root)[0], most=BONN_FRAMES, start=BONN_FIRST)
        if not frames:
            raise no_layout("Bonn RGB-D", root, f"more than {BONN_FIRST} frames")
        videos.append(FileVideo(root.name, tuple(frames), depth_picture(TUM_CODES_PER_METRE)))
    split = "the five videos of DepthCrafter's table" if len(listed) == len(BONN_VIDEOS) else f"{len(videos)} videos"
    return Dataset("bonn", "bonn", tuple(videos), cap=CAP, split=f"{split}, from frame {BONN_FIRST}")


def _trajectories(place: Path, kind: str) -> list[Path]:
    roots = [place] if (place / "rgb.txt").is_file() else [f for f in folders(place) if (f / "rgb.txt").is_file()]
    if not roots:
        raise no_layout(kind, place, "<sequence>/rgb.txt, depth.txt and groundtruth.txt")
    return roots


def _associated(root: Path) -> tuple[list[FrameFiles], list[float]]:
    """Colour frames that have a depth picture, and their times."""
    colour, depth = _listed(root / "rgb.txt"), _listed(root / "depth.txt")
    pairs = associate([time for time, _ in colour], [time for time, _ in depth], TIME_GAP)
    frames = [FrameFiles(colour[i][1].stem, colour[i][1], depth[j][1]) for i, j in pairs.items()]
    return frames, [colour[i][0] for i in pairs]


def _listed(path: Path) -> list[tuple[float, Path]]:
    """Lines of ``time file``."""
    rows = []
    for where, words in read_table(path):
        if len(words) != 2 or Path(words[1]).suffix.lower() not in PICTURES:
            raise ConfigError(f"{where}: expected a time and a picture", reason="dataset")
        rows.append((numbers(words[:1], where)[0], path.parent / words[1]))
    return sorted(rows)


def _tum_cameras(root: Path, frames: list[FrameFiles], times: list[float]) -> tuple[Camera | None, ...] | None:
    if not (root / TRAJECTORY_NAME).is_file() or not frames:
        return None
    lens = next((lens for name, lens in TUM_LENSES.items() if name in root.name), None)
    if lens is None and not any((root / name).is_file() for name in INTRINSICS_NAMES):
        return None
    if not associate(times, read_trajectory(root / TRAJECTORY_NAME)[0], TIME_GAP):
        return None  # these frames were taken before or after the poses
    height, width = read_picture(frames[0].rgb).shape[:2]
    given = None if lens is None else _kinect_lens(lens, width, height)
    names = [frame.name for frame in frames]
    posed = read_poses(
        root, frame_names=names, frame_times=times, frame_size=(width, height), intrinsics=given, kind="tum"
    )
    return tuple(posed.get(name) for name in names)


def _kinect_lens(lens: Lens, width: int, height: int) -> Lens:
    """The lens of a 640x480 picture for a copy of another size."""
    fx, fy, cx, cy = scale_intrinsics(lens, KINECT_SIZE, (width, height)).tolist()
    return fx, fy, cx, cy
