"""NVDS over every scene of a video, forward and backward in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefect import task

from nvds_core.predictors.base import finite
from nvds_core.stabilization import prepare_frame, quantize_disparity, stabilize_stream
from nvds_core.stabilization.inference import Direction
from storage import ArrayReader, ArraySpec, ArtifactRef, artifact_key, open_arrays, write_arrays
from tasks import workers
from tasks.caching import TASK_OPTIONS, StepReturn, produce
from tasks.frames import FrameArtifact
from tasks.memory import LimitsConfig
from tasks.precision import Precision, computing
from tasks.streams import Prefetch, WriteBehind
from tasks.transfer import Uploaded, Uploader
from tasks.workspace import Workspace

STEP, VERSION = "stabilized", 1
BLOCK = 8
AHEAD = 8  # prepared frames that wait for the network
BEHIND = 8  # results that wait to be written


@dataclass(frozen=True)
class StabilizerConfig:
    """Which stabiliser (``none`` leaves the initial disparity alone), which passes, and how it computes."""

    name: str = "nvds-tiny"
    direction: Direction = "both"
    precision: Precision = "fp32"

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
def stabilize(
    workspace: Workspace,
    frames: ArtifactRef,
    initial: ArtifactRef,
    config: StabilizerConfig,
    limits: LimitsConfig | None = None,
) -> StepReturn:
    """Write the stabilised disparity of one video, in forward time order; windows never cross a cut."""

    def make(folder: Path) -> int:
        pictures = FrameArtifact(workspace.store, frames)
        disparity = open_arrays(workspace.store.path(initial) / "arrays")
        model, digest = workers.stabilizer(config.name)
        device = workers.device()
        spec = ArraySpec(shape=(pictures.frames, pictures.height, pictures.width), dtype="float32")
        with (
            write_arrays(folder / "arrays", dict.fromkeys(config.passes, spec), {"stabilizer": digest}) as arrays,
            WriteBehind(arrays.write, len(config.passes) * BEHIND) as output,
            computing(config.precision, device),
        ):
            for start, stop in pictures.scenes:
                with Prefetch(_inputs(pictures, disparity, start, stop, Uploader(device)), AHEAD) as inputs:
                    ready = (frame.ready() for frame in inputs)
                    results = stabilize_stream(model, ready, direction=config.direction, device=device)
                    for index, result in enumerate(results, start=start):
                        for name in config.passes:
                            output.put(name, index, finite(getattr(result, name)[None], config.name))
        return pictures.frames

    return produce(workspace, stabilized_ref(frames, initial, config), make)


def _inputs(
    pictures: FrameArtifact, disparity: ArrayReader, start: int, stop: int, upload: Uploader
) -> Iterator[Uploaded]:
    """Network inputs of one scene; the disparity goes through 16 bits per frame, as published."""
    for first, block in pictures.blocks(start, stop, BLOCK):
        maps = disparity.read("initial", first, first + len(block))
        for picture, frame in zip(block, maps, strict=True):
            yield upload(prepare_frame(picture, quantize_disparity(frame)))
