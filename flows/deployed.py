"""Flows for a Prefect work pool besides `flows.process:process_dataset`; `prefect.yaml` names them.

Their parameters and results are plain JSON. The command line does the same without a server of one's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefect.artifacts import create_markdown_artifact

from flows.choosing import FAILED
from flows.config import RunConfig, build
from flows.discreet import discreet_flow
from flows.launch import Job, prepare
from flows.process import run_plan
from flows.reporting import shown_summary
from flows.results import video_rows
from flows.runs import the_last_run
from flows.table_formats import FORMATS, to_markdown
from flows.tto import TtoConfig
from nvds_core.types import ConfigError
from storage.locations import write_bytes_atomic
from tasks.workspace import public_text


@discreet_flow(name="optimize-dataset", validate_parameters=False)
def optimize_dataset(
    inputs: Sequence[str], out: str, config: dict[str, Any] | None = None, run_id: str | None = None
) -> dict[str, Any]:
    """`process_dataset` with test-time optimisation, by default without a stabiliser: what ``nvds tto`` does.

    Args:
        inputs: files, folders, globs, lists or URLs.
        out: output folder or fsspec URL.
        config: settings as in a run's YAML file; the branch ``tto`` may be left out.
        run_id: name of the run, made from the time if not given.
    """
    settings = build(RunConfig, {"stabilizer": {"name": "none"}, "keep": "all"} | (config or {}), "config")
    settings = settings if settings.tto is not None else replace(settings, tto=TtoConfig())
    return _done(prepare(inputs, out, settings, run_id=run_id))


@discreet_flow(name="rerun-failed", validate_parameters=False)
def rerun_failed(out: str, only: Sequence[str] = (FAILED,), run_id: str | None = None) -> dict[str, Any]:
    """What ``nvds rerun`` does: unfinished videos again, with the inputs and settings of the last run.

    Args:
        out: output folder or fsspec URL.
        only: ``failed``, ``stale``, a reason or a video; empty for everything that is missing.
        run_id: name of the run, made from the time if not given.
    """
    last = the_last_run(out)
    return _done(prepare(last.inputs, out, last.config, only=only, run_id=run_id))


def _done(job: Job) -> dict[str, Any]:
    return shown_summary(run_plan(job.plan, job.workspace, job.config))


@discreet_flow(name="make-table", validate_parameters=False)
def make_table(out: str, output: str | None = None, format: str = "md") -> str:
    """What ``nvds table`` does; the table is also an artifact of the flow run.

    Args:
        out: output folder or fsspec URL of runs.
        output: file or URL to write the table to.
        format: one of `FORMATS`.

    Returns:
        The table in Markdown.
    """
    if format not in FORMATS:
        raise ConfigError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    rows = video_rows(out)
    text = public_text(to_markdown(rows))
    create_markdown_artifact(text, key="videos", description="OPW of every video")
    if output is not None:
        write_bytes_atomic(output, FORMATS[format](rows))
    return text
