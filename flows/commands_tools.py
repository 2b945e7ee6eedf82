"""``nvds probe``, ``nvds demo`` and ``nvds train``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Literal

import typer

from flows.cli_common import ALL_GOOD, SOME_FAILED, clear_errors

PROBE_EPILOG = """Examples:

  nvds probe clip.mp4

  nvds probe folder-of-frames --full --json
"""
DEMO_EPILOG = """Examples:

  nvds demo

  nvds demo my-clip.mp4 --out demo-out
"""
TRAIN_EPILOG = """Examples:

  nvds train --out train-out

  nvds train --out train-out --device cuda      # the same command goes on after an interruption

  nvds train --out try --share 0.01
"""


def probe(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Video file, folder of frames, or URL.")],
    full: Annotated[bool, typer.Option("--full", help="Decode it to the end: real length, damage, cuts.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Say what a video is and whether it can be read. Exit code 2 if not."""
    with clear_errors():
        import tempfile

        from nvds_core.video import CutConfig, CutDetector, open_video
        from storage.locations import stage

        with tempfile.TemporaryDirectory(prefix="nvds-") as scratch, open_video(stage(file, scratch)) as reader:
            extra: dict[str, object] = {}
            if full:
                detector = CutDetector(CutConfig())
                for frame in reader:
                    detector.push(frame.rgb)
                extra = {"decoded": reader.decoded, "cuts": detector.finish()}
            about = {**asdict(reader.info), **extra, "warnings": list(reader.warnings)}
    if as_json:
        typer.echo(json.dumps(about))
        return
    for name, value in about.items():
        typer.echo(f"{name:20} {'unknown' if value is None else value if value != [] else 'none'}")


def demo(
    videos: Annotated[
        list[str] | None, typer.Argument(metavar="[VIDEO]...", help="Your own videos, in addition.")
    ] = None,
    out: Annotated[str, typer.Option("--out", "-o", help="Local folder for everything the demo makes.")] = "demo-out",
) -> None:
    """Render a short video, run the main job on it, and make a table, a comparison video and a picture."""
    with clear_errors(interrupted="interrupted; run 'nvds demo' again to go on"):
        from flows.commands_run import summary_lines
        from flows.demo import real_clips, run_demo
        from flows.reporting import Lines, reporting
        from flows.results import video_rows
        from flows.table_formats import to_markdown

        with reporting(Lines()):
            made = run_demo(videos or real_clips(), out)
        typer.echo(to_markdown(video_rows(out)))
    for line in summary_lines(made.summary, {}):
        typer.echo(line)
    for title, paths in (("comparison video", made.comparisons), ("picture", made.strips)):
        for path in paths:
            typer.echo(f"{title}: {path}")
    raise typer.Exit(SOME_FAILED if made.summary["failed"] else ALL_GOOD)


def train(
    out: Annotated[str, typer.Option("--out", "-o", help="Folder for scenes, checkpoints and weights.")] = "train-out",
    stage: Annotated[Literal["all", "predictor", "stabilizer"], typer.Option(help="Which model to train.")] = "all",
    share: Annotated[float, typer.Option(help="Part of the scenes and steps, 0 to 1, for a try.")] = 1.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that render scenes.")] = 2,
    device: Annotated[str | None, typer.Option(help="cpu or cuda. [default: an accelerator if there is one]")] = None,
) -> None:
    """Train the bundled models again from their seed, on scenes the project renders itself."""
    with clear_errors(interrupted="interrupted; run the same command again to go on from the last checkpoint"):
        from flows.train import train_models

        weights = train_models(out, device=device, stage=stage, share=share, workers=workers)
    for name, path in weights.items():
        typer.echo(f"{name}: {path}")
