"""From what the user names to videos: folders, files, globs, lists and URLs; then their content digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from nvds_core.types import ConfigError, CoreError
from nvds_core.video import VideoInfo, is_video_name, lone_picture, probe, resolve_folder
from storage import StorageError, VideoRef, make_video_id
from storage.errors import translated
from storage.files import list_names
from storage.locations import expand, filesystem, is_local, local_path
from tasks.digests import DigestMemo, is_remote_folder, remote_frames
from tasks.workspace import public_text

LIST_SUFFIX = ".txt"  # a file that names inputs, one per line


@dataclass(frozen=True)
class Source:
    """Something to be read as one video: where it is (absolute path or URL) and what people call it."""

    uri: str
    name: str


def find_sources(inputs: Iterable[str]) -> list[Source]:
    """All videos behind the inputs, in a fixed order, each place once.

    A folder is one video if it holds numbered frames, otherwise it is searched for video files and frame folders. A
    ``.txt`` file names further inputs, one per line, relative to itself; a line that leads nowhere becomes a source
    that fails alone. Globs and fsspec URLs work as well.

    Raises:
        ConfigError: an input that does not exist or holds no video.
    """
    found: dict[str, Source] = {}
    for item in inputs:
        sources = list(_Search().item(item))
        if not sources:
            raise ConfigError(_why_nothing(item), reason="no_input")
        for source in sources:
            found.setdefault(source.uri, source)
    return list(found.values())


def _why_nothing(item: str) -> str:
    """What to tell about an input that exists and holds no video."""
    place = str(Path(item).absolute()) if os.path.lexists(item) else item
    message = lone_picture(item, list_names(place)) or (
        f"{item}: no video found; give video files, folders of numbered frames, or folders that hold them"
    )
    return public_text(message)


def identify(source: Source, memo: DigestMemo) -> VideoRef:
    """The reference of a source: content digest and stable id.

    Raises:
        DecodeError, StorageError: it cannot be read.
    """
    if is_local(source.uri):
        path = local_path(source.uri)
        digest, folder = memo.local(path), path.is_dir()
    else:
        digest = memo.remote(source.uri)
        with translated("look at", source.uri):
            folder = is_remote_folder(source.uri)
    kind = "frames" if folder else "file"
    return VideoRef(make_video_id(source.name, digest), source.uri, digest, kind, source.name)


def unreadable(source: Source) -> VideoRef:
    """A reference for a source whose content cannot be read, so that it still gets its row."""
    digest = hashlib.sha256(f"unreadable:{source.uri}".encode(errors="surrogateescape")).hexdigest()
    return VideoRef(make_video_id(source.name, digest), source.uri, digest, "file", source.name)


def measure(video: VideoRef) -> VideoInfo | None:
    """What the header of a source tells; None where nothing can be told without fetching or decoding it."""
    if not is_local(video.uri):
        return None
    try:
        return probe(local_path(video.uri))
    except Exception:  # only a hint for the order of work; what is wrong is reported when the video's turn comes
        return None


@dataclass
class _Search:
    """One walk from one input; knows the folders and lists it is inside of, as links and lists may form circles."""

    inside: list[tuple[int, int]] = field(default_factory=list)

    def item(self, item: str, *, listed: bool = False) -> Iterator[Source]:
        """Sources behind one input; ``listed`` inputs come from a list and are kept even if they lead nowhere."""
        here = os.path.lexists(item)  # first of all, as a name such as "a::b.mp4" looks like a URL
        local = here or is_local(item)
        try:
            places = [item] if here else expand(item)
        except StorageError as error:
            if not listed and error.reason in ("absent", "format"):
                message = f"{public_text(item)}: no such file, folder or address; check the name"
                raise ConfigError(message, reason="no_input") from None
            if not listed:
                raise
            places = [str(local_path(item)) if local else item]
        for place in places:
            yield from self._local(Path(place).absolute()) if local else _remote_sources(place)

    def _local(self, path: Path) -> Iterator[Source]:
        if path.suffix.lower() == LIST_SUFFIX and path.is_file():
            with self._entered(path) as first_time:
                for entry in _lines(path) if first_time else ():
                    local = is_local(entry)
                    yield from self.item(str(path.parent / local_path(entry)) if local else entry, listed=True)
        elif path.is_dir():
            with self._entered(path) as first_time:
                yield from self._folder(path) if first_time else ()
        else:
            yield Source(str(path), path.stem)

    def _folder(self, folder: Path) -> Iterator[Source]:
        """A folder's videos; what looks like a video by name but is none, or cannot be listed, gets its row as well."""
        try:
            if resolve_folder(folder) is not None:
                yield Source(str(folder), folder.resolve().name)
                return
            entries = sorted(folder.iterdir())
        except (CoreError, OSError):
            yield Source(str(folder), folder.name)
            return
        empty = True
        for path in entries:
            if path.name.startswith("."):
                continue
            if path.is_dir():
                for source in self._local(path):
                    empty = False
                    yield source
            elif is_video_name(path.name):
                empty = False
                yield Source(str(path), path.stem)
        if empty and is_video_name(folder.name):
            yield Source(str(folder), folder.stem)

    @contextmanager
    def _entered(self, path: Path) -> Iterator[bool]:
        """Inside the block the walk is in this folder or list; False if it was already."""
        status = path.stat()
        place = (status.st_dev, status.st_ino)
        first_time = place not in self.inside
        self.inside.append(place)
        try:
            yield first_time
        finally:
            self.inside.pop()


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{public_text(path)}: not a readable list of inputs in UTF-8 ({error})"
        raise ConfigError(message, reason="no_input") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def bytes_of(video: VideoRef) -> int | None:
    """Size of a local video file; None for others, and where it has gone meanwhile."""
    if video.kind != "file" or not is_local(video.uri):
        return None
    try:
        return local_path(video.uri).stat().st_size
    except OSError:
        return None


def _remote_sources(uri: str) -> Iterator[Source]:
    file_system, place = filesystem(uri)
    with translated("list", uri):
        if not is_remote_folder(uri):
            yield Source(uri, PurePosixPath(place).stem)
            return
        if remote_frames(uri) is not None:
            yield Source(uri, PurePosixPath(place).name)
            return
        entries = sorted(file_system.ls(place, detail=True), key=lambda entry: str(entry["name"]))
    for entry in entries:
        name = PurePosixPath(entry["name"]).name
        if name.startswith(".") or entry["name"].rstrip("/") == place.rstrip("/"):
            continue
        below = file_system.unstrip_protocol(entry["name"].rstrip("/"))
        if entry["type"] == "directory":
            yield from _remote_sources(below)
        elif is_video_name(name):
            yield Source(below, PurePosixPath(name).stem)
