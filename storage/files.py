"""Single files, local or remote: existence, whole reads, atomic writes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from storage.errors import StorageError, is_transfer_error, redact, translated
from storage.urls import URL, filesystem, is_local, last_part, local_path, scheme_of

TEMPORARY_PREFIX = ".tmp-"
LOCK_NAME = ".lock"
_ATTEMPTS = 4
_FIRST_PAUSE_S = 0.2
_SETTLE_S = 1.0
# asking again cannot help
_FINAL_ERRORS = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)

Result = TypeVar("Result")


def with_retries(call: Callable[[], Result]) -> Result:
    """Run a call to a remote store again after transient errors, with growing, jittered pauses.

    The store's own client retries too, but gives up on dropped connections and on some 5xx answers.
    """
    for attempt in range(_ATTEMPTS - 1):
        try:
            return call()
        except _FINAL_ERRORS:
            raise
        except Exception as error:
            if not is_transfer_error(error):
                raise
            time.sleep(_FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.5))
    return call()


def exists(url: URL) -> bool:
    """True if there is a file or folder (for object stores: anything below that prefix)."""
    if is_local(url):
        return local_path(url).exists()
    file_system, path = filesystem(url)
    with translated("look for", url):
        return bool(with_retries(lambda: file_system.exists(path)))


def list_names(url: URL) -> list[str]:
    """Names of the files and folders in a folder, sorted; none if there is no such folder."""
    with translated("list", url), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if is_local(url):
            return sorted(os.listdir(local_path(url)))
        file_system, path = filesystem(url)
        found = with_retries(lambda: file_system.ls(path, detail=False))
        # some stores list the folder itself too
        return sorted({last_part(place) for place in found if place.rstrip("/") != path.rstrip("/")})
    return []


def modified(url: URL) -> datetime:
    """When a file was written last, by the clock of its store.

    Raises:
        StorageError: reason ``absent`` if there is none.
    """
    file_system, path = filesystem(url)
    with translated("look at", url):
        moment: datetime = with_retries(lambda: file_system.modified(path))
        return moment


def read_bytes(url: URL) -> bytes:
    """The whole file.

    Raises:
        StorageError: reason ``absent`` if there is none.
    """
    with translated("read", url):
        if is_local(url):
            return local_path(url).read_bytes()
        file_system, path = filesystem(url)
        return bytes(with_retries(lambda: file_system.cat_file(path)))


def read_json(url: URL) -> Any:
    """The JSON document in a file.

    Raises:
        StorageError: reason ``absent`` if there is none, ``format`` if it is damaged.
    """
    try:
        return json.loads(read_bytes(url))
    except ValueError as error:
        raise StorageError(
            f"{redact(url)} is not valid JSON ({error}); remove it and run again", reason="format"
        ) from None


def write_bytes_atomic(url: URL, data: bytes) -> None:
    """Write a whole file that nobody ever sees half-written; an old one is replaced.

    Local: written beside, synced to the disk, renamed. Remote: one PUT, which object stores publish whole.
    """
    with translated("write", url):
        if not is_local(url):
            file_system, path = filesystem(url)
            with_retries(lambda: file_system.pipe_file(path, data))
            return
        target = local_path(url)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = beside(target, TEMPORARY_PREFIX)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_path(target.parent)


def create_exclusive(url: URL, data: bytes) -> bool:
    """Make a small file with this content unless there is one of its name; of many who try at once one succeeds.

    Local: a finished file is linked into place. Object stores: a conditional PUT, as Amazon S3 and MinIO know it; a
    store that ignores the condition overwrites.
    """
    with translated("create", url):
        if not is_local(url):
            return _create_remote(url, data)
        target = local_path(url)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = beside(target, TEMPORARY_PREFIX)
        try:
            temporary.write_bytes(data)
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            return _create_without_link(target, data)
        finally:
            temporary.unlink(missing_ok=True)
        return True


def _create_without_link(target: Path, data: bytes) -> bool:
    """For file systems without hard links; for a moment the file is there and empty."""
    try:
        with target.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def _create_remote(url: URL, data: bytes) -> bool:
    file_system, path = filesystem(url)
    try:
        with_retries(lambda: file_system.pipe_file(path, data, mode="create"))
    except FileExistsError:
        # an attempt that arrived although its answer did not is ours all the same
        return bool(with_retries(lambda: file_system.cat_file(path)) == data)
    return True


def replace_if(url: URL, expected: bytes, data: bytes | None) -> bool:
    """Replace a small file that still holds `expected` (None removes it); of many who try at once one succeeds.

    Local: under a lock on the folder. On object stores the one who wrote last has it, which the others see after
    `_SETTLE_S`.
    """
    with _folder_locked(url):
        try:
            if read_bytes(url) != expected:
                return False
        except StorageError as error:
            if error.reason != "absent":
                raise
            return False
        if data is not None:
            write_bytes_atomic(url, data)
        elif is_local(url):
            local_path(url).unlink(missing_ok=True)
        else:
            file_system, path = filesystem(url)
            with translated("remove", url), contextlib.suppress(FileNotFoundError):
                with_retries(lambda: file_system.rm_file(path))
    if is_local(url) or data is None:
        return True
    time.sleep(_SETTLE_S)
    return read_bytes(url) == data


@contextlib.contextmanager
def _folder_locked(url: URL) -> Iterator[None]:
    """Alone in the folder of a local file, as far as others ask too; the system frees a dead process's lock."""
    if not is_local(url):
        yield
        return
    lock = local_path(url).parent / LOCK_NAME
    with translated("lock", lock):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with translated("lock", lock):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_json_atomic(url: URL, document: Any) -> None:
    """Write a JSON document as `write_bytes_atomic` does; keys in the given order, NaN refused."""
    try:
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        data = text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise StorageError(
            f"{redact(url)}: not JSON: {error}; store None for missing numbers", reason="format"
        ) from None
    write_bytes_atomic(url, data + b"\n")


def beside(target: Path, prefix: str) -> Path:
    """A fresh hidden name in the target's folder; short, because the target's own name may fill the 255 bytes."""
    return target.with_name(f"{prefix}{os.getpid()}-{random.SystemRandom().randrange(16**12):012x}")


def sync_path(path: Path) -> None:
    """Make the content of a file, or the renames in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(path: URL) -> int:
    """Bytes that may still be written at a local path, which need not exist yet."""
    place = local_path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    with translated("measure", path):
        return shutil.disk_usage(place).free


def expand(pattern_or_url: URL) -> list[str]:
    """The places a path, URL or glob pattern means, sorted. A name that exists is itself, even with ``[`` in it.

    Raises:
        StorageError: reason ``absent`` if there is nothing.
    """
    text = os.fspath(pattern_or_url)
    if is_local(text):
        path = str(local_path(text))
        found = [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True))
    else:
        found = _expand_remote(text)
    if not found:
        raise StorageError(f"nothing found at {redact(text)}; check the name or the pattern", reason="absent")
    return found


def _expand_remote(url: str) -> list[str]:
    # in an HTTP address "?" begins the query and such servers cannot be listed
    if scheme_of(url) in ("http", "https") or not glob.has_magic(url) or exists(url):
        return [url] if exists(url) else []
    file_system, path = filesystem(url)
    with translated("list", url):
        return sorted(file_system.unstrip_protocol(name) for name in with_retries(lambda: file_system.glob(path)))
