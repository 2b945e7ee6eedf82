"""What does one stabilised frame cost, and does the fast order change the result?

    python -m benchmarks.stabilizer [--model NAME] [--size 448x192] [--threads 1 all] [--rounds 3] [--json FILE]

In one run, with the weights of the golden data (`tests/fill.py`; speed does not depend on them): the official order
(both windows of a frame through the whole network, nothing shared) against the streaming order, with and without the
shorter way of the wide convolutions, in seconds per output frame with both directions; the parts; bfloat16; batches;
channels_last weights. All candidates take turns, the best of the rounds counts. On one thread a time is CPU time, which
other programs on the machine disturb little; on several threads it is wall time. With ``--opw`` also: OPW of bfloat16
against float32 with the trained nvds-tiny.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks.stabilizer_opw import precision_opw
from nvds_core.memory import keep_freed_memory, peak_memory
from nvds_core.models import create_model
from nvds_core.stabilization import NvdsNetwork, StreamingStabilizer, winograd
from tests.fill import fill

LEAD_IN = 12  # frames until every reference key that a target needs from the past has been used before
TARGETS = {"blocks": 1.0, "streaming": 4.5, "difference": 1e-4}
Timed = dict[str, float]
Result = TypeVar("Result")


def processor() -> str:
    """The CPU's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def random_frames(count: int, size: tuple[int, int]) -> Tensor:
    """Frames [count,4,H,W] like the network's input."""
    g = torch.Generator().manual_seed(0)
    frames = torch.randn((count, 4, size[1], size[0]), generator=g)
    frames[:, 3] = torch.rand(frames[:, 3].shape, generator=g)
    return frames


def build(name: str, *, filled: bool = True) -> NvdsNetwork:
    model = create_model(name, pretrained=False).eval()
    if filled:
        fill(model)
    assert isinstance(model, NvdsNetwork)
    return model


def best_of(candidates: dict[str, Callable[[], object]], rounds: int) -> Timed:
    """Least seconds of each candidate; they take turns, so that a change of the machine's load meets all."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            start = clock()
            call()
            seconds[name].append(clock() - start)
    return {name: min(values) for name, values in seconds.items()}


def directly(call: Callable[[], Result]) -> Result:
    """Do it without the shorter way of the wide 3x3 convolutions."""
    with patch.object(winograd, "MAX_THREADS", 0):
        return call()


def largest_gap(ours: tuple[np.ndarray, ...], theirs: tuple[np.ndarray, ...]) -> float:
    return float(max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)))


class Streaming:
    """A stream in its steady state; each call pushes ``batch`` frames and gets as many results."""

    def __init__(self, model: NvdsNetwork, frames: Tensor, *, precision: str = "fp32", batch: int = 1) -> None:
        self.stream = StreamingStabilizer(model, precision=precision, batch=batch)  # type: ignore[arg-type]
        self.frames, self.batch, self.next = frames, batch, 0
        self.results: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        while self.next < LEAD_IN:
            self()

    def __call__(self) -> None:
        for _ in range(self.batch):
            for result in self.stream.push(self.frames[self.next % len(self.frames)]):
                assert result.backward is not None
                self.results[result.index] = (result.forward, result.backward)
            self.next += 1


def official(model: NvdsNetwork, frames: Tensor, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Both windows of one target through the whole network, one after the other, as published."""
    n = len(frames)
    windows = [[(target - step * k) % n for k in (3, 2, 1, 0)] for step in (1, -1)]
    forward, backward = (model(frames[window][None])[0, 0].numpy() for window in windows)
    return forward, backward


@torch.inference_mode()
def measure(model: NvdsNetwork, size: tuple[int, int], rounds: int) -> dict[str, float]:
    """Seconds of everything with the present number of threads, and the difference of both orders."""
    frames = random_frames(LEAD_IN + 4, size)
    image = frames[:1]
    fused = model.encode(image)
    references = [model.encode(frame[None]) for frame in frames[1:4]]
    maps = model.backbone(image)
    detail = model.detail(fused, image[:, :3])
    keys = [model.reference_keys(frame, role) for role, frame in enumerate(references)]
    own = model.own_tokens(fused)
    attended = model.attend(fused, zip(*keys, strict=True), own)
    stream, plain_stream = Streaming(model, frames), directly(lambda: Streaming(model, frames))
    checked = LEAD_IN - 4
    published = official(model, frames, checked)

    def whole_blocks() -> None:
        roles = [model.reference_keys(frame, role) for role, frame in enumerate(references)]
        model.attend(fused, zip(*roles, strict=True))

    def shared_blocks() -> None:
        for role, frame in enumerate(references):
            model.reference_keys(frame, role)
        shared = model.own_tokens(fused)
        for _ in range(2):
            model.attend(fused, zip(*keys, strict=True), shared)

    seconds = best_of(
        {
            "encoder": lambda: model.backbone(image),
            "blocks": whole_blocks,
            "blocks_both": shared_blocks,
            "streaming": stream,
            "streaming_direct": lambda: directly(plain_stream),
            "official": lambda: official(model, frames, checked),
            "fusion": lambda: model.Stabilizer.fuse(maps),
            "detail": lambda: model.detail(fused, image[:, :3]),
            "head": lambda: model.finish(attended, detail),
        },
        rounds,
    )
    return seconds | {
        "difference": largest_gap(stream.results[checked], published),
        "ways": largest_gap(stream.results[checked], plain_stream.results[checked]),
        "largest": float(max(part.max() for part in published)),
    }


@torch.inference_mode()
def measure_variants(model: NvdsNetwork, size: tuple[int, int], rounds: int) -> dict[str, float]:
    """Seconds per frame of bfloat16, of batches and of channels_last weights, each beside the plain form."""
    frames = random_frames(LEAD_IN + 4, size)

    def low_precision(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with torch.autocast("cpu", torch.bfloat16):
                return call()

        return run

    plain: dict[str, Callable[[], object]] = {
        "encoder": lambda: model.backbone(frames[:1]),
        "streaming": Streaming(model, frames),
    }
    streams = {
        "streaming bf16": (Streaming(model, frames, precision="bf16"), 1),
        "streaming batch 4": (Streaming(model, frames, batch=4), 4),
        "streaming bf16 batch 4": (Streaming(model, frames, precision="bf16", batch=4), 4),
    }
    others = {
        "encoder bf16": low_precision(plain["encoder"]),
        "encoder batch 4": lambda: model.backbone(frames[:4]),
        "official": lambda: official_float(model, frames),
        "official bf16": low_precision(lambda: official_float(model, frames)),
    }
    seconds = best_of(plain | {name: stream for name, (stream, _) in streams.items()} | others, rounds)
    for name in seconds:
        if name.endswith("batch 4"):
            seconds[name] /= 4
    seconds["streaming channels_last"] = in_layout(model, torch.channels_last, lambda: Streaming(model, frames), rounds)
    return seconds


def in_layout(
    model: NvdsNetwork, layout: torch.memory_format, build_stream: Callable[[], Streaming], rounds: int
) -> float:
    """Seconds of a stream with the model's weights in another layout."""
    # Outside of inference mode: of weights that are made in it nobody can tell whether they change, so that the
    # convolutions would take the long way from then on.
    with torch.inference_mode(False):
        model.to(memory_format=layout)
    seconds = best_of({"stream": build_stream()}, rounds)["stream"]
    with torch.inference_mode(False):
        model.to(memory_format=torch.contiguous_format)
    return seconds


def official_float(model: NvdsNetwork, frames: Tensor) -> None:
    for window in ((0, 1, 2, 3), (6, 5, 4, 3)):
        model(frames[list(window)][None]).float()


def peaks_of_orders(name: str, size: tuple[int, int]) -> dict[str, float]:
    """Peak resident memory in MB of each order, in a process of its own; ``loaded`` is the model alone."""
    peaks = {}
    for order in ("loaded", "official", "streaming", "streaming bf16"):
        command = [sys.executable, "-m", "benchmarks.stabilizer", "--model", name, "--size", f"{size[0]}x{size[1]}"]
        done = subprocess.run([*command, "--peak", order], check=True, capture_output=True, text=True)
        peaks[order] = float(done.stdout)
    return peaks


@torch.inference_mode()
def run_once(name: str, size: tuple[int, int], order: str) -> float:
    """Do one order's work; peak resident memory of this process in MB."""
    torch.set_num_threads(1)
    # Filling takes more memory than computing.
    model, frames = build(name, filled=False), random_frames(LEAD_IN + 4, size)
    if order == "official":
        official(model, frames, 5)
    elif order.startswith("streaming"):
        Streaming(model, frames, precision="bf16" if order.endswith("bf16") else "fp32")
    return peak_memory()


def report(threads: int, s: dict[str, float]) -> None:
    """Print one number of threads: seconds, ratios, difference; on one thread beside the targets."""
    unit = s["encoder"]
    print(f"\n{threads} thread(s), fp32, {'CPU' if threads == 1 else 'wall'} seconds (least of all rounds)")
    rows = {
        "encoder, one frame": unit,
        "official order, output frame, both directions": s["official"],
        "streaming order, output frame, both directions": s["streaming"],
        "the same with all convolutions direct": s["streaming_direct"],
        "four attention blocks, one window alone": s["blocks"],
        "four attention blocks, streaming, per direction": s["blocks_both"] / 2,
        "fusion, per frame": s["fusion"],
        "edge convolutions and ftb1, per frame": s["detail"],
        "rest of the head, per direction": s["head"],
    }
    for name, value in rows.items():
        print(f"  {name:48s} {value:7.3f} s = {value / unit:5.2f} x encoder")
    print(
        f"  official / streaming {s['official'] / s['streaming']:.2f}, "
        f"largest difference {s['difference']:.1e} (results up to {s['largest']:.2g}), "
        f"of both ways of convolution {s['ways']:.1e}"
    )
    if threads > 1:
        return
    reached = {
        "blocks": s["blocks_both"] / 2 / unit,
        "streaming": s["streaming"] / unit,
        "difference": s["difference"],
    }
    for name, limit in TARGETS.items():
        print(
            f"  {'reached    ' if reached[name] <= limit else 'NOT REACHED'} {name} {reached[name]:.3g} <= {limit:.3g}"
        )


def report_variants(threads: int, s: dict[str, float]) -> None:
    """Print the variants, each relative to the plain form timed in the same rounds."""
    print(f"\n{threads} thread(s), variants: seconds per (output) frame, relative to plain fp32")
    for name, value in s.items():
        plain = s[name.split()[0]]
        print(f"  {name:24s} {value:7.3f} s  {value / plain:5.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nvds", help="nvds or nvds-tiny")
    parser.add_argument("--size", default="448x192", help="WxH of the network input")
    parser.add_argument("--threads", nargs="+", default=["1", "all"], help="numbers, or all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-variants", action="store_true", help="only the two orders in fp32")
    parser.add_argument("--opw", action="store_true", help="also OPW of bf16 against fp32")
    parser.add_argument("--plain-malloc", action="store_true", help="let the allocator return memory, its default")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    args = parser.parse_args()
    width, height = (int(part) for part in args.size.split("x"))
    kept = not args.plain_malloc and keep_freed_memory()
    if args.peak:
        print(run_once(args.model, (width, height), args.peak))
        return
    cores = os.cpu_count() or 1
    print(f"{args.model} at {height}x{width}, torch {torch.__version__}, {processor()}, {cores} cores")
    print(f"freed memory kept: {kept}")
    model = build(args.model)
    figures: dict[str, object] = {
        "model": args.model,
        "size": args.size,
        "cpu": processor(),
        "torch": torch.__version__,
    }
    for threads in [cores if count == "all" else int(count) for count in args.threads]:
        torch.set_num_threads(threads)
        figures[f"threads_{threads}"] = seconds = measure(model, (width, height), args.rounds)
        report(threads, seconds)
        if not args.no_variants:
            figures[f"variants_{threads}"] = seconds = measure_variants(model, (width, height), args.rounds)
            report_variants(threads, seconds)
    figures["peak_mb"] = peaks = peaks_of_orders(args.model, (width, height))
    print("\npeak memory: " + ", ".join(f"{name} {value:.0f} MB" for name, value in peaks.items()))
    if args.opw:
        figures["opw"] = precision_opw()
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
