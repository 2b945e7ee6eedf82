"""Optical flow of neighbouring frames, both directions, computed once and used by every score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prefect import task

from storage import ArraySpec, ArtifactRef, artifact_key, write_arrays
from tasks import workers
from tasks.caching import TASK_OPTIONS, StepReturn, produce
from tasks.frames import FrameArtifact
from tasks.workspace import Workspace

STEP, VERSION = "flow", 1
BLOCK = 16


@dataclass(frozen=True)
class FlowConfig:
    """Which flow estimator."""

    name: str = "dis"


def flow_ref(frames: ArtifactRef, config: FlowConfig) -> ArtifactRef:
    """The name of the flow: frames, estimator and its settings."""
    return ArtifactRef(STEP, artifact_key(STEP, VERSION, frames, config, workers.flow(config.name).digest))


@task(name="estimate-flow", task_run_name="estimate-flow {frames.key}", **TASK_OPTIONS)
def estimate_flow(workspace: Workspace, frames: ArtifactRef, config: FlowConfig) -> StepReturn:
    """Write the flow between all neighbouring frames.

    Row i belongs to frame i: ``to_previous`` leads from it to frame i-1, ``to_next`` from frame i-1 to it.
    Rows that begin a scene hold zeros and are never read: no pair crosses a cut.
    """

    def make(folder: Path) -> int:
        pictures = FrameArtifact(workspace.store, frames)
        estimator = workers.flow(config.name)
        shape = (pictures.frames, 2, pictures.height, pictures.width)
        specs = {name: ArraySpec(shape=shape, dtype="float32") for name in ("to_previous", "to_next")}
        starts = {start for start, _ in pictures.scenes}
        with write_arrays(folder / "arrays", specs, {"flow": estimator.digest}) as arrays:
            blank = np.zeros(shape[1:], np.float32)
            previous = None
            for first, block in pictures.blocks(0, pictures.frames, BLOCK):
                for index, picture in enumerate(block, start=first):
                    picture = picture * 255.0
                    if previous is None or index in starts:
                        pair = (blank, blank)
                    else:
                        pair = estimator.estimate(previous, picture)
                    arrays.write("to_previous", index, pair[0][None])
                    arrays.write("to_next", index, pair[1][None])
                    previous = picture
        return pictures.frames

    return produce(workspace, flow_ref(frames, config), make)
