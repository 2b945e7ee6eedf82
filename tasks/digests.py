"""Content digests of sources, remembered for those that have not changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from nvds_core.types import DecodeError
from nvds_core.video import content_digest, frame_folder
from storage import StorageError
from storage.errors import redact, translated
from storage.locations import filesystem, read_json, write_json_atomic

BLOCK_BYTES = 1 << 20
REMOTE_STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")


class DigestMemo:
    """Digests of files that have not changed since they were last read, kept in one small file.

    Hashing thousands of videos takes long; size and times tell whether it must be done again. Folders of frames are
    always read: a folder's own time does not change with its frames.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[object]] = {}
        self._changed = False
        try:
            known = read_json(path)
            self._known = known if isinstance(known, dict) else {}
        except StorageError:
            self._known = {}  # absent or damaged: it is only a memo

    def local(self, path: Path) -> str:
        """Digest of a local file or folder of frames.

        Raises:
            DecodeError: it cannot be read.
        """
        if path.is_dir() or not path.exists():
            return content_digest(path)
        # by hash, as a name need not be valid text
        place = "file:" + hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
        return self._remember(place, lambda: _file_stamp(path), lambda: content_digest(path))

    def remote(self, uri: str) -> str:
        """Digest of a remote file, which is read for it once, or of a remote folder of frames.

        Raises:
            StorageError: it cannot be read.
            DecodeError: a folder without frames.
        """
        with translated("read", uri):
            if is_remote_folder(uri):
                return _remote_folder_digest(uri)
            key = "url:" + hashlib.sha256(redact(uri).encode(errors="surrogateescape")).hexdigest()
            return self._remember(key, lambda: _remote_stamp(uri), lambda: _remote_digest(uri).hexdigest())

    def save(self) -> None:
        """Write the memo if it has grown."""
        if self._changed:
            write_json_atomic(self._path, self._known)
            self._changed = False

    def _remember(self, place: str, stamp: Callable[[], list[object] | None], read: Callable[[], str]) -> str:
        before = stamp()
        known = self._known.get(place)
        if isinstance(known, list) and before is not None and known[1:] == before:
            return str(known[0])
        digest = read()
        if before is not None and stamp() == before:  # not while somebody writes to it
            self._known[place] = [digest, *before]
            self._changed = True
        return digest


def _file_stamp(path: Path) -> list[object]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def is_remote_folder(uri: str) -> bool:
    """Whether a URL is a folder; web addresses never are, and asking would download them."""
    file_system, place = filesystem(uri)
    return not uri.lower().startswith(("http://", "https://")) and bool(file_system.isdir(place))


def _remote_stamp(uri: str) -> list[object] | None:
    """Size and version of a remote file; None if the store tells no version, as the size alone says too little."""
    file_system, place = filesystem(uri)
    info = file_system.info(place)
    version = next((info[name] for name in REMOTE_STAMPS if info.get(name)), None)
    return None if version is None else [info.get("size"), str(version)]


def _remote_digest(uri: str) -> hashlib._Hash:
    file_system, place = filesystem(uri)
    digest = hashlib.sha256()
    with file_system.open(place, "rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest


def _remote_folder_digest(uri: str) -> str:
    """As `content_digest` of the same folder on a disk."""
    file_system, place = filesystem(uri)
    names = remote_frames(uri)
    if not names:
        raise DecodeError(f"{redact(uri)}: a folder without numbered frames has no digest", reason="not_a_video")
    whole = hashlib.sha256()
    for name in names:
        whole.update(_remote_digest(file_system.unstrip_protocol(f"{place.rstrip('/')}/{name}")).digest())
    return whole.hexdigest()


def remote_frames(uri: str) -> list[str] | None:
    """Names of the frames of a remote folder below it, None if it is no folder of frames."""
    file_system, place = filesystem(uri)
    for below in ("", "left/"):
        folder = f"{place.rstrip('/')}/{below}".rstrip("/")
        if below and not file_system.isdir(folder):
            return None
        entries = file_system.ls(folder, detail=True)
        names = frame_folder(PurePosixPath(entry["name"]).name for entry in entries if entry["type"] == "file")
        if names is not None:
            return [f"{below}{name}" for name in names]
    return None
