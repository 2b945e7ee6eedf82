"""One way to read videos, whether a file or a folder of frames: probe, then stream frames in order."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from nvds_core.types import DecodeError
from nvds_core.video.container import FileSource
from nvds_core.video.folders import FolderSource, lone_picture, resolve_folder
from nvds_core.video.info import Frame, VideoInfo

DIGEST_BLOCK_BYTES = 1 << 20


class VideoReader:
    """Frames of one video, streaming; use as a context manager and iterate once.

    Attributes:
        info: see `VideoInfo`; `variable_frame_rate` is known once the last frame was delivered.
        decoded: frames delivered so far.
        warnings: what was tolerated, in words; complete after the last frame.
    """

    def __init__(self, source: FileSource | FolderSource, *, limit: int | None = None) -> None:
        self.decoded = 0
        self._source = source
        self._limit = limit
        self._frames = source.frames()
        self._closed = False

    @property
    def info(self) -> VideoInfo:
        return self._source.info

    @property
    def warnings(self) -> list[str]:
        return self._source.warnings

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self._closed or self.decoded == self._limit:  # a limit also means that the end is not checked
            raise StopIteration
        frame = next(self._frames)
        self.decoded += 1
        return frame

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; further iteration ends at once."""
        if not self._closed:
            self._closed = True
            self._source.close()


def open_video(path: Path | str, *, limit: int | None = None, threads: int = 1) -> VideoReader:
    """Open a video file or a folder of frames for one sequential pass in bounded memory.

    Rotation (and mirroring) metadata is applied, timestamps of variable frame rate are kept, 10 and 16 bit and grey
    become 8-bit RGB, alpha is dropped, interlaced pictures stay as they are. A change of picture size is an error.

    Args:
        limit: deliver at most this many frames; the end of the file is then not checked.
        threads: decoder threads, 0 lets FFmpeg choose. On two cores two threads gained 15 % and hid damage marks.

    Raises:
        DecodeError: here or while iterating; `reason` is one of not_found, unreadable, empty, not_a_video,
            no_video_stream, decode, truncated, too_large. Damage that a codec without checksums hides is not seen.
    """
    path = Path(path)
    if _check_path(path):
        found = resolve_folder(path)
        if found is None:
            names = os.listdir(path)
            message = lone_picture(str(path), names) or (
                f"{path}: {'a folder without numbered frames' if names else 'an empty folder'}; "
                "give a video file or a folder of frames such as frame_000001.png"
            )
            raise DecodeError(message, reason="not_a_video" if names else "empty")
        return VideoReader(FolderSource(*found), limit=limit)
    return VideoReader(FileSource(path, threads=threads), limit=limit)


def probe(path: Path | str) -> VideoInfo:
    """Describe a video from its header and its first frame (which carries the rotation).

    Raises:
        DecodeError: as `open_video`; damage after the first frame shows only when decoding.
    """
    with open_video(path) as reader:
        return reader.info


def content_digest(path: Path | str) -> str:
    """SHA-256 of what a video holds, as hex: the file's bytes, or the digests of a folder's frames in order.

    Frame names do not enter, so a renamed or renumbered folder keeps its digest.

    Raises:
        DecodeError: reasons not_found, unreadable, empty, not_a_video.
    """
    path = Path(path)
    if not _check_path(path):
        return _file_digest(path).hexdigest()
    found = resolve_folder(path)
    if found is None:
        raise DecodeError(f"{path}: a folder without numbered frames has no digest", reason="not_a_video")
    whole = hashlib.sha256()
    for name in found[1]:
        whole.update(_file_digest(found[0] / name).digest())
    return whole.hexdigest()


def _file_digest(path: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(DIGEST_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise DecodeError(f"{path}: cannot be read ({error.strerror})", reason="unreadable") from error
    return digest


def _check_path(path: Path) -> bool:
    """Whether the path is a folder (True) or a readable regular file (False).

    Only the directory entry is looked at before opening: opening a fifo would wait for a writer for ever.
    """
    try:
        mode = path.stat()
    except FileNotFoundError as error:
        what = f"a link to {os.readlink(path)}, which does not exist" if path.is_symlink() else "no such file or folder"
        raise DecodeError(f"{path}: {what}; check the path", reason="not_found") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise DecodeError(f"{path}: cannot be looked at ({error})", reason="unreadable") from error
    if stat.S_ISDIR(mode.st_mode):
        return True
    if not stat.S_ISREG(mode.st_mode):
        raise DecodeError(f"{path}: a pipe, socket or device, not a file; copy it to a file first", reason="unreadable")
    if not os.access(path, os.R_OK):
        raise DecodeError(f"{path}: no permission to read it; change its mode or owner", reason="unreadable")
    if mode.st_size == 0:
        raise DecodeError(f"{path}: the file is empty (0 bytes); copy it again", reason="empty")
    return False
