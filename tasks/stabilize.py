"""NVDS over every scene of a video, forward and backward in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefect import task
from torch import Tensor

from nvds_core.predictors.base import finite
from nvds_core.stabilization import prepare_frame, quantize_disparity, stabilize_stream
from nvds_core.stabilization.inference import Direction
from storage import ArrayReader, ArraySpec, ArtifactRef, artifact_key, open_arrays, write_arrays
from tasks import workers
from tasks.caching import TASK_OPTIONS, StepReturn, produce
from tasks.frames import FrameArtifact
from tasks.workspace import Workspace

STEP, VERSION = "stabilized", 1
BLOCK = 16


@dataclass(frozen=True)
class StabilizerConfig:
    """Which stabiliser (``none`` leaves the initial disparity as the only result) and which passes."""

    name: str = "nvds-tiny"
    direction: Direction = "both"

    @property
    def passes(self) -> tuple[str, ...]:
        """Names of the passes it computes."""
        if self.name == "none":
            return ()
        return ("forward", "backward") if self.direction == "both" else ("forward",)


def stabilized_ref(frames: ArtifactRef, initial: ArtifactRef, config: StabilizerConfig) -> ArtifactRef:
    """The name of the stabilised disparity: inputs, network, weights and passes."""
    return ArtifactRef(STEP, artifact_key(STEP, VERSION, frames, initial, config, workers.stabilizer(config.name)[1]))


@task(name="stabilize", task_run_name="stabilize {initial.key}", tags=["gpu"], **TASK_OPTIONS)
def stabilize(workspace: Workspace, frames: ArtifactRef, initial: ArtifactRef, config: StabilizerConfig) -> StepReturn:
    """Write the stabilised disparity of one video, in forward time order; windows never cross a cut."""

    def make(folder: Path) -> int:
        pictures = FrameArtifact(workspace.store, frames)
        disparity = open_arrays(workspace.store.path(initial) / "arrays")
        model, digest = workers.stabilizer(config.name)
        spec = ArraySpec(shape=(pictures.frames, pictures.height, pictures.width), dtype="float32")
        specs = dict.fromkeys(config.passes, spec)
        with write_arrays(folder / "arrays", specs, {"stabilizer": digest}) as arrays:
            for start, stop in pictures.scenes:
                inputs = _inputs(pictures, disparity, start, stop)
                results = stabilize_stream(model, inputs, direction=config.direction, device=workers.device())
                for index, result in enumerate(results, start=start):
                    for name in config.passes:
                        arrays.write(name, index, finite(getattr(result, name)[None], config.name))
        return pictures.frames

    return produce(workspace, stabilized_ref(frames, initial, config), make)


def _inputs(pictures: FrameArtifact, disparity: ArrayReader, start: int, stop: int) -> Iterator[Tensor]:
    """Network inputs of one scene; the disparity goes through 16 bits per frame, as published."""
    for first, block in pictures.blocks(start, stop, BLOCK):
        maps = disparity.read("initial", first, first + len(block))
        for picture, frame in zip(block, maps, strict=True):
            yield prepare_frame(picture, quantize_disparity(frame))
