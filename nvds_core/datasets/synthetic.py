"""Our own rendered scenes as a data set: exact depth and cameras for everybody, without a download."""

from __future__ import annotations

import re
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from nvds_core.datasets.base import Dataset, DatasetVideo, Map
from nvds_core.datasets.layout import Options
from nvds_core.synthetic import RENDERER_VERSION, Frame, Scene, make_scene, render_frame
from nvds_core.types import Camera, ConfigError

FRAMES, SIZE = 32, (288, 192)
CAP = 70.0  # as Sintel, the other rendered set
KEPT_FRAMES = 64  # rendered frames kept: truth is asked for soon after the picture
MOST_SEEDS = 10_000


class SyntheticVideo(DatasetVideo):
    """A scene of `make_scene`; the sky has no depth."""

    def __init__(self, seed: int, frames: int = FRAMES, size: tuple[int, int] = SIZE) -> None:
        self.seed, self.count, self.size = seed, frames, size
        self.name = f"scene-{seed:04d}"
        self.frame_names = tuple(f"{index:06d}" for index in range(frames))

    @cached_property
    def scene(self) -> Scene:
        """What is rendered."""
        return make_scene(self.seed, frames=self.count, size=self.size)

    @property
    def cameras(self) -> tuple[Camera | None, ...]:  # type: ignore[override]
        return tuple(
            Camera(name, tuple(map(float, lens)), *self.size, pose)  # type: ignore[arg-type]
            for name, lens, pose in zip(self.frame_names, self.scene.intrinsics, self.scene.cam_from_world, strict=True)
        )

    @property
    def static(self) -> bool:  # type: ignore[override]
        return all(len(solid.world_from_object) == 1 for solid in self.scene.solids)

    def rgb(self, index: int) -> NDArray[np.uint8]:
        return self._rendered(index).rgb

    def truth(self, index: int) -> Map | None:
        frame = self._rendered(index)
        return np.where(frame.object_id < 0, np.float32(np.nan), frame.depth)

    def stamp(self) -> str:
        return f"synthetic v{RENDERER_VERSION} {self.seed} {self.count} {self.size}"

    def _rendered(self, index: int) -> Frame:
        return _rendered(self.seed, self.count, self.size, index)


@lru_cache(maxsize=KEPT_FRAMES)
def _rendered(seed: int, frames: int, size: tuple[int, int], index: int) -> Frame:
    return render_frame(_scene(seed, frames, size), index)


@lru_cache(maxsize=4)
def _scene(seed: int, frames: int, size: tuple[int, int]) -> Scene:
    return make_scene(seed, frames=frames, size=size)


def read_synthetic(place: str, options: Options) -> Dataset:
    """``900`` or ``900..907`` (both ends included); options ``frames`` (32) and ``size`` (288x192).

    Raises:
        ConfigError: no seeds, or a size that is none.
    """
    match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", place)
    if match is None:
        raise ConfigError(f"synthetic:{place}: give seeds, as synthetic:900 or synthetic:900..907", reason="dataset")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last < first + MOST_SEEDS:
        raise ConfigError(f"synthetic:{place}: from {first} to {last}; at most {MOST_SEEDS} seeds", reason="dataset")
    written = options.get("size", f"{SIZE[0]}x{SIZE[1]}")
    size = re.fullmatch(r"(\d+)x(\d+)", written)
    if size is None or min(int(size[1]), int(size[2])) < 32:
        raise ConfigError(f"synthetic:{place}: size={written}; write it as 288x192, at least 32x32", reason="dataset")
    frames = options.frames or FRAMES
    videos = tuple(SyntheticVideo(seed, frames, (int(size[1]), int(size[2]))) for seed in range(first, last + 1))
    return Dataset("synthetic", "synthetic", videos, cap=CAP, split=f"seeds {first}..{last}, sky left out")
