"""``nvds tto``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows import commands_run
from flows.cli_common import ALL_GOOD, SOME_FAILED, clear_errors

EPILOG = """Examples:

  nvds tto clip.mp4 --out out                       # COLMAP finds the poses

  nvds tto room/ --out out --poses room/ --intrinsics 525,525,319.5,239.5

  nvds tto videos/ --out out --poses poses/         # an entry per video, with its name

  nvds tto clip.mp4 --out out --method cvd --epochs 5 --stabilize

A video that cannot be optimised keeps its initial disparity; the table of outcomes says why. Intermediates stay in
OUT/.work, so that another learning rate costs the fine-tuning only; --keep results removes them.

Exit code: 0 all good, 1 some videos failed, 2 nothing could start.
"""


def tto(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Video files, folders, globs, URLs, or .txt files that list them."),
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="Output folder or fsspec URL.")],
    predictor: Annotated[str | None, typer.Option(help="Network to tune, as of 'nvds run'. [default: tiny]")] = None,
    poses: Annotated[
        str | None,
        typer.Option(
            help="Poses that are there: our JSON, transforms.json, COLMAP model, TUM trajectory, folder of "
            "7-Scenes *.pose.txt, or a folder with an entry per video."
        ),
    ] = None,
    intrinsics: Annotated[
        str | None, typer.Option(metavar="FX,FY,CX,CY", help="In pixels of the source, for poses without; for COLMAP.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="pseudo (reference depth) or cvd. [default: pseudo]")] = None,
    epochs: Annotated[int | None, typer.Option(min=0, help="Of the fine-tuning. [default: 20]")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. [default: 1e-4]")] = None,
    stabilize: Annotated[bool, typer.Option("--stabilize", help="NVDS on top of the optimised disparity.")] = False,
    stabilizer: Annotated[str | None, typer.Option(help="nvds-tiny or nvds. [default: nvds-tiny]")] = None,
    flow: Annotated[str | None, typer.Option(help="Optical flow, as of 'nvds run'. [default: dis]")] = None,
    short_side: Annotated[int | None, typer.Option(help="Short side of the depth maps, pixels.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Exact size of the depth maps.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings; options here go before it.")] = None,
    keep: Annotated[str | None, typer.Option(help="all intermediates, or results only. [default: all]")] = None,
    encoding: Annotated[str | None, typer.Option(help="uint16, float16 or float32. [default: uint16]")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first N videos.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Take only the first N frames of each video.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, compute nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End standard output with one JSON line.")] = False,
    run_id: Annotated[str | None, typer.Option(help="Name of this run in OUT/runs. [default: time]")] = None,
) -> None:
    """Optimise a depth network on each video itself, against depth from flow and camera poses."""
    wanted = {
        "predictor.name": predictor,
        "tto.poses.path": poses,
        "tto.poses.intrinsics": intrinsics,
        "tto.tune.method": method,
        "tto.tune.epochs": epochs,
        "tto.tune.learning_rate": lr,
        "stabilizer.name": (stabilizer or "nvds-tiny") if stabilize else "none",
        "flow.name": flow,
        "frames.limit": frames,
        "publish.encoding": encoding,
        "keep": keep or (None if config else "all"),
    }
    with clear_errors():
        from flows.config import load_config
        from nvds_core.types import ConfigError

        if stabilizer is not None and not stabilize:
            raise ConfigError(f"--stabilizer {stabilizer} says with what; add --stabilize to have it done")
        overrides = {name: value for name, value in wanted.items() if value is not None}
        settings = load_config(config, {"tto.tune.seed": 0} | overrides | commands_run.size_settings(size, short_side))
        if dry_run:
            commands_run.dry_run_of(inputs, out, settings, limit, as_json)
            return
    summary = commands_run.run_settings(inputs, out, settings, limit, run_id, as_json)
    if as_json:
        typer.echo(json.dumps(summary))
    raise typer.Exit(SOME_FAILED if summary["failed"] else ALL_GOOD)
