"""Folders of numbered pictures as videos: which files are the frames, and reading them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nvds_core.types import DecodeError
from nvds_core.video.info import FOLDER_FPS, IMAGE_SUFFIXES, Frame, VideoInfo, check_size, is_video_name

NUMBERED = re.compile(r"^(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)$")
SECONDS = re.compile(r"^(?P<whole>\d{9,})\.(?P<fraction>\d{1,9})$")  # a time, after which TUM RGB-D names its frames
LEFT_ASIDE = re.compile(
    r"(^|[-_.])(depth|disp|disparity|pose|mask|flow|gt|seg|normals?|conf|valid|right)s?([-_.]|$)", re.I
)
COLOUR_WORDS = frozenset({"", "frame", "frames", "color", "colour", "rgb", "img", "im", "image", "left"})
SUFFIX_PREFERENCE = (".png", ".tif", ".tiff", ".bmp", ".webp", ".jpg", ".jpeg")  # lossless first


def frame_folder(names: Iterable[str]) -> list[str] | None:
    """The frames among the file names of one folder, in order of their numbers.

    Knows `frame_000001.png`, plain numbers, times as `1305031102.175304.png`, and `frame-000001.color.jpg` of 7-Scenes
    whose depth and pose files are left aside. Of several numbered series the one named like a colour picture wins, then
    the longest. Hidden files, text and pictures without a number are ignored.

    Returns:
        Names in order, or None if this is no folder of frames: it holds video files, or no numbered series.
    """
    names = [name for name in names if not name.startswith(".")]
    if any(is_video_name(name) for name in names):
        return None
    series: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for name in sorted(
        names, key=_suffix_rank, reverse=True
    ):  # the preferred suffix of one number comes last and stays
        place = _place(Path(name).stem)
        if Path(name).suffix.lower() in IMAGE_SUFFIXES and place and not LEFT_ASIDE.search(".".join(place[0])):
            series[place[0]][place[1]] = name
    if not series:
        return None
    best = max(series, key=lambda key: (_is_colour(key), len(series[key]), key))
    if len(series[best]) < 2 and not _is_colour(best):
        return None  # one picture such as "poster2.jpg" makes no video
    return [series[best][number] for number in sorted(series[best])]


def lone_picture(folder: str, names: Iterable[str]) -> str | None:
    """What to tell about a folder that is no folder of frames and holds just one picture; None about others."""
    names = [name for name in names if not name.startswith(".")]
    pictures = [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    if len(pictures) != 1 or any(is_video_name(name) for name in names):
        return None
    return (
        f"{folder}: one picture, {pictures[0]}, is no video; give two or more numbered frames, or call it "
        f"frame_000001{Path(pictures[0]).suffix} to have a video of one frame"
    )


def _place(stem: str) -> tuple[tuple[str, str], int] | None:
    """The series that a picture belongs to, what is around its number, and the number (nanoseconds of a time)."""
    time = SECONDS.match(stem)
    if time is not None:
        return ("", "."), int(time["whole"] + time["fraction"].ljust(9, "0"))
    match = NUMBERED.match(stem)
    return ((match["before"], match["after"]), int(match["number"])) if match else None


def _suffix_rank(name: str) -> tuple[int, str]:
    suffix = Path(name).suffix.lower()
    return (SUFFIX_PREFERENCE.index(suffix) if suffix in SUFFIX_PREFERENCE else len(SUFFIX_PREFERENCE), name)


def _is_colour(key: tuple[str, str]) -> bool:
    words = [word for part in key for word in re.split(r"[-_. ]+", part.lower()) if word]
    return all(word in COLOUR_WORDS for word in words)


def resolve_folder(path: Path | str) -> tuple[Path, list[str]] | None:
    """Where the frames of a folder lie and their names in order, or None if it is no folder of frames.

    A folder whose pictures lie in `left/` (VDW layout, with `left_gt/` and `left_mask/` beside) is one video.

    Raises:
        DecodeError: reason "unreadable" when the folder may not be listed, "not_found".
    """
    path = Path(path)
    for folder in (path, path / "left"):
        try:
            if folder != path and not folder.is_dir():
                return None
            names = frame_folder(entry.name for entry in folder.iterdir() if entry.is_file())
        except FileNotFoundError as error:
            raise DecodeError(f"{folder}: no such folder; check the path", reason="not_found") from error
        except OSError as error:
            raise DecodeError(f"{folder}: cannot be listed ({error.strerror})", reason="unreadable") from error
        if names is not None:
            return folder, names
    return None


def numbering_warnings(names: Sequence[str]) -> list[str]:
    """Strides and holes in the numbers of ordered frame names, in words; nothing for times."""
    if any(SECONDS.match(Path(name).stem) for name in names):
        return []
    numbers = np.array([int(match["number"]) for name in names if (match := NUMBERED.match(Path(name).stem))])
    steps = np.diff(numbers)
    if steps.size == 0 or (steps == 1).all():
        return []
    stride = int(steps.min())
    found = [f"frames are numbered in steps of {stride}"] if stride > 1 else []
    holes = np.flatnonzero(steps != stride)
    if holes.size:
        found.append(f"{holes.size} gap(s) in the numbering, the first after {names[int(holes[0])]}")
    return found


def read_picture(path: Path) -> NDArray[np.uint8]:
    """One picture as uint8 RGB [h, w, 3]; 16 bits are reduced to 8, alpha is dropped, grey is repeated.

    Raises:
        DecodeError: reason "decode" for a damaged picture, "unreadable" or "not_found" for the file itself.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DecodeError(f"{path}: the frame is gone; list the folder again", reason="not_found") from error
    except OSError as error:
        raise DecodeError(f"{path}: cannot be read ({error.strerror})", reason="unreadable") from error
    # Decoders before OpenCV 5 fill the missing part of a cut JPEG with grey and say nothing.
    cut_jpeg = data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    try:
        bgr = None if cut_jpeg or not data else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DecodeError(f"{path}: the picture cannot be decoded ({error.err}); write it again") from error
    if bgr is None:
        raise DecodeError(f"{path}: the picture is damaged or cut off ({len(data)} bytes); write it again")
    return np.ascontiguousarray(bgr[:, :, ::-1]).astype(np.uint8, copy=False)


class FolderSource:
    """A folder of frames: `info`, `warnings`, `frames()`; time is index / FOLDER_FPS."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.name = str(folder)
        self.warnings = numbering_warnings(names)
        self._paths = [folder / name for name in names]
        first = read_picture(self._paths[0])
        height, width = first.shape[:2]
        check_size(str(self._paths[0]), width, height)
        self.info = VideoInfo(
            kind="folder",
            frames=len(names),
            width=width,
            height=height,
            fps=FOLDER_FPS,
            duration_s=len(names) / FOLDER_FPS,
            rotation=0,
            codec=self._paths[0].suffix.lower().lstrip("."),
            pixel_format="rgb24",
            variable_frame_rate=False,
        )

    def close(self) -> None:
        """Nothing is held open between frames."""

    def frames(self) -> Iterator[Frame]:
        """Frames in order.

        Raises:
            DecodeError: a damaged picture, or one of another size than the first; names the file.
        """
        for index, path in enumerate(self._paths):
            rgb = read_picture(path)
            if rgb.shape != (self.info.height, self.info.width, 3):
                raise DecodeError(
                    f"{path}: {rgb.shape[1]}x{rgb.shape[0]} where the first frame is "
                    f"{self.info.width}x{self.info.height}; frames of one folder must have one size"
                )
            yield Frame(index, index / FOLDER_FPS, rgb)
