"""Makes the video files of these tests with PyAV; nothing is downloaded or checked in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
CORNERS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 210), "white": (240, 240, 240)}


def corners(width: int = 64, height: int = 48) -> Picture:
    """Red upper left, green upper right, blue lower left, white lower right."""
    picture = np.empty((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    picture[:top, :left], picture[:top, left:] = CORNERS["red"], CORNERS["green"]
    picture[top:, :left], picture[top:, left:] = CORNERS["blue"], CORNERS["white"]
    return picture


def corner_names(rgb: Picture) -> tuple[str, str, str, str]:
    """Nearest named colour at the upper left, upper right, lower left and lower right."""
    spots = [rgb[4, 4], rgb[4, -5], rgb[-5, 4], rgb[-5, -5]]
    return tuple(min(CORNERS, key=lambda n: np.abs(np.subtract(CORNERS[n], s.astype(int))).sum()) for s in spots)  # type: ignore[return-value]


def grey_steps(count: int, width: int = 64, height: int = 48) -> list[Picture]:
    """Flat grey frames whose level tells their index: 20 + 3 * index, up to 70 frames."""
    return [np.full((height, width, 3), 20 + 3 * index, np.uint8) for index in range(count)]


def indices_of(frames: Iterable[Picture]) -> list[int]:
    """The indices that `grey_steps` wrote into the frames."""
    return [round((float(rgb.mean()) - 20) / 3) for rgb in frames]


def panning(count: int, *, seed: int = 0, step: int = 2, size: tuple[int, int] = (160, 120)) -> list[Picture]:
    """A camera panning over a blurred random texture, `step` pixels per frame; another seed is another scene."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (size[1] // 8, (size[0] + count * step) // 8 + 1, 3), dtype=np.uint8)
    wide = cv2.resize(coarse, (size[0] + count * step, size[1]), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(wide[:, i * step : i * step + size[0]]) for i in range(count)]


def write_video(
    path: Path,
    frames: Sequence[NDArray[np.generic]],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    source_format: str = "rgb24",
    fps: int = 24,
    stamps: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotation: int = 0,
    hflip: bool = False,
    with_sound: float = 0.0,
) -> Path:
    """Encode arrays; `stamps` are presentation times in `time_base`, `rotation` counter-clockwise as PyAV has it."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, fps, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        if time_base:
            stream.codec_context.time_base = time_base
        if rotation or hflip:
            stream.set_display_rotation(rotation, hflip=hflip)
        sound = container.add_stream("aac", 48000, layout="mono") if with_sound else None
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format=source_format)
            if stamps is not None:
                frame.pts, frame.time_base = stamps[index], time_base
            container.mux(stream.encode(frame.reformat(format=pixel_format)))
        container.mux(stream.encode(None))
        if sound is not None:
            for packet in _silence(sound, with_sound):
                container.mux(packet)
    return path


def write_two_sizes(path: Path, first: Sequence[Picture], second: Sequence[Picture]) -> Path:
    """One mjpeg stream whose pictures change their size, as each of its packets carries its own."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", 24)
        stream.height, stream.width = first[0].shape[:2]
        stream.pix_fmt = "yuvj420p"
        other = av.CodecContext.create("mjpeg", "w")
        other.height, other.width = second[0].shape[:2]
        other.pix_fmt, other.time_base = "yuvj420p", Fraction(1, 24)
        for index, rgb in enumerate([*first, *second]):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuvj420p")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            for packet in (stream if index < len(first) else other).encode(frame):
                packet.stream = stream
                container.mux(packet)
    return path


def write_sound(path: Path, seconds: float = 1.0) -> Path:
    """A file with silence and no picture."""
    with av.open(str(path), "w") as container:
        for packet in _silence(container.add_stream("aac", 48000, layout="mono"), seconds):
            container.mux(packet)
    return path


def _silence(stream: av.AudioStream, seconds: float) -> Iterable[av.Packet]:
    for index in range(round(seconds * 48000 / 1024)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, index * 1024, Fraction(1, 48000)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def cut_off(path: Path, share: float) -> Path:
    """Keep the first `share` of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def overwrite(path: Path, at: float, count: int = 300) -> Path:
    """Replace bytes from the share `at` of the file with noise."""
    data = bytearray(path.read_bytes())
    start = int(len(data) * at)
    data[start : start + count] = np.random.default_rng(0).bytes(count)
    path.write_bytes(data)
    return path
