"""What the report shows of one video: a player of all panels, time slices, curves. Made once per published volume."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flows.exports import ExportSource
from flows.preview import TITLES, ColourScale, colour_scale, longest_scene, source_frames
from flows.report_html import script
from nvds_core.types import ConfigError, CoreError
from nvds_core.video import FOLDER_FPS, write_h264
from nvds_core.viz import Picture, flickering_column
from storage import StorageError, artifact_key, open_volume, publish_tree, read_json, read_record, write_json_atomic
from storage.errors import redact

VERSION = 1
MARKER, PLAYER, THUMB, CURVES = "media.json", "player.mp4", "thumb.jpg", "curves.js"
PANEL_SIDE = 640  # pixels of a panel's longer side at most: the report is to be looked at, the volume stays whole
PANELS_PER_ROW = 2  # in the mp4: hardware decoders stop at 4096 pixels
SLICE_FRAMES = 2000  # columns of a time slice at most
COLUMN_FRAMES = 200  # frames the sliced column is chosen from
THUMB_WIDTH = 80
GONE = "No player: its volume is not in the output folder; run 'nvds run' again."
KEYFRAMES, JPEG_QUALITY = 12, 90
LEVEL_STEP = 2
LEVELS = (5.0, 50.0, 95.0)  # percentiles of a frame: its level and its spread


@dataclass(frozen=True)
class Media:
    """What lies in a video's media folder; ``note`` says what is missing and why."""

    panels: tuple[str, ...]
    note: str = ""
    fresh: bool = False

    @property
    def playable(self) -> bool:
        """Whether there is a player at all."""
        return bool(self.panels)


def shown_results(source: ExportSource) -> list[str]:
    """The disparities worth a panel: initial, optimised if there, and the last."""
    return [name for name in source.volume.results if name in ("initial", "optimized", source.result)]


def media_key(record: dict[str, Any]) -> str:
    """What the media of a finished video are kept under."""
    return artifact_key("report-media", VERSION, record["key"], record["video_id"])


def make_media(url: str, folder: Path, *, kept: Media | None) -> Media:
    """Fill a video's media folder, unless it holds the media of this very volume already (`kept_media`).

    Without its source the video has no RGB panel, and gets it once the source is back. A volume that cannot be read
    gives no player but a note: one damaged volume must not cost the report.
    """
    if kept is not None and "rgb" in kept.panels:
        return kept
    try:
        record = read_record(url)
        if record is None:
            return Media((), GONE)
        volume = open_volume(url)
        source = ExportSource(url, record, volume, volume.results[-1])
        if kept is not None and not _source_is_back(source):
            return kept
        try:
            return _made(source, folder, rgb=True)
        except ConfigError as error:
            if error.reason != "source":
                raise
            return _made(source, folder, rgb=False, note=redact(error))
    except (CoreError, StorageError) as error:
        return Media((), f"No player: {redact(error)}")


def kept_media(record: dict[str, Any], folder: Path) -> Media | None:
    """The media of an earlier report, None unless they are of this very volume."""
    try:
        marker = read_json(folder / MARKER)
    except StorageError as error:
        if error.reason not in ("absent", "format"):
            raise
        return None
    if not isinstance(marker, dict) or marker.get("key") != media_key(record):
        return None
    return Media(tuple(marker["panels"]), marker["note"])


def _source_is_back(source: ExportSource) -> bool:
    try:
        with source_frames(source):
            return True
    except CoreError:
        return False


def _made(source: ExportSource, folder: Path, *, rgb: bool, note: str = "") -> Media:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder.parent) as scratch:
        target = Path(scratch) / "media"
        target.mkdir()
        tour = _Tour(source, rgb)
        fps = float(Fraction(source.record["source"].get("fps") or FOLDER_FPS).limit_denominator(1001))
        with source_frames(source) if rgb else nullcontext(None) as frames:
            write_h264(target / PLAYER, tour.pictures(frames), fps=fps, keyframes=KEYFRAMES)
        tour.write_stills(target)
        (target / CURVES).write_text(script("NVDS_VIDEO", {"fps": fps, **tour.curves()}), encoding="ascii")
        marker = {"key": media_key(source.record), "panels": tour.panels, "note": note}
        write_json_atomic(target / MARKER, marker)
        publish_tree(target, folder)
    return Media(tuple(tour.panels), note, fresh=True)


class _Tour:
    """One walk through a video: the panels of every frame, and on the way its slices, levels and thumbnail."""

    def __init__(self, source: ExportSource, rgb: bool) -> None:
        self.source, self.results = source, shown_results(source)
        self.panels = [*(["rgb"] if rgb else []), *self.results]
        self.scale: ColourScale = colour_scale(source, self.results)
        self.frames, height, width = source.volume.shape
        shrink = min(1.0, PANEL_SIDE / max(height, width))
        # even sides: the colours of two panels must not share a chroma sample
        self.size = (max(2, round(width * shrink / 2) * 2), max(2, round(height * shrink / 2) * 2))
        start, stop = longest_scene(source.record["cuts"], self.frames)
        middle = (start + stop) // 2
        first = max(start, middle - COLUMN_FRAMES // 2)
        self.column = flickering_column(source.volume.read("initial", first, min(stop, first + COLUMN_FRAMES)))
        self.middle, self.every = middle, -(-self.frames // SLICE_FRAMES)
        self.slices: dict[str, list[Picture]] = {name: [] for name in self.panels}
        self.levels: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self.results}
        self.thumb: list[Picture] = []

    def pictures(self, frames: Iterator[Picture] | None) -> Iterator[Picture]:
        """The mosaic of each frame."""
        blocks = [self.source.blocks(name) for name in self.results]
        index = 0
        for block in zip(*blocks, strict=True):
            maps = {name: values for name, (_, values) in zip(self.results, block, strict=True)}
            for offset in range(len(block[0][1])):
                row = {name: values[offset] for name, values in maps.items()}
                pictures = {name: self.scale.colours(name, values) for name, values in row.items()}
                if frames is not None:
                    pictures = {"rgb": next(frames), **pictures}
                self._look(index, pictures, row)
                yield mosaic([_fitted(picture, self.size) for picture in pictures.values()])
                index += 1

    def _look(self, index: int, pictures: dict[str, Picture], row: dict[str, NDArray[np.float32]]) -> None:
        if index % self.every == 0:
            for name, picture in pictures.items():
                self.slices[name].append(picture[:, self.column].copy())
        for name, values in row.items():
            factor, shift = self.scale.fits[name]
            sparse = values[::LEVEL_STEP, ::LEVEL_STEP].astype(np.float64)
            finite = sparse[np.isfinite(sparse)]
            levels = np.percentile(finite, LEVELS) if finite.size else np.full(len(LEVELS), np.nan)
            span = self.scale.span.high - self.scale.span.low
            self.levels[name].append((factor * levels + shift - self.scale.span.low) / (span or 1.0))
        if index == self.middle:
            height = max(2, round(THUMB_WIDTH * self.size[1] / self.size[0]))
            self.thumb = [_fitted(picture, (THUMB_WIDTH, height)) for picture in pictures.values()]

    def write_stills(self, folder: Path) -> None:
        """A time slice per panel, and the thumbnail of the middle frame."""
        _write_jpeg(folder / THUMB, np.hstack(self.thumb))
        for name, lines in self.slices.items():
            _write_jpeg(folder / slice_name(name), np.stack(lines, axis=1))

    def curves(self) -> dict[str, Any]:
        """What the page draws: per-frame series, null where there is none, and where the panels lie in the mp4."""
        record, time = self.source.record, self.source.volume.time
        return {
            "frames": self.frames,
            "cuts": record["cuts"],
            "time": None if time is None else rounded(time),
            "panels": [{"name": name, "title": "RGB" if name == "rgb" else TITLES[name]} for name in self.panels],
            "size": self.size,
            "perRow": PANELS_PER_ROW,
            "opw": opw_series(record),
            "level": {name: rounded(np.array(rows)[:, 1]) for name, rows in self.levels.items()},
            "spread": {
                name: rounded(np.array(rows)[:, 2] - np.array(rows)[:, 0]) for name, rows in self.levels.items()
            },
            "result": self.source.result,
        }


def slice_name(panel: str) -> str:
    """File of a panel's time slice."""
    return f"slice-{panel}.jpg"


def opw_series(record: dict[str, Any]) -> dict[str, list[float | None]]:
    """OPW per frame by result: of frame i the pair (i - 1, i), None where a scene begins. Nothing if unscored."""
    begins = {0, *record["cuts"]}
    series: dict[str, list[float | None]] = {}
    for name, values in (record["opw"] or {}).items():
        pairs = iter(rounded(np.array(values["pairs"], np.float64)))
        series[name] = [None if frame in begins else next(pairs, None) for frame in range(record["frames"])]
    return series


def mosaic(panels: list[Picture]) -> Picture:
    """Panels of one size in rows of `PANELS_PER_ROW`; an empty place is black."""
    columns = min(PANELS_PER_ROW, len(panels))
    empty = [np.zeros_like(panels[0])] * (-len(panels) % columns)
    filled = [*panels, *empty]
    return np.vstack([np.hstack(filled[i : i + columns]) for i in range(0, len(filled), columns)])


def rounded(values: NDArray[np.floating[Any]]) -> list[float | None]:
    """Six significant digits, None for what is not finite: JSON has no NaN."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values.tolist()]


def _fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _write_jpeg(path: Path, picture: Picture) -> None:
    # no chroma is shared between pixels: a column of a slice is a frame
    quality = [
        cv2.IMWRITE_JPEG_QUALITY,
        JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    coded, data = cv2.imencode(".jpg", picture[..., ::-1], quality)
    if not coded:
        raise ConfigError(f"{path}: OpenCV cannot encode a picture of shape {picture.shape}")
    path.write_bytes(data.tobytes())
