"""``nvds bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows import commands_run
from flows.cli_common import ALL_GOOD, SOME_FAILED, clear_errors, shown_log
from flows.commands_options import FLOW_HELP, AsJson, ConfigFile, Frames, ShortSide, Size

EPILOG = """Examples:

  nvds bench synthetic:900..907 --out bench

  nvds bench sintel:MPI-Sintel scannet:scans_test --predictors midas-v21,dpt-large --stabilizer nvds --out bench

  nvds bench VDW_test --predictors dpt-large --stabilizer nvds --flow gmflow --short-side 384 --out bench

  nvds bench synthetic:900..903 --methods initial,tto,cvd --config tto.yaml --out bench

  nvds table bench --layout common --published

A set is a folder (its layout tells which), KIND:FOLDER?option=value, or synthetic:SEED..SEED; see docs/datasets.md.
The controls box (a mean over 7 frames) and constant are always scored besides. Run the same command again to go on.

Exit code: 0 all good, 1 some videos failed, 2 nothing could start.
"""


def bench(
    sets: Annotated[list[str], typer.Argument(metavar="SET...", help="Data sets with known depth.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder.")],
    predictors: Annotated[str, typer.Option(help="Predictors as of 'nvds run', joined by commas.")] = "tiny",
    methods: Annotated[
        str, typer.Option(help="Of initial, forward, backward, mix, tto, cvd, box; joined by commas.")
    ] = "initial,forward,backward,mix,box",
    stabilizer: Annotated[str | None, typer.Option(help="nvds-tiny, nvds or nvds-nyu. [default: nvds-tiny]")] = None,
    flow: Annotated[str | None, typer.Option(help=FLOW_HELP)] = None,
    align: Annotated[
        str, typer.Option(help="Fit to the truth: video (one scale and shift), frame, median, scale or none.")
    ] = "video",
    frames: Frames = None,
    short_side: ShortSide = None,
    size: Size = None,
    precision: Annotated[str | None, typer.Option(help="fp32, tf32 or bf16, of all networks. [default: fp32]")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Score predictors and methods on data sets with known depth; tables, and a Parquet file with one row per video."""
    wanted = {
        "stabilizer.name": stabilizer,
        "flow.name": flow,
        **{f"{part}.precision": precision for part in ("predictor", "stabilizer", "flow")},
    }
    stopped = "interrupted; what was computed is kept, run the same command again to go on"
    with clear_errors(interrupted=stopped):
        from typing import get_args

        from flows.bench import BenchConfig, run_bench
        from flows.bench_runs import bench_config
        from flows.bench_tables import write_tables
        from flows.reporting import Lines, reporting
        from nvds_core.metrics.alignment import Align
        from nvds_core.types import ConfigError

        if align not in get_args(Align):
            raise ConfigError(f"--align {align} is unknown; take one of {', '.join(get_args(Align))}")
        overrides = {name: value for name, value in wanted.items() if value is not None}
        settings = bench_config(config, overrides | commands_run.size_settings(size, short_side))
        plan = BenchConfig(
            *(tuple(sets), _list(predictors), _list(methods), settings),
            align=align,  # type: ignore[arg-type]
            frames=frames,
        )
        with shown_log(), reporting(Lines()):
            rows = run_bench(plan, out, lambda text: typer.echo(text, err=True))
        tables = write_tables(out)
    failed = sum(row["status"] != "done" for row in rows)
    typer.echo(tables["common.md"].decode(), nl=False, err=as_json)
    typer.echo(f"tables: {out / 'tables'}   (again, or otherwise: nvds table {out} --layout nvds)", err=True)
    if as_json:
        typer.echo(json.dumps({"rows": len(rows), "failed": failed, "out": str(out)}))
    raise typer.Exit(SOME_FAILED if failed else ALL_GOOD)


def _list(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
