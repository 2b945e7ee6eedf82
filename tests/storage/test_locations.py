from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import StorageError, files
from storage.errors import one_line, redact, translated
from storage.files import list_names, modified
from storage.locations import (
    exists,
    expand,
    free_bytes,
    is_local,
    join,
    local_path,
    read_bytes,
    read_json,
    remove_tree,
    safe_name,
    stage,
    write_bytes_atomic,
    write_json_atomic,
)
from tests.storage.helpers import ROOT, run_until_killed


@pytest.fixture
def bucket():
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    remove_tree(url)


@given(st.text(max_size=300), st.integers(1, 80))
def test_safe_name_is_always_one_plain_file_name(text: str, limit: int):
    name = safe_name(text, limit)
    assert name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert name[0] not in ".-"
    assert ".." not in name
    assert len(name) <= max(limit, len("unnamed"))
    assert os.path.basename(os.path.normpath(os.path.join("root", name))) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("holiday.mp4", "holiday.mp4"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "unnamed"),
        ("🎬", "unnamed"),
        ("a\nb c", "a-b-c"),
        ("--help", "help"),
        (".hidden", "hidden"),
        ("Grüße", "Grue"),
        ("x" * 255, "x" * 48),
    ],
)
def test_safe_name_of_awkward_names(text: str, name: str):
    assert safe_name(text) == name


def test_join_works_on_paths_and_urls():
    assert join(Path("/out"), "videos", "a-1") == "/out/videos/a-1"
    assert join("s3://bucket/run/", "videos/a-1") == "s3://bucket/run/videos/a-1"
    assert join("/", "a") == "/a"


@pytest.mark.parametrize("part", ["..", "a/../b", "/etc", "", "a\0b"])
def test_join_never_leaves_the_root(part: str):
    with pytest.raises(StorageError, match="cannot be put below") as caught:
        join("/out", part)
    assert caught.value.reason == "unsafe_name"


def test_paths_and_file_urls_are_local_and_others_are_not():
    assert is_local("/a/b.mp4")
    assert is_local("file:///a/b.mp4")
    assert is_local("odd:name.mp4")
    assert not is_local("s3://bucket/b.mp4")
    assert not is_local("simplecache::s3://bucket/b.mp4")
    assert local_path("file:///a/b%20c.mp4") == Path("/a/b c.mp4")
    assert local_path("/a/b%20c.mp4") == Path("/a/b%20c.mp4")


def test_bytes_come_back_and_no_temporary_stays(tmp_path: Path, bucket: str):
    for root in (str(tmp_path), bucket):
        url = join(root, "deep/er", "file.bin")
        write_bytes_atomic(url, b"old")
        write_bytes_atomic(url, b"new")
        assert read_bytes(url) == b"new"
        assert exists(url)
    assert [path.name for path in (tmp_path / "deep/er").iterdir()] == ["file.bin"]


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path):
    write_bytes_atomic(tmp_path / ("n" * 255), b"x")
    assert read_bytes(tmp_path / ("n" * 255)) == b"x"


def test_json_comes_back_and_nan_is_refused(tmp_path: Path):
    write_json_atomic(tmp_path / "a.json", {"name": "Grüße", "n": [1, None]})
    assert read_json(tmp_path / "a.json") == {"name": "Grüße", "n": [1, None]}
    with pytest.raises(StorageError, match="not JSON") as caught:
        write_json_atomic(tmp_path / "b.json", {"x": float("nan")})
    assert caught.value.reason == "format"
    assert not exists(tmp_path / "b.json")


def test_absent_and_damaged_files_are_told_apart(tmp_path: Path, bucket: str):
    for root in (str(tmp_path), bucket):
        with pytest.raises(StorageError, match=r"gone\.json") as caught:
            read_json(join(root, "gone.json"))
        assert caught.value.reason == "absent"
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(StorageError, match=r"half\.json is not valid JSON") as caught:
        read_json(tmp_path / "half.json")
    assert caught.value.reason == "format"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EROFS, "read_only"),
        (errno.EACCES, "read_only"),
        (errno.EIO, "storage"),
    ],
)
def test_failed_write_leaves_the_old_file_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str
):
    target = tmp_path / "record.json"
    write_bytes_atomic(target, b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(StorageError, match=r"cannot write .*record\.json") as caught:
        write_bytes_atomic(target, b"new")
    assert caught.value.reason == reason
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_really_full_disk_is_named_as_such(tmp_path: Path):
    """A small tmpfs in a mount namespace of its own."""
    code = """
import sys
from storage import StorageError, write_bytes_atomic
try:
    write_bytes_atomic(sys.argv[1] + "/file", bytes(4 << 20))
except StorageError as error:
    print(error.reason)
"""
    shell = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-Urm", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace on this machine")
    run = subprocess.run(
        [unshare, "-Urm", "sh", "-c", shell, "sh", str(tmp_path), sys.executable, code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.stdout.strip() == "disk_full", run.stderr


def test_a_reader_never_sees_a_half_written_file(tmp_path: Path):
    target = tmp_path / "record.json"
    target.write_bytes(b"old")
    script = """
import os, sys
from storage import files
real = os.fsync
def stop(descriptor):
    real(descriptor)
    print("ready", flush=True)
    import time; time.sleep(60)
files.os.fsync = stop
files.write_bytes_atomic(sys.argv[1], b"new")
"""
    run_until_killed(script, str(target))
    assert target.read_bytes() == b"old"


def test_messages_never_carry_credentials(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    url = "https://user:pa55word@host.example/clip.mp4?X-Amz-Signature=abcdef&token=t0ken"
    with pytest.raises(StorageError) as caught, translated("read", url):
        raise OSError(f"403 for {url} with wJalrXUtnFEMI/K7MDENG")
    assert caught.value.reason == "transient"
    for secret in ("pa55word", "abcdef", "t0ken", "wJalr"):
        assert secret not in str(caught.value)
    assert "host.example/clip.mp4" in str(caught.value)
    assert caught.value.__suppress_context__
    assert redact("plain text") == "plain text"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://user:pa/ss/word@bucket/x.mp4", "s3://***@bucket/x.mp4"),
        ("s3://AKIA1:/lead+ing/@bucket/x.mp4", "s3://***@bucket/x.mp4"),
        ("https://user:pa?ss@host:8080/x.mp4?token=t", "https://***@host:8080/x.mp4?***"),
        ("s3://user:pa#ss@bucket/take#1.mp4", "s3://***@bucket/take#1.mp4"),
        ("s3://user:123456/7@bucket/x.mp4", "s3://***@bucket/x.mp4"),
        ("s3://user:pa/ss@bucket/take@2.mp4", "s3://***@2.mp4"),
        ("https://:pa/ss@host/x.mp4", "https://***@host/x.mp4"),
    ],
)
def test_a_password_that_is_not_encoded_is_not_told_either(url: str, shown: str):
    assert redact(url) == shown
    assert redact(f"cannot read '{url}': 403") == f"cannot read '{shown}': 403"


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/take@2.mp4",
        "s3://bucket/10:30@cam.mp4",
        "http://minio:9000/bucket/take@2.mp4",
        "http://[::1]:9000/bucket/take@2.mp4",
        "file:///films/a:b@c.mp4",
    ],
)
def test_names_with_an_at_sign_are_kept(url: str):
    assert redact(url) == url


def test_names_with_a_hash_stay_apart_in_an_object_store():
    assert redact("s3://user:secret@bucket/take#1.mp4") == "s3://***@bucket/take#1.mp4"
    assert redact("https://host/take.mp4#token=secret") == "https://host/take.mp4"


def test_names_of_a_folder_are_listed_alike_everywhere(tmp_path: Path, memory_store: object):
    for root in (str(tmp_path / "f"), "memory://bucket/f"):
        assert list_names(root) == []
        for name in ("b", "a/deep", ".hidden"):
            write_bytes_atomic(f"{root}/{name}", b"x")
        assert list_names(root) == [".hidden", "a", "b"]
        assert modified(f"{root}/b").tzinfo is not None
        with pytest.raises(StorageError) as caught:
            modified(f"{root}/gone")
        assert caught.value.reason == "absent"
    assert list_names(tmp_path / "f" / "b") == []


def test_one_line_is_one_line_without_orders_to_a_terminal_and_keeps_other_letters():
    assert one_line("a\nb\r\x1b[31m\u2028\x9b.mp4") == "a\\nb\\r\\x1b[31m\\u2028\\x9b.mp4"
    kept = "Ærø 👩‍👩‍👧.mp4"
    assert one_line(kept) == kept


def test_transient_errors_of_a_store_are_tried_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "_FIRST_PAUSE_S", 0.0)
    calls: list[int] = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionError("reset")
        return "ok"

    assert files.with_retries(flaky) == "ok"
    with pytest.raises(FileNotFoundError):
        files.with_retries(lambda: calls.append(9) or Path("/no/such/file").read_bytes())
    assert calls.count(9) == 1


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path: Path):
    assert free_bytes(tmp_path / "not" / "yet") > 0


def test_expand_takes_names_before_patterns(tmp_path: Path, bucket: str):
    for name in ("clip[1].mp4", "clip1.mp4", "b.mp4", "sub/c.mp4"):
        write_bytes_atomic(tmp_path / name, b"x")
        write_bytes_atomic(join(bucket, name), b"x")
    assert expand(tmp_path / "clip[1].mp4") == [str(tmp_path / "clip[1].mp4")]
    assert [Path(path).name for path in expand(tmp_path / "*.mp4")] == ["b.mp4", "clip1.mp4", "clip[1].mp4"]
    assert [Path(path).name for path in expand(tmp_path / "**/c.mp4")] == ["c.mp4"]
    remote = expand(f"{bucket}/*.mp4")
    assert [path.rpartition("/")[2] for path in remote] == ["b.mp4", "clip1.mp4", "clip[1].mp4"]
    assert read_bytes(remote[0]) == b"x"
    assert expand(f"{bucket}/b.mp4") == [f"{bucket}/b.mp4"]


def test_expand_of_nothing_is_an_error(tmp_path: Path, bucket: str):
    for pattern in (str(tmp_path / "*.mp4"), str(tmp_path / "gone.mp4"), f"{bucket}/*.mp4", f"{bucket}/gone.mp4"):
        with pytest.raises(StorageError, match="nothing found") as caught:
            expand(pattern)
        assert caught.value.reason == "absent"


def test_a_dangling_link_is_found_and_left_to_the_decoder(tmp_path: Path):
    (tmp_path / "link.mp4").symlink_to(tmp_path / "gone.mp4")
    assert expand(tmp_path / "link.mp4") == [str(tmp_path / "link.mp4")]


def test_stage_copies_remote_files_and_folders_and_leaves_local_ones(tmp_path: Path, bucket: str):
    write_bytes_atomic(join(bucket, "in/my clip.mp4"), b"video")
    write_bytes_atomic(join(bucket, "in/frames/left/1.png"), b"one")
    write_bytes_atomic(join(bucket, "in/frames/2.png"), b"two")
    work = tmp_path / "work"
    assert stage(tmp_path / "x.mp4", work) == tmp_path / "x.mp4"
    clip = stage(f"{bucket}/in/my clip.mp4", work)
    assert clip.read_bytes() == b"video"
    assert clip.suffix == ".mp4"
    for _ in range(2):
        frames = stage(f"{bucket}/in/frames", work)
        found = sorted(path.relative_to(frames).as_posix() for path in frames.rglob("*.png"))
        assert found == ["2.png", "left/1.png"]
    assert sorted(path.name for path in work.iterdir()) == sorted([clip.name, frames.name])


def test_staging_what_is_not_there_leaves_nothing(tmp_path: Path, bucket: str):
    with pytest.raises(StorageError, match="cannot fetch") as caught:
        stage(f"{bucket}/gone.mp4", tmp_path / "work")
    assert caught.value.reason == "absent"
    assert list((tmp_path / "work").iterdir()) == []
