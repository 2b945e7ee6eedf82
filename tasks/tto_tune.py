"""Fine-tune the predictor's network on one video, epoch by epoch, and what it then says of every frame."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nvds_core.checkpoints import load_state
from nvds_core.predictors.base import finite
from nvds_core.tto import TuneConfig, TuneResult, TuneVideo, align_network, finetune, training_pairs
from nvds_core.tto.alignment import Alignment
from nvds_core.tto.network import TunableNetwork, learning_rate_of, tunable_network
from nvds_core.types import CoreError
from storage import ArraySpec, ArtifactRef, artifact_key, open_arrays, write_arrays
from tasks import workers
from tasks.caching import StepReturn, produce, step
from tasks.frames import FrameArtifact
from tasks.initial import PredictorConfig
from tasks.poses import PoseArtifact
from tasks.streams import check_stop
from tasks.tto_pairs import PairRows
from tasks.tto_status import passed_on, read_status, status_attributes
from tasks.workspace import StepResult, Workspace

STEP, VERSION = "finetuned", 2
OPTIMIZED_STEP, OPTIMIZED_VERSION = "optimized", 1
KEPT_BYTES = 256 * 2**20  # of frames, and of pairs, that stay in memory between epochs
BATCH = 4
WEIGHTS = "network.pt"
T = TypeVar("T")
log = logging.getLogger("nvds")


@dataclass(frozen=True)
class TuneInputs:
    """The artifacts a fine-tuning reads."""

    frames: ArtifactRef
    poses: ArtifactRef
    pair_flow: ArtifactRef
    masks: ArtifactRef
    pair_references: ArtifactRef
    reference: ArtifactRef


def finetuned_ref(inputs: TuneInputs, predictor: PredictorConfig, config: TuneConfig) -> ArtifactRef:
    """The name of the tuned network."""
    digest = workers.predictor(predictor.name).digest
    return ArtifactRef(STEP, artifact_key(STEP, VERSION, inputs, digest, _settled(config, predictor)))


def _settled(config: TuneConfig, predictor: PredictorConfig) -> TuneConfig:
    """The settings with a learning rate."""
    return config if config.learning_rate else replace(config, learning_rate=learning_rate_of(predictor.name))


def optimized_ref(finetuned: ArtifactRef, initial: ArtifactRef) -> ArtifactRef:
    """The name of the optimised disparity."""
    return ArtifactRef(OPTIMIZED_STEP, artifact_key(OPTIMIZED_STEP, OPTIMIZED_VERSION, finetuned, initial))


def progress_file(workspace: Workspace, ref: ArtifactRef) -> Path:
    """Where a fine-tuning under way keeps its state: in the work folder, so that a killed run finds it again."""
    return Path(workspace.work) / "progress" / f"{ref.step}-{ref.key}.pt"


@step(name="finetune-network", task_run_name="finetune-network {inputs.reference.key}", tags=["gpu"])
def finetune_network(
    workspace: Workspace, inputs: TuneInputs, predictor: PredictorConfig, config: TuneConfig
) -> StepReturn:
    """Write the weights of the best epoch. After a kill it goes on at its epoch; on a CPU with the very same bits.

    A final validation loss above the initial one gives the status ``diverged``. The seconds are those of all attempts.
    """
    config = _settled(config, predictor)
    ref = finetuned_ref(inputs, predictor, config)
    checkpoint = progress_file(workspace, ref)
    seconds_before = 0.0

    def make(folder: Path) -> int:
        nonlocal seconds_before
        if passed_on(workspace, inputs.reference, folder):
            return 0
        try:
            network, alignment, result = _tuned(workspace, inputs, predictor, config, checkpoint)
        except CoreError as error:
            if error.reason != "no_parallax":
                raise
            write_arrays(folder / "arrays", {}, status_attributes("no_parallax", str(error))).close()
            return 0
        seconds_before = result.seconds_before
        torch.save({key: value.cpu() for key, value in network.state_dict().items()}, folder / WEIGHTS)
        write_arrays(folder / "arrays", {}, _about(alignment, result, config)).close()
        return len(PoseArtifact(workspace.store, inputs.poses).positions)

    made = produce(workspace, ref, make)
    checkpoint.unlink(missing_ok=True)
    return replace(made, seconds=made.seconds + seconds_before) if isinstance(made, StepResult) else made


@step(name="optimize-depth", task_run_name="optimize-depth {finetuned.key}", tags=["gpu"])
def optimize_depth(
    workspace: Workspace, frames: ArtifactRef, initial: ArtifactRef, finetuned: ArtifactRef, predictor: PredictorConfig
) -> StepReturn:
    """Write the tuned network's disparity of every frame, with or without a pose; the initial one untouched if the
    video could not be optimised."""

    def make(folder: Path) -> int:
        pictures = FrameArtifact(workspace.store, frames)
        before = open_arrays(workspace.store.path(initial) / "arrays")
        attributes = open_arrays(workspace.store.path(finetuned) / "arrays").attributes
        untouched = read_status(workspace, finetuned)["status"] != "ok"
        network = None if untouched else _load(workspace, finetuned, predictor)
        spec = ArraySpec(shape=(pictures.frames, pictures.height, pictures.width), dtype="float32")
        with write_arrays(folder / "arrays", {"optimized": spec}, {"tuning": attributes}) as arrays:
            for first, last in pictures.ranges(0, pictures.frames, BATCH):
                check_stop()
                if network is None:
                    arrays.write("optimized", first, before.read("initial", first, last))
                    continue
                with torch.inference_mode():
                    x = network.prepare(pictures.read(first, last)).to(workers.device())
                    maps = network.module(x).float().cpu().numpy()
                arrays.write("optimized", first, finite(maps, f"tuned {predictor.name}"))
        return pictures.frames

    return produce(workspace, optimized_ref(finetuned, initial), make)


def tune_video(workspace: Workspace, inputs: TuneInputs, network: TunableNetwork, config: TuneConfig) -> TuneVideo:
    """The frames with poses as material, read from the artifacts piece by piece, the last ones read kept."""
    store = workspace.store
    pictures, rows = FrameArtifact(store, inputs.frames), PairRows(workspace, inputs.pair_flow, inputs.masks)
    cameras = PoseArtifact(store, inputs.poses)
    candidates = open_arrays(store.path(inputs.pair_references) / "arrays")
    reference = open_arrays(store.path(inputs.reference) / "arrays")
    at = {(int(i), int(j)): row for row, (i, j) in enumerate(candidates.attributes["pairs"])}
    positions = cameras.positions
    place = {frame: k for k, frame in enumerate(positions)}
    pixel_bytes = pictures.height * pictures.width

    def frame(k: int) -> Tensor:
        check_stop()
        return network.prepare(pictures.read(positions[k], positions[k] + 1))[0]

    def pair(a: int, b: int) -> tuple[Tensor, Tensor]:
        i, j = positions[a], positions[b]
        if config.method == "cvd":
            return rows.flow(i, j), rows.mask(i, j)
        row = at[i, j]
        return rows.flow(i, j), torch.from_numpy(candidates.read("followed", row, row + 1)[0]).bool()

    def fused(k: int) -> tuple[Tensor, Tensor]:
        at_frame = positions[k], positions[k] + 1
        depth = torch.from_numpy(reference.read("reference", *at_frame)[0])
        weight = torch.from_numpy(reference.read("confidence", *at_frame)[0]).float()
        return depth.nan_to_num(0.0), weight

    kept = [(place[i], place[j]) for i, j in rows.kept]
    lens, poses = cameras.matrices((pictures.width, pictures.height))
    return TuneVideo(
        len(positions),
        _kept(frame, 12 * pixel_bytes),
        _kept(pair, 9 * pixel_bytes),
        _kept(fused, 8 * pixel_bytes),
        tuple(kept if config.method == "cvd" else training_pairs(kept)),
        lens,
        poses,
    )


def _kept(read: Callable[..., T], item_bytes: int) -> Callable[..., T]:
    return lru_cache(maxsize=max(8, KEPT_BYTES // item_bytes))(read)


def _tuned(
    workspace: Workspace, inputs: TuneInputs, predictor: PredictorConfig, config: TuneConfig, checkpoint: Path
) -> tuple[nn.Module, Alignment, TuneResult]:
    device = workers.device()
    network = tunable_network(workers.predictor(predictor.name), predictor.name)
    video = tune_video(workspace, inputs, network, config)
    alignment = align_network(network.module, video, batch=BATCH, device=device)
    try:
        result = finetune(network.module, video, alignment, config, checkpoint=checkpoint, device=device)
    except CoreError as error:
        if error.reason != "checkpoint":
            raise
        log.warning("%s; beginning anew", error)
        checkpoint.unlink(missing_ok=True)
        network = tunable_network(workers.predictor(predictor.name), predictor.name)
        result = finetune(network.module, video, alignment, config, checkpoint=checkpoint, device=device)
    return network.module, alignment, result


def _about(alignment: Alignment, result: TuneResult, config: TuneConfig) -> dict[str, Any]:
    before, after = result.validation[0], result.validation[-1]
    reason = "" if result.status == "ok" else f"the validation loss went from {before:.4g} to {after:.4g}"
    return {
        **status_attributes(result.status, reason),
        "method": config.method,
        "epochs": config.epochs,
        "learning_rate": config.rate,
        "best_epoch": result.best_epoch,
        "loss_before": repr(before),
        "loss_after": repr(result.validation[result.best_epoch]),
        "alignment": asdict(alignment),
    }


def _load(workspace: Workspace, finetuned: ArtifactRef, predictor: PredictorConfig) -> TunableNetwork:
    network = tunable_network(workers.predictor(predictor.name), predictor.name)
    state = torch.load(workspace.store.path(finetuned) / WEIGHTS, map_location="cpu", weights_only=True)
    load_state(network.module, state)
    network.module.to(workers.device()).eval()
    return network
