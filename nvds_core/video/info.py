"""What a video is to the rest of the library: its description, its frames, the names it goes by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from nvds_core.types import DecodeError

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".flv"}
    | {".ogv", ".3gp", ".mxf", ".gif"}
)
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"))

FOLDER_FPS = 24.0  # a folder of frames carries no clock; film speed is what VDW and Sintel were shot at
MAX_SIDE = 16384  # pixels; above the largest cameras, and the limit of h264 and of most tools
MAX_PIXELS = 2**27  # 134 Mpx = 400 MB per RGB frame


@dataclass(frozen=True)
class VideoInfo:
    """Description of a video before (mostly) decoding it.

    Attributes:
        kind: "file" or "folder".
        frames: for a file what the container claims (None where it claims nothing), for a folder exact.
        width, height: pixels after rotation, as frames are delivered.
        fps: average frames per second, 0.0 when unknown.
        duration_s: seconds as claimed by the container, None when unknown.
        rotation: degrees clockwise that are applied to stored frames: 0, 90, 180 or 270.
        codec, pixel_format: FFmpeg's names; for folders the suffix and the stored type, such as "rgb24".
        variable_frame_rate: None until the video was decoded to its end.
        mirrored: stored frames are also flipped left to right after the rotation.
    """

    kind: str
    frames: int | None
    width: int
    height: int
    fps: float
    duration_s: float | None
    rotation: int
    codec: str
    pixel_format: str
    variable_frame_rate: bool | None = None
    mirrored: bool = False


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: `index` from 0, `time_s` seconds since the first frame, `rgb` uint8 [h, w, 3] in R, G, B order."""

    index: int
    time_s: float
    rgb: NDArray[np.uint8]


def is_video_name(name: str) -> bool:
    """Whether a file name ends like a video; hidden files never do."""
    path = PurePath(name)
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def check_size(name: str, width: int, height: int) -> None:
    """Refuse absurd pictures before memory is asked for them.

    Raises:
        DecodeError: reason "too_large", or "decode" for a side below one pixel.
    """
    if width < 1 or height < 1:
        raise DecodeError(f"{name}: the picture size {width}x{height} is not usable; re-encode the video")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise DecodeError(
            f"{name}: {width}x{height} is larger than {MAX_SIDE} per side or {MAX_PIXELS} pixels; scale it down first",
            reason="too_large",
        )
