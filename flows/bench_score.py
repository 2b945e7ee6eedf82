"""Score the disparity of one video by several methods against its truth."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.bench_inputs import BenchVideo
from flows.bench_maps import AlignedDepth, Resized, Source, blocks
from nvds_core.datasets import Dataset
from nvds_core.geometry.poses import resize_camera
from nvds_core.metrics import OpwAccumulator, drift_curve, mean_errors, nyu_errors, occluded_in_later, tae, vdw_errors
from nvds_core.metrics.alignment import Align, video_errors
from nvds_core.metrics.published import FULL_SCALE, MILLIMETRES, VDW_IGNORED
from nvds_core.stabilization import quantize_disparity
from nvds_core.types import CoreError, ShapeError
from storage import ArrayReader
from tasks.frames import FrameArtifact

Figures = dict[str, Any]
Truth = NDArray[np.float32]


def opw_figures(sources: Mapping[str, Source], pictures: FrameArtifact, flow: ArrayReader) -> dict[str, Figures]:
    """OPW of every method by both protocols, over the pairs of neighbouring frames of a scene; nothing without any."""
    nvds, masked = (OpwAccumulator(tuple(sources), protocol=name) for name in ("nvds", "masked"))
    starts = {0, *pictures.cuts}
    for start, stop in blocks(pictures.frames):
        rgb = pictures.read(start, stop)
        maps = {name: source.read(start, stop) for name, source in sources.items()}
        back, ahead = (flow.read(name, start, stop) for name in ("to_previous", "to_next"))
        for i in range(stop - start):
            picture = (rgb[i] * 255).astype(np.float32)
            frame = {name: values[i] for name, values in maps.items()}
            first = start + i in starts
            nvds.push(picture, frame, None if first else back[i])
            hidden = None if first else occluded_in_later(back[i], ahead[i])
            masked.push(picture, frame, None if first else back[i], occluded=hidden)
    if pictures.frames == len(starts):
        return {name: {} for name in sources}  # the sum over no pair is 0, which would count as perfectly steady
    figures = {"opw": nvds.results(), "opw_masked": masked.results()}
    return {name: {key: _measured(result[name].mean) for key, result in figures.items()} for name in sources}


def _measured(value: float) -> float | None:
    """The value, None for NaN: what was not measured is null."""
    return None if math.isnan(value) else value


def accuracy_figures(sources: Mapping[str, Source], bench: BenchVideo, align: Align) -> dict[str, Figures]:
    """Depth errors of every method; nothing for a set without truth.

    Raises:
        ShapeError: not as many frames as the set has.
        CoreError: no pixel of the video has a truth that counts.
        DecodeError: its truth cannot be read.
    """
    dataset = bench.dataset
    if dataset.quantity == "none":
        return {name: {} for name in sources}
    with tempfile.TemporaryDirectory(prefix="nvds-truth-") as scratch:
        truth = _truth_of(bench, Path(scratch) / "truth.npy")
        figures: dict[str, Figures] = {}
        for name, source in sources.items():
            if source.shape[0] != len(truth):
                raise ShapeError(f"{name}: {source.shape[0]} frames of disparity, {len(truth)} in the data set")
            figures[name] = {"truth_height": truth.shape[1], "truth_width": truth.shape[2]}
            if dataset.quantity == "depth":
                figures[name] |= _common(source, truth, bench, align)
            if dataset.published is not None:  # counts of pixels are those of the common protocol where there are any
                figures[name] = _as_published(source, truth, dataset) | figures[name]
        return figures


def _truth_of(bench: BenchVideo, path: Path) -> Truth:
    """Truth of all frames, NaN where unknown, in a file, as long videos do not fit into memory."""
    video = bench.video
    frames = len(video.frame_names)
    maps: Truth | None = None
    for index in range(frames):
        truth = video.truth(index)
        if truth is None:
            continue
        if maps is None:
            maps = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(frames, *truth.shape))
            maps[:] = np.nan
        if truth.shape != maps.shape[1:]:
            raise ShapeError(
                f"{video.name}: truth of frame {video.frame_names[index]} is {truth.shape}, before {maps.shape[1:]}"
            )
        maps[index] = truth
    if maps is None:
        raise CoreError(f"{video.name}: no frame has a truth; check the data set", reason="metric")
    return maps


def _common(source: Source, truth: Truth, bench: BenchVideo, align: Align) -> Figures:
    dataset, video = bench.dataset, bench.video
    maps = Resized(source, (truth.shape[1], truth.shape[2]))
    scored = _Scored(dataset, truth)
    errors = video_errors(maps, scored, align=align, cap=dataset.cap)
    drift = drift_curve(maps, scored, cap=dataset.cap)
    figures = {name: getattr(errors, name) for name in ("delta1", "delta2", "delta3", "abs_rel", "rmse", "log10")}
    figures |= {name: getattr(errors, name) for name in ("n_frames", "n_pixels", "n_missing", "scale", "shift")}
    figures |= {name: _measured(getattr(drift, name)) for name in ("scale_spread", "shift_spread")}
    if video.static and video.cameras is not None:
        size = (truth.shape[2], truth.shape[1])
        cameras = [camera and resize_camera(camera, size) for camera in video.cameras]
        fit = (drift.video_scale, drift.video_shift)  # TAE is defined after one fit per video, whatever `align` is
        figures["tae"] = _measured(tae(AlignedDepth(maps, fit, dataset.cap), cameras).mean)
    return figures


class _Scored:
    """The part of the truth that counts, frame by frame."""

    def __init__(self, dataset: Dataset, truth: Truth) -> None:
        self.shape = truth.shape
        self._dataset, self._truth = dataset, truth

    def __len__(self) -> int:
        return len(self._truth)

    def __getitem__(self, index: int) -> Truth:
        return self._dataset.scored(self._truth[index])


def _as_published(source: Source, truth: Truth, dataset: Dataset) -> Figures:
    """The release's own accuracy: from 16-bit maps, one fit per frame."""
    found = []
    for start, stop in blocks(len(truth)):
        for prediction, known in zip(source.read(start, stop), truth[start:stop], strict=True):
            if not np.isfinite(known).any():
                continue
            guess, filled = quantize_disparity(prediction), np.nan_to_num(known)
            if dataset.published == "vdw":
                mask = np.where(np.isfinite(known), 0, VDW_IGNORED).astype(np.uint8)
                found.append(vdw_errors(guess, np.rint(filled * FULL_SCALE).astype(np.uint16), mask))
            else:
                found.append(nyu_errors(guess, np.rint(filled * MILLIMETRES).astype(np.uint16)))
    errors = mean_errors(found)
    names = ("delta1", "delta2", "delta3", "abs_rel", "rmse")
    return {f"published_{name}": getattr(errors, name) for name in names} | {
        "n_frames": errors.n_frames,
        "n_pixels": errors.n_pixels,
    }
