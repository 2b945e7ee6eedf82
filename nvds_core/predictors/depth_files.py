"""Depth maps of one video in files: one file per frame (PNG16, NPY, NPZ, EXR), or one NPY or NPZ for all frames."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from nvds_core.checkpoints import file_digest
from nvds_core.predictors.exr import read_exr
from nvds_core.predictors.quantity import QUANTITIES, Quantity, to_disparity
from nvds_core.types import ConfigError, DecodeError

MAP_SUFFIXES: Final = (".png", ".npy", ".npz", ".exr")
RANGE_FILE: Final = "range.json"  # beside the pictures of "nvds export --to png16": what their codes mean
DAMAGED: Final = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, cv2.error)


class DepthMaps(Protocol):
    """Depth maps of one video in order."""

    @property
    def count(self) -> int:
        """Number of maps."""
        ...

    @property
    def digest(self) -> str:
        """Names the content of all maps together."""
        ...

    def maps(self) -> Iterator[NDArray[np.float32]]:
        """Finite disparity [h,w] of every frame; DecodeError naming the file that cannot be used."""
        ...


def open_files(path: Path, quantity: Quantity | None = None) -> DepthMaps:
    """The maps of a folder with one file per frame, or of one array file.

    Args:
        path: a folder, or an NPY or NPZ file of [t,h,w].
        quantity: what the numbers are; None: what the array is called (``disparity`` or ``depth``), else disparity.

    Raises:
        DecodeError: no such maps, or damaged.
        ConfigError: a quantity that contradicts the files.
    """
    return _Series.of(path, quantity) if path.is_dir() else _Array.of(path, quantity)


def map_files(folder: Path) -> list[Path]:
    """The map files of a folder in natural order of their names: ``frame_2`` before ``frame_10``.

    Raises:
        DecodeError: files of several formats, of which only one can be meant.
    """
    files = [path for path in folder.iterdir() if path.suffix.lower() in MAP_SUFFIXES and path.name[0] != "."]
    suffixes = sorted({path.suffix.lower() for path in files})
    if len(suffixes) > 1:
        raise DecodeError(
            f"{folder}: maps in several formats ({', '.join(suffixes)}); leave one of them", reason="maps"
        )
    return sorted(files, key=lambda path: [(int(part), "") if part.isdigit() else (-1, part) for part in _parts(path)])


def is_series(folder: Path) -> bool:
    """Whether a folder itself holds the maps of one video, a file per frame, rather than array files of videos."""
    files = map_files(folder)
    return bool(files) and not _holds_video(files[0])


def _holds_video(path: Path) -> bool:
    if path.suffix.lower() not in (".npy", ".npz"):
        return False
    try:
        with _opened(path, None) as (stream, _):
            shape, _ = _npy_header(stream, path)
    except (*DAMAGED, DecodeError):
        return False  # a single map, or no map at all, which reading it will tell
    return shape[0] > 1 and shape[2] > 1


def _parts(path: Path) -> list[str]:
    return [part for part in re.split(r"([0-9]+)", path.stem) if part]


@dataclass(frozen=True)
class _Series:
    files: tuple[Path, ...]
    quantity: Quantity | None
    code: tuple[float, float] | None  # offset and scale of our own 16-bit pictures
    digest: str

    @classmethod
    def of(cls, folder: Path, quantity: Quantity | None) -> _Series:
        files = map_files(folder)
        if not files:
            raise DecodeError(f"{folder}: no map files; {_formats()} are read", reason="no_maps")
        code = None
        about = folder / RANGE_FILE
        if about.is_file() and files[0].suffix.lower() == ".png":
            code = _range(about)
            if quantity == "depth":
                raise ConfigError(
                    f"{about} says that the pictures hold disparity, not depth; leave ?quantity=depth out"
                )
        return cls(tuple(files), quantity, code, content_digest([*files, about] if code else files))

    @property
    def count(self) -> int:
        return len(self.files)

    def maps(self) -> Iterator[NDArray[np.float32]]:
        for path in self.files:
            values, quantity = _read_map(path, self.quantity)
            if self.code is not None:
                offset, scale = self.code
                values = np.where(values > 0, offset + scale * (values.astype(np.float64) - 1), np.nan)
            yield to_disparity(values, quantity, str(path))


def _range(path: Path) -> tuple[float, float]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return float(found["offset"]), float(found["scale"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DecodeError(
            f"{path}: not the code of 16-bit pictures ({error!r}); export them again, or remove it"
        ) from error


def _read_map(path: Path, quantity: Quantity | None) -> tuple[NDArray[Any], Quantity]:
    """The numbers of one file [h,w] and what they are."""
    suffix = path.suffix.lower()
    try:
        if suffix in (".npy", ".npz"):
            with _opened(path, quantity) as (stream, found):
                values: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            return _flat(values, path), found
        data = path.read_bytes()
        if suffix == ".exr":
            return read_exr(data, str(path)), quantity or "disparity"
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except DAMAGED as error:
        raise DecodeError(f"{path}: damaged or no {suffix[1:].upper()} file ({error}); write it again") from error
    if picture is None:
        raise DecodeError(f"{path}: damaged or no PNG file; write it again")
    if picture.dtype != np.uint16 or picture.ndim != 2:
        raise DecodeError(f"{path}: {picture.dtype} {picture.shape} is no 16-bit map; write grey pictures of 16 bits")
    return picture, quantity or "disparity"


def _flat(values: NDArray[Any], path: Path) -> NDArray[Any]:
    """[h,w] of what may also be [1,h,w] or [h,w,1]."""
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "fiu":
        raise DecodeError(
            f"{path}: {values.dtype} {values.shape} is no map of one frame; numbers [h, w] are needed "
            "(a file with all frames must be called like its video)"
        )
    return values


@dataclass(frozen=True)
class _Array:
    """One array of all frames, read frame by frame: a long video need not fit into memory."""

    path: Path
    quantity: Quantity | None
    shape: tuple[int, int, int]
    digest: str

    @classmethod
    def of(cls, path: Path, quantity: Quantity | None) -> _Array:
        try:
            with _opened(path, quantity) as (stream, _):
                shape, _ = _npy_header(stream, path)
        except DAMAGED as error:
            raise DecodeError(f"{path}: damaged or no NPY or NPZ file ({error}); write it again") from error
        return cls(path, quantity, shape, content_digest([path]))

    @property
    def count(self) -> int:
        return self.shape[0]

    def maps(self) -> Iterator[NDArray[np.float32]]:
        try:
            with _opened(self.path, self.quantity) as (stream, quantity):
                (frames, height, width), kind = _npy_header(stream, self.path)
                for index in range(frames):
                    data = stream.read(height * width * kind.itemsize)
                    values = np.frombuffer(data, kind).reshape(height, width)
                    yield to_disparity(values, quantity, f"{self.path}, frame {index}")
        except DAMAGED as error:
            raise DecodeError(f"{self.path}: damaged or cut off ({error}); write it again") from error


def _npy_header(stream: IO[bytes], path: Path) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    """Shape and type of the array that begins here; leaves the stream at its first number."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, kind = read(stream)
    if len(shape) != 3 or 0 in shape or kind.kind not in "fiu" or by_columns:
        order = ", by columns" if by_columns else ""
        raise DecodeError(f"{path}: {kind} {shape}{order} is no video of maps; numbers [t, h, w] by rows are needed")
    return shape, kind


@contextmanager
def _opened(path: Path, quantity: Quantity | None) -> Iterator[tuple[IO[bytes], Quantity]]:
    """The bytes of the one array of an NPY or NPZ file, and what its numbers are."""
    if path.suffix.lower() == ".npy":
        with path.open("rb") as plain:
            yield plain, quantity or "disparity"
        return
    with zipfile.ZipFile(path) as archive:
        name, found = _member([name.removesuffix(".npy") for name in archive.namelist()], quantity, path)
        with archive.open(f"{name}.npy") as packed:
            yield packed, found


def _member(names: Sequence[str], quantity: Quantity | None, path: Path) -> tuple[str, Quantity]:
    """Which array of an archive holds the maps, and what they are."""
    for wanted in QUANTITIES if quantity is None else (quantity,):
        if wanted in names:
            return wanted, wanted
    if len(names) == 1:
        return names[0], quantity or "disparity"
    listed = ", ".join(names) or "none"
    raise DecodeError(
        f"{path}: no array is called disparity or depth (there are: {listed}); name the one that is meant"
    )


def content_digest(paths: Sequence[Path]) -> str:
    """SHA-256 over the contents of files in order; files that have not changed are not read again by this process."""
    stamps = []
    for path in paths:
        status = path.stat()
        stamps.append((str(path), status.st_size, status.st_mtime_ns))
    return _digest_of(tuple(stamps))


@lru_cache(maxsize=4096)
def _digest_of(stamps: tuple[tuple[str, int, int], ...]) -> str:
    whole = hashlib.sha256()
    for path, _, _ in stamps:
        whole.update(bytes.fromhex(file_digest(Path(path))))
    return whole.hexdigest()


def _formats() -> str:
    return ", ".join(suffix[1:].upper() for suffix in MAP_SUFFIXES)
