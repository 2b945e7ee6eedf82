"""Flows for a Prefect work pool besides `flows.process:process_dataset`; `prefect.yaml` names them.

Their parameters and results are plain JSON. The command line does the same without a server of one's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefect.artifacts import create_markdown_artifact

from flows.choosing import FAILED, choose
from flows.config import RunConfig, build
from flows.discreet import discreet_flow
from flows.planning import plan_run
from flows.process import run_plan
from flows.reporting import shown_summary
from flows.results import video_rows
from flows.runs import the_last_run
from flows.table_formats import FORMATS
from flows.tto import TtoConfig
from nvds_core.types import ConfigError
from storage.locations import write_bytes_atomic
from tasks.workspace import make_workspace


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
    workspace = make_workspace(out, run_id)
    return shown_summary(run_plan(plan_run(inputs, workspace, settings), workspace, settings))


@discreet_flow(name="rerun-failed", validate_parameters=False)
def rerun_failed(out: str, only: Sequence[str] = (FAILED,), run_id: str | None = None) -> dict[str, Any]:
    """What ``nvds rerun`` does: unfinished videos again, with the inputs and settings of the last run.

    Args:
        out: output folder or fsspec URL.
        only: ``failed``, ``stale``, a reason or a video; empty for everything that is missing.
        run_id: name of the run, made from the time if not given.
    """
    last = the_last_run(out)
    settings = last.config
    workspace = make_workspace(out, run_id)
    plan = choose(plan_run(last.inputs, workspace, settings), workspace.out, only)
    return shown_summary(run_plan(plan, workspace, settings))


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
    markdown = FORMATS["md"](rows)
    text = markdown.decode() if isinstance(markdown, bytes) else markdown
    create_markdown_artifact(text, key="videos", description="OPW of every video")
    if output is not None:
        content = FORMATS[format](rows)
        write_bytes_atomic(output, content if isinstance(content, bytes) else content.encode())
    return text
