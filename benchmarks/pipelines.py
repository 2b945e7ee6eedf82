"""The two ways through a video that `benchmarks.pipeline` compares; nothing here needs Prefect or Zarr.

`overlapped` is the order of work of our pipeline, in one stream: each frame is encoded once, one bidirectional flow
pass serves every score, and decoding, networks, scoring and writing go on at the same time. `published_order` is a
plain transcription of the released scripts with our modules: predictor, both passes window by window, and the flow of
every pair anew for the score of each of the four results, one after the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvds_core.flow.base import FlowEstimator
from nvds_core.metrics import OpwAccumulator
from nvds_core.metrics.passes import PassOpw
from nvds_core.predictors.base import Predictor
from nvds_core.stabilization import NvdsNetwork, prepare_frame, prepare_rgb, quantize_disparity, stabilize_stream
from nvds_core.stabilization.mixing import choose_mix, mix_passes
from tasks.precision import Precision, computing
from tasks.streams import Prefetch, WriteBehind
from tasks.transfer import Uploader

REFERENCES = 3
RESULTS = ("initial", "forward", "backward", "mix")
Floats = NDArray[np.float32]
Picture = NDArray[np.float64]


@dataclass(frozen=True)
class Networks:
    """What a run is made of, and where it computes; `flow` may be a method of the CPU."""

    predictor: Predictor
    stabilizer: NvdsNetwork
    flow: FlowEstimator
    device: torch.device

    @property
    def flow_on_device(self) -> bool:
        return getattr(self.flow, "device", None) is not None

    @property
    def device_stages(self) -> tuple[str, ...]:
        return ("predict", "stabilise", "flow") if self.flow_on_device else ("predict", "stabilise")


@dataclass
class Clock:
    """Seconds per stage, over all threads. A stage inside another one counts for itself alone."""

    seconds: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stacks: threading.local = field(default_factory=threading.local)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        stack: list[list[float]] = self._stacks.__dict__.setdefault("stack", [])
        inner = [0.0]  # seconds of the stages inside this one
        stack.append(inner)
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            stack.pop()
            if stack:
                stack[-1][0] += elapsed
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + elapsed - inner[0]

    def timed(self, name: str, items: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """The items; making them counts as a stage."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item


@dataclass
class _Waiting:
    """What the score of a frame needs besides the stabilised disparity."""

    rgb: Floats
    initial: Floats
    to_previous: Floats | None = None
    to_next: Floats | None = None


def overlapped(
    frames: Iterable[NDArray[np.uint8]],
    networks: Networks,
    size: tuple[int, int],
    target: Path,
    *,
    precision: Precision = "fp32",
    batch: int = 4,
    stabilizer_batch: int = 1,
) -> tuple[dict[str, Floats], Clock]:
    """One scene through everything with overlap; returns all results and the seconds of each stage."""
    clock, waiting = Clock(), dict[int, _Waiting]()
    with target.open("wb") as file:
        finish = _Finish(networks, file, clock)
        with (
            Prefetch(clock.timed("decode", frames), batch) as decoded,
            Prefetch(_prepared(decoded, size, clock), 2 * batch) as pictures,
            Prefetch(_with_flow(pictures, networks, clock), 2 * batch) as flowing,
            WriteBehind(finish.push, 8) as output,
            computing(precision, networks.device, networks.predictor),
            computing(precision, networks.device, networks.flow),
        ):
            inputs = _inputs(flowing, networks, batch, waiting, clock)
            results = stabilize_stream(networks.stabilizer, inputs, device=networks.device, batch=stabilizer_batch)
            while True:
                with clock.stage("stabilise"):
                    result = next(results, None)
                if result is None:
                    break
                output.put(waiting.pop(result.index), result.forward, result.backward)
    return finish.results(), clock


def _prepared(frames: Iterable[NDArray[np.uint8]], size: tuple[int, int], clock: Clock) -> Iterator[Picture]:
    for rgb in frames:
        with clock.stage("prepare"):
            picture = prepare_rgb(rgb, size)
        yield picture


def _with_flow(
    pictures: Iterable[Picture], networks: Networks, clock: Clock
) -> Iterator[tuple[Picture, tuple[Floats, Floats] | None]]:
    """Each picture with its flow, where flow is a matter of the CPU."""
    last: Picture | None = None
    for picture in pictures:
        pair = None
        if not networks.flow_on_device:
            if last is not None:
                with clock.stage("flow"):
                    pair = networks.flow.estimate(last, picture * 255.0)
            last = picture * 255.0
        yield picture, pair


def _inputs(
    pictures: Iterable[tuple[Picture, tuple[Floats, Floats] | None]],
    networks: Networks,
    batch: int,
    waiting: dict[int, _Waiting],
    clock: Clock,
) -> Iterator[Tensor]:
    """Inputs of the stabiliser; what the device does for a frame before that happens here, in batches."""
    iterator, index = iter(pictures), 0
    upload = Uploader(networks.device)
    last: list[Picture] = []
    while block := list(islice(iterator, batch)):
        stack = np.stack([picture for picture, _ in block])
        with clock.stage("predict"):
            disparity = networks.predictor.predict(stack)
        fields: list[tuple[Floats, Floats] | None] = [pair for _, pair in block]
        if networks.flow_on_device:
            with clock.stage("flow"):
                run = last + list(stack * 255.0)
                to_previous, to_next = networks.flow.estimate_pairs(run)  # type: ignore[attr-defined]
                fields = [None] * (1 - len(last)) + list(zip(to_previous, to_next, strict=True))
                last = run[-1:]
        for picture, initial, pair in zip(stack, disparity, fields, strict=True):
            with clock.stage("prepare"):
                frame = upload(prepare_frame(picture, quantize_disparity(initial)))
                waiting[index] = _Waiting((picture * 255).astype(np.float32), initial, *(pair or (None, None)))
            index += 1
            yield frame.ready()


class _Finish:
    """Scores and writes frames as they come, in the thread of a `WriteBehind`."""

    def __init__(self, networks: Networks, file: BinaryIO, clock: Clock) -> None:
        self._upload, self._file, self._clock = Uploader(networks.device), file, clock
        self._scorer = PassOpw(("initial", "forward", "backward", "mean"), ("backward",))
        self._maps: dict[str, list[Floats]] = {name: [] for name in RESULTS[:3]}

    def push(self, frame: _Waiting, forward: Floats, backward: Floats) -> None:
        # With OpenMP threads for this thread too there are more of them than cores; then all sleep between two layers.
        if torch.get_num_threads() > 1:
            torch.set_num_threads(1)
        maps = {"initial": frame.initial, "forward": forward, "backward": backward}
        maps["mean"] = mix_passes("mean", forward, backward)
        with self._clock.stage("score"):
            on_device = {name: self._upload(values).ready() for name, values in maps.items()}
            pair = (None if flow is None else self._upload(flow).ready() for flow in (frame.to_previous, frame.to_next))
            self._scorer.push(self._upload(frame.rgb).ready(), on_device, *pair)
        with self._clock.stage("write"):
            for values in maps.values():
                self._file.write(quantize_disparity(values).tobytes())
        for name, kept in self._maps.items():
            kept.append(maps[name])

    def results(self) -> dict[str, Floats]:
        maps = {name: np.stack(kept) for name, kept in self._maps.items()}
        scored = self._scorer.results()
        backward = scored["backward" + PassOpw.REVERSED].mean
        choice = choose_mix(scored["initial"].mean, scored["forward"].mean, backward)
        return {**maps, "mix": mix_passes(choice, maps["forward"], maps["backward"])}


@torch.inference_mode()
def published_order(
    frames: Iterable[NDArray[np.uint8]], networks: Networks, size: tuple[int, int], target: Path
) -> tuple[dict[str, Floats], Clock]:
    """One scene as the released scripts go through it, in float32; frames are held decoded, the scripts read files."""
    clock = Clock()
    rgb = list(clock.timed("decode", frames))
    with computing("fp32", networks.device), target.open("wb") as file:
        maps: dict[str, Floats] = {}
        pictures = [_prepare(image, size, clock) for image in rgb]
        with clock.stage("predict"):
            maps["initial"] = np.concatenate([networks.predictor.predict(picture[None]) for picture in pictures])
        codes = [quantize_disparity(initial) for initial in maps["initial"]]
        order = list(range(len(rgb)))
        score = {"initial": _score(maps["initial"], pictures, order, networks, clock)}
        for name, indices in (("forward", order), ("backward", order[::-1])):
            stable = _window_by_window(rgb, codes, indices, networks, size, clock)
            maps[name] = np.stack([stable[index] for index in order])
            score[name] = _score(maps[name], pictures, indices, networks, clock)
        choice = choose_mix(score["initial"], score["forward"], score["backward"])
        maps["mix"] = mix_passes(choice, maps["forward"], maps["backward"])
        _score(maps["mix"], pictures, order, networks, clock)
        with clock.stage("write"):
            for values in maps.values():
                for frame in values:
                    file.write(quantize_disparity(frame).tobytes())
    return maps, clock


def _prepare(rgb: NDArray[np.uint8], size: tuple[int, int], clock: Clock) -> Picture:
    with clock.stage("prepare"):
        return prepare_rgb(rgb, size)


def _window_by_window(
    rgb: list[NDArray[np.uint8]],
    codes: list[NDArray[np.uint16]],
    order: list[int],
    networks: Networks,
    size: tuple[int, int],
    clock: Clock,
) -> dict[int, Floats]:
    """The stabilised frames of one pass by index; every window reads, resizes and encodes its four frames."""
    stable = {}
    for position, index in enumerate(order):
        members = order[position - REFERENCES : position + 1] if position >= REFERENCES else [index] * (REFERENCES + 1)
        window = torch.stack([prepare_frame(_prepare(rgb[i], size, clock), codes[i]) for i in members])[None]
        with clock.stage("stabilise"):
            stable[index] = networks.stabilizer(window.to(networks.device))[0, 0].float().cpu().numpy()
    return stable


def _score(maps: Floats, pictures: list[Picture], order: list[int], networks: Networks, clock: Clock) -> float:
    """OPW of one result in its own order, with the flow of every pair computed for it."""
    scorer = OpwAccumulator()
    previous: Picture | None = None
    for index in order:
        picture = pictures[index] * 255.0
        flow = None
        if previous is not None:
            with clock.stage("flow"):
                flow = networks.flow.estimate_to_previous(previous, picture)
        with clock.stage("score"):
            scorer.push(picture.astype(np.float32), maps[index], flow)
        previous = picture
    return scorer.results()["disparity"].mean
