from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from flows.commands_operate import status_lines
from flows.ledger import Ledger
from flows.runs import last_run
from flows.status import measured_rate, status_of
from storage import StorageError
from storage.leases import Leases
from storage.tables import append
from tasks.workspace import make_workspace

REPO = Path(__file__).resolve().parents[2]
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Folder:
    """An output folder in which runs say what they would say."""

    def __init__(self, place: Any) -> None:
        self.out = make_workspace(str(place)).out
        self.parts = 0

    def plan(self, run: str, **states: str) -> None:
        """A run that begins with clips of 100 frames in these states."""
        folder = os.path.join(self.out, "runs", run)
        os.makedirs(folder)
        with open(os.path.join(folder, "config.yaml"), "w") as file:
            file.write("{}")
        rows = [{"video_id": name, "frames": 100, "state": state, "at": BEGAN} for name, state in states.items()]
        append(self.out, "manifest", rows, run_id=run, part="plan")

    def tell(self, run: str, minute: float, *names: str, status: str = "done", **more: Any) -> None:
        at = BEGAN + timedelta(minutes=minute)
        common = {"status": status, "frames": 100 if status == "done" else None, "cached": False, "seconds": 10.0}
        rows = [{"video_id": name, "uri": f"/{name}", "finished_at": at, **common, **more} for name in names]
        self.parts += 1
        append(self.out, "outcomes", rows, run_id=run, part=self.parts)
        lengths = [{"video_id": name, "duration_s": 36.0, "at": at} for name in names]
        append(self.out, "catalog", lengths, run_id=run, part=self.parts)

    def status(self, minute: float) -> dict[str, Any]:
        return status_of(self.out, BEGAN + timedelta(minutes=minute))


@pytest.fixture
def folder(tmp_path: Any) -> Folder:
    return Folder(tmp_path / "out")


def counts(state: dict[str, Any]) -> tuple[int, ...]:
    return tuple(state[name] for name in ("videos", "done", "failed", "running", "pending"))


def test_a_run_at_work_shows_what_is_settled_at_work_and_pending_and_how_long_it_will_take(folder):
    folder.tell("before", -60, "old", "again")
    folder.plan("now", old="done", again="stale", a="pending", b="pending", c="pending", d="pending", bad="unreadable")
    folder.tell("now", 0, "bad", status="failed", reason="empty", message="no bytes")
    with Leases(folder.out, "now") as leases:
        assert leases.claim("run-now", {"run": True})
        assert leases.claim("content of b", {"video_id": "b"})
        folder.tell("now", 1, "a")
        state = folder.status(2)
        assert counts(state) == (7, 2, 1, 1, 3), "of the old results one is to be made anew"
        assert state["at_work"] is True
        assert state["frames_per_second"] == pytest.approx(100 / 120)
        assert state["eta_s"] == pytest.approx(400 / (100 / 120))
        assert state["video_hours_per_device_day"] == pytest.approx(0.01 * 24 * 30)
        assert state["reasons"] == {"empty": {"videos": 1, "example": "/bad: no bytes"}}
        assert "7 videos, 2 done, 1 failed, 1 running, 3 pending" in status_lines(state)[0]
        assert "at work" in status_lines(state)[2]
        assert "0.83 frames/s" in status_lines(state)[3]
        assert "0:08:00 to go" in status_lines(state)[3]


def test_a_run_that_died_leaves_its_videos_pending(folder):
    folder.plan("now", a="pending", b="pending")
    folder.tell("now", 1, "a")
    state = folder.status(600)
    assert counts(state) == (2, 1, 0, 0, 1)
    assert (state["at_work"], state["eta_s"]) == (False, None)
    assert state["frames_per_second"] == pytest.approx(100 / 60), "up to its last word, not up to now"
    assert "broken off" in status_lines(state)[1]


def test_what_a_rerun_left_alone_is_pending_unless_it_has_an_outcome(folder):
    folder.tell("before", -60, "failed before", status="failed", reason="decode", message="x")
    folder.plan("rerun", **{"failed before": "left", "never tried": "left", "a": "pending"})
    folder.tell("rerun", 1, "a")
    assert counts(folder.status(2)) == (3, 1, 1, 0, 1)


def test_several_devices_share_the_hours(folder):
    folder.plan("now", a="pending")
    folder.tell("now", 1, "a")
    one = folder.status(2)["video_hours_per_device_day"]
    with open(os.path.join(folder.out, "runs", "now", "order.json"), "w") as file:
        file.write('{"devices": 4}')
    assert folder.status(2)["video_hours_per_device_day"] == pytest.approx(one / 4)


def test_the_rate_is_that_of_the_newest_run_that_made_something(folder):
    assert measured_rate(folder.out) is None
    folder.tell("slow", 0, "a")
    folder.tell("fast", 10, "b", seconds=4.0)
    folder.tell("fast", 10.1, "c", seconds=4.0)
    folder.tell("nothing", 20, "d", status="failed", reason="decode")
    assert measured_rate(folder.out) == pytest.approx(200 / 10)


def test_a_long_run_does_not_leave_thousands_of_parts_to_be_read(folder, monkeypatch):
    from tests.flows.test_ledger import done

    monkeypatch.setattr("flows.ledger.FLUSH_S", -1.0)
    monkeypatch.setattr("flows.ledger.FLUSHES", 5)
    most = 0
    with Ledger(make_workspace(folder.out, "long")) as ledger:
        for index in range(12):
            ledger.add(done(f"v{index}"))
            most = max(most, len(os.listdir(os.path.join(folder.out, "tables", "outcomes"))))
    assert most <= 6
    assert counts(folder.status(0))[:2] == (12, 12)


def test_a_stray_file_among_the_runs_is_no_run(folder):
    folder.plan("now", a="pending")
    Path(folder.out, "runs", ".DS_Store").write_bytes(b"of a desktop")
    assert folder.status(1)["last_run"]["run_id"] == "now"


def test_a_store_that_cannot_be_reached_is_an_error_with_a_remedy(memory_store, monkeypatch):
    def unreachable(*_: Any, **__: Any) -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    memory_store.pipe_file("/bucket/out/runs/now/config.yaml", b"{}")
    assert last_run("memory://bucket/out").run_id == "now"
    monkeypatch.setattr("storage.files._FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(type(memory_store), "ls", unreachable)
    with pytest.raises(StorageError, match="check the connection") as caught:
        last_run("memory://bucket/out")
    assert caught.value.reason == "transient"


def test_asking_for_the_status_loads_neither_torch_nor_prefect():
    code = (
        "import sys, flows.status; print([name for name in ('torch', 'prefect', 'cv2', 'av') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=300)
    assert run.stdout.strip() == "[]", run.stderr
