"""Whole folders: published at once, uploaded with the record last, staged, removed, tidied."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from fsspec import AbstractFileSystem

from storage.errors import translated
from storage.files import TEMPORARY_PREFIX, beside, sync_path, with_retries
from storage.urls import URL, filesystem, is_local, join, last_part, local_path, safe_name

_OLD, _NEW = ".old-", ".new-"
_PUBLISH_ATTEMPTS = 10
_SYNC_THREADS = 8
RECORD = "record.json"


def sync_tree(directory: Path) -> None:
    """Put every file and folder below `directory` safely on the disk.

    Side by side, since a file system commits at once what waits together, and a volume has dozens of files and folders.
    """
    paths = [Path(folder, name) for folder, _, names in os.walk(directory) for name in (".", *names)]
    with ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="sync") as pool:
        for _ in pool.map(sync_path, paths):  # raises the first error
            pass


def publish_tree(local_dir: URL, url: URL) -> None:
    """Make a finished local folder appear at `url`, replacing what is there; `local_dir` is gone afterwards.

    Local target: readers see the old folder, for a moment none, then the new one; never a mixture. A target on
    another disk is copied beside first. Remote target: `upload_tree`, so whatever is named ``record.json``
    appears last.

    Raises:
        StorageError: ``disk_full``, ``read_only`` or ``storage``; the old folder then still stands (local).
    """
    source = local_path(local_dir)
    if not is_local(url):
        upload_tree(source, url)
        remove_tree(source)
        return
    target = local_path(url).absolute()
    with translated("publish", url):
        target.parent.mkdir(parents=True, exist_ok=True)
        sync_tree(source)
        try:
            _swap(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _publish_copy(source, target)
        sync_path(target.parent)


def _publish_copy(source: Path, target: Path) -> None:
    copy = beside(target, _NEW)
    try:
        shutil.copytree(source, copy)
        sync_tree(copy)
        _swap(copy, target)
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise
    shutil.rmtree(source)


def _swap(source: Path, target: Path) -> None:
    """Rename `source` to `target`; an old target is moved aside first and removed afterwards."""
    if not source.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(source))
    if os.stat(source).st_dev != os.stat(target.parent).st_dev:
        # seen before the old target is touched
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    moved_aside: list[Path] = []
    try:
        for attempt in range(_PUBLISH_ATTEMPTS):
            aside = beside(target, _OLD)
            with contextlib.suppress(FileNotFoundError):
                os.rename(target, aside)
                moved_aside.append(aside)
            try:
                os.rename(source, target)
                break
            except OSError as error:
                # another process has published the same name between our two renames
                taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
                if not taken or attempt == _PUBLISH_ATTEMPTS - 1:
                    raise
    except OSError:
        if moved_aside and not target.exists():
            os.rename(moved_aside.pop(), target)
        raise
    finally:
        for aside in moved_aside:
            remove_tree(aside)


def upload_tree(local_dir: URL, url: URL, last: Sequence[str] = (RECORD,)) -> None:
    """Copy a local folder to `url`; files named in `last` are withdrawn first and put there last.

    So a record never stands beside data that it does not describe, whatever moment the upload breaks off.
    What an earlier upload left there and this one does not bring is removed.
    """
    source = local_path(local_dir)
    files = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    late = [name for name in files if PurePosixPath(name).name in last]
    early = [name for name in files if name not in set(late)]
    file_system, root = filesystem(url)
    root = root.rstrip("/")
    with translated("upload to", url):
        for name in last:
            _remove_file(file_system, f"{root}/{name}")
        _put(file_system, source, root, early)
        expected = {f"{root}/{name}" for name in files}
        for stale in sorted(set(with_retries(lambda: file_system.find(root))) - expected):
            _remove_file(file_system, stale)
        for name in late:
            _put(file_system, source, root, [name])


def _put(file_system: AbstractFileSystem, source: Path, root: str, names: Sequence[str]) -> None:
    if not names:
        return
    here, there = [str(source / name) for name in names], [f"{root}/{name}" for name in names]
    with_retries(lambda: file_system.put(here, there))


def _remove_file(file_system: AbstractFileSystem, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        with_retries(lambda: file_system.rm_file(path))


def remove_tree(url: URL) -> None:
    """Remove a folder or file and everything below; nothing there is fine."""
    with translated("remove", url), contextlib.suppress(FileNotFoundError):
        if not is_local(url):
            file_system, remote = filesystem(url)
            with_retries(lambda: file_system.rm(remote, recursive=True))
            return
        path = local_path(url)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def stage(url: URL, directory: URL) -> Path:
    """A local copy of a remote file or folder, made below `directory`; local places are returned as they are.

    The copy keeps the extension and appears only when it is whole; it is fetched anew each time, as the
    remote file may have changed.

    Raises:
        StorageError: ``absent`` if there is nothing; ``unsafe_name`` if an object's name would leave the folder.
    """
    if is_local(url):
        return local_path(url)
    name = last_part(url)
    stem, dot, extension = name.rpartition(".")
    tag = hashlib.sha256(os.fspath(url).encode("utf-8", "surrogateescape")).hexdigest()[:10]
    suffix = f".{safe_name(extension, 8)}" if dot and stem else ""
    folder = local_path(directory)
    with translated("fetch", url):
        folder.mkdir(parents=True, exist_ok=True)
        target = folder.absolute() / f"{safe_name(stem if suffix else name)}-{tag}{suffix}"
        partial = beside(target, TEMPORARY_PREFIX)
        try:
            _fetch(url, partial)
            if partial.is_dir():
                remove_tree(target)
            os.replace(partial, target)
        except BaseException:
            remove_tree(partial)
            raise
    return target


def _fetch(url: URL, target: Path) -> None:
    file_system, path = filesystem(url)
    if not with_retries(lambda: file_system.isdir(path)):
        with_retries(lambda: file_system.get_file(path, str(target)))
        return
    target.mkdir()
    for name in with_retries(lambda: file_system.find(path)):
        relative = name.removeprefix(path.rstrip("/") + "/")
        local = Path(join(target, relative))
        local.parent.mkdir(parents=True, exist_ok=True)
        with_retries(lambda source=name, place=local: file_system.get_file(source, str(place)))  # type: ignore[misc]


def sweep_leftovers(directory: URL, older_than_s: float = 86400.0) -> list[Path]:
    """Remove what killed writers left in one local folder (``.tmp-*``, ``.old-*``, ``.new-*``); return the names.

    Younger leftovers stay: their writer may be at work, perhaps on another machine.
    """
    removed: list[Path] = []
    folder = local_path(directory)
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not entry.name.startswith((TEMPORARY_PREFIX, _OLD, _NEW)):
            continue
        with contextlib.suppress(FileNotFoundError):
            if time.time() - entry.lstat().st_mtime >= older_than_s:
                remove_tree(entry)
                removed.append(entry)
    return removed
