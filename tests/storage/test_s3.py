"""The layer against an S3 server over real HTTP (moto, in this process)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import boto3
import fsspec
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from storage import StorageError, VolumeWriter, open_volume, read_record, tables, write_record
from storage.locations import exists, expand, publish_tree, read_bytes, remove_tree, stage, write_bytes_atomic

pytestmark = pytest.mark.s3
SECRET = "s3cr3t-s3cr3t-s3cr3t"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def root(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    # not AWS_ENDPOINT_URL: fsspec keeps clients by their options, and would give this one to tests of another server
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": endpoint})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="depth")
    return "s3://depth/out"


def make_volume(folder: Path, seed: int, frames: int = 5) -> str:
    video = np.random.default_rng(seed).normal(size=(frames, 20, 30)).astype(np.float32)
    with VolumeWriter(folder, results=["mix"], frames=frames, height=20, width=30, time=np.arange(frames)) as volume:
        volume.write("mix", 0, video)
    write_record(folder, {"seed": seed})
    return open_volume(folder).digest("mix")


def test_a_video_goes_to_s3_and_back(root: str, tmp_path: Path):
    url = f"{root}/videos/a"
    assert read_record(url) is None
    make_volume(tmp_path / "one", 1, frames=200)
    publish_tree(tmp_path / "one", url)
    digest = make_volume(tmp_path / "two", 2)
    publish_tree(tmp_path / "two", url)
    assert read_record(url) == {"seed": 2}
    assert open_volume(url).digest("mix") == digest
    copy = stage(url, tmp_path / "staged")
    assert open_volume(copy).digest("mix") == digest
    # the first volume was longer: its further files must be gone
    assert len([path for path in (copy / "mix" / "c").rglob("*") if path.is_file()]) == 1
    assert expand(f"{root}/videos/*") == [url]
    remove_tree(url)
    assert read_record(url) is None
    assert not exists(url)


def test_tables_live_on_s3(root: str):
    for part in range(3):
        tables.append(root, "outcomes", [{"video_id": f"v{part}", "status": "done"}], run_id="r", part=part)
    tables.compact(root, "outcomes")
    assert [row["video_id"] for row in tables.latest(root, "outcomes")] == ["v0", "v1", "v2"]
    assert tables.read(root, "timings").num_rows == 0


def test_what_others_wrote_meanwhile_is_seen(root: str, endpoint: str):
    url = f"{root}/later.txt"
    assert not exists(url)
    boto3.client("s3", endpoint_url=endpoint).put_object(Bucket="depth", Key="out/later.txt", Body=b"x")
    assert exists(url)
    assert read_bytes(url) == b"x"


def test_errors_of_the_store_are_told_apart_and_hide_the_key(root: str):
    with pytest.raises(StorageError) as caught:
        read_bytes(f"{root}/gone")
    assert caught.value.reason == "absent"
    with pytest.raises(StorageError) as caught:
        write_bytes_atomic("s3://no-such-bucket/x", b"x")
    assert SECRET not in str(caught.value)
    with pytest.raises(StorageError) as caught:
        open_volume(f"{root}/gone")
    assert caught.value.reason == "absent"
