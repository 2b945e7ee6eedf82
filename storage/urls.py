"""Names of places: fsspec URLs and local paths, joined and made safe."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec
from fsspec import AbstractFileSystem

from storage.errors import StorageError, redact

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)(://|::)")
_LOCAL_SCHEMES = {"file", "local"}
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}

URL = str | os.PathLike[str]


def safe_name(text: str, limit: int = 48) -> str:
    """A file name for any text: ASCII letters, digits, ``.``, ``_`` and ``-``, at most `limit` characters.

    Never empty, never starting or ending with a dot or a dash, never containing ``..``, so that it cannot leave
    the folder it is put into or be taken for an option. Different texts may give the same name: add a digest.
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", ascii_text)
    name = re.sub(r"\.{2,}", ".", name)
    name = re.sub(r"-{2,}", "-", name).strip(".-")
    return name[:limit].strip(".-") or "unnamed"


def scheme_of(url: URL) -> str:
    """The protocol of a URL, ``file`` for a path."""
    match = _SCHEME.match(os.fspath(url))
    return match.group(1).lower() if match else "file"


def is_local(url: URL) -> bool:
    """True for paths and ``file://`` URLs."""
    return scheme_of(url) in _LOCAL_SCHEMES


def local_path(url: URL) -> Path:
    """The path of a local place; a path is returned as it is, percent signs and all.

    Raises:
        StorageError: the URL is not local.
    """
    text = os.fspath(url)
    if not is_local(text):
        raise StorageError(f"{redact(text)} is not a local folder; give a local path here")
    match = _SCHEME.match(text)
    return Path(unquote(urlsplit(text).path)) if match and match.group(2) == "://" else Path(text)


def storage_options(url: URL) -> dict[str, Any]:
    """What fsspec is told beyond the URL: listings are not cached, as other processes write to the same place."""
    return {"use_listings_cache": False} if scheme_of(url) in _OBJECT_STORES else {}


def filesystem(url: URL) -> tuple[AbstractFileSystem, str]:
    """The fsspec file system of a URL and the path within it.

    End points and credentials come from the environment or from fsspec's own configuration files, never from
    arguments of ours.
    """
    text = os.fspath(url)
    if is_local(text):
        return fsspec.filesystem("file", auto_mkdir=True), str(local_path(text).absolute())
    try:
        file_system, path = fsspec.core.url_to_fs(text, **storage_options(text))
    except (ImportError, ValueError) as error:
        raise StorageError(f"{redact(text)}: {redact(error)}; is the scheme right?", reason="format") from None
    return file_system, path


def join(root: URL, *parts: str) -> str:
    """`root` with `parts` below it, for paths and URLs alike.

    Raises:
        StorageError: a part is absolute or climbs out with ``..``.
    """
    joined = os.fspath(root)
    for part in parts:
        if not part or part.startswith("/") or "\0" in part or ".." in part.split("/"):
            raise StorageError(f"{part!r} cannot be put below {redact(root)}; use safe_name()", reason="unsafe_name")
        joined = f"{joined.rstrip('/')}/{part}" if joined != "/" else f"/{part}"
    return joined


def last_part(url: URL) -> str:
    """The last name in a path or URL, without a query."""
    text = os.fspath(url)
    path = text if is_local(text) else text.partition("?")[0]
    return path.rstrip("/").rpartition("/")[2]
