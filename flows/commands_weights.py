"""``nvds weights``: the official checkpoints on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli_common import ALL_GOOD, NOTHING_STARTED, SOME_FAILED, clear_errors

if TYPE_CHECKING:
    from nvds_core.weights_catalog import OfficialFile
    from nvds_core.weights_download import Progress

LIST_EPILOG = """Examples:

  nvds weights list

  nvds weights list --json | jq -r '.files[] | select(.installed) | .name'
"""
PULL_EPILOG = """Examples:

  nvds weights pull nvds dpt-large

  nvds weights pull midas-v21 --yes                              # accepts the licence without a question

  nvds weights pull gmflow --from downloads/gmflow_sintel-0c07dcb3.pth

Exit code: 0 all there, 1 some failed, 2 none.
"""
VERIFY_EPILOG = """Examples:

  nvds weights verify

  nvds weights verify nvds dpt-large --json

Exit code: 0 all good, 1 some missing, damaged, changed or not the published file.
"""
PATH_EPILOG = """Examples:

  nvds weights path                                              # the folder

  nvds weights path nvds
"""
GOOD_STATES = ("published", "prefix", "unpublished")
MEANING = {
    "published": "as published",
    "prefix": "as published (by the first digits of its sha256)",
    "unpublished": "unchanged since it was first seen; no sha256 is published",
    "other": "not the published file",
    "changed": "changed since it was first seen",
    "unreadable": "damaged or of another network",
    "missing": "missing",
}
Json = Annotated[bool, typer.Option("--json", help="Print one JSON line.")]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, fetch and check the official checkpoints.")


@app.command("list", epilog=LIST_EPILOG)
def list_files(as_json: Json = False) -> None:
    """Show all official files: whether each is installed, whether it is the published one, and its licence."""
    with clear_errors():
        from nvds_core.weights_cache import cache_dir
        from nvds_core.weights_catalog import OFFICIAL

        files = [_about(file) for file in OFFICIAL.values()]
        folder = str(cache_dir())
    if as_json:
        typer.echo(json.dumps({"cache": folder, "files": files}))
        return
    typer.echo(f"{folder}   (tiny and nvds-tiny come with the package)")
    for about in files:
        typer.echo(f"{about['name']:21} {about['state']:12} {about['file']:42} {about['licence']['id']}")


@app.command(epilog=PULL_EPILOG)
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of 'nvds weights list'.")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Take this local file, whatever its name is.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accept licences, and with --from other weights.")] = False,
) -> None:
    """Fetch official files into the cache, or adopt a local file. A broken download goes on with the same command."""
    with clear_errors():
        from nvds_core.types import ConfigError
        from nvds_core.weights_catalog import official_file

        files = [official_file(name) for name in dict.fromkeys(names)]
        if source is not None and len(files) > 1:
            raise ConfigError(f"--from {source} is one file; give one name, not {', '.join(names)}")
    failed = 0
    for file in files:
        try:
            with clear_errors(interrupted="interrupted; run the same command again to go on"):
                _pull_one(file, source, yes)
        except typer.Exit as stopped:
            if stopped.exit_code != NOTHING_STARTED:
                raise
            failed += 1
    raise typer.Exit(ALL_GOOD if not failed else SOME_FAILED if failed < len(files) else NOTHING_STARTED)


@app.command(epilog=VERIFY_EPILOG)
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="[default: all installed]")] = None,
    as_json: Json = False,
) -> None:
    """Read installed files again: sha256, and whether the weights fit their network."""
    with clear_errors():
        from nvds_core.weights_cache import cache_dir, find_installed
        from nvds_core.weights_catalog import OFFICIAL, official_file

        files = [official_file(name) for name in dict.fromkeys(names or ())]
        files = files or [file for file in OFFICIAL.values() if find_installed(file) is not None]
        found = [_verified(file) for file in files]
        folder = str(cache_dir())
    good = all(about["state"] in GOOD_STATES for about in found)
    if as_json:
        typer.echo(json.dumps({"cache": folder, "ok": good, "files": found}))
    elif not found:
        typer.echo(f"{folder}: no official weights are installed")
    else:
        for about in found:
            problem = f": {about['problem']}" if about["problem"] else ""
            typer.echo(f"{about['name']:21} {about['installed_sha256'] or '-':64} {MEANING[about['state']]}{problem}")
    raise typer.Exit(ALL_GOOD if good else SOME_FAILED)


@app.command(epilog=PATH_EPILOG)
def path(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="[default: the folder of all]")] = None,
) -> None:
    """Print where an installed file lies; exit code 2 if it is missing. Without a name: the folder."""
    with clear_errors():
        from nvds_core.weights_cache import cache_dir, checkpoint_path

        place = checkpoint_path(name) if name is not None else cache_dir()
    typer.echo(str(place))


def _pull_one(file: OfficialFile, source: Path | None, yes: bool) -> None:
    from nvds_core import weights_install

    if source is not None:
        place = weights_install.adopt(file.name, source, accept_other=lambda text: _agreed(text, "adopt it", yes))
        typer.echo(f"licence of {file.file}: {file.licence.id} ({file.licence.note})", err=True)
    else:
        about = _about(file)
        if about["state"] in GOOD_STATES:
            typer.echo(f"{file.name}: already there, {about['path']}")
            return
        if file.url is not None:
            _accept_licence(file, yes)
        with _progress(file.file) as progress:
            place = weights_install.pull(file.name, progress=progress)
    typer.echo(f"{file.name}: {place}, sha256 {_about(file)['installed_sha256']}")


def _accept_licence(file: OfficialFile, yes: bool) -> None:
    from nvds_core.types import ConfigError
    from nvds_core.weights_cache import licence_accepted, remember_licence

    size = f", {file.size / 1e6:.0f} MB" if file.size else ""
    terms = f"{file.file}{size} from {file.page}, licence {file.licence.id}: {file.licence.note}"
    if licence_accepted(file):
        typer.echo(terms, err=True)
    elif not _agreed(terms, "download it under these terms", yes):
        raise ConfigError(f"{file.file} was not downloaded: its licence was not accepted; answer yes, or give --yes")
    else:
        remember_licence(file)


def _agreed(text: str, action: str, yes: bool) -> bool:
    """Show a text and ask; without a terminal only --yes agrees."""
    typer.echo(text, err=True)
    if yes or not _in_terminal():
        return yes
    try:
        return typer.confirm(f"{action}?", err=True)
    except typer.Abort as error:
        if isinstance(error.__context__, EOFError):  # the end of the input is no consent; Ctrl-C goes on as ever
            return False
        raise


def _in_terminal() -> bool:
    return sys.stdin.isatty()


def _about(file: OfficialFile) -> dict[str, Any]:
    """Catalog entry and state of one file; a digest is computed again only if the file changed."""
    from nvds_core.weights_cache import digest_state, find_installed, installed_digest

    place = find_installed(file)
    digest = installed_digest(place) if place is not None else None
    state = "missing" if place is None or digest is None else digest_state(file, place, digest)
    here = {"installed": place is not None, "path": place and str(place), "installed_sha256": digest, "state": state}
    return asdict(file) | here


def _verified(file: OfficialFile) -> dict[str, Any]:
    """`_about` with the digest read anew and the weights tried on their network."""
    from nvds_core.checkpoints import file_digest
    from nvds_core.models import check_fits
    from nvds_core.types import WeightsError
    from nvds_core.weights_cache import digest_state, find_installed
    from nvds_core.weights_install import check_whole

    about = _about(file) | {"problem": None}
    place = find_installed(file)
    if place is None:
        return about
    digest = file_digest(place)
    about |= {"installed_sha256": digest, "state": digest_state(file, place, digest)}
    try:
        check_whole(place)
        check_fits(file, place)
    except WeightsError as error:
        about |= {"state": "unreadable", "problem": str(error)}
    return about


@contextmanager
def _progress(title: str) -> Iterator[Progress | None]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda held, total: bar.update(task, completed=held, total=total)
