"""The story of docs/operations.md, run as an operator would type it: two workers, an S3 server, a dead worker."""

from __future__ import annotations

import csv
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from tests.flows.finished import finished_run
from tests.object_store import running_store

PAGE = "docs/operations.md"
SECRET = "s3cr3t-s3cr3t-s3cr3t"


def story(repo: Path) -> str:
    """All blocks marked sh, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", (repo / PAGE).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) >= 7
    return "\n".join(["set -eux", "trap 'kill $(jobs -p) || true' EXIT", *blocks])


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
@pytest.mark.s3
def test_the_night_ends_as_the_page_says(repo: Path, tmp_path: Path, prefect_api: str) -> None:
    done = finished_run()
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(repo),
        "PREFECT_API_URL": prefect_api,
        "GPUS": "2",
        "PORT": str(free_port()),
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    with running_store() as store:
        environment["FSSPEC_S3_ENDPOINT_URL"] = store.endpoint
        client = boto3.client(
            "s3",
            endpoint_url=store.endpoint,
            region_name="us-east-1",
            aws_access_key_id="tester",
            aws_secret_access_key=SECRET,
        )
        for bucket in ("films", "depth"):
            client.create_bucket(Bucket=bucket)
        for name in ("one.mp4", "two.mp4"):
            client.put_object(Bucket="films", Key=f"in/{name}", Body=done.clip.read_bytes())
        client.put_object(Bucket="films", Key="in/bad.mp4", Body=done.broken.read_bytes())
        # To a file, as a pipe would be kept open by whatever the story leaves running.
        with (tmp_path / "said.txt").open("w") as output:
            command = ["bash", "-c", story(repo)]
            told = subprocess.run(
                command, cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT, timeout=500
            )
    said = (tmp_path / "said.txt").read_text()
    assert told.returncode == 0, said[-4000:]
    assert SECRET not in said
    states = [json.loads(line) for line in said.splitlines() if line.startswith('{"')]
    assert [(state["done"], state["failed"]) for state in states] == [(2, 1)]
    with (tmp_path / "opw.csv").open() as table:
        sizes = [(row["width"], row["height"]) for row in csv.DictReader(table) if row["status"] == "done"]
    assert sizes == [("96", "64")] * 2  # of the second run, which lost a worker
    assert (tmp_path / "report" / "index.html").is_file()
