"""What every data set gives: videos of frames, with truth where it is known, and how it is compared."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from nvds_core.types import Camera, DecodeError
from nvds_core.video.folders import read_picture

Quantity = Literal["depth", "disparity", "none"]
Published = Literal["vdw", "nyu"]
Map = NDArray[np.float32]


@dataclass(frozen=True)
class Crop:
    """Rows ``top .. bottom`` and columns ``left .. right`` of a picture, the ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    def __str__(self) -> str:
        return f"rows {self.top}:{self.bottom}, columns {self.left}:{self.right}"

    def cut(self, picture: NDArray[np.generic]) -> NDArray[np.generic]:
        """The part of ``[h, w, ...]`` inside."""
        return picture[self.top : self.bottom, self.left : self.right]


class DatasetVideo(ABC):
    """One video of a data set.

    Attributes:
        name: unique within its set, good for a file name.
        frame_names: as the set names its frames, in order.
        cameras: per frame, for pictures of the size of `rgb`, or None where there is no pose; None without any.
        static: nothing but the camera moves, which TAE needs.
    """

    name: str
    frame_names: tuple[str, ...]
    cameras: tuple[Camera | None, ...] | None = None
    static: bool = False

    @abstractmethod
    def rgb(self, index: int) -> NDArray[np.uint8]:
        """A frame, uint8 [h, w, 3].

        Raises:
            DecodeError: the picture cannot be read.
        """

    @abstractmethod
    def truth(self, index: int) -> Map | None:
        """What is known of a frame, float32 [h, w], NaN where nothing is; None for a frame without truth.

        Metres along the optical axis, or disparity in 0..1, as `Dataset.quantity` says; the same view as `rgb`.

        Raises:
            DecodeError: the file cannot be read.
        """

    @abstractmethod
    def stamp(self) -> str:
        """A text that changes when frames or truth do, without reading them."""

    def picture_file(self, index: int) -> Path | None:
        """The file that holds exactly the picture of `rgb`, if there is one."""
        return None


@dataclass(frozen=True)
class FrameFiles:
    """The files of one frame; `name` is what the set calls it."""

    name: str
    rgb: Path
    truth: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True, eq=False)
class FileVideo(DatasetVideo):
    """A video whose frames are files.

    Attributes:
        decode: reads the truth of a frame, whole, NaN where unknown.
        crop: cut from frames and truth alike; a function of (height, width), or None for whole pictures.
        fit: frames are first resized to the size of the truth (sensors of different resolution that see the same).
        full_cameras: for whole pictures of the truth's size.
    """

    name: str  # type: ignore[misc]
    frames: tuple[FrameFiles, ...]
    decode: Callable[[FrameFiles], Map | None]
    crop: Callable[[int, int], Crop] | None = None
    fit: bool = False
    full_cameras: tuple[Camera | None, ...] | None = None
    static: bool = False

    @property
    def frame_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(frame.name for frame in self.frames)

    @property
    def cameras(self) -> tuple[Camera | None, ...] | None:  # type: ignore[override]
        if self.full_cameras is None or self.crop is None:
            return self.full_cameras
        return tuple(
            camera and _cropped(camera, self.crop(camera.height, camera.width)) for camera in self.full_cameras
        )

    def rgb(self, index: int) -> NDArray[np.uint8]:
        picture = read_picture(self.frames[index].rgb)
        if self.fit:
            truth = self.decode(self.frames[index])
            if truth is not None and truth.shape != picture.shape[:2]:
                size = (truth.shape[1], truth.shape[0])
                picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        return np.ascontiguousarray(self._cut(picture))

    def truth(self, index: int) -> Map | None:
        truth = self.decode(self.frames[index])
        return None if truth is None else np.ascontiguousarray(self._cut(truth))

    def stamp(self) -> str:
        whole = hashlib.sha256(f"{self.crop is not None} {self.fit} {self.static}".encode())
        for frame in self.frames:
            for path in (frame.rgb, frame.truth, frame.mask):
                if path is not None and path.exists():
                    status = path.stat()
                    whole.update(f"{frame.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        for camera in self.cameras or ():
            if camera is not None:
                whole.update(f"{camera.intrinsics} {camera.cam_from_world.tolist()}".encode())
        return whole.hexdigest()

    def picture_file(self, index: int) -> Path | None:
        return None if self.crop is not None or self.fit else self.frames[index].rgb

    def _cut(self, picture: NDArray[np.generic]) -> NDArray[np.generic]:
        return picture if self.crop is None else self.crop(*picture.shape[:2]).cut(picture)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Videos that are scored alike.

    Attributes:
        kind: which reader it is.
        name: kind and variant, for tables.
        videos: in a fixed order.
        quantity: what `DatasetVideo.truth` holds; ``none`` for footage without truth.
        cap: farthest depth that counts, metres; None where there is none.
        crop: in words, what is cut from frames and truth before anything else.
        area: the part of the truth that counts in the common protocol; the frames stay whole.
        published: the accuracy protocol of the NVDS release for this set, if it has one.
        split: which part of the set, in words.
        place: name of its folder, or its seeds; tells sets of one name apart.
    """

    kind: str
    name: str
    videos: tuple[DatasetVideo, ...]
    quantity: Quantity = "depth"
    cap: float | None = None
    crop: str = "none"
    area: Crop | None = None
    published: Published | None = None
    split: str = "all"
    place: str = ""

    def scored(self, truth: Map) -> Map:
        """The truth inside `area`, NaN outside."""
        if self.area is None:
            return truth
        inside = np.full_like(truth, np.nan)
        kept = (slice(self.area.top, self.area.bottom), slice(self.area.left, self.area.right))
        inside[kept] = truth[kept]
        return inside


def read_codes(path: Path) -> NDArray[np.uint16]:
    """A 16-bit picture, uint16 [h, w].

    Raises:
        DecodeError: it cannot be read, or is no grey picture of 16 bits.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        codes = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except OSError as error:
        raise DecodeError(f"{path}: cannot be read ({error.strerror})", reason="unreadable") from error
    except cv2.error as error:
        raise DecodeError(f"{path}: the picture cannot be decoded ({error.err}); fetch it again") from error
    if codes is None or codes.dtype != np.uint16 or codes.ndim != 2:
        found = "damaged" if codes is None else f"{codes.dtype} {codes.shape}"
        raise DecodeError(f"{path}: {found}, expected a grey picture of 16 bits; fetch it again")
    return np.asarray(codes, np.uint16)


def depth_from_codes(codes: NDArray[np.uint16], per_metre: float, *, unknown: Sequence[int] = (0,)) -> Map:
    """Depth in metres of a 16-bit picture, NaN where its code is one of `unknown`."""
    depth = codes.astype(np.float32) / np.float32(per_metre)
    depth[np.isin(codes, unknown)] = np.nan
    return depth


def depth_picture(per_metre: float, *, unknown: Sequence[int] = (0,)) -> Callable[[FrameFiles], Map | None]:
    """A reader of depth pictures with so many codes per metre; a frame without a file has no truth."""

    def decode(frame: FrameFiles) -> Map | None:
        return None if frame.truth is None else depth_from_codes(read_codes(frame.truth), per_metre, unknown=unknown)

    return decode


def _cropped(camera: Camera, crop: Crop) -> Camera:
    fx, fy, cx, cy = camera.intrinsics
    width, height = crop.right - crop.left, crop.bottom - crop.top
    return dataclasses.replace(camera, intrinsics=(fx, fy, cx - crop.left, cy - crop.top), width=width, height=height)
