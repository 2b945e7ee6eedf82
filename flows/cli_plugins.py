"""Predictors and flows of installed packages in ``nvds run --help``, read from their metadata without loading them."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from typer.core import TyperCommand

GROUPS = {"--predictor": "nvds.predictors", "--flow": "nvds.flows"}


def installed() -> list[tuple[str, str]]:
    """(option, names that installed packages bring for it); without those that bring none."""
    found = {option: sorted({point.name for point in entry_points(group=group)}) for option, group in GROUPS.items()}
    return [(option, ", ".join(names)) for option, names in found.items() if names]


class PluginCommand(TyperCommand):
    """A command whose help ends its options with what installed packages add to them."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, then the installed plug-ins if there are any."""
        super().format_options(ctx, formatter)
        rows = installed()
        if rows:
            with formatter.section("Installed plug-ins"):
                formatter.write_dl(rows)
