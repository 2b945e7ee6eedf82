"""Single-image disparity of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect import task

from nvds_core.predictors.folder import DepthFolder
from storage import ArraySpec, ArtifactRef, VideoRef, artifact_key, write_arrays
from tasks import workers
from tasks.caching import TASK_OPTIONS, StepReturn, produce
from tasks.depth_maps import predictor_digest, write_maps
from tasks.frames import FrameArtifact
from tasks.memory import LimitsConfig, batches
from tasks.precision import Precision, computing
from tasks.streams import Prefetch, WriteBehind
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


@task(name="predict-initial", task_run_name="predict-initial {frames.key}", tags=["gpu"], **TASK_OPTIONS)
def predict_initial(
    workspace: Workspace,
    frames: ArtifactRef,
    config: PredictorConfig,
    limits: LimitsConfig | None = None,
    video: VideoRef | None = None,
) -> StepReturn:
    """Write the float disparity of one video. A batch that exhausts the memory is halved, with a line in the log.

    ``folder:PATH`` must be told which video it is.
    """

    def make(folder: Path) -> int:
        pictures = FrameArtifact(workspace.store, frames)
        model = workers.predictor(config.name)
        if isinstance(model, DepthFolder):
            write_maps(folder / "arrays", model, video, pictures)
            return pictures.frames
        shape = (pictures.frames, pictures.height, pictures.width)
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
            WriteBehind(arrays.write) as output,
            Prefetch(pictures.blocks(0, pictures.frames, BATCH)) as blocks,
            computing(config.precision, workers.device(), model),
        ):
            for first, block in blocks:
                for disparity in size.map(model.predict, block):
                    output.put("initial", first, disparity)
                    first += len(disparity)
        return pictures.frames

    return produce(workspace, initial_ref(frames, config, video), make)
