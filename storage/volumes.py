"""The published depth volume of one video: a Zarr group with one [t, h, w] array per result."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, cast, get_args

import numpy as np
import zarr
from numpy.typing import NDArray

from storage.arrays import ArrayReader, ArrayWriter, open_arrays
from storage.columns import ArraySpec
from storage.encoding import decode_uint16, encode_uint16, to_float
from storage.errors import StorageError, redact
from storage.urls import URL

Encoding = Literal["uint16", "float16", "float32"]

VOLUME_FORMAT = "nvds-volume"
VOLUME_VERSION = 1
QUANTITY = "disparity, affine-invariant, near is large"
_DIGEST_FRAMES = 32
_FORMULA = "value = <result>_offset[t] + <result>_scale[t] * (code - 1); code 0 is invalid"


class VolumeWriter:
    """Writes a volume into a new local folder; a context manager that closes on success only.

    Args:
        directory: local folder without a group so far, to be published by `locations.publish_tree`.
        results: array names, for example ``("initial", "forward", "backward", "mix")``.
        frames, height, width: the shape of every result.
        encoding: ``uint16`` (one affine code per frame, error below 1e-5 of its range), ``float16`` or ``float32``.
        attributes: JSON values describing the volume: source digest, cuts, models and digests, config, versions.
        time: seconds of each frame, [frames]; kept as array ``time``.
        further: arrays that are no results, by name, stored as they are (`write_further`).
    """

    def __init__(
        self,
        directory: URL,
        *,
        results: Sequence[str],
        frames: int,
        height: int,
        width: int,
        encoding: Encoding = "uint16",
        attributes: Mapping[str, Any] | None = None,
        time: Sequence[float] | NDArray[np.floating[Any]] | None = None,
        further: Mapping[str, ArraySpec] | None = None,
    ) -> None:
        attributes = dict(attributes or {})
        if encoding not in get_args(Encoding):
            raise StorageError(f"encoding {encoding!r}; choose from {get_args(Encoding)}", reason="format")
        if "time" in attributes:
            raise StorageError("timestamps are an array: VolumeWriter(..., time=...)", reason="format")
        self.results, self.frames, self.encoding = tuple(results), frames, encoding
        specs: dict[str, ArraySpec] = {}
        for result in self.results:
            specs |= _specs(result, frames, height, width, encoding)
        self._further = frozenset(further or ())
        specs |= further or {}
        if time is not None:
            specs["time"] = ArraySpec((frames,), "float64", dimensions=("t",))
        self._arrays = ArrayWriter(directory, specs, {})
        self._arrays.attributes = {
            "format": VOLUME_FORMAT,
            "format_version": VOLUME_VERSION,
            "quantity": QUANTITY,
            **attributes,
            "results": list(self.results),
            "encoding": encoding,
            "dimensions": ["t", "y", "x"],
        }
        if encoding == "uint16":
            self._arrays.attributes["formula"] = _FORMULA
        if time is not None:
            self._arrays.write("time", 0, np.asarray(time, np.float64))

    @property
    def attributes(self) -> dict[str, Any]:
        """The volume's attributes; may be added to until it is closed."""
        return self._arrays.attributes

    def write(self, result: str, first: int, block: NDArray[np.floating[Any]]) -> None:
        """Append frames ``first .. first + len(block)``, float32 [n, h, w]; non-finite pixels become invalid.

        Raises:
            StorageError: out of order, wrong shape, unknown result, value beyond float16, full or read-only disk.
        """
        if result not in self.results:
            raise StorageError(f"no result {result!r} in this volume, only {self.results}", reason="format")
        if self.encoding != "uint16":
            self._arrays.write(result, first, to_float(block, self.encoding))
            return
        codes, offset, scale = encode_uint16(block)
        self._arrays.write(result, first, codes)
        self._arrays.write(f"{result}_offset", first, offset)
        self._arrays.write(f"{result}_scale", first, scale)

    def write_further(self, name: str, first: int, block: NDArray[Any]) -> None:
        """Append frames of an array that is no result, as they are.

        Raises:
            StorageError: no such array, out of order, wrong shape, full or read-only disk.
        """
        if name not in self._further:
            raise StorageError(f"no further array {name!r} here, only {sorted(self._further)}", reason="format")
        self._arrays.write(name, first, block)

    def close(self) -> None:
        """Verify that all frames of all results are on the disk and make the volume appear.

        Raises:
            StorageError: ``incomplete``.
        """
        self._arrays.close()

    def __enter__(self) -> VolumeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._arrays.__exit__(kind, error, trace)


def _specs(result: str, frames: int, height: int, width: int, encoding: Encoding) -> dict[str, ArraySpec]:
    # NaN where nothing is stored in the float encodings, code 0 in the other: both read as invalid
    fill = 0.0 if encoding == "uint16" else float("nan")
    specs = {result: ArraySpec((frames, height, width), encoding, fill_value=fill, dimensions=("t", "y", "x"))}
    if encoding == "uint16":
        for part in ("offset", "scale"):
            specs[f"{result}_{part}"] = ArraySpec((frames,), "float64", dimensions=("t",))
    return specs


class DepthVolume:
    """A finished volume, read lazily; made by `open_volume`."""

    def __init__(self, arrays: ArrayReader) -> None:
        self._arrays = arrays
        self.attributes: dict[str, Any] = arrays.attributes
        self.results: tuple[str, ...] = tuple(self.attributes["results"])
        self.encoding = cast(Encoding, self.attributes["encoding"])
        shapes = {arrays.shape(result) for result in self.results}
        if len(shapes) != 1:
            raise StorageError(f"{redact(arrays.url)}: results of shapes {sorted(shapes)}", reason="format")
        self.shape = cast(tuple[int, int, int], shapes.pop())
        self._codes: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.shape[0]

    @property
    def time(self) -> NDArray[np.float64] | None:
        """Seconds of each frame [t], None if the volume was written without."""
        return self._arrays.read("time") if "time" in self._arrays.names else None

    def array(self, result: str) -> zarr.Array[Any]:
        """The stored Zarr array of a result: codes, not values, in encoding ``uint16``."""
        return self._arrays.array(result)

    def read(self, result: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Frames ``start .. stop`` (all by default) as float32 [n, h, w], NaN where invalid.

        Raises:
            StorageError: unknown result, frames out of range, damaged or unreachable data.
        """
        stored = self._arrays.read(result, start, stop)
        if self.encoding != "uint16":
            return stored.astype(np.float32, copy=False)
        if result not in self._codes:  # a few bytes per frame, read once
            self._codes[result] = (self._arrays.read(f"{result}_offset"), self._arrays.read(f"{result}_scale"))
        offset, scale = self._codes[result]
        return decode_uint16(stored, offset[start:stop], scale[start:stop])

    def read_further(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Frames ``start .. stop`` (all by default) of an array that is no result, such as ``reference``, as stored."""
        return self._arrays.read(name, start, stop)

    def frame(self, result: str, index: int) -> NDArray[np.float32]:
        """One frame, float32 [h, w]."""
        return self.read(result, index, index + 1)[0]

    def digest(self, result: str) -> str:
        """SHA-256 of the decoded values (float32, little endian, time first): the same for any layout on disk."""
        digest = hashlib.sha256()
        for start in range(0, self.frames, _DIGEST_FRAMES):
            block = self.read(result, start, min(start + _DIGEST_FRAMES, self.frames))
            digest.update(np.ascontiguousarray(block, dtype="<f4").tobytes())
        return digest.hexdigest()


def open_volume(url: URL) -> DepthVolume:
    """Open a finished volume in a local folder or at an fsspec URL.

    Raises:
        StorageError: ``absent``, ``incomplete`` (never finished) or ``format`` (not a volume, or damaged).
    """
    arrays = open_arrays(url)
    found = (arrays.attributes.get("format"), arrays.attributes.get("format_version"))
    if found != (VOLUME_FORMAT, VOLUME_VERSION):
        message = f"{redact(url)} is {found}, not a {VOLUME_FORMAT} of version {VOLUME_VERSION}"
        raise StorageError(message, reason="format")
    return DepthVolume(arrays)
