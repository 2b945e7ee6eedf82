"""The main job: a data set of videos to stable depth volumes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prefect import flow

from flows.config import RunConfig, build
from flows.ledger import Ledger, Outcome, summarize
from flows.planning import Plan, VideoRefs, plan_run, refs_of
from flows.reporting import current_reporter
from storage import ShardSpec, VideoRef, plan_shards
from storage.locations import join, write_bytes_atomic, write_json_atomic
from tasks.flow_fields import estimate_flow
from tasks.frames import extract_frames
from tasks.initial import predict_initial
from tasks.publish import find_published, publish_video
from tasks.score import score_video
from tasks.sources import cost
from tasks.stabilize import stabilize
from tasks.workers import predictor
from tasks.workspace import StepResult, Workspace, make_workspace

SHARD_VIDEOS = 16  # a shard is what a worker takes in one go, and what is reported as one unit
log = logging.getLogger("nvds")


@flow(name="process-dataset", validate_parameters=False)
def process_dataset(
    inputs: Sequence[str], out: str, config: dict[str, Any] | None = None, run_id: str | None = None
) -> dict[str, Any]:
    """Take every video of a data set to a stable depth volume; returns the summary that ``--json`` prints.

    Args:
        inputs: files, folders, globs, lists or URLs.
        out: output folder or fsspec URL.
        config: settings as in a run's YAML file.
        run_id: name of the run, made from the time if not given.
    """
    settings = build(RunConfig, config or {}, "config")
    workspace = make_workspace(out, run_id)
    return run_plan(plan_run(inputs, workspace, settings), workspace, settings)


def run_plan(plan: Plan, workspace: Workspace, config: RunConfig) -> dict[str, Any]:
    """Work off a plan shard by shard and write the ledger."""
    reporter = current_reporter()
    workspace.store.sweep()
    _write_run_config(workspace, config)
    ledger, outcomes = Ledger(workspace), []
    reporter.start(plan)

    def take(outcome: Outcome) -> None:
        outcomes.append(outcome)
        ledger.add(outcome)
        reporter.video(outcome)

    try:
        for outcome in _settled(plan):
            take(outcome)
        pending = plan.pending
        costs = {video.video_id: cost(video) for video in pending}
        for shard in plan_shards(pending, costs, shards=-(-len(pending) // SHARD_VIDEOS) or 1) if pending else []:
            process_shard.with_options(flow_run_name=f"shard-{shard.index}")(workspace, shard, config, take)
    finally:
        ledger.close()
        reporter.finish()
    summary = summarize(outcomes, workspace.out)
    write_json_atomic(join(workspace.out, "runs", workspace.run_id, "summary.json"), summary)
    return summary


@flow(name="process-shard", validate_parameters=False)
def process_shard(workspace: Workspace, shard: ShardSpec, config: RunConfig, take: Any) -> None:
    """Take every video of one shard to a stable volume; a bad one never stops its neighbours."""
    for video in shard.videos:
        take(process_video(workspace, video, config))


def process_video(workspace: Workspace, video: VideoRef, config: RunConfig) -> Outcome:
    """Run one video through all steps; whatever goes wrong becomes a failed outcome that names the step."""
    started = time.perf_counter()
    refs = refs_of(video, config)
    done: list[tuple[str, StepResult]] = []
    failure: dict[str, Any] = {}
    record = None
    for step, call in _chain(workspace, video, refs, config):
        try:
            done.append((step, call()))
        except Exception as error:
            failure = _failure(video, step, error)
            break
    else:
        record = find_published(workspace.out, video, refs.published)
    if record is not None and config.keep == "results":
        for ref in refs.intermediates:
            workspace.store.discard(ref)
    return Outcome(
        video,
        "failed" if failure else "done",
        key=refs.published.key,
        seconds=time.perf_counter() - started,
        record=record,
        steps=tuple(done),
        **failure,
    )


def _chain(
    workspace: Workspace, video: VideoRef, refs: VideoRefs, config: RunConfig
) -> list[tuple[str, Callable[[], StepResult]]]:
    """The tasks of one video in order, by step."""
    model = predictor(config.predictor.name)
    described = {"config": config.to_dict()}
    chain: list[tuple[str, Callable[[], Any]]] = [
        ("frames", lambda: extract_frames(workspace, video, config.frames, model.short_side, model.multiple)),
        ("initial", lambda: predict_initial(workspace, refs.frames, config.predictor)),
        ("flow", lambda: estimate_flow(workspace, refs.frames, config.flow)),
        ("stabilized", lambda: stabilize(workspace, refs.frames, refs.initial, config.stabilizer)),
        ("scores", lambda: score_video(workspace, refs.inputs)),
        ("published", lambda: publish_video(workspace, video, refs.inputs, refs.scores, config.publish, described)),
    ]
    return [(step, call) for step, call in chain if step != "stabilized" or refs.stabilized is not None]


def _failure(video: VideoRef, step: str, error: Exception) -> dict[str, Any]:
    """Reason and message of a failed step for the ledger; what nobody foresaw is logged with its trace."""
    reason = getattr(error, "reason", None) or ("memory" if isinstance(error, MemoryError) else "internal")
    if reason == "internal":
        log.error("%s: step %s failed", video.video_id, step, exc_info=error)
    return {"reason": reason, "step": step, "message": str(error) or type(error).__name__}


def _settled(plan: Plan) -> Iterator[Outcome]:
    """Outcomes that need no work: sources that cannot be read, and videos done before."""
    for bad in plan.unreadable:
        yield Outcome(bad.video, "failed", reason=bad.reason, step="probe", message=bad.message)
    for video in plan.videos:
        record = plan.done.get(video.video_id)
        if record is not None:
            yield Outcome(video, "done", cached=True, key=record["key"], record=record)


def _write_run_config(workspace: Workspace, config: RunConfig) -> None:
    url = join(workspace.out, "runs", workspace.run_id, "config.yaml")
    write_bytes_atomic(url, config.to_yaml().encode())
