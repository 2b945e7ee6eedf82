"""Test-time optimisation of one video: settings, names and order of its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flows.lanes import lane
from nvds_core.tto import TuneConfig
from nvds_core.tto.network import check_tunable
from storage import ArtifactRef, VideoRef
from tasks import workers
from tasks.caching import StepReturn
from tasks.flow_fields import FlowConfig
from tasks.frames import FramesConfig
from tasks.initial import PredictorConfig
from tasks.pose_files import check_poses_of_one_video
from tasks.poses import PosesConfig, check_poses, find_poses, poses_ref
from tasks.tto_pairs import PairsConfig, estimate_pair_flow, mask_pairs, masks_ref, pair_flow_ref
from tasks.tto_reference import ReferenceConfig, fuse_references, pair_references_ref, refer_pairs, reference_ref
from tasks.tto_tune import TuneInputs, finetune_network, finetuned_ref, optimize_depth, optimized_ref, progress_file
from tasks.workspace import Workspace

STEPS = ("poses", "pair_flow", "pair_masks", "pair_reference", "reference", "finetuned", "optimized")


@dataclass(frozen=True)
class TtoConfig:
    """Settings of test-time optimisation, one branch per step."""

    poses: PosesConfig = field(default_factory=PosesConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)


@dataclass(frozen=True)
class TtoRefs:
    """Names of the artifacts of one video's optimisation."""

    inputs: TuneInputs
    initial: ArtifactRef
    finetuned: ArtifactRef
    optimized: ArtifactRef

    @property
    def all(self) -> list[ArtifactRef]:
        """In the order of their making."""
        made = self.inputs
        chain = [made.poses, made.pair_flow, made.masks, made.pair_references, made.reference]
        return [*chain, self.finetuned, self.optimized]

    def forget_progress(self, workspace: Workspace) -> None:
        """Remove the state of a fine-tuning that was broken off."""
        progress_file(workspace, self.finetuned).unlink(missing_ok=True)


class Steps(Protocol):
    """Takes the steps of one video one by one; none begins after a failed one."""

    def take(self, step: str, call: Callable[[], StepReturn]) -> None: ...


def tto_refs(
    video: VideoRef,
    frames: ArtifactRef,
    initial: ArtifactRef,
    config: TtoConfig,
    *,
    limit: int | None,
    predictor: PredictorConfig,
    flow: FlowConfig,
) -> TtoRefs:
    """Chain the names of all steps; only those from the fine-tuning on depend on the network.

    Raises:
        PoseError: no given poses for this video.
    """
    poses = poses_ref(video, config.poses, limit)
    pair_flow = pair_flow_ref(frames, poses, config.pairs.mode, flow)
    masks = masks_ref(pair_flow, config.pairs)
    candidates = pair_references_ref(masks, poses, config.reference)
    reference = reference_ref(candidates, config.reference)
    inputs = TuneInputs(frames, poses, pair_flow, masks, candidates, reference)
    finetuned = finetuned_ref(inputs, predictor, config.tune)
    return TtoRefs(inputs, initial, finetuned, optimized_ref(finetuned, initial))


def check_tto(config: TtoConfig, predictor: str) -> None:
    """Raise ConfigError before the first video for what no video can be optimised with."""
    check_tunable(workers.predictor(predictor), predictor)
    check_poses(config.poses)


def check_one_pose_set(config: TtoConfig, videos: list[VideoRef]) -> None:
    """Raise ConfigError if one set of given poses would serve several videos."""
    if config.poses.path is not None and len(videos) > 1:
        check_poses_of_one_video(Path(config.poses.path), videos)


def optimize(
    steps: Steps,
    workspace: Workspace,
    video: VideoRef,
    refs: TtoRefs,
    config: TtoConfig,
    *,
    frames: FramesConfig,
    predictor: PredictorConfig,
    flow: FlowConfig,
) -> None:
    """Take a video from frames and initial disparity to optimised disparity.

    COLMAP has a lane of its own: it takes minutes of one core, during which other videos have the device.
    """
    made = refs.inputs
    with lane("poses"):
        steps.take("poses", lambda: find_poses(workspace, video, made.frames, config.poses, frames.limit))
    with lane("device" if workers.flow_on_device(flow.name) else "flow"):
        steps.take("pair_flow", lambda: estimate_pair_flow(workspace, made.frames, made.poses, config.pairs.mode, flow))
    with lane("reference"):
        steps.take("pair_masks", lambda: mask_pairs(workspace, made.pair_flow, config.pairs))
        steps.take(
            "pair_reference",
            lambda: refer_pairs(workspace, made.frames, made.poses, made.pair_flow, made.masks, config.reference),
        )
        steps.take(
            "reference",
            lambda: fuse_references(workspace, made.frames, made.poses, made.pair_references, config.reference),
        )
    with lane("device"):
        steps.take("finetuned", lambda: finetune_network(workspace, made, predictor, config.tune))
        steps.take("optimized", lambda: optimize_depth(workspace, made.frames, refs.initial, refs.finetuned, predictor))
