"""NVDS over every scene of a video, forward and backward in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from prefect import task

from nvds_core.predictors.base import finite
from nvds_core.stabilization import NvdsNetwork, prepare_frame, quantize_disparity
from nvds_core.stabilization.inference import Direction, StableFrame, StreamingStabilizer
from nvds_core.stabilization.network import REFERENCES
from storage import ArrayReader, ArraySpec, ArtifactRef, artifact_key, open_arrays, write_arrays
from tasks import workers
from tasks.caching import TASK_OPTIONS, StepReturn, produce
from tasks.frames import FrameArtifact
from tasks.memory import Batches, LimitsConfig, batches, is_memory_error
from tasks.precision import Precision, computing
from tasks.streams import Prefetch, WriteBehind
from tasks.transfer import Uploaded, Uploader
from tasks.workspace import Workspace

STEP, VERSION = "stabilized", 1
BLOCK = 8
CPU_BATCH, ACCELERATOR_BATCH = 1, 8
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
        size = batches(
            f"stabilizer {config.name} at {pictures.width}x{pictures.height}",
            config.precision,
            most=ACCELERATOR_BATCH if device.type == "cuda" else CPU_BATCH,
            item_bytes=workers.bytes_per_pixel(model) * pictures.height * pictures.width,
            device=device,
            limits=limits or LimitsConfig(),
        )
        with (
            write_arrays(folder / "arrays", dict.fromkeys(config.passes, spec), {"stabilizer": digest}) as arrays,
            WriteBehind(arrays.write, len(config.passes) * BEHIND) as output,
            computing(config.precision, device),
        ):
            for start, stop in pictures.scenes:
                scene = _Scene(pictures, disparity, start, stop)
                for result in _stabilized(model, scene, config, size, device):
                    for name in config.passes:
                        output.put(name, result.index, finite(getattr(result, name)[None], config.name))
        return pictures.frames

    return produce(workspace, stabilized_ref(frames, initial, config), make)


@dataclass(frozen=True)
class _Scene:
    """Frames [start, stop) of a video, and where their disparity is read."""

    pictures: FrameArtifact
    disparity: ArrayReader
    start: int
    stop: int

    def inputs(self, first: int, upload: Uploader) -> Iterator[Uploaded]:
        """Network inputs from frame `first` on; the disparity goes through 16 bits per frame, as published."""
        for low, block in self.pictures.blocks(first, self.stop, BLOCK):
            (name,) = self.disparity.names  # initial or optimized
            maps = self.disparity.read(name, low, low + len(block))
            for picture, frame in zip(block, maps, strict=True):
                yield upload(prepare_frame(picture, quantize_disparity(frame)))


def _stabilized(
    model: NvdsNetwork, scene: _Scene, config: StabilizerConfig, size: Batches, device: torch.device
) -> Iterator[StableFrame]:
    """Results of one scene. When memory runs out it goes on with smaller batches where the results ended."""
    following = scene.start
    while following < scene.stop:
        low = max(scene.start, following - REFERENCES)  # the frames before are references, and give no result
        try:
            for result in _pass(model, scene, low, config, size.size, device):
                if result.index >= following:
                    following = result.index + 1
                    yield result
            return
        except Exception as error:
            if not is_memory_error(error) or size.size == 1:
                raise
        size.shrink(size.size)


def _pass(
    model: NvdsNetwork, scene: _Scene, low: int, config: StabilizerConfig, batch: int, device: torch.device
) -> Iterator[StableFrame]:
    stream = StreamingStabilizer(
        model,
        direction=config.direction,
        device=device,
        first=low,
        scene_start=low == scene.start,
        precision="bf16" if config.precision == "bf16" else "fp32",
        batch=batch,
    )
    with Prefetch(scene.inputs(low, Uploader(device)), AHEAD) as inputs:
        for frame in inputs:
            yield from stream.push(frame.ready())
        yield from stream.finish()
