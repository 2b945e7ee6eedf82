"""That a video cannot be optimised goes from step to step as a status; no later step computes anything then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nvds_core.tto.status import TuneStatus
from storage import ArtifactRef, open_arrays, write_arrays
from tasks.workspace import Workspace

KEYS = ("status", "reason", "log_tail")


def status_attributes(status: TuneStatus, reason: str = "") -> dict[str, Any]:
    """What an artifact says about its status."""
    return {"status": status, "reason": reason, "log_tail": ""}


def read_status(workspace: Workspace, ref: ArtifactRef) -> dict[str, Any]:
    """Status, reason and log of an artifact; ``ok`` where all went well."""
    attributes = open_arrays(workspace.store.path(ref) / "arrays").attributes
    return {key: attributes[key] for key in KEYS}


def passed_on(workspace: Workspace, before: ArtifactRef, folder: Path) -> bool:
    """Whether the step before found that there is nothing to do; if so, this artifact says the same."""
    found = read_status(workspace, before)
    if found["status"] == "ok":
        return False
    write_arrays(folder / "arrays", {}, found).close()
    return True
