from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import storage.leases as leases_module
from storage import StorageError
from storage.files import create_exclusive, replace_if
from storage.leases import Leases, open_claims, sweep_claims
from tests.storage.helpers import ROOT

DEAD = """
import sys
from storage.leases import Leases
keeper = Leases(sys.argv[1], "run")
assert keeper.claim("v", {"video_id": "v-1"})
import os
os._exit(9)
"""


@pytest.fixture
def keepers(tmp_path: Path) -> Iterator[tuple[Leases, Leases]]:
    with Leases(tmp_path, "run") as one, Leases(tmp_path, "other") as two:
        yield one, two


def leave_a_dead_claim(root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", DEAD, str(root)], env=environment, timeout=120).returncode == 9


def on_another_machine(root: Path) -> Path:
    """Make the claim of "v" one of a process that cannot be asked for here."""
    path = root / "leases" / "v.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "machine": "elsewhere"}))
    return path


def test_one_of_two_has_a_name_until_it_gives_it_back(keepers: tuple[Leases, Leases]) -> None:
    one, two = keepers
    assert one.is_free("v")
    assert one.claim("v")
    assert not two.claim("v")
    assert not one.claim("v"), "not even the owner has it twice"
    assert not one.is_free("v")
    assert not two.is_free("v")
    two.release("v")
    assert not two.claim("v"), "what is not one's own cannot be given back"
    assert two.claim("w")
    one.release("v")
    assert two.is_free("v")
    assert two.claim("v")


def test_what_is_not_given_back_one_by_one_is_given_back_at_the_end(tmp_path: Path) -> None:
    with Leases(tmp_path, "run") as keeper:
        keeper.claim("v")
        assert [claim["note"] for claim in open_claims(tmp_path)] == [{}]
        assert len(os.listdir(tmp_path / "leases" / "owners")) == 1
    assert open_claims(tmp_path) == []
    assert os.listdir(tmp_path / "leases" / "owners") == []


def test_of_many_threads_exactly_one_gets_a_free_or_a_dead_name(tmp_path: Path) -> None:
    for prepare in (lambda: None, lambda: leave_a_dead_claim(tmp_path)):
        prepare()
        keepers = [Leases(tmp_path, "run") for _ in range(8)]
        together = threading.Barrier(len(keepers))

        def take(keeper: Leases, together: threading.Barrier = together) -> bool:
            together.wait()
            return keeper.claim("v")

        with ThreadPoolExecutor(len(keepers)) as pool:
            assert sum(pool.map(take, keepers)) == 1
        for keeper in keepers:
            keeper.close()


def test_a_dead_owner_is_followed_at_once(tmp_path: Path) -> None:
    leave_a_dead_claim(tmp_path)
    [found] = open_claims(tmp_path)
    assert (found["alive"], found["run_id"], found["note"]) == (False, "run", {"video_id": "v-1"})
    with Leases(tmp_path, "other") as keeper:
        assert keeper.is_free("v")
        assert keeper.claim("v")
        [found] = open_claims(tmp_path)
        assert (found["alive"], found["run_id"]) == (True, "other")


def test_an_owner_elsewhere_keeps_its_claim_as_long_as_its_beat_changes_whatever_the_clocks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(leases_module.time, "monotonic", lambda: now)
    owner, watcher = Leases(tmp_path, "run"), Leases(tmp_path, "other")
    assert owner.claim("v")
    path = on_another_machine(tmp_path)
    os.utime(path, (0, 0))  # a file from 1970: times of files mean nothing
    for count in range(1, 5):
        assert not watcher.claim("v")
        now += 50.0
        owner._beat(count)
    assert not watcher.claim("v")
    now += 59.0
    assert not watcher.is_free("v")
    now += 2.0
    assert watcher.is_free("v")
    assert watcher.claim("v")
    owner.close()
    assert [claim["run_id"] for claim in open_claims(tmp_path)] == ["other"], "a suspended owner cannot take it away"
    watcher.close()


def test_a_damaged_claim_holds_others_up_for_a_while_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(leases_module.time, "monotonic", lambda: now)
    (tmp_path / "leases").mkdir()
    (tmp_path / "leases" / "v.json").write_bytes(b"")
    with Leases(tmp_path, "run") as keeper:
        assert not keeper.claim("v")
        now += 61.0
        assert keeper.claim("v")


def test_the_beat_goes_on_in_a_thread(tmp_path: Path) -> None:
    with Leases(tmp_path, "run", beat_s=0.01) as keeper:
        keeper.claim("v")
        [path] = (tmp_path / "leases" / "owners").iterdir()
        first = path.read_bytes()
        for _ in range(500):
            if path.read_bytes() != first:
                break
            time.sleep(0.01)
        assert path.read_bytes() != first


def test_sweeping_removes_the_dead_and_leaves_the_living(tmp_path: Path, keepers: tuple[Leases, Leases]) -> None:
    leave_a_dead_claim(tmp_path)
    assert keepers[1].claim("w")
    assert sweep_claims(tmp_path) == 2, "a claim and a beat"
    assert [claim["alive"] for claim in open_claims(tmp_path)] == [True]


def test_a_name_cannot_leave_the_folder_of_leases(keepers: tuple[Leases, Leases]) -> None:
    with pytest.raises(StorageError):
        keepers[0].claim("../../etc/v")


def _grab(path: str, index: int) -> bool:
    return create_exclusive(path, f"{index}".encode())


def test_of_many_processes_one_makes_a_file(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        made = pool.starmap(_grab, [(str(tmp_path / "f"), index) for index in range(40)])
    assert sum(made) == 1
    assert (tmp_path / "f").read_text() == str(made.index(True))
    assert os.listdir(tmp_path) == ["f"]


def test_a_file_is_replaced_only_if_it_is_what_it_was_thought_to_be(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert not replace_if(path, b"old", b"new")
    path.write_bytes(b"other")
    assert not replace_if(path, b"old", b"new")
    assert path.read_bytes() == b"other"
    assert replace_if(path, b"other", b"new")
    assert path.read_bytes() == b"new"
    assert not replace_if(path, b"old", None)
    assert replace_if(path, b"new", None)
    assert [name for name in os.listdir(tmp_path) if name != ".lock"] == []


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    assert create_exclusive(tmp_path / "f", b"1")
    assert not create_exclusive(tmp_path / "f", b"2")
    assert (tmp_path / "f").read_bytes() == b"1"
