"""Two runs on one output."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import flows.claims as claims_module
from flows.claims import Claims
from flows.config import RunConfig
from flows.planning import Plan
from flows.process import run_plan
from flows.reporting import reporting
from storage import StorageError, VideoRef, read_record
from storage.leases import Leases, open_claims
from storage.tables import read
from tasks.workspace import make_workspace
from tests.flows.helpers import Watcher, digests, leftovers
from tests.tasks.helpers import clip

REPO = Path(__file__).resolve().parents[2]
CHILD = """
import json, sys
from flows.process import process_dataset
config = {"frames": {"size": {"short_side": 64}}}
print(json.dumps(process_dataset([sys.argv[1]], sys.argv[2], config)))
"""


def videos(*names: str) -> list[VideoRef]:
    return [
        VideoRef(f"{name}-{index:010d}", f"/in/{name}.mp4", f"{index:064d}", "file", name)
        for index, name in enumerate(names)
    ]


def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Videos that fail at once instead of being worked on; returns the list their names go into."""
    worked_on = []

    def fails(workspace, video, config):
        worked_on.append(video.name)
        return claims_module.Outcome(video, "failed", reason="decode", step="frames")

    monkeypatch.setattr("flows.process.process_video", fails)
    monkeypatch.setattr(claims_module, "LOOK_S", 0.01)
    return worked_on


def test_a_video_of_another_run_is_waited_for_while_the_others_are_done(tmp_path, monkeypatch):
    worked_on = stand_in(monkeypatch)
    workspace, (first, *others) = make_workspace(str(tmp_path / "out")), videos("a", "b", "c")
    holder, watcher = Leases(workspace.out, "other"), Watcher()
    assert holder.claim(first.digest)

    class LettingGo(Watcher):
        def video(self, outcome):
            watcher.video(outcome)
            if len(watcher.outcomes) == len(others):
                threading.Timer(0.1, holder.close).start()

    with reporting(LettingGo()):
        summary = run_plan(Plan((first, *others), {}, (), ()), workspace, RunConfig())
    assert worked_on[-1] == "a"
    assert sorted(worked_on) == ["a", "b", "c"]
    assert summary["failed"] == 3
    assert open_claims(workspace.out) == [], "everything is given back"


def test_two_names_of_one_content_are_never_worked_on_at_once(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    workspace, (first, second) = make_workspace(str(tmp_path / "out")), videos("a", "b")
    twin = VideoRef(second.video_id, second.uri, first.digest, "file", second.name)
    busy, most = [], []

    def work(workspace, video, config):
        busy.append(video)
        most.append(len(busy))
        threading.Event().wait(0.05)
        busy.remove(video)
        return claims_module.Outcome(video, "failed", reason="decode", step="frames")

    monkeypatch.setattr("flows.process.process_video", work)
    assert run_plan(Plan((first, twin), {}, (), ()), workspace, RunConfig())["failed"] == 2
    assert max(most) == 1


def test_a_claim_that_cannot_be_written_fails_the_video(tmp_path, monkeypatch):
    workspace, [video] = make_workspace(str(tmp_path / "out")), videos("a")

    def refused(*arguments, **options):
        raise StorageError("no space left", reason="disk_full")

    with Claims(workspace) as claims:
        monkeypatch.setattr("storage.leases.create_exclusive", refused)
        outcome = claims.take(video)
    assert (outcome.status, outcome.reason, outcome.step) == ("failed", "disk_full", "plan")


@pytest.mark.slow
def test_two_runs_at_once_share_the_work_and_both_end_with_everything(prefect_api, tmp_path):
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    for seed in range(4):
        clip(inputs / f"{seed}.mp4", 3, seed=seed)
    environment = {**os.environ, "PYTHONPATH": str(REPO), "PREFECT_API_URL": prefect_api}
    command = [sys.executable, "-c", CHILD, str(inputs), str(out)]
    children = [subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE) for _ in range(2)]
    said = [child.communicate(timeout=300)[0].decode() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert all('"videos": 4, "done": 4, "failed": 0' in text for text in said)
    steps = Counter(
        (row["video_id"], row["step"]) for row in read(str(out), "timings").to_pylist() if not row["cached"]
    )
    assert set(steps.values()) == {1}, "no step was done twice"
    assert len(steps) == 4 * 6
    assert all(read_record(folder) for folder in (out / "videos").iterdir())
    assert len(digests(out)) == 4 * 4
    assert leftovers(out) == []
    assert open_claims(out) == []
