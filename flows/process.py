"""The main job: a data set of videos to stable depth volumes."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

from flows.chain import process_video
from flows.claims import Claims
from flows.cleaning import tidy
from flows.config import RunConfig, build
from flows.crew import Crew, open_crew
from flows.discreet import discreet_flow
from flows.dispatch import work_with
from flows.lanes import side_by_side
from flows.ledger import Ledger, Outcome, summarize
from flows.manifest import Manifest, make_manifest
from flows.planning import Plan, plan_run
from flows.reporting import Reporter, current_reporter, shown_summary
from flows.runs import begin_run, end_run
from nvds_core.weights_cache import installed_digests
from storage import VideoRef
from tasks.workers import videos_at_once
from tasks.workspace import Workspace, make_workspace

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
    return shown_summary(run_plan(plan_run(inputs, workspace, settings), workspace, settings))


def run_plan(plan: Plan, workspace: Workspace, config: RunConfig) -> dict[str, Any]:
    """Work off a plan, write the ledger and return the summary.

    Raises:
        StorageError: the ledger cannot be written; finished videos are there all the same and get their rows from
            the next run.
    """
    tidy(workspace)
    manifest = make_manifest(plan, config.frames.limit)
    _log_networks(plan, config)
    reporter = current_reporter()
    with _crew(workspace, config, manifest) as crew, Claims(workspace) as claims, Ledger(workspace) as ledger:
        begin_run(plan, workspace, config, devices=crew.size if crew else 1)
        manifest.write(workspace)
        collector = _Collector(ledger, reporter)
        reporter.start(plan)
        try:
            for outcome in _settled(plan):
                collector.video(outcome)
            if crew is None:
                work = _work_off(manifest.ordered, workspace, config, claims)
            else:
                work = work_with(crew, manifest, config, claims)
            with closing(work) as outcomes:
                for outcome in outcomes:
                    collector.video(outcome)
        finally:
            reporter.finish()
    summary = summarize(collector.outcomes, workspace.out)
    end_run(workspace, summary)
    return summary


def _crew(workspace: Workspace, config: RunConfig, manifest: Manifest) -> AbstractContextManager[Crew | None]:
    """Workers, if they are wanted and there is something to do."""
    return open_crew(workspace, config) if config.workers.wanted and manifest.shards else nullcontext()


def _work_off(
    pending: Sequence[VideoRef], workspace: Workspace, config: RunConfig, claims: Claims
) -> Generator[Outcome]:
    """Outcomes of all videos, worked on in this process; what another run holds is looked at again when it is free."""

    def work(video: VideoRef) -> Outcome | None:
        taken = claims.take(video)
        if not taken or isinstance(taken, Outcome):
            return taken or None
        try:
            return process_video(workspace, video, config)
        finally:
            claims.give_back(video)

    while pending:
        settled = set()
        for outcome in side_by_side(work, pending, videos_at_once(config.limits)):
            if outcome is not None:
                settled.add(outcome.video)
                yield outcome
        pending = [video for video in pending if video not in settled]
        if pending:
            log.info("%d videos are held by another run; waiting for it", len(pending))
            claims.wait_for_any(pending)


class _Collector:
    """Takes each outcome once: to the summary, to the ledger, to whoever watches."""

    def __init__(self, ledger: Ledger, reporter: Reporter) -> None:
        self.outcomes: list[Outcome] = []
        self._ledger, self._reporter = ledger, reporter
        self._seen: set[str] = set()

    def video(self, outcome: Outcome) -> None:
        if outcome.video.video_id in self._seen:
            return
        self._seen.add(outcome.video.video_id)
        self.outcomes.append(outcome.slim)
        self._ledger.add(outcome)
        self._reporter.video(outcome)


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
