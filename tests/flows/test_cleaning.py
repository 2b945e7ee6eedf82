from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from flows.cleaning import clean
from storage import ArtifactRef, StorageError
from storage.leases import Leases, open_claims
from storage.processes import machine
from storage.tables import append
from tasks.workspace import Workspace, make_workspace
from tests.storage.test_leases import leave_a_dead_claim

KEY = "0" * 40


@pytest.fixture
def used(tmp_path: Path) -> Workspace:
    """An output with a result, intermediates, leftovers of dead writers, and the lease of a dead process."""
    workspace = make_workspace(str(tmp_path / "out"))
    out = Path(workspace.out)
    with workspace.store.create(ArtifactRef("frames", KEY)) as folder:
        (folder / "rgb").write_bytes(b"x" * 5000)
    (out / ".work" / "digests.json").write_text("{}")
    (out / "videos" / "v-1").mkdir(parents=True)
    (out / "videos" / "v-1" / "record.json").write_text("{}")
    (out / "videos" / ".old-1-2").mkdir()
    old = out / ".work" / ".tmp" / f"initial-{KEY}-1-2"
    old.mkdir(parents=True)
    owner = {"machine": machine(), "pid": 2**22 + 1, "started": 1.0}
    old.with_name(old.name + ".owner").write_text(json.dumps(owner))
    for run in ("first", "last"):
        (out / "runs" / run).mkdir(parents=True)
        (out / "runs" / run / "config.yaml").write_text("{}")
        append(workspace.out, "manifest", [{"video_id": run}], run_id=run, part="plan")
    os.utime(out / "runs" / "first" / "config.yaml", (time.time() - 99, time.time() - 99))
    leave_a_dead_claim(out)
    return workspace


def files(workspace: Workspace) -> set[str]:
    out = Path(workspace.out)
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.name != ".lock"}


KEPT = {
    "nvds-store.json",
    "videos/v-1/record.json",
    "runs/first/config.yaml",
    "runs/last/config.yaml",
    "tables/manifest/part-last-plan.parquet",
    ".work/digests.json",
}


def test_intermediates_and_orphans_go_and_results_stay(used):
    report = clean(used.out)
    assert files(used) == KEPT
    assert not (Path(used.out) / "videos" / ".old-1-2").exists()
    assert report["freed_bytes"] == 5000
    assert report["held_by"] == []
    assert {Path(item["place"]).name for item in report["items"]} >= {"frames", ".old-1-2", f"initial-{KEY}-1-2"}
    assert clean(used.out)["freed_bytes"] == 0


def test_what_a_live_run_holds_stays_and_what_the_dead_left_goes_all_the_same(used):
    with Leases(used.out, "living") as leases:
        assert leases.claim("run-living", {"run": True})
        report = clean(used.out)
        assert report["held_by"] == ["living"]
        assert used.store.find(ArtifactRef("frames", KEY)) is not None
        assert not (Path(used.work) / ".tmp" / f"initial-{KEY}-1-2").exists()
        assert [claim["run_id"] for claim in open_claims(used.out)] == ["living"]
    assert clean(used.out)["freed_bytes"] == 5000


def test_a_folder_that_is_no_output_is_left_alone(tmp_path):
    (tmp_path / ".work" / "precious").mkdir(parents=True)
    with pytest.raises(StorageError, match="no output of nvds"):
        clean(str(tmp_path))
    assert (tmp_path / ".work" / "precious").exists()
