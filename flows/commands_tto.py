"""``nvds tto``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from flows import commands_options as options
from flows import commands_run

if TYPE_CHECKING:
    from flows.config import RunConfig

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
    inputs: options.Inputs,
    out: options.Out,
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
    lr: Annotated[float | None, typer.Option(help="Learning rate. [default: 1e-3 for tiny, 1e-4 for others]")] = None,
    stabilize: Annotated[
        bool | None,
        typer.Option(
            "--stabilize/--no-stabilize",
            help="NVDS on top of the optimised disparity. [default: if --config names a stabilizer]",
        ),
    ] = None,
    stabilizer: Annotated[
        str | None, typer.Option(help="nvds-tiny or nvds. [default: that of --config, or nvds-tiny]")
    ] = None,
    flow: Annotated[str | None, typer.Option(help="Optical flow, as of 'nvds run'. [default: dis]")] = None,
    short_side: options.ShortSide = None,
    size: options.Size = None,
    config: options.ConfigFile = None,
    keep: Annotated[str | None, typer.Option(help="all intermediates, or results only. [default: all]")] = None,
    encoding: options.Encoding = None,
    workers: options.Workers = None,
    scheduler: options.Scheduler = None,
    limit: options.Limit = None,
    frames: options.Frames = None,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
    run_id: options.RunId = None,
) -> None:
    """Optimise a depth network on each video itself, against depth from flow and camera poses."""
    wanted = {
        "predictor.name": predictor,
        "tto.poses.path": poses,
        "tto.poses.intrinsics": intrinsics,
        "tto.tune.method": method,
        "tto.tune.epochs": epochs,
        "tto.tune.learning_rate": lr,
        "flow.name": flow,
        "frames.limit": frames,
        "publish.encoding": encoding,
        "workers.count": workers,
        "workers.scheduler": scheduler,
        "keep": keep or (None if config else "all"),
    }

    def settings() -> RunConfig:
        from flows.config import load_config
        from flows.tto import TtoConfig

        given = {name: value for name, value in wanted.items() if value is not None}
        overrides = given | commands_run.size_settings(size, short_side)
        loaded = load_config(config, overrides, defaults={"stabilizer.name": "none"})
        name = _stabilizer(stabilize, stabilizer, loaded.stabilizer.name)
        return replace(loaded, stabilizer=replace(loaded.stabilizer, name=name), tto=loaded.tto or TtoConfig())

    commands_run.start(settings, inputs, out, limit=limit, run_id=run_id, dry_run=dry_run, as_json=as_json)


def _stabilizer(wanted: bool | None, named: str | None, of_file: str) -> str:
    """The stabiliser that options and settings ask for."""
    from nvds_core.types import ConfigError

    stabilize = of_file != "none" if wanted is None else wanted
    if stabilize:
        return named or (of_file if of_file != "none" else "nvds-tiny")
    if named is not None:
        raise ConfigError(f"--stabilizer {named} says with what; give --stabilize to have it done")
    return "none"
