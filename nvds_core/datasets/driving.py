"""KITTI: the annotated depth of the validation drives, sparse LiDAR."""

from __future__ import annotations

from pathlib import Path

from nvds_core.datasets.base import Crop, Dataset, FileVideo, FrameFiles, depth_picture
from nvds_core.datasets.layout import Options, folders, no_layout, pictures

CAP, CODES_PER_METRE = 80.0, 256.0
FRAMES = 110  # of each drive, as in DepthCrafter's table; ``frames=500`` is the long variant
ANNOTATED = Path("proj_depth") / "groundtruth" / "image_02"


def read_kitti(place: Path, options: Options) -> Dataset:
    """KITTI: ``data_depth_annotated/val/<drive>/proj_depth/groundtruth/image_02`` and the raw ``image_02/data``.

    Frames are those with annotated depth, the first 110 of each drive. An odd last row or column is cut off (the usual
    375 x 1242 becomes 374 x 1242), as for the published tables, which encode the frames as h264.

    Raises:
        ConfigError: another layout, or depth without its pictures.
    """
    split = options.get("split", "val", ("val", "train"))
    depth_root = next(
        (root for root in (place / "data_depth_annotated" / split, place / split, place) if _annotated(root)), None
    )
    if depth_root is None:
        raise no_layout("KITTI", place, f"data_depth_annotated/{split}/<drive>/{ANNOTATED.as_posix()}/0000000005.png")
    videos = []
    for drive in _annotated(depth_root):
        raw = _raw_pictures(place, depth_root, drive)
        frames = [
            FrameFiles(path.stem, raw / path.name, path)
            for path in options.chosen(pictures(drive / ANNOTATED, (".png",)), most=FRAMES)
        ]
        missing = [frame.rgb for frame in frames if not frame.rgb.is_file()]
        if not frames:
            raise no_layout("KITTI", place, f"annotated depth in {drive / ANNOTATED}")
        if missing:
            raise no_layout("KITTI", place, f"the raw picture {missing[0]}")
        videos.append(FileVideo(drive.name, tuple(frames), depth_picture(CODES_PER_METRE), crop=even_size))
    return Dataset("kitti", "kitti", tuple(videos), cap=CAP, crop="even height and width", split=split)


def even_size(height: int, width: int) -> Crop:
    """All but an odd last row and column."""
    return Crop(0, height - height % 2, 0, width - width % 2)


def _annotated(root: Path) -> list[Path]:
    return [drive for drive in folders(root) if (drive / ANNOTATED).is_dir()] if root.is_dir() else []


def _raw_pictures(place: Path, depth_root: Path, drive: Path) -> Path:
    """Where the pictures of a drive lie: in the tree of the raw data (by date), or beside the depth."""
    date = drive.name[:10]
    candidates = [root / date / drive.name / "image_02" / "data" for root in (place, place / "raw", place / "raw_data")]
    candidates.append(depth_root / drive.name / "image_02" / "data")
    found = next((folder for folder in candidates if folder.is_dir()), None)
    if found is None:
        raise no_layout("KITTI", place, f"the raw pictures {date}/{drive.name}/image_02/data")
    return found
