"""Putting official weights into the cache: by download, or from a file that is already there."""

from __future__ import annotations

import fcntl
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nvds_core.checkpoints import file_digest
from nvds_core.models import check_fits
from nvds_core.types import WeightsError
from nvds_core.weights_cache import cache_dir, remedy, remember_installed
from nvds_core.weights_catalog import OfficialFile, official_file
from nvds_core.weights_download import PAUSES, Progress, fetch


def pull(name: str, *, progress: Progress | None = None, pauses: Sequence[float] = PAUSES) -> Path:
    """Download an official file into the cache and return its path there.

    The file appears under its name only after its digest (as far as one is published) was compared and its weights
    were found to fit the network. A download that was broken off goes on from where it ended.

    Raises:
        ConfigError: the catalog has no such name.
        WeightsError: no address, no connection, a wrong digest, or a file that does not fit.
    """
    file = official_file(name)
    if file.url is None:
        raise WeightsError(f"{file.file} of {name} cannot be downloaded directly: {remedy(file)}")
    target = cache_dir() / file.file
    with _partial(target) as (partial, path):
        try:
            fetch(file.url, partial, _tag(path), progress=progress, pauses=pauses)
        except WeightsError as error:
            raise WeightsError(f"{error}; else {remedy(file)}") from error
        partial.flush()
        try:
            digest = _checked(file, path)
        except WeightsError:
            partial.truncate(0)  # going on from it would never end well
            raise
        _publish(partial, path, target, digest)
    return target


def _checked(file: OfficialFile, path: Path) -> str:
    """sha256 of a download that is what it should be."""
    digest = file_digest(path)
    if not file.matches(digest):
        raise WeightsError(
            f"{file.url}: what came has sha256 {digest}, published is {file.sha256}; it was thrown away - "
            "try again, and do not trust that place if this happens twice"
        )
    check_whole(path)
    check_fits(file, path)
    return digest


def adopt(name: str, source: Path, *, accept_other: Callable[[str], bool] | None = None) -> Path:
    """Copy a file under any name into the cache as the weights of ``name``, and return its path there.

    Args:
        accept_other: asked, with one sentence, when the file is not the published one, for example weights trained
            further; without it such a file is refused.

    Raises:
        ConfigError: the catalog has no such name.
        WeightsError: the file cannot be read, does not fit the network or was not accepted.
    """
    file = official_file(name)
    if not source.is_file():
        raise WeightsError(f"{source}: no such file; give the file that holds the weights of {name}")
    check_whole(source)
    check_fits(file, source)
    digest = file_digest(source)
    if not file.matches(digest):
        difference = f"{source} is not the published {file.file}: its sha256 is {digest}, published is {file.sha256}"
        if accept_other is None or not accept_other(difference):
            raise WeightsError(f"{difference}; fetch it again, or accept it (--yes) if these are weights of your own")
    target = cache_dir() / file.file
    with _partial(target) as (partial, path):
        if target.exists() and source.samefile(target):
            remember_installed(target, digest)
            return target
        _tag(path).unlink(missing_ok=True)
        partial.truncate(0)
        with source.open("rb") as original:
            shutil.copyfileobj(original, partial, 1 << 20)
        partial.flush()
        if file_digest(path) != digest:
            partial.truncate(0)
            raise WeightsError(f"{source}: changed while it was copied; try again")
        _publish(partial, path, target, digest)
    return target


def check_whole(path: Path) -> None:
    """Raise WeightsError if a zip container (what torch writes) fails its own checksums, which torch does not read."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as container:
            damaged = container.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(
            f"{path}: not a whole checkpoint but truncated or damaged ({error}); fetch it again"
        ) from error
    if damaged is not None:
        raise WeightsError(f"{path}: damaged, the checksum of {damaged} in it is wrong; fetch it again")


@contextmanager
def _partial(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """The unfinished form of ``target``, for this process alone; what it holds stays if the context is left early."""
    path = target.with_name(target.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WeightsError(f"{path}: another process is fetching this file; wait for it") from None
        if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise WeightsError(f"{target}: another process has just finished with this file; try again")
        try:
            yield file, path
        finally:
            held = file.seek(0, os.SEEK_END)
            if not held and path.exists():
                path.unlink()
                _tag(path).unlink(missing_ok=True)


def _tag(path: Path) -> Path:
    return path.with_suffix(".tag")


def _publish(partial: BinaryIO, path: Path, target: Path, digest: str) -> None:
    os.fsync(partial.fileno())
    os.replace(path, target)
    _tag(path).unlink(missing_ok=True)
    remember_installed(target, digest)
