from __future__ import annotations

import errno
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from storage import ArtifactRef, ArtifactStore, StorageError, artifacts
from tests.storage.helpers import run_until_killed

REF = ArtifactRef("flow", "0123abcd")

DIE_INSIDE_CREATE = """
import sys, time
from storage import ArtifactRef, ArtifactStore
with ArtifactStore(sys.argv[1]).create(ArtifactRef("flow", "0123abcd")) as folder:
    (folder / "half").write_text("x")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "work")


def temporaries(store: ArtifactStore) -> list[str]:
    return sorted(os.listdir(store.root / ".tmp"))


def test_an_artifact_exists_only_after_the_block_succeeded(store: ArtifactStore):
    with store.create(REF) as folder:
        (folder / "data").write_text("x")
        assert store.find(REF) is None
    found = store.find(REF)
    assert found == store.path(REF)
    assert os.listdir(found) == ["data"]
    assert temporaries(store) == []


def test_an_exception_publishes_nothing_and_leaves_nothing(store: ArtifactStore):
    def fail() -> None:
        with store.create(REF) as folder:
            (folder / "data").write_text("x")
            raise RuntimeError("decoder")

    with pytest.raises(RuntimeError, match="decoder"):
        fail()
    assert store.find(REF) is None
    assert temporaries(store) == []


def test_errors_of_the_block_keep_their_kind(store: ArtifactStore):
    with pytest.raises(FileNotFoundError), store.create(REF):
        Path("/no/such/video.mp4").read_bytes()


def test_the_first_of_two_publishers_wins(store: ArtifactStore):
    with store.create(REF) as ours:
        (ours / "data").write_text("ours")
        with store.create(REF) as theirs:
            (theirs / "data").write_text("theirs")
    assert (store.path(REF) / "data").read_text() == "theirs"
    assert temporaries(store) == []


def test_many_threads_on_one_key_publish_one_whole_artifact(store: ArtifactStore):
    def work(number: int) -> None:
        with store.create(REF) as folder:
            for name in "ab":
                (folder / name).write_text(str(number))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.path(REF)
    assert (found / "a").read_text() == (found / "b").read_text()
    assert temporaries(store) == []


def test_a_killed_process_publishes_nothing_and_sweep_clears_its_folder(store: ArtifactStore):
    run_until_killed(DIE_INSIDE_CREATE, str(store.root))
    assert store.find(REF) is None
    assert len(temporaries(store)) == 2
    assert store.sweep(older_than_s=3600) == []
    swept = store.sweep()
    assert [path.name.startswith("flow-0123abcd-") for path in swept] == [True]
    assert temporaries(store) == []
    with store.create(REF) as folder:
        (folder / "data").write_text("x")
    assert store.find(REF) is not None


def test_sweep_spares_the_living(store: ArtifactStore):
    with store.create(REF) as folder:
        (folder / "data").write_text("x")
        assert store.sweep() == []
    assert store.find(REF) is not None


def test_sweep_judges_a_reused_process_number_by_its_start(store: ArtifactStore):
    with store.create(REF) as folder:
        owner_file = folder.with_name(folder.name + ".owner")
        owner = json.loads(owner_file.read_text())
        owner_file.write_text(json.dumps({**owner, "started": owner["started"] - 1}))
        assert store.sweep() == [folder]
        folder.mkdir()  # so that the block can be left as usual


def test_sweep_spares_a_container_that_shares_the_name_of_the_host(store: ArtifactStore):
    with store.create(REF) as folder:
        owner_file = folder.with_name(folder.name + ".owner")
        owner = json.loads(owner_file.read_text())
        elsewhere = " ".join([socket.gethostname(), *owner["machine"].split()[1:-1], "pid:[1]"])
        owner_file.write_text(json.dumps({**owner, "machine": elsewhere, "pid": 2**22 + 1}))
        assert store.sweep() == []


@pytest.mark.parametrize("owner", [None, '{"machine": "elsewhere", "pid": 1, "started": 1}', "{", "[]"])
def test_sweep_leaves_what_it_cannot_judge_for_a_day(store: ArtifactStore, owner: str | None):
    stranger = store.root / ".tmp" / "flow-0123abcd-1-ffff"
    stranger.mkdir(parents=True)
    if owner is not None:
        stranger.with_name(stranger.name + ".owner").write_text(owner)
    assert store.sweep() == []
    for path in (store.root / ".tmp").iterdir():
        os.utime(path, (0, 0))
    assert store.sweep() == [stranger]
    assert temporaries(store) == []


def test_a_zombie_counts_as_dead():
    with subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read()  # its end is closed when the process ends, before it is waited for
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert artifacts.start_of(child.pid) is None


def test_sweep_clears_what_a_process_left_that_was_killed_while_it_said_who_it_is(store: ArtifactStore):
    with store.create(REF) as folder:
        pass
    owner_file = folder.with_name(folder.name + ".owner")
    owner_file.touch()
    assert store.sweep(older_than_s=3600) == []
    assert owner_file.exists()
    store.sweep()
    assert not owner_file.exists()


def test_sweep_of_an_empty_store_does_nothing(store: ArtifactStore):
    assert store.sweep() == []


def test_discard_removes_and_is_idempotent(store: ArtifactStore):
    with store.create(REF) as folder:
        (folder / "data").write_text("x")
    store.discard(REF)
    store.discard(REF)
    assert store.find(REF) is None
    assert temporaries(store) == []


@pytest.mark.parametrize("name", ["", "..", "a/b", ".tmp", "-x", "a\nb", "/etc"])
def test_refs_cannot_leave_the_store(name: str):
    for step, key in ((name, "abc"), ("flow", name)):
        with pytest.raises(StorageError, match="cannot name an artifact"):
            ArtifactRef(step, key)


def test_full_and_read_only_disks_are_named(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch):
    for code, reason in ((errno.ENOSPC, "disk_full"), (errno.EROFS, "read_only")):

        def refuse(*_: object, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            patch.setattr(artifacts.os, "rename", refuse)
            with pytest.raises(StorageError, match="cannot publish") as caught, store.create(REF):
                pass
        assert caught.value.reason == reason
        assert temporaries(store) == []


def test_refs_stores_and_errors_travel_between_processes(store: ArtifactStore):
    assert pickle.loads(pickle.dumps(REF)) == REF
    assert pickle.loads(pickle.dumps(store)).path(REF) == store.path(REF)
    error = pickle.loads(pickle.dumps(StorageError("full", reason="disk_full")))
    assert (str(error), error.reason) == ("full", "disk_full")
