"""Taking away what no result needs: orphans of dead processes, intermediates, manifests of runs long over."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.runs import MANIFEST, last_run
from storage import StorageError
from storage.errors import redact
from storage.leases import open_claims, sweep_claims
from storage.locations import exists, is_local, join, local_path, remove_tree, sweep_leftovers
from storage.tables import drop_runs
from tasks.workspace import STORE_FILE, Workspace, make_workspace

MEMO = "digests.json"  # of sources: cheap to keep, hours to make anew


@dataclass(frozen=True)
class Freed:
    """Something that was removed, and its size."""

    place: str
    bytes: int


def tidy(workspace: Workspace) -> list[Freed]:
    """Remove what killed runs left half-written, and their leases; what living ones hold stays."""
    freed = [Freed(str(path), 0) for path in workspace.store.sweep()]
    sweep_claims(workspace.out)
    return freed + _leftovers(workspace, older_than_s=86400.0)


def clean(out: str) -> dict[str, Any]:
    """Remove orphans and all intermediates; results, tables and settings stay.

    While a run holds the output only what dead processes left is removed.

    Returns:
        ``items`` (place and bytes of each thing removed), ``freed_bytes``, and ``held_by``: the runs at work.

    Raises:
        StorageError: ``absent``: nothing was ever run into this folder.
    """
    if not exists(join(out, STORE_FILE)):
        raise StorageError(
            f"{redact(out)}: no output of nvds there; give the folder of 'nvds run --out'", reason="absent"
        )
    workspace = make_workspace(out)
    freed = tidy(workspace)
    held_by = sorted({str(claim.get("run_id")) for claim in open_claims(workspace.out)})
    if not held_by:
        freed += _leftovers(workspace, older_than_s=0.0) + _intermediates(Path(workspace.work))
        last = last_run(workspace.out)
        freed += [Freed(part, 0) for part in drop_runs(workspace.out, MANIFEST, keep=last.run_id if last else "")]
    return {
        "items": [{"place": redact(item.place), "bytes": item.bytes} for item in freed],
        "freed_bytes": sum(item.bytes for item in freed),
        "held_by": held_by,
        "out": redact(out),
    }


def _leftovers(workspace: Workspace, older_than_s: float) -> list[Freed]:
    if not is_local(workspace.out):
        return []
    root = local_path(workspace.out)
    folders = (root, root / "videos", root / "leases", root / "leases" / "owners", Path(workspace.work))
    freed = []
    for folder in (*folders, *(root / "tables").glob("*"), *(root / "runs").glob("*")):
        freed += [Freed(str(path), 0) for path in sweep_leftovers(folder, older_than_s)]
    return freed


def _intermediates(work: Path) -> list[Freed]:
    """One entry per step."""
    freed = []
    for entry in sorted(work.iterdir()) if work.is_dir() else []:
        if entry.name != MEMO:
            freed.append(Freed(str(entry), _size(entry)))
            remove_tree(entry)
    return freed


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if not path.is_dir():
        return path.lstat().st_size
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)
