"""Arguments and options that several commands share, as annotated types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# Written out, as asking the registries would load torch for a --help; a test compares.
PREDICTOR_HELP = (
    "Single-image predictor: tiny, midas-v21, midas-v21-small, dpt-large, dpt-hybrid; transformers:ID (of the Hugging "
    "Face Hub, or a folder), folder:PATH (maps that are there: PNG, NPY, NPZ, EXR, our volumes), either with "
    "?quantity=depth behind it for metric depth; or that of an installed package. [default: tiny]"
)
FLOW_HELP = (
    "Optical flow for the scores: dis, dis-fast, dis-ultrafast, gmflow, gmflow-refine, raft_large, raft_small "
    "(?weights=FILE), or that of an installed package. [default: dis]"
)

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT...", help="Video files, folders, globs, URLs, or .txt files that list them."),
]
Out = Annotated[str, typer.Option("--out", "-o", help="Output folder or fsspec URL.")]
ShortSide = Annotated[int | None, typer.Option(help="Short side of the depth maps, pixels.")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Exact size of the depth maps.")]
ConfigFile = Annotated[Path | None, typer.Option(help="YAML file with settings; options here go before it.")]
Encoding = Annotated[str | None, typer.Option(help="uint16, float16 or float32. [default: uint16]")]
Limit = Annotated[int | None, typer.Option(min=1, help="Take only the first N videos.")]
Frames = Annotated[int | None, typer.Option(min=1, help="Take only the first N frames of each video.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, compute nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="End standard output with one JSON line.")]
RunId = Annotated[str | None, typer.Option(help="Name of this run in OUT/runs. [default: time]")]
Workers = Annotated[
    int | None,
    typer.Option(min=0, help="Worker processes on this machine, one per GPU; 0: this process works. [default: 0]"),
]
Scheduler = Annotated[
    str | None, typer.Option(metavar="tcp://HOST:PORT", help="Have the workers of a running Dask cluster do the work.")
]
