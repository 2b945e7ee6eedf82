from __future__ import annotations

import errno
import os
import threading
import uuid
from pathlib import Path

import pytest

from storage import StorageError, trees
from storage.locations import (
    exists,
    filesystem,
    join,
    publish_tree,
    read_bytes,
    remove_tree,
    sweep_leftovers,
    upload_tree,
)


def make_tree(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def bucket():
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    remove_tree(url)


def test_publishing_replaces_the_old_tree_whole(tmp_path: Path):
    target = tmp_path / "out" / "video"
    publish_tree(make_tree(tmp_path / "one", a="1", b="1"), target)
    publish_tree(make_tree(tmp_path / "two", b="2", sub__c="2"), target)
    assert contents(target) == {"b": "2", "sub/c": "2"}
    assert [path.name for path in target.parent.iterdir()] == ["video"]
    assert not (tmp_path / "two").exists()


def test_a_target_on_another_disk_is_copied_beside_and_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.rename

    def across_disks(source: Path, target: Path) -> None:
        if Path(source).name == "work" or Path(target).name == "work":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(source, target)

    monkeypatch.setattr(trees.os, "rename", across_disks)
    target = make_tree(tmp_path / "out" / "video", old="0").absolute()
    publish_tree(make_tree(tmp_path / "work", a="1"), target)
    assert contents(target) == {"a": "1"}
    assert not (tmp_path / "work").exists()
    assert [path.name for path in target.parent.iterdir()] == ["video"]


def test_a_failed_publication_puts_the_old_tree_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = make_tree(tmp_path / "out" / "video", a="old")
    source = make_tree(tmp_path / "work", a="new")
    real = os.rename

    def refuse(origin: Path, place: Path) -> None:
        if Path(origin) == source:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(origin, place)

    monkeypatch.setattr(trees.os, "rename", refuse)
    with pytest.raises(StorageError, match="cannot publish") as caught:
        publish_tree(source, target)
    assert caught.value.reason == "disk_full"
    assert contents(target) == {"a": "old"}
    assert [path.name for path in target.parent.iterdir()] == ["video"]


def test_many_publishers_of_one_name_leave_one_whole_tree(tmp_path: Path):
    sources = [make_tree(tmp_path / f"work{i}", a=str(i), b=str(i)) for i in range(8)]
    failures: list[BaseException] = []

    def publish(source: Path) -> None:
        try:
            publish_tree(source, tmp_path / "out" / "video")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=publish, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    files = contents(tmp_path / "out" / "video")
    assert set(files) == {"a", "b"}
    assert files["a"] == files["b"]
    assert os.listdir(tmp_path / "out") == ["video"]


def test_publishing_nothing_leaves_the_old_tree(tmp_path: Path):
    target = make_tree(tmp_path / "out" / "video", a="old")
    with pytest.raises(StorageError) as caught:
        publish_tree(tmp_path / "gone", target)
    assert caught.value.reason == "absent"
    assert contents(target) == {"a": "old"}


def test_upload_puts_the_record_last_and_removes_what_is_stale(tmp_path: Path, bucket: str):
    url = join(bucket, "videos/a")
    upload_tree(make_tree(tmp_path / "one", record_json="{}", x="1", stale="1"), url)
    seen: list[str] = []
    file_system, _ = filesystem(url)
    real = type(file_system).put_file

    def watch(self: object, here: str, there: str, *args: object, **options: object) -> object:
        seen.append(there.rpartition("/")[2])
        assert not exists(join(url, "record.json"))
        return real(self, here, there, *args, **options)

    type(file_system).put_file = watch
    try:
        publish_tree(make_tree(tmp_path / "two", record_json='{"n": 2}', x="2", sub__y="2"), url)
    finally:
        type(file_system).put_file = real
    assert seen[-1] == "record.json"
    assert sorted(seen[:-1]) == ["x", "y"]
    assert read_bytes(join(url, "x")) == b"2"
    assert not exists(join(url, "stale"))
    assert not (tmp_path / "two").exists()


def test_an_upload_that_breaks_off_leaves_no_record(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch):
    url = join(bucket, "videos/a")
    upload_tree(make_tree(tmp_path / "one", record_json="{}", x="1"), url)
    file_system, _ = filesystem(url)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(type(file_system), "put_file", refuse)
    monkeypatch.setattr("storage.files._FIRST_PAUSE_S", 0.0)
    with pytest.raises(StorageError, match="cannot upload") as caught:
        upload_tree(make_tree(tmp_path / "two", record_json="{}", x="2"), url)
    assert caught.value.reason == "disk_full"
    assert not exists(join(url, "record.json"))


def test_removing_what_is_not_there_is_fine(tmp_path: Path, bucket: str):
    remove_tree(tmp_path / "gone")
    remove_tree(join(bucket, "gone"))


def test_removing_a_link_keeps_what_it_points_to(tmp_path: Path):
    make_tree(tmp_path / "real", a="1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    remove_tree(tmp_path / "link")
    assert contents(tmp_path / "real") == {"a": "1"}


def test_sweep_takes_old_leftovers_only(tmp_path: Path):
    make_tree(tmp_path, **{"keep": "1", ".tmp-1-a": "x", ".old-1-b__f": "x"})
    make_tree(tmp_path / ".new-1-c", f="x")
    os.utime(tmp_path / ".tmp-1-a", (0, 0))
    os.utime(tmp_path / ".old-1-b", (0, 0))
    assert [path.name for path in sweep_leftovers(tmp_path)] == [".old-1-b", ".tmp-1-a"]
    assert sorted(os.listdir(tmp_path)) == [".new-1-c", "keep"]
    assert sweep_leftovers(tmp_path / "gone") == []


def test_every_file_and_folder_is_on_the_disk_before_the_tree_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, target = make_tree(tmp_path / "made", **{"a__b__c": "1", "a__d": "2", "e": "3"}), tmp_path / "videos" / "v"
    real, synced = os.fsync, set[int]()

    def note(descriptor: int) -> None:
        assert not target.exists() or os.path.samestat(os.fstat(descriptor), os.stat(target.parent))
        synced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    publish_tree(source, target)
    assert {path.stat().st_ino for path in (target.parent, target, *target.rglob("*"))} <= synced


def test_a_tree_that_the_disk_refuses_does_not_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, target = make_tree(tmp_path / "made", a="1", b="2"), tmp_path / "v"
    refused = (source / "b").stat().st_ino

    def refuse(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == refused:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError) as caught:
        publish_tree(source, target)
    assert caught.value.reason == "disk_full"
    assert not target.exists()
