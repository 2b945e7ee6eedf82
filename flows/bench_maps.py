"""Disparity of one video by method, read a few frames at a time; the controls are made on the fly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nvds_core.metrics.alignment import NEAREST, Fit, aligned_depth, as_map
from storage import DepthVolume

Maps = NDArray[np.float32]
BOX_REACH = 3  # frames on each side: what a bidirectional window of NVDS sees
BLOCK = 16


class Source(Protocol):
    """Disparity of a video, [t, h, w]."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height, width."""
        ...

    def read(self, start: int, stop: int) -> Maps:
        """Frames ``start .. stop``, float32 [n, h, w]."""
        ...


@dataclass(frozen=True)
class Published:
    """One result of a finished volume."""

    volume: DepthVolume
    result: str

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.volume.shape

    def read(self, start: int, stop: int) -> Maps:
        return self.volume.read(self.result, start, stop)


@dataclass(frozen=True)
class Box:
    """Control: the plain mean over the frames a bidirectional window sees. Steady, and blind to motion."""

    inner: Source

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.inner.shape

    def read(self, start: int, stop: int) -> Maps:
        low = max(0, start - BOX_REACH)
        maps = self.inner.read(low, min(self.shape[0], stop + BOX_REACH))
        means = [maps[max(0, i - low - BOX_REACH) : i - low + BOX_REACH + 1].mean(axis=0) for i in range(start, stop)]
        return np.stack(means)


@dataclass(frozen=True)
class Constant:
    """Control: knows nothing and never flickers."""

    shape: tuple[int, int, int]

    def read(self, start: int, stop: int) -> Maps:
        return np.zeros((stop - start, *self.shape[1:]), np.float32)


class Resized:
    """A source frame by frame at the size (height, width) of the truth, bilinear as the common protocol does it."""

    def __init__(self, source: Source, size: tuple[int, int]) -> None:
        self.shape = (source.shape[0], *size)
        self._source = source
        self._first, self._block = 0, np.zeros((0, 0, 0), np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Maps:
        if not self._first <= index < self._first + len(self._block):
            self._first = index
            self._block = self._source.read(index, min(index + BLOCK, len(self)))
        frame = self._block[index - self._first]
        height, width = self.shape[1:]
        return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


class AlignedDepth:
    """Depth in metres of a resized source, after one scale and shift."""

    def __init__(self, maps: Resized, fit: Fit, cap: float | None) -> None:
        self._maps, self._fit, self._cap = maps, fit, cap
        self.shape = maps.shape

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, index: int) -> Tensor:
        estimate = as_map(self._maps[index]).double().clamp_min_(NEAREST)
        return aligned_depth(estimate, self._fit, self._cap, "disparity")


def blocks(frames: int) -> Iterator[tuple[int, int]]:
    """Ranges of frames that fit into memory."""
    for start in range(0, frames, BLOCK):
        yield start, min(start + BLOCK, frames)
