"""Pictures out: h264 previews that browsers play, and 16-bit PNG exports."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from nvds_core.types import ConfigError, ShapeError


def write_h264(
    path: Path | str, frames: Iterable[NDArray[np.uint8]], *, fps: float, crf: int = 20, keyframes: int = 250
) -> int:
    """Write RGB frames as an h264 mp4 that starts playing before it is fully loaded.

    The file appears only when it is complete. yuv420p needs even sides: an odd last row or column is repeated once.

    Args:
        frames: uint8 [h, w, 3], all of one size; taken one at a time.
        fps: frames per second, above 0.
        crf: x264 quality, 0 (lossless) to 51; 18 to 23 is usual.
        keyframes: at most so many frames from one keyframe to the next; few make a player seek quickly.

    Returns:
        The number of frames written.

    Raises:
        ShapeError: a frame of another shape or type, or no frame at all.
        ConfigError: a frame rate of 0 or below.
    """
    path = Path(path)
    if not fps > 0:
        raise ConfigError(f"{path}: cannot write {fps} frames per second; give a rate above 0")
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial.mp4")
    try:
        count = _encode(
            beside, frames, Fraction(fps).limit_denominator(1001), {"crf": str(crf), "g": str(keyframes)}, path
        )
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return count


def _encode(
    beside: Path, frames: Iterable[NDArray[np.uint8]], rate: Fraction, quality: dict[str, str], path: Path
) -> int:
    shape: tuple[int, ...] | None = None
    count = 0
    with av.open(f"file:{beside.absolute()}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate, options={**quality, "preset": "fast"})
        stream.pix_fmt = "yuv420p"
        for rgb in frames:
            shape = shape or rgb.shape
            if rgb.shape != shape or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
                raise ShapeError(f"{path}: frame {count} is {rgb.dtype} {rgb.shape}, not uint8 {shape[:2]} x 3")
            even = np.pad(rgb, ((0, rgb.shape[0] % 2), (0, rgb.shape[1] % 2), (0, 0)), mode="edge")
            if count == 0:
                stream.height, stream.width = even.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")))
            count += 1
        if count == 0:
            raise ShapeError(f"{path}: no frame to write; a video needs at least one")
        container.mux(stream.encode(None))
    return count


def write_png16(path: Path | str, values: NDArray[np.uint16]) -> None:
    """Write uint16 [h, w] (or [h, w, 3] RGB) as a 16-bit PNG; the file appears only when it is complete.

    Raises:
        ShapeError: another type or shape.
    """
    path = Path(path)
    if values.dtype != np.uint16 or not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3)):
        raise ShapeError(f"{path}: {values.dtype} {values.shape} is not uint16 [h, w] or [h, w, 3]")
    coded, data = cv2.imencode(".png", values if values.ndim == 2 else values[:, :, ::-1])
    if not coded:
        raise ShapeError(f"{path}: OpenCV cannot encode a picture of shape {values.shape}")
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        beside.write_bytes(data.tobytes())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
