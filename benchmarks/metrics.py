"""Time of the metrics per frame on one core: ``python -m benchmarks.metrics``.

Random maps of 384 x 896, truth known at 90 % of the pixels. CPU time and elapsed time are both printed, as a busy
machine makes the second one longer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from nvds_core.metrics import OpwAccumulator, drift_curve, occluded_in_later, tae, video_errors
from nvds_core.types import Camera

HEIGHT, WIDTH, CAP = 384, 896, 10.0
DISTINCT = 10  # frames that are drawn; they are repeated, so that the memory stays small


@dataclass(frozen=True, eq=False)
class Repeated:
    """A long video that repeats a few frames."""

    maps: np.ndarray
    frames: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.frames, *self.maps.shape[1:]

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, index: int) -> np.ndarray:
        if index >= self.frames:
            raise IndexError(index)
        return self.maps[index % len(self.maps)]


def main() -> None:
    """Print one line per metric."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    frames = parser.parse_args().frames
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    draw = np.random.default_rng(0)
    depth = draw.uniform(1, 12, (DISTINCT, HEIGHT, WIDTH)).astype(np.float32)
    pred = Repeated((1 / depth + draw.normal(0, 0.02, depth.shape)).astype(np.float32), frames)
    depth[draw.random(depth.shape) < 0.1] = 0
    truth = Repeated(depth, frames)
    rgb = Repeated(draw.integers(0, 256, (DISTINCT, HEIGHT, WIDTH, 3), dtype=np.uint8), frames)
    flow = Repeated(draw.normal(0, 2, (DISTINCT, 2, HEIGHT, WIDTH)).astype(np.float32), frames)
    camera = Camera("", (800.0, 800.0, 448.0, 192.0), WIDTH, HEIGHT, np.eye(3, 4))
    print(f"{frames} frames of {HEIGHT}x{WIDTH}, one thread: ms per frame, CPU (elapsed)")
    _report("accuracy set, one fit per video", frames, lambda: video_errors(pred, truth, cap=CAP))
    _report("drift curve", frames, lambda: drift_curve(pred, truth, cap=CAP))
    _report("OPW nvds, flow given", frames, lambda: _opw(rgb, pred, flow, masked=False))
    _report("OPW masked, both flows given", frames, lambda: _opw(rgb, pred, flow, masked=True))
    _report("TAE", frames, lambda: tae(truth, [camera] * frames))


def _opw(rgb: Repeated, pred: Repeated, flow: Repeated, *, masked: bool) -> None:
    scorer = OpwAccumulator(protocol="masked" if masked else "nvds")
    for index in range(len(rgb)):
        back = flow[index - 1] if index else None
        hidden = occluded_in_later(flow[index - 1], flow[index]) if masked and index else None
        scorer.push(rgb[index], pred[index], back, occluded=hidden)


def _report(name: str, frames: int, measure: Callable[[], object]) -> None:
    cpu, wall = time.process_time(), time.perf_counter()
    measure()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"{name:34s} {1e3 * cpu / frames:6.1f} ({1e3 * wall / frames:.1f})", flush=True)


if __name__ == "__main__":
    main()
