"""The main job: a data set of videos to stable depth volumes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flows.config import RunConfig, build
from flows.discreet import discreet_flow
from flows.failures import explain
from flows.lanes import beside, lane, side_by_side
from flows.ledger import Ledger, Outcome, summarize
from flows.planning import Plan, VideoRefs, plan_run, refs_of
from flows.reporting import Reporter, current_reporter, reporting
from flows.tto import STEPS as TTO_STEPS
from flows.tto import optimize
from nvds_core.weights_cache import installed_digests
from storage import ShardSpec, StorageError, VideoRef, plan_shards
from storage.locations import is_local, join, local_path, sweep_leftovers, write_bytes_atomic, write_json_atomic
from tasks.caching import StepReturn, result_of
from tasks.flow_fields import estimate_flow
from tasks.frames import extract_frames
from tasks.initial import predict_initial
from tasks.publish import find_published, publish_video
from tasks.score import score_video
from tasks.sources import cost
from tasks.stabilize import stabilize
from tasks.workers import flow_on_device, predictor
from tasks.workspace import StepResult, Workspace, make_workspace

SHARD_VIDEOS = 16  # a shard is what a worker takes in one go, and what is reported as one unit
STEPS = ("frames", "initial", *TTO_STEPS, "flow", "stabilized", "scores", "published")
DAMAGED = ("format", "incomplete")  # an intermediate that cannot be read: made anew by the next run
log = logging.getLogger("nvds")


@discreet_flow(name="process-dataset", validate_parameters=False)
def process_dataset(
    inputs: Sequence[str], out: str, config: dict[str, Any] | None = None, run_id: str | None = None
) -> dict[str, Any]:
    """Take every video of a data set to a stable depth volume; returns the summary that ``--json`` prints.

    Parameters and result are plain JSON, so that the flow can be deployed.

    Args:
        inputs: files, folders, globs, lists or URLs.
        out: output folder or fsspec URL.
        config: settings as in a run's YAML file.
        run_id: name of the run, made from the time if not given.
    """
    settings = build(RunConfig, config, "config")
    workspace = make_workspace(out, run_id)
    return run_plan(plan_run(inputs, workspace, settings), workspace, settings)


def run_plan(plan: Plan, workspace: Workspace, config: RunConfig) -> dict[str, Any]:
    """Work off a plan shard by shard, write the ledger and return the summary.

    Raises:
        StorageError: the ledger cannot be written; finished videos are there all the same and get their rows from
            the next run.
    """
    _tidy(workspace)
    write_bytes_atomic(join(workspace.out, "runs", workspace.run_id, "config.yaml"), config.to_yaml().encode())
    _log_networks(plan, config)
    reporter = current_reporter()
    with Ledger(workspace) as ledger:
        collector = _Collector(ledger, reporter)
        reporter.start(plan)
        try:
            with reporting(collector):
                for outcome in _settled(plan):
                    collector.video(outcome)
                for shard in _shards(plan):
                    for outcome in process_shard(workspace, shard, config):
                        collector.video(outcome)  # those that a worker of another process could not tell itself
        finally:
            reporter.finish()
    summary = summarize(collector.outcomes, workspace.out)
    write_json_atomic(join(workspace.out, "runs", workspace.run_id, "summary.json"), summary)
    return summary


@discreet_flow(name="process-shard", flow_run_name="shard-{shard.index}", validate_parameters=False)
def process_shard(workspace: Workspace, shard: ShardSpec, config: RunConfig) -> list[Outcome]:
    """Take every video of one shard to a stable volume; a bad one never stops its neighbours."""
    outcomes = []

    def work(video: VideoRef) -> Outcome:
        return process_video(workspace, video, config)

    for outcome in side_by_side(work, shard.videos, config.limits.videos):
        outcomes.append(outcome)
        current_reporter().video(outcome)
    return outcomes


def process_video(workspace: Workspace, video: VideoRef, config: RunConfig) -> Outcome:
    """Run one video through all steps; whatever goes wrong becomes a failed outcome that names the step."""
    started = time.perf_counter()
    refs, record = None, None
    steps = _Steps()
    failure: dict[str, Any] = {}
    try:
        refs = refs_of(video, config)
        _take_all(steps, workspace, video, refs, config)
        steps.raise_first()
        record = find_published(workspace.out, video, refs.published)
        if record is None:
            raise StorageError(f"{video.video_id}: published, but its record is not there", reason="storage")
    except Exception as error:
        failure = explain(video.video_id, steps.failed or steps.last or "plan", error)
    if refs is not None and (failure.get("reason") in DAMAGED or (not failure and config.keep == "results")):
        _discard(workspace, video, refs)
    return Outcome(
        video,
        "failed" if failure else "done",
        key=refs.published.key if refs else None,
        seconds=time.perf_counter() - started,
        record=record,
        steps=steps.results,
        **failure,
    )


def _take_all(steps: _Steps, workspace: Workspace, video: VideoRef, refs: VideoRefs, config: RunConfig) -> None:
    """All steps of one video. Flow runs beside the networks; neighbouring videos use the other lanes meanwhile."""
    model, limits = predictor(config.predictor.name), config.limits
    described = {"config": config.to_dict()}

    def flow() -> None:
        if refs.flow is not None:
            with lane("device" if flow_on_device(config.flow.name) else "flow"):
                steps.take("flow", lambda: estimate_flow(workspace, refs.frames, config.flow, limits))

    with lane("decode"):
        steps.take("frames", lambda: extract_frames(workspace, video, config.frames, model.short_side, model.multiple))
    with beside(flow):
        with lane("device"):
            steps.take("initial", lambda: predict_initial(workspace, refs.frames, config.predictor, limits, video))
            if refs.tto is None:
                _stabilize(steps, workspace, refs, config)
        if refs.tto is not None and config.tto is not None:
            branches: Any = {"frames": config.frames, "predictor": config.predictor, "flow": config.flow}
            optimize(steps, workspace, video, refs.tto, config.tto, **branches)
            with lane("device"):
                _stabilize(steps, workspace, refs, config)
    with lane("finish"):
        if refs.scores is not None:
            steps.take("scores", lambda: score_video(workspace, refs.inputs))
        steps.take(
            "published", lambda: publish_video(workspace, video, refs.inputs, refs.scores, config.publish, described)
        )


def _stabilize(steps: _Steps, workspace: Workspace, refs: VideoRefs, config: RunConfig) -> None:
    def call() -> StepReturn:
        return stabilize(workspace, refs.frames, refs.disparity, config.stabilizer, config.limits)

    if refs.stabilized is not None:
        steps.take("stabilized", call)


class _Steps:
    """What became of the steps of one video, from whichever thread.

    A step does not begin after an error of an earlier one, so that the first failed step does not depend on timing.
    """

    def __init__(self) -> None:
        self._done: dict[str, StepResult] = {}
        self._errors: dict[str, Exception] = {}

    def take(self, step: str, call: Callable[[], StepReturn]) -> None:
        if any(earlier in self._errors for earlier in STEPS[: STEPS.index(step)]):
            return
        try:
            self._done[step] = result_of(call())
        except Exception as error:
            self._errors[step] = error

    @property
    def failed(self) -> str | None:
        """The first failed step in the order of the pipeline, whatever happened first."""
        return next((step for step in STEPS if step in self._errors), None)

    @property
    def last(self) -> str | None:
        return next((step for step in reversed(STEPS) if step in self._done), None)

    @property
    def results(self) -> tuple[tuple[str, StepResult], ...]:
        """Steps that came to their end, in the order of the pipeline."""
        return tuple((step, self._done[step]) for step in STEPS if step in self._done)

    def raise_first(self) -> None:
        if self.failed is not None:
            raise self._errors[self.failed]


class _Collector:
    """Takes each outcome once: to the summary, to the ledger, to whoever watches."""

    def __init__(self, ledger: Ledger, reporter: Reporter) -> None:
        self.outcomes: list[Outcome] = []
        self._ledger, self._reporter = ledger, reporter
        self._seen: set[str] = set()

    def start(self, plan: Plan) -> None:
        self._reporter.start(plan)

    def video(self, outcome: Outcome) -> None:
        if outcome.video.video_id in self._seen:
            return
        self._seen.add(outcome.video.video_id)
        self.outcomes.append(outcome.slim)
        self._ledger.add(outcome)
        self._reporter.video(outcome)

    def finish(self) -> None:
        self._reporter.finish()


def _log_networks(plan: Plan, config: RunConfig) -> None:
    """Which networks with which weights a run is made of, as a line each."""
    names = {"predictor": config.predictor.name, "stabilizer": config.stabilizer.name, "flow": config.flow.name}
    files = installed_digests(names[part] for part in plan.digests) if plan.pending else {}
    for part, digest in plan.digests.items() if plan.pending else ():
        file, sha256 = files.get(names[part], (None, None))
        log.info("%s %s%s", part, digest, f" (weights {file}, sha256 {sha256})" if file else "")


def _settled(plan: Plan) -> Iterator[Outcome]:
    """Outcomes that need no work: sources that cannot be read, and videos done before."""
    for bad in plan.unreadable:
        yield Outcome(bad.video, "failed", reason=bad.reason, step="probe", message=bad.message)
    for video in plan.videos:
        record = plan.done.get(video.video_id)
        if record is not None:
            yield Outcome(video, "done", cached=True, key=record["key"], record=record)


def _shards(plan: Plan) -> list[ShardSpec]:
    pending = plan.pending
    if not pending:
        return []
    costs = {video.video_id: cost(video) for video in pending}
    return plan_shards(pending, costs, shards=math.ceil(len(pending) / SHARD_VIDEOS))


def _discard(workspace: Workspace, video: VideoRef, refs: VideoRefs) -> None:
    try:
        for ref in refs.intermediates:
            workspace.store.discard(ref)
        if refs.tto is not None:
            refs.tto.forget_progress(workspace)
    except StorageError as error:
        log.warning("%s: its intermediates were not removed: %s", video.video_id, error)


def _tidy(workspace: Workspace) -> None:
    """Remove what killed runs left half-written."""
    workspace.store.sweep()
    if is_local(workspace.out):
        root = local_path(workspace.out)
        for folder in (root, root / "videos", *(root / "tables").glob("*"), *(root / "runs").glob("*")):
            sweep_leftovers(folder)
