"""The one error of this layer, and the translation of file system errors into it."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
# A user part with a / (or ? or #) that should have been written as %2F: the authority seems to end within the password.
# Digits there are taken for a port. Up to the last @, as rather a part of a name is lost than of a secret told.
_RAW_PASSWORD = re.compile(r"^(?!\[)[^/?#@:]*:(?!\d{1,5}[/?#])[^/?#@]*[/?#].*@")
# their exceptions are not always OSErrors: no credentials, connection dropped, 5xx
_CLIENT_LIBRARIES = {"botocore", "aiobotocore", "aiohttp", "gcsfs"}
_CONTROL = {"Cc", "Zl", "Zp"}  # Unicode categories: controls, separators of lines and of paragraphs
_REMEDIES = {
    "disk_full": "free some space or choose another folder",
    "read_only": "check the permissions and how the folder is mounted",
    "absent": "check the name",
    "transient": "check the connection to the storage and run again",
    "storage": "check the disk",
}


class StorageError(Exception):
    """Bytes that cannot be read, written or trusted; the message names the thing, the value and the way out.

    `reason` is a short stable slug for the ledger: ``transient`` (a remote store that did not answer well, worth
    another try), ``disk_full``, ``read_only``, ``absent``, ``incomplete`` (begun, never finished), ``format`` (not
    what it should be, or damaged), ``unsafe_name``, or ``storage`` for the rest.
    """

    reason = "storage"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        # keyword arguments do not survive the default pickling, and errors travel between processes
        return _rebuild, (str(self), self.reason)


def _rebuild(message: str, reason: str) -> StorageError:
    return StorageError(message, reason=reason)


def redact(text: object) -> str:
    """`text` without the credentials that URLs and environment variables may have put into it."""
    clean = _URL.sub(lambda match: _bare_url(match.group()), str(text))
    for variable in _SECRET_VARIABLES:
        secret = os.environ.get(variable, "")
        # very short values ("x", "test") would eat harmless parts of the message
        if len(secret) >= 8:
            clean = clean.replace(secret, "***")
    return clean


def one_line(text: object) -> str:
    """`text` without control characters: names of files may hold some that end a line or give a terminal orders."""
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _CONTROL else character
        for character in str(text)
    )


def _bare_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    try:
        parts = urlsplit(f"{scheme}://{_RAW_PASSWORD.sub('***@', rest)}")
    except ValueError:
        return f"{scheme}://***"
    host = parts.netloc.rpartition("@")[2]
    user = "***@" if "@" in parts.netloc else ""
    query = "?***" if parts.query else ""
    # in the names of an object store "#" is a character like others; cut off, two videos would be one
    rest = f"#{parts.fragment}" if parts.fragment and parts.scheme not in ("http", "https") else ""
    return f"{parts.scheme}://{user}{host}{parts.path}{query}{rest}"


def reason_of(error: BaseException) -> str:
    """The slug for an error of the file system or of a client of an object store."""
    if isinstance(error, StorageError):
        return error.reason
    code = getattr(error, "errno", None)
    if code in _DISK_FULL:
        return "disk_full"
    if code in _READ_ONLY or isinstance(error, PermissionError):
        return "read_only"
    if isinstance(error, FileNotFoundError | NotADirectoryError):  # the second: below something that is a file
        return "absent"
    if not isinstance(error, OSError) or isinstance(error, TimeoutError | ConnectionError):
        return "transient"
    return "storage"


def is_transfer_error(error: BaseException) -> bool:
    """True for errors of file systems and networks, also those of client libraries that are no OSError."""
    if isinstance(error, OSError):
        return True
    return any(kind.__module__.split(".")[0] in _CLIENT_LIBRARIES for kind in type(error).__mro__)


@contextmanager
def translated(action: str, place: object) -> Iterator[None]:
    """Raise transfer errors inside the block as a StorageError: "cannot <action> <place>: <why>; <remedy>".

    The cause is cut off on purpose: errors of HTTP clients carry signed URLs in their text.
    """
    try:
        yield
    except Exception as error:
        if not is_transfer_error(error):
            raise
        reason = reason_of(error)
        if reason == "storage" and _URL.match(str(place)) and not str(place).startswith("file:"):
            reason = "transient"
        why = redact(getattr(error, "strerror", None) or error) or type(error).__name__
        remedy = _REMEDIES.get(reason, _REMEDIES["storage"])
        raise StorageError(f"cannot {action} {redact(place)}: {why}; {remedy}", reason=reason) from None
