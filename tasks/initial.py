"""Single-image disparity of every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from nvds_core.predictors.base import Predictor, SplitPredictor, finite
from nvds_core.predictors.folder import DepthFolder
from storage import ArraySpec, ArtifactRef, VideoRef, artifact_key, write_arrays
from tasks import workers
from tasks.caching import StepReturn, step
from tasks.depth_maps import predictor_digest, write_maps
from tasks.frames import FrameArtifact
from tasks.memory import LimitsConfig, batches
from tasks.parts import RowWriter, Span, produce_rows
from tasks.precision import Precision, computing
from tasks.streams import Prefetch, WriteBehind
from tasks.transfer import Downloaded, Uploaded, Uploader, download
from tasks.workspace import Workspace

STEP, VERSION = "initial", 1
BATCH = 8  # larger ones gain little on a CPU, and on a GPU at the sizes that matter


@dataclass(frozen=True)
class PredictorConfig:
    """Which single-image predictor, and how it computes."""

    name: str = "tiny"
    precision: Precision = "fp32"


def initial_ref(frames: ArtifactRef, config: PredictorConfig, video: VideoRef | None = None) -> ArtifactRef:
    """The name of the initial disparity: frames, predictor with its weights (or the maps of the video), precision.

    The predictor enters by its digest alone, as its name may hold a path.
    """
    digest = predictor_digest(config.name, video)
    return ArtifactRef(STEP, artifact_key(STEP, VERSION, frames, config.precision, digest))


@step(name="predict-initial", task_run_name="predict-initial {frames.key}", tags=["gpu"])
def predict_initial(
    workspace: Workspace,
    frames: ArtifactRef,
    config: PredictorConfig,
    limits: LimitsConfig | None = None,
    video: VideoRef | None = None,
    span: Span | None = None,
) -> StepReturn:
    """Write the float disparity of one video. A batch that exhausts the memory is halved, with a line in the log.

    ``folder:PATH`` must be told which video it is, and gives whole videos only. With `span` a part is made of it.
    """

    def make(folder: Path, pictures: FrameArtifact, span: Span) -> None:
        model = workers.predictor(config.name)
        if isinstance(model, DepthFolder):
            write_maps(folder / "arrays", model, video, pictures)
            return
        shape = (span.frames, pictures.height, pictures.width)
        size = batches(
            f"predictor {config.name} at {pictures.width}x{pictures.height}",
            config.precision,
            most=BATCH,
            item_bytes=workers.bytes_per_pixel(model) * pictures.height * pictures.width,
            device=workers.device(),
            limits=limits or LimitsConfig(),
        )
        with (
            write_arrays(
                folder / "arrays", {"initial": ArraySpec(shape=shape, dtype="float32")}, {"predictor": model.digest}
            ) as arrays,
            WriteBehind(partial(_write, RowWriter(arrays, span), model.name)) as output,
            Prefetch(_inputs(model, pictures, span)) as inputs,
            computing(config.precision, workers.device(), model),
        ):
            for first, block in inputs:
                for disparity in size.map(partial(_compute, model), block.ready()):
                    output.put(first, disparity)
                    first += len(disparity.tensor)

    return produce_rows(workspace, initial_ref(frames, config, video), frames, make, span)


def _inputs(model: Predictor, pictures: FrameArtifact, span: Span) -> Iterator[tuple[int, Uploaded]]:
    """First frame and input of every block that the span has frames of, prepared and on its way to the device if the
    network lets us do that."""
    upload = Uploader(workers.device() if isinstance(model, SplitPredictor) else torch.device("cpu"))
    for first, block in pictures.blocks(0, pictures.frames, BATCH, (span.start, span.stop)):
        yield first, upload(model.prepare(block) if isinstance(model, SplitPredictor) else block)


def _compute(model: Predictor, block: Tensor) -> Downloaded:
    """Disparity of a block of `_inputs`, on its way to the host."""
    if isinstance(model, SplitPredictor):
        return download(model.infer(block))
    return download(torch.from_numpy(model.predict(block.numpy())))


def _write(rows: RowWriter, name: str, first: int, disparity: Downloaded) -> None:
    rows.write("initial", first, finite(disparity.numpy(), name))
