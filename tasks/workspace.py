"""Where one run reads and writes; the only thing besides references that tasks are handed."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from storage import ArtifactRef, ArtifactStore, StorageError
from storage.errors import redact
from storage.locations import is_local, join, local_path, read_json, safe_name, write_json_atomic
from storage.settled import STORE_FILE

WORK_FOLDER = ".work"
STORE_FORMAT = {"format": "nvds-store", "format_version": 1}


@dataclass(frozen=True)
class Workspace:
    """Output root (path or fsspec URL), local folder for intermediates, and the run's id."""

    out: str
    work: str
    run_id: str

    @property
    def store(self) -> ArtifactStore:
        """The store of intermediates."""
        return ArtifactStore(self.work)


@dataclass(frozen=True)
class StepResult:
    """What a task returns: the artifact's name, whether it was there already, the seconds it took, its frames."""

    ref: ArtifactRef
    cached: bool
    seconds: float
    frames: int


def make_workspace(out: str, run_id: str | None = None) -> Workspace:
    """The workspace of an output root; intermediates lie inside it when it is local, in the user's cache otherwise.

    Raises:
        StorageError: the place cannot be written to, or another version of this program wrote there.
    """
    run_id = safe_name(run_id, 80) if run_id else new_run_id()
    if is_local(out):
        root = str(local_path(out).absolute())
        _claim(root)
        return Workspace(root, str(Path(root) / WORK_FOLDER), run_id)
    _claim(out)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # Named by the output root, without credentials, so that a later run finds its unfinished work again.
    work = str(cache / "nvds" / hashlib.sha256(redact(out).encode()).hexdigest()[:16])
    return Workspace(out, work, run_id)


def _claim(out: str) -> None:
    """Refuse a foreign store, and find out now rather than hours later that nothing can be written."""
    place = join(out, STORE_FILE)
    try:
        found = read_json(place)
    except StorageError as error:
        if error.reason != "absent":
            raise
    else:
        if found != STORE_FORMAT:
            message = f"{redact(place)} says {found}, this version writes {STORE_FORMAT}; choose another output"
            raise StorageError(message, reason="format")
    write_json_atomic(place, STORE_FORMAT)


def public_text(text: object) -> str:
    """Text as it may be stored and shown: no credentials, and valid Unicode whatever bytes a file name holds."""
    return redact(text).encode("utf-8", "backslashreplace").decode()


def new_run_id() -> str:
    """A name for a run: sortable by time, unique."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
