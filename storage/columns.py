"""One time-first Zarr array being written: its layout, its buffer, its verification."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from storage.errors import StorageError, translated
from storage.files import read_json

# Several arrays are buffered at once (initial, forward, backward, mix; two flows), each up to one storage shard.
SHARD_BYTES = 32 * 1024**2
# Smaller "frames" (timestamps, scales) share chunks: one chunk each would cost more in index than in data.
_SMALL_FRAME_BYTES = 4096
_SMALL_CHUNK_BYTES = 64 * 1024
_ENDLESS = 2**31  # stands for a length not known yet


@dataclass(frozen=True)
class ArraySpec:
    """One array: time first.

    Attributes:
        shape: (frames, ...); frames may be None when only decoding will tell.
        dtype: NumPy name, for example ``float32``.
        chunk_frames: frames compressed together, the unit of a read.
        shard_frames: at most so many frames in one file (a multiple of `chunk_frames`); fewer for short arrays and
            where they would exceed `SHARD_BYTES`.
        level: zstd level.
        fill_value: what Zarr reads where nothing is stored.
        dimensions: names, for example ``("t", "y", "x")``.
    """

    shape: tuple[int | None, ...]
    dtype: str
    chunk_frames: int = 1
    shard_frames: int = 64
    level: int = 1
    fill_value: float = 0
    dimensions: tuple[str, ...] | None = None


def layout(spec: ArraySpec, frames: int) -> tuple[int, int]:
    """(frames per chunk, frames per storage shard) for an array of known length."""
    frame_bytes = max(1, math.prod(size or 0 for size in spec.shape[1:]) * np.dtype(spec.dtype).itemsize)
    if frame_bytes <= _SMALL_FRAME_BYTES:
        together = max(1, min(frames, _SMALL_CHUNK_BYTES // frame_bytes))
        return together, together
    chunk = max(1, min(spec.chunk_frames, frames))
    most = min(spec.shard_frames, max(frames, 1), max(1, SHARD_BYTES // frame_bytes))
    # a shard holds whole chunks; the last one may be partly empty
    return chunk, max(1, most // chunk) * chunk


class Column:
    """One array being written: a buffer of one storage shard and what has been flushed."""

    def __init__(self, path: Path, spec: ArraySpec) -> None:
        self.path, self.spec = path, spec
        self.total = spec.shape[0]
        self.rest = tuple(int(size) for size in spec.shape[1:] if size is not None)
        if len(self.rest) != len(spec.shape) - 1:
            raise StorageError(f"{path.name}: only the number of frames may be unknown, not {spec.shape}")
        self.chunk, self.shard = layout(spec, _ENDLESS if self.total is None else self.total)
        self.flushed = self.held = 0
        self.buffer: NDArray[Any] | None = None
        self.array: zarr.Array[Any] | None = None

    def append(self, first: int, block: NDArray[Any]) -> None:
        block = self._checked(first, block)
        while len(block):
            if self.buffer is None:
                self.buffer = np.empty((self.shard, *self.rest), self.spec.dtype)
            count = min(len(block), self.shard - self.held)
            self.buffer[self.held : self.held + count] = block[:count]
            self.held += count
            block = block[count:]
            if self.held == self.shard:
                self._flush()

    def finish(self) -> dict[str, Any]:
        """Flush the rest, verify, and return the array's metadata document."""
        written = self.flushed + self.held
        if self.total is None:
            self.total = written
            if self.array is None:  # short enough to fit its shard to the true length
                self.chunk, self.shard = layout(self.spec, written)
        if written != self.total:
            raise StorageError(
                f"{self.path}: {written} of {self.total} frames were written; the step broke off, run it again",
                reason="incomplete",
            )
        self._flush()
        self.buffer = None
        self._verify_files()
        document: dict[str, Any] = read_json(self.path / "zarr.json")
        return document

    def _checked(self, first: int, block: NDArray[Any]) -> NDArray[Any]:
        position = self.flushed + self.held
        if first != position:
            raise StorageError(f"{self.path}: block starts at frame {first}, expected {position}", reason="format")
        if block.shape[1:] != self.rest:
            raise StorageError(f"{self.path}: block {block.shape} does not fit {self.spec.shape}", reason="format")
        if self.total is not None and position + len(block) > self.total:
            raise StorageError(
                f"{self.path}: frames up to {position + len(block)}, but the array has {self.total}", reason="format"
            )
        if not np.can_cast(block.dtype, self.spec.dtype, "same_kind"):
            raise StorageError(f"{self.path}: {block.dtype} block for {self.spec.dtype} array", reason="format")
        return block

    def _flush(self) -> None:
        """Write the buffered frames as one whole storage shard (the last may be shorter)."""
        end = self.flushed + self.held
        with translated("write", self.path):
            if self.array is None:
                self.array = self._create(end if self.total is None else self.total)
            elif self.total is None or self.array.shape[0] < end:
                self.array.resize((end, *self.rest))
            if self.held:
                assert self.buffer is not None
                self.array[self.flushed : end] = self.buffer[: self.held]
        self.flushed, self.held = end, 0

    def _create(self, frames: int) -> zarr.Array[Any]:
        spec = self.spec
        chunks = (self.chunk, *(max(1, size) for size in self.rest))
        return zarr.create_array(
            store=str(self.path),
            shape=(frames, *self.rest),
            dtype=spec.dtype,
            chunks=chunks,
            shards=(self.shard, *chunks[1:]) if self.shard > self.chunk else None,
            fill_value=spec.fill_value,
            compressors=[BloscCodec(cname="zstd", clevel=spec.level, shuffle="shuffle"), Crc32cCodec()],
            dimension_names=spec.dimensions,
            # all-fill chunks are stored too: a missing file always means lost data
            config={"write_empty_chunks": True},
        )

    def _verify_files(self) -> None:
        expected = 0 if 0 in self.rest else -(-self.flushed // self.shard)
        found = sum(1 for path in (self.path / "c").rglob("*") if path.is_file())
        if found != expected:
            raise StorageError(f"{self.path}: {found} of {expected} shard files on the disk", reason="incomplete")
