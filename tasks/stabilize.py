"""NVDS over every scene of a video, forward and backward in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from nvds_core.predictors.base import finite
from nvds_core.stabilization import NvdsNetwork, block_reach, prepare_frame, quantize_disparity
from nvds_core.stabilization.inference import Direction, StableFrame, StreamingStabilizer
from storage import ArraySpec, ArtifactRef, artifact_key, write_arrays
from tasks import workers
from tasks.caching import StepReturn, step
from tasks.frames import FrameArtifact
from tasks.memory import Batches, LimitsConfig, batches, is_memory_error
from tasks.parts import Rows, RowWriter, Span, produce_rows
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


@step(name="stabilize", task_run_name="stabilize {initial.key}", tags=["gpu"])
def stabilize(
    workspace: Workspace,
    frames: ArtifactRef,
    initial: ArtifactRef,
    config: StabilizerConfig,
    limits: LimitsConfig | None = None,
    span: Span | None = None,
) -> StepReturn:
    """Write the stabilised disparity of one video, in forward time order; windows never cross a cut.

    With `span` a part is made of it, from a part of `initial` that has its `reach`.
    """

    def make(folder: Path, pictures: FrameArtifact, span: Span) -> None:
        disparity = Rows(workspace.store, initial, reach(pictures, span))
        model, digest = workers.stabilizer(config.name)
        device = workers.device()
        spec = ArraySpec(shape=(span.frames, pictures.height, pictures.width), dtype="float32")
        size = batches(
            f"stabilizer {config.name} at {pictures.width}x{pictures.height}",
            config.precision,
            most=_most(device),
            item_bytes=workers.bytes_per_pixel(model) * pictures.height * pictures.width,
            device=device,
            limits=limits or LimitsConfig(),
        )
        with (
            write_arrays(folder / "arrays", dict.fromkeys(config.passes, spec), {"stabilizer": digest}) as arrays,
            WriteBehind(RowWriter(arrays, span).write, len(config.passes) * BEHIND) as output,
            computing(config.precision, device),
        ):
            for start, stop in pictures.scenes:
                scene = _Scene(pictures, disparity, start, stop)
                for result in _stabilized(model, scene, span.within(start, stop), config, size, device):
                    for name in config.passes:
                        output.put(name, result.index, finite(getattr(result, name)[None], config.name))

    return produce_rows(workspace, stabilized_ref(frames, initial, config), frames, make, span)


def reach(pictures: FrameArtifact, span: Span) -> Span:
    """The frames that results of a span are made of: those beside it that windows refer to, within each scene."""
    needed = [
        block_reach((wanted.start, wanted.stop), scene, _most(workers.device()))
        for scene in pictures.scenes
        if (wanted := span.within(*scene)).frames
    ]
    return Span(needed[0][0], needed[-1][1])


def _most(device: torch.device) -> int:
    return ACCELERATOR_BATCH if device.type == "cuda" else CPU_BATCH


@dataclass(frozen=True)
class _Scene:
    """Frames [start, stop) of a video, and where their disparity is read."""

    pictures: FrameArtifact
    disparity: Rows
    start: int
    stop: int

    def inputs(self, span: Span, upload: Uploader) -> Iterator[Uploaded]:
        """Network inputs of a span; the disparity goes through 16 bits per frame, as published."""
        for low, block in self.pictures.blocks(span.start, span.stop, BLOCK):
            maps = self.disparity.read(low, low + len(block))
            for picture, frame in zip(block, maps, strict=True):
                yield upload(prepare_frame(picture, quantize_disparity(frame)))


def _stabilized(
    model: NvdsNetwork, scene: _Scene, wanted: Span, config: StabilizerConfig, size: Batches, device: torch.device
) -> Iterator[StableFrame]:
    """Results of frames of one scene. When memory runs out it goes on with smaller batches where the results ended."""
    following = wanted.start
    while following < wanted.stop:
        span = Span(*block_reach((following, wanted.stop), (scene.start, scene.stop), size.size))
        try:
            for result in _pass(model, scene, span, config, size.size, device):
                if following <= result.index < wanted.stop:
                    following = result.index + 1
                    yield result
            return
        except Exception as error:
            if not is_memory_error(error) or size.size == 1:
                raise
        size.shrink(size.size)


def _pass(
    model: NvdsNetwork, scene: _Scene, span: Span, config: StabilizerConfig, batch: int, device: torch.device
) -> Iterator[StableFrame]:
    stream = StreamingStabilizer(
        model,
        direction=config.direction,
        device=device,
        first=span.start,
        scene_start=span.start == scene.start,
        scene_end=span.stop == scene.stop,
        precision="bf16" if config.precision == "bf16" else "fp32",
        batch=batch,
    )
    with Prefetch(scene.inputs(span, Uploader(device)), AHEAD) as inputs:
        for frame in inputs:
            yield from stream.push(frame.ready())
        yield from stream.finish()
