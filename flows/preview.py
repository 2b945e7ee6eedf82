"""A finished video for the eye: comparison video, and a strip of pictures with time slices."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flows.exports import ExportSource
from nvds_core.metrics.alignment import least_squares_fit
from nvds_core.types import ConfigError
from nvds_core.video import FOLDER_FPS, Frame, content_digest, open_video, write_h264
from nvds_core.viz import (
    DisparityRange,
    Picture,
    flickering_column,
    robust_range,
    side_by_side,
    strip_image,
    time_slice,
)
from storage import StorageError
from storage.errors import redact
from storage.locations import is_local, stage

SAMPLE_FRAMES, SAMPLE_STEP = 400, 4  # enough for percentiles, whatever the length and size
TITLES = {
    "initial": "initial",
    "optimized": "optimized",
    "forward": "stabilized, forward",
    "backward": "stabilized, backward",
    "mix": "stabilized",
}


@dataclass(frozen=True)
class ColourScale:
    """Colours of a video's results: each brought onto the initial disparity by one scale and shift, then one range.

    Disparity is known up to scale and shift only, so without this the panels could not share a range.
    """

    span: DisparityRange
    fits: dict[str, tuple[float, float]]

    def colours(self, result: str, disparity: NDArray[np.float32]) -> Picture:
        """RGB [..., 3]."""
        scale, shift = self.fits[result]
        return self.span.colours(scale * disparity + shift)


def colour_scale(source: ExportSource, results: Sequence[str] | None = None) -> ColourScale:
    """The one colour scale of a video, from frames spread over all of it; by default of the two that are compared."""
    results = results or _results(source)
    frames = source.volume.frames
    picked = np.unique(np.linspace(0, frames - 1, min(frames, SAMPLE_FRAMES)).astype(int))
    samples = {
        name: [source.volume.frame(name, int(i))[::SAMPLE_STEP, ::SAMPLE_STEP] for i in picked] for name in results
    }
    fits = {"initial": (1.0, 0.0)}
    fits |= {name: _fit(samples[name], samples["initial"]) for name in results if name != "initial"}
    aligned = (fits[name][0] * values + fits[name][1] for name, maps in samples.items() for values in maps)
    return ColourScale(robust_range(aligned), fits)


def _fit(maps: list[NDArray[np.float32]], targets: list[NDArray[np.float32]]) -> tuple[float, float]:
    pairs = []
    for values, target in zip(maps, targets, strict=True):
        both = np.isfinite(values) & np.isfinite(target)
        pairs.append((values[both].astype(np.float64), target[both].astype(np.float64)))
    scale, shift = least_squares_fit(pairs)
    if scale > 0:
        return scale, shift
    # Nothing in common with the initial disparity (untrained weights): stretch it to the same range instead.
    own, wanted = robust_range(maps), robust_range(targets)
    scale = (wanted.high - wanted.low) / ((own.high - own.low) or 1.0)
    return scale, wanted.low - scale * own.low


def export_mp4(source: ExportSource, target: Path, fps: float | None = None) -> Path:
    """Write RGB, initial and stabilised disparity side by side as h264.

    Raises:
        ConfigError: the source video is gone or has changed since.
    """
    scale = colour_scale(source)
    results = _results(source)
    labels = ["RGB", *(TITLES[name] for name in results)]

    def pictures(frames: Iterator[Picture]) -> Iterator[Picture]:
        blocks = [source.blocks(name) for name in results]
        for block in zip(*blocks, strict=True):
            panels = [scale.colours(name, maps) for name, (_, maps) in zip(results, block, strict=True)]
            for row in zip(*panels, strict=True):
                yield side_by_side([next(frames), *row], labels)

    target.parent.mkdir(parents=True, exist_ok=True)
    with source_frames(source) as frames:
        write_h264(target, pictures(frames), fps=fps or float(source.record["source"].get("fps") or FOLDER_FPS))
    return target


def export_strip(source: ExportSource, target: Path) -> Path:
    """Write a PNG of the longest scene: its middle frame and below it one pixel column over time, per panel.

    Raises:
        ConfigError: the source video is gone or has changed since.
    """
    scale, results = colour_scale(source), _results(source)
    start, stop = longest_scene(source.record["cuts"], source.volume.frames)
    middle = (start + stop) // 2
    column = flickering_column(source.volume.read("initial", start, stop))
    with source_frames(source) as frames:
        moment, lines = None, []
        for index, rgb in enumerate(frames):
            moment = rgb if index == middle else moment
            if start <= index < stop:
                lines.append(rgb[:, column])
    assert moment is not None
    pictures, slices = [moment], [np.stack(lines, axis=1)]
    for name in results:
        volume = source.volume.read(name, start, stop)
        pictures.append(scale.colours(name, volume[middle - start]))
        slices.append(scale.colours(name, np.asarray(time_slice(volume, column), np.float32)))
    labels = ["RGB", *(TITLES[name] for name in results)]
    strip = strip_image(pictures, slices, labels, column)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(target), strip[..., ::-1]):
        raise ConfigError(f"{target}: cannot be written; check the folder")
    return target


def longest_scene(cuts: list[int], frames: int) -> tuple[int, int]:
    """First frame and end of the longest run between cuts."""
    return max(pairwise([0, *cuts, frames]), key=lambda edges: edges[1] - edges[0])


@contextmanager
def source_frames(source: ExportSource) -> Iterator[Iterator[Picture]]:
    """The RGB frames a volume was made of, uint8 at the volume's size, decoded again from the recorded source.

    Raises:
        ConfigError: the source is gone, has changed, or (while it is read) has fewer frames than the volume.
    """
    record = source.record
    uri, digest = record["source"]["uri"], record["source"]["digest"]
    with tempfile.TemporaryDirectory(prefix="nvds-") as scratch:
        try:
            path = stage(uri, scratch)
        except StorageError as error:
            raise ConfigError(_missing(record, f"cannot be fetched ({error})"), reason="source") from error
        if is_local(uri) and not path.exists():
            raise ConfigError(_missing(record, "is no longer there"), reason="source")
        if content_digest(path) != digest:
            raise ConfigError(_missing(record, "has changed since"), reason="source")
        with open_video(path, limit=source.volume.frames) as reader:
            yield _pictures(source, reader)


def _pictures(source: ExportSource, reader: Iterable[Frame]) -> Iterator[Picture]:
    frames, height, width = source.volume.shape
    count = 0
    for frame in reader:
        count += 1
        yield np.asarray(cv2.resize(frame.rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    if count < frames:
        message = f"{source.record['video_id']}: its source ended before frame {count}, the volume has {frames}"
        raise ConfigError(message, reason="source")


def _missing(record: dict[str, object], what: str) -> str:
    source = record["source"]
    assert isinstance(source, dict)
    return (
        f"{record['video_id']}: its source {redact(source['uri'])} {what}, and RGB is taken from it; "
        "bring it back, or run 'nvds run' on the new one"
    )


def _results(source: ExportSource) -> list[str]:
    return ["initial"] if source.result == "initial" else ["initial", source.result]
