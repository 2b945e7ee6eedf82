"""``nvds report``: a folder of pages about an output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli_common import clear_errors

EPILOG = """Examples:

  nvds report out

  nvds report s3://bucket/depth --to report

  nvds report out --players 50
"""


def report(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Output folder or URL of 'nvds run'.")],
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where to write it; an earlier report is brought up to date. [default: OUT/report]"
        ),
    ] = None,
    players: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Encode players of the N videos that flicker most. [default: of all]"),
    ] = None,
) -> None:
    """Write a report that a browser opens from the disk: overview, table, and a page with a player per video."""
    with clear_errors():
        from flows.report import build_report
        from nvds_core.types import ConfigError
        from storage.locations import is_local, local_path

        if to is None and not is_local(out):
            raise ConfigError(f"{out} is no local folder; say where to write the report with --to FOLDER")
        folder = to or local_path(out) / "report"
        built = build_report(out, folder, players=players, tell=lambda line: typer.echo(line, err=True))
    typer.echo(
        f"{built.videos} videos; players: {built.encoded} new, {built.kept} kept, {built.without} without", err=True
    )
    typer.echo(str(built.index))
