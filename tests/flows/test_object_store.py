"""Whole runs from and to an S3 server over real HTTP, also one that often fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pytest

from storage import files, open_volume
from tests.flows.finished import FRAMES, SIZE, finished_run, nvds
from tests.object_store import ObjectStore, running_store

pytestmark = pytest.mark.s3
SECRET = "s3cr3t-s3cr3t-s3cr3t"
OUT = "s3://depth/out"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ObjectStore]:
    """A server with the empty bucket ``depth`` and the bucket ``films``, which holds a clip and a broken file."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with running_store() as server:
        monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": server.endpoint})
        client = boto3.client("s3", endpoint_url=server.endpoint)
        for bucket in ("depth", "films"):
            client.create_bucket(Bucket=bucket)
        run = finished_run()
        client.put_object(Bucket="films", Key="in/clip.mp4", Body=run.clip.read_bytes())
        client.put_object(Bucket="films", Key="in/broken.mp4", Body=run.broken.read_bytes())
        server.requests.clear()
        yield server


def run(*inputs: str) -> tuple[int, dict[str, Any]]:
    """`nvds run` into the bucket; exit code and summary."""
    size = f"{SIZE[0]}x{SIZE[1]}"
    result = nvds("run", *inputs, "--out", OUT, "--size", size, "--frames", FRAMES, "--encoding", "float32", "--json")
    assert SECRET not in result.output
    return result.exit_code, json.loads(result.stdout.splitlines()[-1])


def digests(video: str) -> dict[str, str]:
    """Digests of all results of the local run and of the one in the bucket must be the same."""
    volume = open_volume(video)
    return {name: volume.digest(name) for name in ("initial", "forward", "backward", "mix")}


def test_a_bucket_of_videos_becomes_a_bucket_of_volumes(store: ObjectStore, prefect_api: str) -> None:
    code, summary = run("s3://films/in/")
    assert code == 1
    assert (summary["done"], summary["failed"], summary["reasons"]) == (1, 1, {"not_a_video": 1})
    local = finished_run()
    [video] = fsspec.filesystem("s3", endpoint_url=store.endpoint).ls("depth/out/videos")
    assert digests(f"s3://{video}") == digests(str(local.out / "videos" / local.video_id))

    store.requests.clear()
    code, summary = run("s3://films/in/clip.mp4")
    assert (code, summary["done"], summary["cached"]) == (0, 1, 1)
    assert not [prefix for prefix in store.listed() if prefix.startswith("out/videos")]  # records are asked for by name
    told = nvds("status", OUT, "--json")
    assert json.loads(told.stdout.splitlines()[-1])["done"] == 1
    assert SECRET not in told.output


def test_a_store_that_often_fails_gets_the_same_volumes(store: ObjectStore, prefect_api: str) -> None:
    store.share = 0.15
    code, summary = run("s3://films/in/clip.mp4")
    store.share = 0.0
    assert (code, summary["done"], summary["failed"]) == (0, 1, 0), summary
    assert store.failed >= 3
    local = finished_run()
    [video] = fsspec.filesystem("s3", endpoint_url=store.endpoint).ls("depth/out/videos")
    assert digests(f"s3://{video}") == digests(str(local.out / "videos" / local.video_id))


def test_a_store_that_always_fails_ends_the_run_with_one_line(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_ATTEMPTS", 1)  # each of which is some seconds of the client's own
    store.share, store.faults = 1.0, ("503",)
    result = nvds("run", str(finished_run().clip), "--out", OUT)
    assert result.exit_code == 2
    [line] = [line for line in result.output.splitlines() if line.startswith("nvds: ")]
    assert "s3://depth/out" in line
    assert SECRET not in line


def test_a_table_goes_into_a_bucket(store: ObjectStore) -> None:
    out = finished_run().out
    result = nvds("table", out, "--format", "csv", "--output", "s3://depth/tables/opw.csv")
    assert (result.exit_code, result.stderr) == (0, "s3://depth/tables/opw.csv\n")
    written = fsspec.filesystem("s3", endpoint_url=store.endpoint).cat_file("depth/tables/opw.csv")
    assert written.decode() == nvds("table", out, "--format", "csv").stdout
