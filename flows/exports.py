"""Finished volumes in other people's formats: the folders of the published script, 16-bit PNGs, NumPy archives."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flows.results import find_video
from nvds_core.stabilization import quantize_disparity
from nvds_core.types import ConfigError
from nvds_core.video import write_png16
from nvds_core.viz import frame_range
from storage import DepthVolume, open_volume, remove_tree, write_json_atomic
from storage.volumes import QUANTITY

BLOCK = 16
CODE_MAX = 65535
NVDS_FOLDERS = {"initial": "initial", "optimized": "optimized", "forward": "1", "backward": "2", "mix": "mix"}
NVDS_TITLES = {"initial": "initial", "forward": "forward", "backward": "backward", "mix": "Mixing"}
PNG16_FORMULA = "disparity = offset + scale * (code - 1); code 0 is invalid"


@dataclass(frozen=True)
class ExportSource:
    """One finished video; ``result`` is the one asked for, or the last that the video has."""

    url: str
    record: dict[str, Any]
    volume: DepthVolume
    result: str

    def blocks(self, result: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first frame, disparity [n,h,w]), NaN where invalid."""
        for first in range(0, self.volume.frames, BLOCK):
            yield first, self.volume.read(result, first, min(first + BLOCK, self.volume.frames))


def open_export(out: str, video: str, result: str | None = None) -> ExportSource:
    """Find a finished video and open its volume.

    Raises:
        StorageError: no such video.
        ConfigError: it has no such result.
    """
    url, record = find_video(out, video)
    volume = open_volume(url)
    wanted = result or volume.results[-1]
    if wanted not in volume.results:
        raise ConfigError(f"{record['video_id']} has no result {wanted!r}, only {', '.join(volume.results)}")
    return ExportSource(url, record, volume, wanted)


def export_nvds(source: ExportSource, target: Path) -> Path:
    """Write the folder the published script writes: gray and colour PNGs per result, and ``result.txt``."""

    def fill(folder: Path) -> None:
        for result in source.volume.results:
            gray, colour = (folder / NVDS_FOLDERS[result] / kind for kind in ("gray", "color"))
            gray.mkdir(parents=True)
            colour.mkdir()
            for first, block in source.blocks(result):
                for index, disparity in enumerate(block, start=first):
                    # the script writes gray pictures uncompressed
                    write_png(gray / f"frame_{index:06d}.png", gray16(disparity), compression=0)
                    colours = frame_range(disparity).colours(disparity)
                    write_png(colour / f"{index}.png", np.ascontiguousarray(colours[..., ::-1]), compression=3)
        (folder / "result.txt").write_text(result_text(source.record))

    return filled(target, fill)


def gray16(disparity: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """One frame as the published script stores it: min..max of the frame to 0..65535, cut off; invalid is 0."""
    finite = np.isfinite(disparity)
    if finite.all():
        return quantize_disparity(disparity)
    low = float(disparity[finite].min()) if finite.any() else 0.0
    return quantize_disparity(np.where(finite, disparity, low))


def result_text(record: dict[str, Any]) -> str:
    """The lines of ``result.txt``: sum over pairs, that divided by the frames, and the frames."""
    lines = []
    for result, title in NVDS_TITLES.items():
        if result in (record["opw"] or {}):
            scores, frames = record["opw"][result], record["frames"]
            total = scores.get("reversed_total", scores["total"])  # the backward pass in its own order, as published
            lines += [f"{'*' * 10}{title}{'*' * 10}", f"all:{total},mean:{total / frames},frames:{frames}"]
    return "\n".join(lines)


def export_png16(source: ExportSource, target: Path) -> Path:
    """Write one 16-bit PNG per frame with one code for the whole video, told in ``range.json``.

    Unlike the published gray pictures, equal codes mean equal disparity in all frames.
    """
    low, high = _range_of(source)
    scale = (high - low) / (CODE_MAX - 1)

    def fill(folder: Path) -> None:
        folder.mkdir()
        for first, block in source.blocks(source.result):
            unit = (block.astype(np.float64) - low) / (scale or 1.0) + 1.0
            codes = np.where(np.isfinite(unit), np.rint(np.clip(np.nan_to_num(unit), 1, CODE_MAX)), 0)
            for index, code in enumerate(codes.astype(np.uint16), start=first):
                write_png16(folder / f"frame_{index:06d}.png", code)
        about = {"formula": PNG16_FORMULA, "offset": low, "scale": scale, "quantity": QUANTITY}
        write_json_atomic(folder / "range.json", about | _about(source))

    return filled(target, fill)


def export_npz(source: ExportSource, target: Path) -> Path:
    """Write ``disparity`` float32 [t,h,w], ``time`` seconds [t] and ``about`` (a JSON text) into one archive."""
    time = source.volume.time
    beside = target.with_name(f".{target.name}.partial")
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            # frame by frame: a long video need not fit into memory
            with archive.open("disparity.npy", "w", force_zip64=True) as stream:
                header = {"descr": "<f4", "fortran_order": False, "shape": source.volume.shape}
                np.lib.format.write_array_header_1_0(stream, header)
                for _, block in source.blocks(source.result):
                    stream.write(np.ascontiguousarray(block, "<f4").tobytes())
            about = np.array(json.dumps(_about(source) | {"quantity": QUANTITY}))
            for name, values in {"time": np.zeros(0) if time is None else time, "about": about}.items():
                with archive.open(f"{name}.npy", "w") as stream:
                    np.lib.format.write_array(stream, values)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return target


def _about(source: ExportSource) -> dict[str, Any]:
    names = ("video_id", "key", "source", "cuts", "weights", "opw_protocol")
    return {"result": source.result} | {name: source.record.get(name) for name in names}


def _range_of(source: ExportSource) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for _, block in source.blocks(source.result):
        finite = block[np.isfinite(block)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def write_png(path: Path, picture: NDArray[Any], *, compression: int) -> None:
    """Write a gray picture, or one of blue, green and red."""
    coded, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, compression])
    if not coded:
        raise ConfigError(f"{path}: OpenCV cannot encode a picture of shape {picture.shape}")
    path.write_bytes(data.tobytes())


def filled(target: Path, fill: Callable[[Path], None]) -> Path:
    """Fill a folder beside the target, then give it its name.

    Raises:
        ConfigError: something is there already.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} exists already; remove it or give another --output")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.partial")
    remove_tree(beside)
    try:
        fill(beside)
        if target.exists():
            target.rmdir()
        beside.replace(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target
