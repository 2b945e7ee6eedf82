"""``nvds status``, ``nvds rerun`` and ``nvds clean``: looking after the output of runs."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

import typer

from flows import commands_options as options
from flows import commands_run
from flows.cli_common import clear_errors
from flows.commands_results import Out

STATUS_EPILOG = """Examples:

  nvds status out

  nvds status s3://bucket/depth --json

Works from any terminal or machine that sees the output, also while a run is at work.
"""
RERUN_EPILOG = """Examples:

  nvds rerun out                            # everything that is missing, as the last run was started

  nvds rerun out --only failed

  nvds rerun out --only truncated --only clip-0123456789 --dry-run

Exit code: 0 all good, 1 some videos failed, 2 nothing could start.
"""
CLEAN_EPILOG = """Examples:

  nvds clean out

Results, tables and settings stay. While a run is at work only what dead processes left is removed.
"""


def status(out: Out, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False) -> None:
    """Say how many videos are done, at work and pending, what failed and why, and how fast it goes."""
    with clear_errors():
        from flows.status import status_of

        state = status_of(out)
    if as_json:
        typer.echo(json.dumps(state))
        return
    for line in status_lines(state):
        typer.echo(line)


def status_lines(state: dict[str, Any]) -> list[str]:
    """The state of an output folder in a few lines."""
    rest = [f"{state[name]} {name}" for name in ("running", "pending") if state[name]]
    counts = ", ".join([f"{state['done']} done, {state['failed']} failed", *rest])
    lines = [f"{state['out']}: {state['videos']} videos, {counts}"]
    for reason, entry in sorted(state["reasons"].items()):
        lines.append(f"  failed, {reason}: {entry['videos']}, for example {entry['example']}")
    last = state["last_run"]
    if last is not None and last["ended"]:
        ending = f"{last['done']} done ({last['cached']} of them before), {last['failed']} failed"
    else:
        ending = "at work" if state["at_work"] else "broken off; nvds rerun goes on"
    if last is not None:
        lines.append(f"last run {last['run_id']}, begun {last['began']}: {ending}")
    if state["frames_per_second"] is not None:
        pace = f"  {state['frames_per_second']:.2f} frames/s"
        pace += f", {state['video_hours_per_device_day']:.2f} video hours per device and day"
        lines.append(pace + (f", about {duration(state['eta_s'])} to go" if state["eta_s"] is not None else ""))
    return lines


def duration(seconds: float) -> str:
    """A time span as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


def rerun(
    out: Out,
    only: Annotated[
        list[str] | None,
        typer.Option(help="failed, stale, a reason, or a video (id, beginning of it, name). Can be given repeatedly."),
    ] = None,
    workers: options.Workers = None,
    scheduler: options.Scheduler = None,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
    run_id: options.RunId = None,
) -> None:
    """Do what is missing, with the inputs and settings of the last run."""
    with clear_errors():
        from flows.runs import the_last_run

        last = the_last_run(out)
        inputs, settings = last.inputs, last.config
        if workers is not None or scheduler is not None:
            staff = replace(settings.workers, count=workers or 0, scheduler=scheduler)
            settings = replace(settings, workers=staff)
    commands_run.start(
        lambda: settings, inputs, out, limit=None, only=only or (), run_id=run_id, dry_run=dry_run, as_json=as_json
    )


def clean(out: Out, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False) -> None:
    """Remove intermediates and what killed runs left; list what is freed."""
    with clear_errors():
        from flows.cleaning import clean as clean_output

        report = clean_output(out)
    if as_json:
        typer.echo(json.dumps(report))
        return
    for item in report["items"]:
        typer.echo(f"removed {item['place']}  ({item['bytes'] / 1e6:.1f} MB)")
    typer.echo(f"{report['out']}: {len(report['items'])} things removed, {report['freed_bytes'] / 1e6:.1f} MB freed")
    if report["held_by"]:
        runs = ", ".join(report["held_by"])
        typer.echo(
            f"intermediates stay, as a run holds them: {runs} (if it ran on a machine that is gone, remove leases/)"
        )
