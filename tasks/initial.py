"""Single-image disparity of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect import task

from storage import ArraySpec, ArtifactRef, artifact_key, write_arrays
from tasks import workers
from tasks.caching import TASK_OPTIONS, StepReturn, produce
from tasks.frames import FrameArtifact
from tasks.workspace import Workspace

STEP, VERSION = "initial", 1
BATCH = 8


@dataclass(frozen=True)
class PredictorConfig:
    """Which single-image predictor."""

    name: str = "tiny"


def initial_ref(frames: ArtifactRef, config: PredictorConfig) -> ArtifactRef:
    """The name of the initial disparity: frames, predictor and its weights."""
    return ArtifactRef(STEP, artifact_key(STEP, VERSION, frames, config, workers.predictor(config.name).digest))


@task(name="predict-initial", task_run_name="predict-initial {frames.key}", tags=["gpu"], **TASK_OPTIONS)
def predict_initial(workspace: Workspace, frames: ArtifactRef, config: PredictorConfig) -> StepReturn:
    """Write the float disparity of one video."""

    def make(folder: Path) -> int:
        pictures = FrameArtifact(workspace.store, frames)
        model = workers.predictor(config.name)
        spec = ArraySpec(shape=(pictures.frames, pictures.height, pictures.width), dtype="float32")
        with write_arrays(folder / "arrays", {"initial": spec}, {"predictor": model.digest}) as arrays:
            for first, block in pictures.blocks(0, pictures.frames, BATCH):
                arrays.write("initial", first, model.predict(block))
        return pictures.frames

    return produce(workspace, initial_ref(frames, config), make)
