"""What a run has to do: which videos there are, which are done with these settings, which cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.config import RunConfig
from nvds_core.types import CoreError
from storage import ArtifactRef, StorageError, VideoRef
from tasks import workers
from tasks.flow_fields import flow_ref
from tasks.frames import frames_ref
from tasks.initial import initial_ref
from tasks.publish import find_published, published_ref
from tasks.score import ScoreInputs, scores_ref
from tasks.sources import DigestMemo, find_sources, identify, unreadable
from tasks.stabilize import stabilized_ref
from tasks.workspace import Workspace


@dataclass(frozen=True)
class VideoRefs:
    """Names of everything one video goes through; they follow from its content and the settings alone."""

    frames: ArtifactRef
    initial: ArtifactRef
    flow: ArtifactRef
    stabilized: ArtifactRef | None
    scores: ArtifactRef
    published: ArtifactRef
    inputs: ScoreInputs

    @property
    def intermediates(self) -> list[ArtifactRef]:
        """All but the published volume."""
        refs = [self.frames, self.initial, self.flow, self.stabilized, self.scores]
        return [ref for ref in refs if ref is not None]


@dataclass(frozen=True)
class Unreadable:
    """A source that has no digest, and why."""

    video: VideoRef
    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """``done`` holds the records of finished videos by position in ``videos``; the rest of the videos is pending."""

    videos: tuple[VideoRef, ...]
    done: dict[str, dict[str, Any]]
    unreadable: tuple[Unreadable, ...]
    duplicates: tuple[VideoRef, ...]

    @property
    def pending(self) -> list[VideoRef]:
        """Videos to work on."""
        return [video for video in self.videos if video.video_id not in self.done]


def refs_of(video: VideoRef, config: RunConfig) -> VideoRefs:
    """Chain the names of all steps of one video."""
    predictor = workers.predictor(config.predictor.name)
    frames = frames_ref(video, config.frames, predictor.short_side, predictor.multiple)
    initial = initial_ref(frames, config.predictor)
    flow = flow_ref(frames, config.flow)
    stabilized = None if config.stabilizer.name == "none" else stabilized_ref(frames, initial, config.stabilizer)
    inputs = ScoreInputs(frames, flow, initial, stabilized, config.stabilizer.passes)
    scores = scores_ref(inputs)
    return VideoRefs(frames, initial, flow, stabilized, scores, published_ref(inputs, scores, config.publish), inputs)


def plan_run(inputs: Sequence[str], workspace: Workspace, config: RunConfig) -> Plan:
    """Find and identify all videos and look up which are done.

    Raises:
        ConfigError: an input that does not exist or holds no video, or models that cannot be made.
    """
    memo = DigestMemo(Path(workspace.work) / "digests.json")
    videos: dict[str, VideoRef] = {}
    done: dict[str, dict[str, Any]] = {}
    refused, duplicates = [], []
    for source in find_sources(inputs):
        try:
            video = identify(source, memo)
        except (CoreError, StorageError, OSError) as error:
            reason = getattr(error, "reason", "unreadable")
            refused.append(Unreadable(unreadable(source), reason, str(error)))
            continue
        if video.video_id in videos:
            duplicates.append(video)  # same name and same content: one result serves both
            continue
        videos[video.video_id] = video
        record = find_published(workspace.out, video, refs_of(video, config).published)
        if record is not None:
            done[video.video_id] = record
    memo.save()
    return Plan(tuple(videos.values()), done, tuple(refused), tuple(duplicates))
