"""What a run has to do: which videos there are, which are done with these settings, which cannot be read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.config import RunConfig
from flows.failures import reason_for
from flows.tto import TtoRefs, check_one_pose_set, check_tto, tto_refs
from nvds_core.sizes import inference_size
from nvds_core.weights_cache import require_checkpoints
from storage import ArtifactRef, VideoRef, is_local, local_path, read_record
from tasks import workers
from tasks.depth_maps import check_one_video
from tasks.digests import DigestMemo
from tasks.flow_fields import flow_ref
from tasks.frames import frames_ref
from tasks.initial import initial_ref
from tasks.publish import published_ref, video_url
from tasks.score import ScoreInputs, scores_ref
from tasks.sources import find_sources, identify, unreadable
from tasks.stabilize import stabilized_ref
from tasks.tto_results import OptimizedInputs
from tasks.workspace import Workspace, public_text


@dataclass(frozen=True)
class VideoRefs:
    """Names of everything one video goes through; they follow from its content and the settings alone.

    Without a score there is no flow either; without a stabiliser nothing is stabilised.
    """

    frames: ArtifactRef
    initial: ArtifactRef
    flow: ArtifactRef | None
    stabilized: ArtifactRef | None
    scores: ArtifactRef | None
    published: ArtifactRef
    inputs: ScoreInputs
    tto: TtoRefs | None = None

    @property
    def disparity(self) -> ArtifactRef:
        """What is stabilised: the initial disparity, or what the optimisation made of it."""
        return self.initial if self.tto is None else self.tto.optimized

    @property
    def intermediates(self) -> list[ArtifactRef]:
        """All but the published volume."""
        refs = [self.frames, self.initial, self.flow, self.stabilized, self.scores]
        return [ref for ref in (*refs, *(self.tto.all if self.tto else ())) if ref is not None]


@dataclass(frozen=True)
class Unreadable:
    """A source that has no digest, and why."""

    video: VideoRef
    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """``done`` holds the records of finished videos by video id (OPW without the single pairs); the rest is pending.

    Attributes:
        duplicates: sources of the same name and content as one of ``videos``, whose result serves them too.
        digests: the networks and their weights by their part in the run.
        inputs: what was asked for, local places as absolute paths.
        stale: pending videos that have a result of other settings or weights.
        left: videos without a result that this run was told to leave alone; they are not pending.
    """

    videos: tuple[VideoRef, ...]
    done: dict[str, dict[str, Any]]
    unreadable: tuple[Unreadable, ...]
    duplicates: tuple[VideoRef, ...]
    digests: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    stale: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()

    @property
    def pending(self) -> list[VideoRef]:
        """Videos to work on."""
        return [video for video in self.videos if video.video_id not in self.done and video.video_id not in self.left]


def refs_of(video: VideoRef, config: RunConfig) -> VideoRefs:
    """Chain the names of all steps of one video."""
    predictor = workers.predictor(config.predictor.name)
    frames = frames_ref(video, config.frames, predictor.short_side, predictor.multiple)
    initial = initial_ref(frames, config.predictor, video)
    flow = flow_ref(frames, config.flow) if config.score.name != "none" else None
    tto = None
    if config.tto is not None:
        limit = config.frames.limit
        tto = tto_refs(video, frames, initial, config.tto, limit=limit, predictor=config.predictor, flow=config.flow)
    disparity = initial if tto is None else tto.optimized
    stabilized = None if config.stabilizer.name == "none" else stabilized_ref(frames, disparity, config.stabilizer)
    inputs = ScoreInputs(frames, flow, initial, stabilized, config.stabilizer.passes)
    if tto is not None:
        made = tto.inputs
        inputs = OptimizedInputs(
            *(frames, flow, initial, stabilized, config.stabilizer.passes),
            *(tto.optimized, made.poses, made.masks, made.reference),
        )
    scores = scores_ref(inputs) if config.score.name != "none" else None
    return VideoRefs(
        frames, initial, flow, stabilized, scores, published_ref(inputs, scores, config.publish), inputs, tto
    )


def plan_run(inputs: Sequence[str], workspace: Workspace, config: RunConfig) -> Plan:
    """Find and identify all videos and look up which are done.

    Raises:
        ConfigError: an input that does not exist or holds no video, or settings that suit no video.
        WeightsError: weights that are missing or damaged.
        StorageError: the output cannot be reached.
    """
    with workers.on_cpu() if config.workers.wanted else nullcontext():
        digests = _load_models(config)
    inputs = [inputs] if isinstance(inputs, str) else inputs
    memo = DigestMemo(Path(workspace.work) / "digests.json")
    videos: dict[str, VideoRef] = {}
    done: dict[str, dict[str, Any]] = {}
    refused, duplicates, stale = [], [], set()
    for source in find_sources(inputs):
        video = None
        try:
            video = identify(source, memo)
            wanted = refs_of(video, config).published
        except Exception as error:  # whatever is wrong with one source, or with depth maps for it, stays its own affair
            refused.append(Unreadable(video or unreadable(source), reason_for(error), public_text(error)))
            continue
        if video.video_id in videos:
            duplicates.append(video)  # same name and same content: one result serves both
            continue
        videos[video.video_id] = video
        record = read_record(video_url(workspace.out, video.video_id))
        if record is not None and record.get("key") == wanted.key:
            done[video.video_id] = _without_pairs(record)
        elif record is not None:
            stale.add(video.video_id)
    memo.save()
    check_one_video(config.predictor.name, list(videos.values()))
    if config.tto is not None:
        check_one_pose_set(config.tto, list(videos.values()))
    return Plan(
        tuple(videos.values()),
        done,
        tuple(refused),
        tuple(duplicates),
        digests,
        tuple(_from_anywhere(item) for item in inputs),
        frozenset(stale),
    )


def _load_models(config: RunConfig) -> dict[str, str]:
    """Find out before the first video is read what would fail for all of them; returns the digests of the networks."""
    flow = config.flow.name if config.score.name != "none" or config.tto is not None else None
    stabilizer = config.stabilizer.name if config.stabilizer.name != "none" else None
    require_checkpoints(name for name in (config.predictor.name, stabilizer, flow) if name is not None)
    digests = workers.digests(config.predictor.name, stabilizer, flow)
    predictor = workers.predictor(config.predictor.name)
    if config.tto is not None:
        check_tto(config.tto, config.predictor.name)
    inference_size((1920, 1080), config.frames.size, short_side=predictor.short_side, multiple=predictor.multiple)
    return digests


def _from_anywhere(item: str) -> str:
    """An input as it can be given from any working folder."""
    if os.path.lexists(item):  # first of all, as a name such as "a::b.mp4" looks like a URL
        return os.path.abspath(item)
    return str(local_path(item).absolute()) if is_local(item) else item


def _without_pairs(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose size does not grow with the number of frames: a plan holds thousands."""
    if record["opw"] is None:
        return record
    opw = {
        name: {key: value for key, value in scores.items() if key != "pairs"} for name, scores in record["opw"].items()
    }
    return {**record, "opw": opw}
