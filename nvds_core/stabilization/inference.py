"""Sliding the stabiliser over a video: forward and backward windows, each frame encoded once.

Exact by construction: encoder and fusion see one frame, so their result is shared by the eight windows a frame takes
part in (`sharing.WindowDecoder`). A ring of 7 frames suffices, with a delay of 3 frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from nvds_core.stabilization.network import REFERENCES, RGB_MEAN, RGB_STD, NvdsNetwork
from nvds_core.stabilization.sharing import WindowDecoder
from nvds_core.types import ConfigError, ShapeError

Direction = Literal["both", "forward"]
DIRECTIONS: tuple[Direction, ...] = ("both", "forward")
Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
CODE_MAX = 65535  # full scale of the 16-bit disparity the stabiliser reads


@dataclass(frozen=True)
class StableFrame:
    """Result for one frame: disparity [h,w] float32 of each pass; ``backward`` is None in forward-only mode."""

    index: int
    forward: np.ndarray
    backward: np.ndarray | None


@dataclass(frozen=True)
class StabilizedVideo:
    """Results of a whole video, [t,h,w] float32, in forward time order. ``mix`` is the plain mean of both passes."""

    forward: np.ndarray
    backward: np.ndarray
    mix: np.ndarray


def quantize_disparity(disparity: np.ndarray) -> np.ndarray:
    """16-bit form of one frame [h,w]: ``trunc(65535 * (d - min) / (max - min))``; a constant frame becomes zeros."""
    values: np.ndarray = disparity.astype(np.float32)
    low, high = values.min(), values.max()
    if not high > low:
        return np.zeros(disparity.shape, np.uint16)
    # float32 and this order of operations give the published files bit by bit; float64 does not
    return (np.float32(CODE_MAX) * (values - low) / (high - low)).astype(np.uint16)


def prepare_rgb(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize one 8-bit frame [h,w,3] to ``size`` (W, H) as released: float64, cubic, overshoot kept; units 0..1."""
    unit = rgb.astype(np.float64) / 255.0
    if (rgb.shape[1], rgb.shape[0]) == size:
        return unit
    return cv2.resize(unit, size, interpolation=cv2.INTER_CUBIC)


def prepare_frame(unit_rgb: np.ndarray, disparity: np.ndarray) -> Tensor:
    """Network input [4,H,W] float32 of one frame.

    Args:
        unit_rgb: [H,W,3] in 0..1 at inference size (see `prepare_rgb`).
        disparity: [h,w] in any affine unit, near is large; resized by nearest neighbour if its size differs. It is
            scaled to 0..1 per frame; a constant frame becomes zeros (the released code divides by zero there).
    """
    height, width = unit_rgb.shape[:2]
    values: np.ndarray = disparity.astype(np.float32)
    if values.shape != (height, width):
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST)
    low, high = values.min(), values.max()
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    normal = ((unit_rgb - np.array(RGB_MEAN)) / np.array(RGB_STD)).astype(np.float32)
    return torch.from_numpy(np.concatenate([normal, scaled[..., None]], axis=2).transpose(2, 0, 1).copy())


class StreamingStabilizer:
    """Stabilises the frames of ONE scene as they come; memory does not depend on the scene's length.

    Args:
        model: the network, already on ``device``.
        direction: ``both``, or ``forward`` for the past-only pass.
        first: index reported for the first frame pushed.
        scene_start, scene_end: whether the first and the last frame pushed are ends of the scene. There, and only
            there, windows repeat the target. If not an end, the three frames there are halo: they serve as references
            and give no result.
        precision: ``fp32``, or ``bf16`` for autocast: matrix products in bfloat16, the last layer in float32.
        batch: frames computed at once; results come up to ``batch - 1`` frames later. They differ from those of
            other batches by rounding only. A GPU wants 8 or so, a CPU gains a little up to 4.
    """

    def __init__(
        self,
        model: NvdsNetwork,
        *,
        direction: Direction = "both",
        device: torch.device | str = "cpu",
        first: int = 0,
        scene_start: bool = True,
        scene_end: bool = True,
        precision: Precision = "fp32",
        batch: int = 1,
    ) -> None:
        if direction not in DIRECTIONS:
            raise ConfigError(f"direction {direction!r} is not one of {', '.join(DIRECTIONS)}")
        if precision not in PRECISIONS:
            raise ConfigError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
        if batch < 1:
            raise ConfigError(f"batches of {batch} frames; at least 1 is needed")
        self.direction, self.device, self.batch = direction, torch.device(device), batch
        self.scene_end = scene_end
        self._windows = WindowDecoder(model)
        self._precision = precision
        self._shape: torch.Size | None = None
        self._waiting: list[Tensor] = []
        self._encoded = 0
        self._first = first
        self._next = 0 if scene_start else REFERENCES

    def push(self, frame: Tensor) -> list[StableFrame]:
        """Take the next frame [4,H,W] of `prepare_frame`; return the results that have become possible."""
        self._shape = self._shape or frame.shape
        if frame.shape != self._shape:
            raise ShapeError(f"frames of one scene have one size; got {tuple(frame.shape)} after {tuple(self._shape)}")
        self._waiting.append(frame)
        if len(self._waiting) < self.batch:
            return []
        self._encode()
        delay = REFERENCES if self.direction == "both" or not self.scene_end else 0
        return self._results(self._encoded - delay)

    def finish(self) -> list[StableFrame]:
        """No more frames: return the remaining results."""
        self._encode()
        return self._results(self._encoded - (0 if self.scene_end else REFERENCES))

    @torch.inference_mode()
    def _encode(self) -> None:
        if self._waiting:
            frames = torch.stack(self._waiting).to(self.device)
            with self._autocast():
                self._windows.add(self._encoded, frames)
            self._encoded += len(frames)
            self._waiting = []

    @torch.inference_mode()
    def _results(self, stop: int) -> list[StableFrame]:
        results: list[StableFrame] = []
        while self._next < stop:
            targets = range(self._next, min(self._next + self.batch, stop))
            with self._autocast():
                results += self._stabilize(targets)
            self._next = targets.stop
            self._windows.forget(self._next)
        return results

    def _stabilize(self, targets: range) -> list[StableFrame]:
        steps = (-1, +1) if self.direction == "both" else (-1,)
        passes = [[self._references(i, step) for i in targets] for step in steps]
        forward, *backward = (maps.float().cpu().numpy() for maps in self._windows.decode(targets, passes))
        return [
            StableFrame(self._first + i, forward[k], backward[0][k] if backward else None)
            for k, i in enumerate(targets)
        ]

    def _references(self, i: int, step: int) -> tuple[int, ...]:
        """Reference frames of target i, farthest first; near a scene end the target itself three times."""
        far = i + REFERENCES * step
        if far < 0 or far >= self._encoded:
            return (i,) * REFERENCES
        return tuple(i + k * step for k in range(REFERENCES, 0, -1))

    def _autocast(self) -> AbstractContextManager[object]:
        """For ``fp32`` nothing, so that an autocast of the caller stays in force."""
        return torch.autocast(self.device.type, torch.bfloat16) if self._precision == "bf16" else nullcontext()


def stabilize_stream(
    model: NvdsNetwork,
    frames: Iterable[Tensor],
    *,
    direction: Direction = "both",
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    batch: int = 1,
) -> Iterator[StableFrame]:
    """Stabilise the prepared frames of one scene; yields in order with a delay of three frames and a batch."""
    stream = StreamingStabilizer(model, direction=direction, device=device, precision=precision, batch=batch)
    for frame in frames:
        yield from stream.push(frame)
    yield from stream.finish()


def block_reach(wanted: tuple[int, int], scene: tuple[int, int], batch: int = 1) -> tuple[int, int]:
    """The frames that a stream of its own needs for frames ``wanted`` of a scene; all as (first, one past the last).

    Three on either side, within the scene. Where frames are computed together these are whole batches, as the scene in
    one pass has them: other neighbours in a batch may change the last bits. Results come in batches that end three
    frames before those of the inputs, hence one batch more in front.
    """
    low, high = wanted[0] - REFERENCES, wanted[1] + REFERENCES
    if batch > 1:
        low = scene[0] + ((low - scene[0]) // batch - 1) * batch
        high = scene[0] - (scene[0] - high) // batch * batch
    return max(scene[0], low), min(scene[1], high)


def stabilize_blocks(
    model: NvdsNetwork,
    read: Callable[[int, int], Iterable[Tensor]],
    frames: int,
    *,
    block: int,
    direction: Direction = "both",
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    batch: int = 1,
) -> Iterator[StableFrame]:
    """Stabilise a scene of ``frames`` frames in independent blocks, each with a halo of three frames per side.

    Gives the same bits as one pass (`block_reach`); ``read(start, stop)`` yields the prepared frames of that range.
    Use it where the blocks of a long scene are computed by different workers; one pass is cheaper on one worker.
    """
    if block < 1:
        raise ConfigError(f"blocks of {block} frames; at least 1 is needed")
    for start in range(0, frames, block):
        stop = min(start + block, frames)
        low, high = block_reach((start, stop), (0, frames), batch)
        stream = StreamingStabilizer(
            model,
            direction=direction,
            device=device,
            first=low,
            scene_start=low == 0,
            scene_end=high == frames,
            precision=precision,
            batch=batch,
        )
        for frame in read(low, high):
            yield from (r for r in stream.push(frame) if start <= r.index < stop)
        yield from (r for r in stream.finish() if start <= r.index < stop)


def stabilize_video(
    model: NvdsNetwork,
    rgb_uint8: np.ndarray,
    disparity: np.ndarray,
    size: tuple[int, int],
    direction: Direction = "both",
    *,
    precision: Precision = "fp32",
    batch: int = 1,
) -> StabilizedVideo:
    """Stabilise one scene held in memory, as the published inference does.

    Args:
        model: `create_model("nvds")` or "nvds-tiny"; runs where its parameters are.
        rgb_uint8: [T,h,w,3] uint8 RGB.
        disparity: [T,h',w'] of any dtype, near is large, any affine unit per frame.
        size: (W, H) of the network input, multiples of 4 (officially of 32).
        direction: ``both``, or ``forward``; then backward and mix are the forward result.
        precision, batch: see `StreamingStabilizer`.

    Raises:
        ShapeError: if the arrays do not belong together.
    """
    if rgb_uint8.dtype != np.uint8:
        raise ShapeError(f"rgb must be uint8 in 0..255, got {rgb_uint8.dtype}")
    if rgb_uint8.ndim != 4 or rgb_uint8.shape[3] != 3 or disparity.ndim != 3 or len(rgb_uint8) != len(disparity):
        raise ShapeError(f"expected rgb [T,h,w,3] and disparity [T,h,w], got {rgb_uint8.shape} and {disparity.shape}")
    device = next(model.parameters()).device
    frames = (prepare_frame(prepare_rgb(image, size), d) for image, d in zip(rgb_uint8, disparity, strict=True))
    results = list(
        stabilize_stream(model, frames, direction=direction, device=device, precision=precision, batch=batch)
    )
    width, height = size
    if not results:
        empty = np.zeros((0, height, width), np.float32)
        return StabilizedVideo(empty, empty, empty)
    forward = np.stack([r.forward for r in results])
    backward = np.stack([r.forward if r.backward is None else r.backward for r in results])
    return StabilizedVideo(forward, backward, (forward + backward) / 2)
