"""Long videos, which several workers share: their frames, then blocks of them, then the whole as any other video."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.config import RunConfig
from flows.lanes import beside
from flows.planning import refs_of
from flows.shards import BEGAN, begin_work, end_process, watched
from storage import VideoRef
from storage.locations import is_local
from tasks import workers
from tasks.caching import plain_steps
from tasks.flow_fields import estimate_flow
from tasks.frames import FrameArtifact, extract_frames
from tasks.initial import predict_initial
from tasks.parts import Span, spans_of
from tasks.stabilize import reach, stabilize
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Piece:
    """One job on a long video: decode it, or take some of its frames through the networks."""

    video: VideoRef
    span: Span | None = None

    @property
    def name(self) -> str:
        """What a worker calls it."""
        return self.video.video_id if self.span is None else f"{self.video.video_id}:{self.span.start}"


def can_be_shared(workspace: Workspace, config: RunConfig) -> bool:
    """Whether several workers can work on one video: they see the same intermediates, and no step needs all frames.

    Machines of a cluster have intermediates in common only beside an output that is a folder.
    """
    common = is_local(workspace.out) or config.workers.scheduler is None
    return common and config.tto is None and not config.predictor.name.startswith("folder:")


@task(name="process-piece", task_run_name="{piece.name}", cache_policy=NO_CACHE, persist_result=False)
def process_piece(workspace: Workspace, piece: Piece, config: RunConfig, limits_s: Mapping[str, float]) -> list[Span]:
    """Do one job on a long video; what it makes are intermediates that the last job finds.

    Args:
        workspace: where to read and write.
        piece: the job.
        config: settings of the run.
        limits_s: seconds that it may take, by the video's id.

    Returns:
        The blocks that are to follow, if it was to decode the video.
    """
    tell = begin_work(workspace.run_id)
    tell(BEGAN, piece.name)
    with watched([piece.video], limits_s, lambda video: end_process(tell, video)), plain_steps():
        return work_on(workspace, piece, config)


def work_on(workspace: Workspace, piece: Piece, config: RunConfig) -> list[Span]:
    """`process_piece` without a worker around it.

    Raises:
        CoreError, StorageError: as the steps; the last job meets the same error and makes it an outcome.
    """
    refs, model = refs_of(piece.video, config), workers.predictor(config.predictor.name)
    extract_frames(workspace, piece.video, config.frames, model.short_side, model.multiple)
    pictures = FrameArtifact(workspace.store, refs.frames)
    span = piece.span
    if span is None:
        return spans_of(pictures.frames, config.workers.block_frames)

    def flow() -> None:
        estimate_flow(workspace, refs.frames, config.flow, config.limits, span)

    with beside(flow) if refs.flow is not None else nullcontext():
        wide = reach(pictures, span) if refs.stabilized is not None else span
        predict_initial(workspace, refs.frames, config.predictor, config.limits, piece.video, wide)
        if refs.stabilized is not None:
            stabilize(workspace, refs.frames, refs.initial, config.stabilizer, config.limits, span)
    return []


def limit_of(piece: Piece, whole_s: float, config: RunConfig) -> float:
    """Seconds that a job may take, of those that the whole video may take."""
    return whole_s if piece.span is None else config.workers.clip_s + config.workers.frame_s * piece.span.frames
