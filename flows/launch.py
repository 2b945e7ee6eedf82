"""Starting a run from a program or the command line: plan first, and Prefect only if there is work."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from flows.choosing import choose
from flows.config import RunConfig
from flows.planning import Plan, plan_run
from flows.server import prefect_server
from storage.locations import exists, join
from tasks.sources import find_sources
from tasks.workspace import STORE_FILE, Workspace, make_workspace, new_run_id

log = logging.getLogger("nvds")


@dataclass(frozen=True)
class Job:
    """A plan and where and how it is carried out."""

    plan: Plan
    workspace: Workspace
    config: RunConfig


def prepare(
    inputs: Sequence[str],
    out: str,
    config: RunConfig,
    *,
    limit: int | None = None,
    only: Sequence[str] = (),
    run_id: str | None = None,
) -> Job:
    """Find the videos, load the models and look up what is done.

    Args:
        inputs: files, folders, globs, lists or URLs.
        out: output folder or URL.
        config: settings of the run.
        limit: keep the first so many videos.
        only: of the unfinished ones take those that fit these words (`flows.choosing`).
        run_id: name of the run, made from the time if not given.

    Raises:
        ConfigError, WeightsError: no video, or settings and models that cannot be used.
        StorageError: the output cannot be written.
    """
    chosen = _chosen(inputs, limit)
    workspace = make_workspace(out, run_id)
    return Job(choose(plan_run(chosen, workspace, config), workspace.out, only), workspace, config)


def preview(
    inputs: Sequence[str], out: str, config: RunConfig, *, limit: int | None = None, only: Sequence[str] = ()
) -> Plan:
    """The plan of `prepare` without making an output folder that is not there yet."""
    chosen = _chosen(inputs, limit)
    if exists(join(out, STORE_FILE)):
        return choose(plan_run(chosen, make_workspace(out), config), out, only)
    with tempfile.TemporaryDirectory(prefix="nvds-") as scratch:
        return plan_run(chosen, Workspace(out, scratch, new_run_id()), config)


def execute(job: Job) -> dict[str, Any]:
    """Carry out a job and return its summary. Without pending videos only the ledger is written, without Prefect.

    Raises:
        ConfigError: reason ``prefect``: its server cannot be reached.
    """
    from flows.process import run_plan
    from flows.reporting import shown_summary

    if not job.plan.pending:
        return run_plan(job.plan, job.workspace, job.config)
    from prefect import flow

    summary: dict[str, Any] = {}

    # A flow without parameters: Prefect stores parameters, and a plan of thousands of videos is none of its business.
    def process_dataset() -> None:
        summary.update(run_plan(job.plan, job.workspace, job.config))
        shown_summary(summary)

    with prefect_server():
        try:
            flow(name="process-dataset", flow_run_name=f"run {job.workspace.run_id}")(process_dataset)()
        except httpx.HTTPError as error:
            if not summary:
                raise
            log.warning("the work is done, but Prefect's server could not be told: %s", error)
    return summary


def _chosen(inputs: Sequence[str], limit: int | None) -> list[str]:
    found = [source.uri for source in find_sources(inputs)]
    return found[:limit] if limit is not None else list(inputs)
