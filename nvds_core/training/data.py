"""Rendered training sets on disk: plain arrays, made once from a range of seeds and memory-mapped afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from nvds_core.synthetic import make_scene, render

CHUNK = 16  # scenes per job of the renderer


@dataclass(frozen=True)
class SetConfig:
    """Which scenes a set holds: seeds first_seed .. first_seed + scenes - 1, ``frames`` of each, at width x height."""

    first_seed: int
    scenes: int
    frames: int
    width: int = 192
    height: int = 128
    flow: bool = True

    @property
    def name(self) -> str:
        flow = "flow" if self.flow else "noflow"
        return f"{self.first_seed}-{self.scenes}x{self.frames}-{self.width}x{self.height}-{flow}"


def _shapes(config: SetConfig) -> dict[str, tuple[tuple[int, ...], str]]:
    n, t, h, w = config.scenes, config.frames, config.height, config.width
    arrays: dict[str, tuple[tuple[int, ...], str]] = {
        "rgb": ((n, t, h, w, 3), "uint8"),
        "disparity": ((n, t, h, w), "float16"),
    }
    if config.flow:
        for way in ("previous", "next"):
            arrays[f"flow_to_{way}"] = ((n, t - 1, 2, h, w), "float16")
            arrays[f"visible_{way}"] = ((n, t - 1, h, w), "bool")
    return arrays


def render_chunk(config: SetConfig, start: int, stop: int) -> dict[str, np.ndarray]:
    """Scenes start..stop-1 of a set, arrays as in the set's files."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in _shapes(config)}
    for i in range(start, stop):
        scene = make_scene(config.first_seed + i, frames=config.frames, size=(config.width, config.height))
        clip = render(scene, flow=config.flow)
        rows["rgb"].append(clip.rgb)
        rows["disparity"].append(clip.disparity.astype(np.float16))
        if config.flow:
            rows["flow_to_previous"].append(clip.flow_to_previous.astype(np.float16))
            rows["flow_to_next"].append(clip.flow_to_next.astype(np.float16))
            rows["visible_previous"].append(~clip.occluded_previous)
            rows["visible_next"].append(~clip.occluded_next)
    return {name: np.stack(arrays) for name, arrays in rows.items()}


def render_set(
    config: SetConfig, root: Path, *, workers: int = 1, report: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Render a set into ``root`` unless it is there; returns its folder, which appears only when complete."""
    folder = root / config.name
    if folder.is_dir():
        return folder
    partial = root / f"{config.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)  # of an attempt of this process that failed
    partial.mkdir(parents=True)
    files = {
        name: np.lib.format.open_memmap(partial / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
        for name, (shape, dtype) in _shapes(config).items()
    }
    for start, stop, chunk in _rendered(config, workers):
        for name, array in chunk.items():
            files[name][start:stop] = array
        report(stop, config.scenes)
    for file in files.values():
        file.flush()
    os.replace(partial, folder)
    return folder


def _rendered(config: SetConfig, workers: int) -> Iterator[tuple[int, int, dict[str, np.ndarray]]]:
    ranges = [(i, min(i + CHUNK, config.scenes)) for i in range(0, config.scenes, CHUNK)]
    if workers <= 1:
        for start, stop in ranges:
            yield start, stop, render_chunk(config, start, stop)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # A bounded number in flight: finished chunks wait in memory until they are written.
        waiting = [pool.submit(render_chunk, config, *r) for r in ranges[: 2 * workers]]
        for n, (start, stop) in enumerate(ranges):
            chunk = waiting.pop(0).result()
            if n + 2 * workers < len(ranges):
                waiting.append(pool.submit(render_chunk, config, *ranges[n + 2 * workers]))
            yield start, stop, chunk


def open_set(folder: Path) -> dict[str, np.ndarray]:
    """Memory-mapped arrays of a set by name."""
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
