"""Optical flow of neighbouring frames, both directions, computed once and used by every score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nvds_core.flow.base import FloatArray, FlowEstimator
from storage import ArraySpec, ArtifactRef, artifact_key, write_arrays
from tasks import workers
from tasks.caching import StepReturn, step
from tasks.frames import FrameArtifact
from tasks.memory import LimitsConfig, batches
from tasks.parts import RowWriter, Span, produce_rows
from tasks.precision import Precision, computing
from tasks.streams import Prefetch, WriteBehind
from tasks.workspace import Workspace

STEP, VERSION = "flow", 1
BLOCK = 8  # pairs at once
BEHIND = 2  # blocks of fields that wait to be written

NAMES = ("to_previous", "to_next")

Picture = NDArray[np.float64]


@dataclass(frozen=True)
class FlowConfig:
    """Which flow estimator, and how it computes if it is a network."""

    name: str = "dis"
    precision: Precision = "fp32"


def flow_ref(frames: ArtifactRef, config: FlowConfig) -> ArtifactRef:
    """The name of the flow: frames, estimator by its digest (its name may hold a path), precision."""
    return ArtifactRef(STEP, artifact_key(STEP, VERSION, frames, config.precision, workers.flow(config.name).digest))


@step(name="estimate-flow", task_run_name="estimate-flow {frames.key}")
def estimate_flow(
    workspace: Workspace,
    frames: ArtifactRef,
    config: FlowConfig,
    limits: LimitsConfig | None = None,
    span: Span | None = None,
) -> StepReturn:
    """Write the flow between all neighbouring frames.

    Row i belongs to frame i: ``to_previous`` leads from it to frame i-1, ``to_next`` from frame i-1 to it.
    Rows that begin a scene hold zeros and are never read: no pair crosses a cut. With `span` a part is made of it.
    """

    def make(folder: Path, pictures: FrameArtifact, span: Span) -> None:
        estimator = workers.flow(config.name)
        shape = (span.frames, 2, pictures.height, pictures.width)
        specs = {name: ArraySpec(shape=shape, dtype="float32") for name in NAMES}
        size = batches(
            f"flow {config.name} at {pictures.width}x{pictures.height}",
            config.precision,
            most=BLOCK,
            item_bytes=workers.bytes_per_pixel(estimator) * pictures.height * pictures.width,
            device=workers.device(),
            limits=limits or LimitsConfig(),
        )
        blank = np.zeros((1, *shape[1:]), np.float32)
        with (
            write_arrays(folder / "arrays", specs, {"flow": estimator.digest}) as arrays,
            WriteBehind(RowWriter(arrays, span).write, 2 * BEHIND) as output,
            computing(config.precision, workers.device(), estimator),
        ):
            for start, stop in pictures.scenes:
                output.put(NAMES[0], start, blank)
                output.put(NAMES[1], start, blank)
                with Prefetch(_runs(pictures, start, stop, span)) as runs:
                    for first, run in runs:
                        for fields in size.map(lambda pairs: _estimate(estimator, pairs), list(pairwise(run))):
                            for name, field in zip(NAMES, fields, strict=True):
                                output.put(name, first, field)
                            first += len(fields[0])

    return produce_rows(workspace, flow_ref(frames, config), frames, make, span)


def _runs(pictures: FrameArtifact, start: int, stop: int, span: Span) -> Iterator[tuple[int, list[Picture]]]:
    """Runs of neighbouring frames of one scene in 0..255; each begins with the last frame of the one before.

    The number is that of the second frame: the first row a run gives. Of all runs those that have rows of the span.
    """
    last: list[Picture] = []
    for first, block in pictures.blocks(start, stop, BLOCK, (span.start, span.stop)):
        if not last and first > start:
            last = list(pictures.read(first - 1, first) * 255.0)
        run = last + list(block * 255.0)
        if len(run) > 1:
            yield first + 1 - len(last), run
        last = run[-1:]


def _estimate(estimator: FlowEstimator, pairs: Sequence[tuple[Picture, Picture]]) -> tuple[FloatArray, FloatArray]:
    """(to previous, to next), each [n,2,h,w], of pairs that follow each other."""
    if hasattr(estimator, "estimate_pairs"):  # networks: each frame is encoded once, several pairs go together
        fields: tuple[FloatArray, FloatArray] = estimator.estimate_pairs([pairs[0][0], *(later for _, later in pairs)])
        return fields
    to_previous, to_next = zip(*(estimator.estimate(earlier, later) for earlier, later in pairs), strict=True)
    return np.stack(to_previous), np.stack(to_next)
