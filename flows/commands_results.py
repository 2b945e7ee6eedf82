"""``nvds table`` and ``nvds export``: what to do with an output folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli_common import clear_errors

TABLE_EPILOG = """Examples:

  nvds table out

  nvds table out --format csv --output opw.csv

  nvds table out --format parquet --output s3://bucket/tables/opw.parquet

  nvds table out --format json | jq .mean

  nvds table bench --layout nvds --published --format latex --output table.tex

  nvds table bench other-bench --layout runtime
"""
EXPORT_EPILOG = """Examples:

  nvds export out clip --to mp4

  nvds export out clip-0123456789 --to nvds --output results/clip

  nvds export out clip --to npz --result forward --output clip.npz

  nvds export out room --to ply --output clouds     # after 'nvds tto'
"""
Out = Annotated[str, typer.Argument(metavar="OUT", help="Output folder or URL of 'nvds run'.")]
OF_ONE_RESULT, WITH_FRAME_RATE = ("png16", "npz", "mp4", "ply"), ("mp4",)  # formats of 'nvds export'


def table(
    outs: Annotated[
        list[str], typer.Argument(metavar="OUT...", help="Output folders of 'nvds run', or of 'nvds bench'.")
    ],
    layout: Annotated[
        Literal["nvds", "common", "runtime", "failures"] | None,
        typer.Option(help="Table of a benchmark. [default: common]"),
    ] = None,
    format: Annotated[
        Literal["md", "latex", "csv", "json", "parquet", "html"], typer.Option(help="How to write it.")
    ] = "md",
    published: Annotated[bool, typer.Option("--published", help="Papers' rows beside those of a benchmark.")] = False,
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="File or fsspec URL to write; standard output if not given.")
    ] = None,
) -> None:
    """Print one row per video of a run (OPW of its results), or the tables of a benchmark."""
    with clear_errors():
        from flows import bench_tables, results, table_formats
        from flows.bench_rows import is_bench
        from nvds_core.types import ConfigError
        from storage.locations import write_bytes_atomic
        from tasks.workspace import public_text

        if layout is not None or any(is_bench(out) for out in outs):
            content = bench_tables.bench_bytes(outs, layout or "common", format, published=published)
        elif published:
            raise ConfigError("--published sets papers' rows beside those of nvds bench; a run has no such table")
        else:
            content = table_formats.FORMATS[format]([row for out in outs for row in results.video_rows(out)])
        if output is not None:
            write_bytes_atomic(output, content)
            typer.echo(public_text(output), err=True)
        elif format == "parquet" and sys.stdout.isatty():
            raise ConfigError("Parquet is no text for a terminal; give --output FILE")
        else:
            typer.echo(content, nl=False)


def export(
    out: Out,
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="Video id, a unique beginning of it, or its name.")],
    to: Annotated[
        Literal["nvds", "png16", "npz", "mp4", "ply", "poses", "tto"],
        typer.Option(
            help="nvds: folders of the published script; mp4: RGB, initial and stabilised side by side. After 'nvds "
            "tto': ply, a cloud of points per frame; poses, the cameras as --poses reads them; tto, the folders of the "
            "released code."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder or file to write. [default: named after the video]")
    ] = None,
    result: Annotated[
        str | None,
        typer.Option(help="initial, optimized, forward, backward or mix, for png16, npz, mp4, ply. [default: last]"),
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frame rate of the mp4. [default: that of the source]")] = None,
) -> None:
    """Write one finished video in another format. Values are disparity up to scale and shift, near is large.

    Clouds and the folders of the released code hold depth in the unit of the cameras' places.
    """
    with clear_errors():
        from flows import exports, exports_tto, preview

        _check_applies("--result", result, to, OF_ONE_RESULT)
        _check_applies("--fps", fps, to, WITH_FRAME_RATE)
        writers: dict[str, tuple[str, Callable[[exports.ExportSource, Path], Path]]] = {
            "nvds": ("-nvds", exports.export_nvds),
            "png16": ("-png16", exports.export_png16),
            "npz": (".npz", exports.export_npz),
            "mp4": (".mp4", partial(preview.export_mp4, fps=fps)),
            "ply": ("-ply", exports_tto.export_ply),
            "poses": ("-poses.json", exports_tto.export_poses),
            "tto": ("-tto", exports_tto.export_tto),
        }
        source = exports.open_export(out, video, result)
        ending, write = writers[to]
        target = output or Path(f"{source.record['video_id']}{ending}")
        write(source, target)
    typer.echo(str(target))


def _check_applies(option: str, value: object, to: str, formats: tuple[str, ...]) -> None:
    """Refuse an option that the format has no use for."""
    from nvds_core.types import ConfigError

    if value is not None and to not in formats:
        raise ConfigError(f"{option} does not apply to --to {to}, only to {', '.join(formats)}; leave it out")
