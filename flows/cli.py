"""The command line: arguments in, flow out. Heavy libraries are loaded inside the commands, so that --help is quick."""

from __future__ import annotations

import typer

from flows import (
    commands_bench,
    commands_operate,
    commands_report,
    commands_results,
    commands_run,
    commands_tools,
    commands_tto,
    commands_weights,
)
from flows.cli_plugins import PluginCommand

app = typer.Typer(
    name="nvds",
    help="Temporally consistent video depth: stabilised disparity volumes from a folder of videos.",
    epilog="Start with: nvds demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(cls=PluginCommand, epilog=commands_run.EPILOG)(commands_run.run)
app.command(epilog=commands_tto.EPILOG)(commands_tto.tto)
app.command(epilog=commands_bench.EPILOG)(commands_bench.bench)
app.command(epilog=commands_operate.STATUS_EPILOG)(commands_operate.status)
app.command(epilog=commands_operate.RERUN_EPILOG)(commands_operate.rerun)
app.command(epilog=commands_operate.CLEAN_EPILOG)(commands_operate.clean)
app.command(epilog=commands_results.TABLE_EPILOG)(commands_results.table)
app.command(epilog=commands_results.EXPORT_EPILOG)(commands_results.export)
app.command(epilog=commands_report.EPILOG)(commands_report.report)
app.command(epilog=commands_tools.PROBE_EPILOG)(commands_tools.probe)
app.command(epilog=commands_tools.DEMO_EPILOG)(commands_tools.demo)
app.command(epilog=commands_tools.TRAIN_EPILOG)(commands_tools.train)
app.add_typer(commands_weights.app, name="weights")


def main() -> None:
    """Entry point of ``nvds``."""
    app()
