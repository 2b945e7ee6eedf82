"""Fetching one file over HTTP into a partial file: goes on where it was broken off, tries again when a line drops."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from email.message import Message
from pathlib import Path
from typing import IO, Any, BinaryIO

from nvds_core.types import WeightsError

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all (None: the server does not say)

BLOCK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0
PAUSES = (1.0, 3.0, 10.0)  # seconds before each further attempt without a new byte
PASSING_TROUBLE = (408, 429, 500, 502, 503, 504)


class _Broken(Exception):
    """The line dropped, or the server is in trouble: worth another attempt."""


class _Complete(Exception):
    """The server has nothing beyond the bytes that are held: HTTP 416, which names the length of its file."""

    def __init__(self, headers: Message) -> None:
        super().__init__()
        length = headers.get("Content-Range", "").rpartition("/")[2]
        self.length = int(length) if length.isdigit() else None


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects as ever, but never from an encrypted address to one that is not."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https://") and not newurl.startswith("https://"):
            raise WeightsError(f"{req.full_url} leads to an address that is not encrypted; get the file by hand")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(
    url: str, partial: BinaryIO, tag: Path, *, progress: Progress | None = None, pauses: Sequence[float] = PAUSES
) -> None:
    """Make ``partial`` the whole content of ``url``.

    Args:
        partial: open for reading and writing; what it holds counts as the beginning, if ``tag`` proves it.
        tag: file that keeps the server's name for the content's version between attempts. Without one, or when the
            content has changed, the file is fetched from its beginning.
        progress: called after each block.
        pauses: waits between attempts that bring nothing; any new byte starts the count anew.

    Raises:
        WeightsError: the server cannot be reached, refuses, or the line dropped too often. What was fetched is kept.
    """
    failures = 0
    while True:
        before = _length(partial)
        try:
            return _attempt(url, partial, tag, progress)
        except _Broken as error:
            held = _length(partial)
            failures = 0 if held > before else failures + 1
            if failures > len(pauses):
                raise WeightsError(f"{url}: broken off at {held} bytes ({error}); the next attempt goes on") from error
            time.sleep(pauses[failures - 1] if failures else 0.0)


def _attempt(url: str, partial: BinaryIO, tag: Path, progress: Progress | None) -> None:
    start = _length(partial)
    version = tag.read_text(encoding="ascii") if tag.is_file() else ""
    if start and not version:
        start = _empty(partial)
    try:
        with _open(url, start, version) as response:
            if response.status != http.client.PARTIAL_CONTENT:
                start = _empty(partial)
            _keep_version(response.headers, tag)
            _receive(response, partial, start, _total(response.headers, start), progress)
    except _Complete as complete:
        if complete.length != start:
            _empty(partial)
            raise _Broken("the file there is another one now") from None


def _open(url: str, start: int, version: str) -> Any:
    headers = {"User-Agent": "nvds", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    try:
        opener = urllib.request.build_opener(_SafeRedirects)
        return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in PASSING_TROUBLE:
            raise _Broken(f"HTTP {error.code}") from error
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            raise _Complete(error.headers) from error
        raise WeightsError(f"{url}: the server answers HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError | ConnectionResetError):
            raise _Broken(str(error.reason)) from error
        raise WeightsError(f"{url}: cannot be reached ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:  # the line dropped before the answer
        raise _Broken(_reason(error)) from error


def _receive(response: Any, partial: BinaryIO, start: int, total: int | None, progress: Progress | None) -> None:
    partial.seek(start)
    held = start
    while True:
        try:
            block = response.read(BLOCK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(_reason(error)) from error
        if not block:
            break
        partial.write(block)
        held += len(block)
        if progress is not None:
            progress(held, total)
    if total is not None and held != total:  # http.client ends quietly when the line drops
        raise _Broken(f"{held} of {total} bytes came")


def _total(headers: Message, start: int) -> int | None:
    length = headers.get("Content-Length")
    return start + int(length) if length and length.isdigit() else None


def _keep_version(headers: Message, tag: Path) -> None:
    """Keep what the server accepts in If-Range: a strong ETag, or else the date of the last change."""
    etag = headers.get("ETag", "")
    version = etag if etag.startswith('"') else headers.get("Last-Modified", "")
    if version.isascii() and version:
        tag.write_text(version, encoding="ascii")
    else:
        tag.unlink(missing_ok=True)


def _empty(partial: BinaryIO) -> int:
    partial.seek(0)
    partial.truncate()
    return 0


def _length(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
