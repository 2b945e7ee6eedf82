"""From what the user names to videos: folders, files, globs, lists and URLs; then their content digests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nvds_core.types import ConfigError, CoreError
from nvds_core.video import content_digest, is_video_name, probe, resolve_folder
from storage import StorageError, VideoRef, make_video_id
from storage.errors import redact
from storage.locations import expand, filesystem, is_local, local_path, read_json, write_json_atomic

LIST_SUFFIX = ".txt"  # a file that names inputs, one per line


@dataclass(frozen=True)
class Source:
    """Something to be read as one video: where it is and what people call it."""

    uri: str
    name: str


def find_sources(inputs: Iterable[str]) -> list[Source]:
    """All videos behind the inputs, in a fixed order, each place once.

    A folder is one video if it holds numbered frames, otherwise it is searched for video files and frame folders. A
    ``.txt`` file names further inputs, one per line, relative to itself. Globs and fsspec URLs work as well.

    Raises:
        ConfigError: an input that does not exist or holds no video.
    """
    found: dict[str, Source] = {}
    for item in inputs:
        sources = list(_sources_of(item))
        if not sources:
            raise ConfigError(
                f"{item}: no video found; give video files, folders of numbered frames, or folders that hold them",
                reason="no_input",
            )
        for source in sources:
            found.setdefault(source.uri, source)
    return list(found.values())


def identify(source: Source, memo: DigestMemo) -> VideoRef:
    """The reference of a source: content digest and stable id.

    Raises:
        DecodeError, StorageError: it cannot be read.
    """
    if is_local(source.uri):
        path = local_path(source.uri)
        digest, kind = memo.local(path), "frames" if path.is_dir() else "file"
    else:
        digest, kind = memo.remote(source.uri), "file"
    return VideoRef(make_video_id(source.name, digest), source.uri, digest, kind, source.name)


def unreadable(source: Source) -> VideoRef:
    """A reference for a source whose content cannot be read, so that it still gets its row."""
    digest = hashlib.sha256(f"unreadable:{source.uri}".encode(errors="surrogateescape")).hexdigest()
    return VideoRef(make_video_id(source.name, digest), source.uri, digest, "file", source.name)


def cost(video: VideoRef) -> float:
    """Expected work: frames times pixels; the number of bytes where a header does not tell."""
    if not is_local(video.uri):
        return 1.0
    try:
        info = probe(local_path(video.uri))
    except (CoreError, OSError):
        return 1.0  # the failure is reported when the video's turn comes
    return float((info.frames or 300) * info.width * info.height)


class DigestMemo:
    """Digests of files that have not changed since they were last read, kept in one small file.

    Hashing thousands of videos takes long; size and modification time tell whether it must be done again.
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
        """Digest of a local file or folder of frames."""
        if path.is_dir() or not path.exists():
            return content_digest(path)  # a folder's own time does not change with its frames
        status = path.stat()
        return self._remember(str(path.absolute()), [status.st_size, status.st_mtime_ns], lambda: content_digest(path))

    def remote(self, uri: str) -> str:
        """Digest of a remote file, which is read for it once."""
        file_system, place = filesystem(uri)
        info = file_system.info(place)
        stamp = [
            info.get("size"),
            str(info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified")),
        ]
        return self._remember(redact(uri), stamp, lambda: _remote_digest(uri))

    def save(self) -> None:
        """Write the memo if it has grown."""
        if self._changed:
            write_json_atomic(self._path, self._known)
            self._changed = False

    def _remember(self, place: str, stamp: list[object], read: Callable[[], str]) -> str:
        known = self._known.get(place)
        if known is not None and known[1:] == stamp:
            return str(known[0])
        digest = read()
        self._known[place] = [digest, *stamp]
        self._changed = True
        return digest


def _remote_digest(uri: str) -> str:
    file_system, place = filesystem(uri)
    digest = hashlib.sha256()
    with file_system.open(place, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sources_of(item: str) -> Iterator[Source]:
    if not is_local(item):
        yield from _remote_sources(item)
        return
    try:
        places = expand(item)
    except StorageError as error:
        raise ConfigError(f"{item}: no such file or folder; check the path", reason="no_input") from error
    for place in places:
        path = Path(place)
        if path.suffix.lower() == LIST_SUFFIX and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.strip():
                    entry = line.strip()
                    yield from _sources_of(entry if not is_local(entry) else str(path.parent / entry))
        elif path.is_dir():
            yield from _folder_sources(path)
        else:
            yield Source(place, path.stem)


def _folder_sources(folder: Path) -> Iterator[Source]:
    """A folder's videos; one that looks like a video by name but is not gets its row as well."""
    if resolve_folder(folder) is not None:
        yield Source(str(folder), folder.resolve().name)
        return
    empty = True
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be listed ({error.strerror})", reason="no_input") from error
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            for source in _folder_sources(path):
                empty = False
                yield source
        elif is_video_name(path.name):
            empty = False
            yield Source(str(path), path.stem)
    if empty and is_video_name(folder.name):
        yield Source(str(folder), folder.stem)


def _remote_sources(item: str) -> Iterator[Source]:
    for uri in expand(item):
        file_system, place = filesystem(uri)
        if file_system.isdir(place):
            for found in sorted(file_system.find(place)):
                if is_video_name(PurePosixPath(found).name):
                    yield Source(file_system.unstrip_protocol(found), PurePosixPath(found).stem)
        else:
            yield Source(uri, PurePosixPath(place).stem)
