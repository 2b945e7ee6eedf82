"""``nvds run``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from flows import commands_options as options
from flows.cli_common import ALL_GOOD, SOME_FAILED, clear_errors, shown_log

if TYPE_CHECKING:
    from flows.config import RunConfig
    from flows.ledger import Outcome

EPILOG = """Examples:

  nvds run clip.mp4 --out out

  nvds run videos/ "*.mov" list.txt --out s3://bucket/depth --size 448x256

  nvds run videos/ --out out --predictor folder:depth/   # your own maps

  nvds run videos/ --out out --workers 8    # a process per GPU

  nvds run videos/ --out out --dry-run      # what there is to do

  nvds run videos/ --out out --json | tail -n 1

Exit code: 0 all good, 1 some videos failed, 2 nothing could start.
"""


def run(
    inputs: options.Inputs,
    out: options.Out,
    predictor: Annotated[str | None, typer.Option(help=options.PREDICTOR_HELP)] = None,
    stabilizer: Annotated[
        str | None, typer.Option(help="nvds-tiny, nvds, nvds-nyu or none. [default: nvds-tiny]")
    ] = None,
    flow: Annotated[str | None, typer.Option(help=options.FLOW_HELP)] = None,
    short_side: options.ShortSide = None,
    size: options.Size = None,
    direction: Annotated[str | None, typer.Option(help="both or forward. [default: both]")] = None,
    score: Annotated[str | None, typer.Option(help="nvds (OPW), or none: no flow either. [default: nvds]")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, tf32 or bf16, of all networks. [default: fp32]")] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="What batches may take, as 8G. [default: half of free]")
    ] = None,
    config: options.ConfigFile = None,
    keep: Annotated[str | None, typer.Option(help="results, or all intermediates too. [default: results]")] = None,
    encoding: options.Encoding = None,
    workers: options.Workers = None,
    scheduler: options.Scheduler = None,
    limit: options.Limit = None,
    frames: options.Frames = None,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
    run_id: options.RunId = None,
) -> None:
    """Turn videos into temporally stable disparity volumes with an OPW table."""
    wanted = {
        "predictor.name": predictor,
        "stabilizer.name": stabilizer,
        "stabilizer.direction": direction,
        "flow.name": flow,
        "score.name": score,
        "predictor.precision": precision,
        "stabilizer.precision": precision,
        "flow.precision": precision,
        "limits.max_memory": max_memory,
        "frames.limit": frames,
        "publish.encoding": encoding,
        "workers.count": workers,
        "workers.scheduler": scheduler,
        "keep": keep,
    }

    def settings() -> RunConfig:
        from flows.config import load_config

        given = {name: value for name, value in wanted.items() if value is not None}
        return load_config(config, given | size_settings(size, short_side))

    start(settings, inputs, out, limit=limit, run_id=run_id, dry_run=dry_run, as_json=as_json)


def start(
    load: Callable[[], RunConfig],
    inputs: list[str],
    out: str,
    *,
    limit: int | None,
    run_id: str | None,
    dry_run: bool,
    as_json: bool,
    only: Sequence[str] = (),
) -> NoReturn:
    """Load the settings, do the run or say what it would do, and end the command with its exit code."""
    with clear_errors():
        settings = load()
        if dry_run:
            _say_plan(inputs, out, settings, limit, only, as_json)
            raise typer.Exit(ALL_GOOD)
    summary = _run_settings(inputs, out, settings, limit, only, run_id, as_json)
    if as_json:
        typer.echo(json.dumps(summary))
    raise typer.Exit(SOME_FAILED if summary["failed"] else ALL_GOOD)


def _run_settings(
    inputs: list[str],
    out: str,
    settings: RunConfig,
    limit: int | None,
    only: Sequence[str],
    run_id: str | None,
    as_json: bool,
) -> dict[str, Any]:
    stopped = "interrupted; finished videos are kept, run the same command again to go on"
    with clear_errors(interrupted=stopped):
        from flows.launch import execute, prepare
        from flows.reporting import Lines, reporting
        from flows.results import example
        from tasks.workspace import public_text

        job = prepare(inputs, out, settings, limit=limit, only=only, run_id=run_id)

    failures: dict[str, str] = {}

    class Report(Lines):
        """Keeps one failure per reason for the summary."""

        def video(self, outcome: Outcome) -> None:
            super().video(outcome)
            if outcome.status == "failed":
                failures.setdefault(str(outcome.reason), example(public_text(outcome.video.uri), outcome.message))

    # the log only now: what cannot start is one line
    with clear_errors(code=SOME_FAILED, interrupted=stopped), shown_log(), reporting(Report()):
        summary = execute(job)
    if not job.plan.pending and not job.plan.left:
        readable = "readable " if job.plan.unreadable else ""
        typer.echo(f"nothing to do: all {len(job.plan.videos)} {readable}videos are done", err=as_json)
    for line in summary_lines(summary, failures):
        typer.echo(line, err=as_json)
    return summary | {"run_id": job.workspace.run_id}


def summary_lines(summary: dict[str, Any], failures: dict[str, str]) -> list[str]:
    """The end of a run in a few lines: counts, failures by reason with an example each, mean OPW, the place."""
    lines = [
        f"{summary['videos']} videos: {summary['done']} done ({summary['cached']} of them before), "
        f"{summary['failed']} failed"
    ]
    for reason, count in sorted(summary["reasons"].items()):
        example = failures.get(reason, "")
        lines.append(f"  failed, {reason}: {count}" + (f", for example {example}" if example else ""))
    if "tto" in summary:
        counts = ", ".join(f"{count} {status}" for status, count in summary["tto"].items())
        lines.append(f"  optimised: {counts}")
    opw = {name: value for name, value in summary["opw"].items() if value is not None}
    if opw:
        ratio = f" ({opw['mix'] / opw['initial']:.3f} of initial)" if opw.get("mix") and opw.get("initial") else ""
        means = ", ".join(f"{name} {value:.4f}" for name, value in opw.items())
        lines.append(f"mean OPW (protocol nvds): {means}{ratio}")
    lines.append(f"output: {summary['out']}   (per video: nvds table {summary['out']})")
    return lines


def _say_plan(
    inputs: list[str], out: str, settings: RunConfig, limit: int | None, only: Sequence[str], as_json: bool
) -> None:
    from flows.forecast import forecast, forecast_lines
    from flows.launch import preview

    plan = preview(inputs, out, settings, limit=limit, only=only)
    expected = forecast(plan, out, settings)
    for line in forecast_lines(plan, expected):
        typer.echo(line, err=as_json)
    if as_json:
        typer.echo(json.dumps(expected))


def size_settings(size: str | None, short_side: int | None) -> dict[str, int | None]:
    """The settings behind --size and --short-side; either replaces what a YAML file says about size."""
    from nvds_core.types import ConfigError

    width, height = None, None
    if size is not None:
        match = re.fullmatch(r"(\d+)[xX](\d+)", size)
        if match is None or short_side is not None:
            problem = "cannot be combined with --short-side" if match else "is not a size; write it as 448x256"
            raise ConfigError(f"--size {size} {problem}")
        width, height = int(match[1]), int(match[2])
    elif short_side is None:
        return {}
    return {"frames.size.width": width, "frames.size.height": height, "frames.size.short_side": short_side}
