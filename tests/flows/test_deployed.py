"""The deployments of prefect.yaml with a real server, a real work pool and a real worker."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage import read_record
from tests.flows.finished import FRAMES, SIZE, finished_run

CONFIG = {
    "frames": {"size": {"width": SIZE[0], "height": SIZE[1]}, "limit": FRAMES},
    "publish": {"encoding": "float32"},
}


class Prefect:
    """A server of its own with a worker that serves this checkout."""

    def __init__(self, repo: Path, home: Path) -> None:
        self._repo = repo
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.api = f"http://127.0.0.1:{self._port}/api"
        self._environment = os.environ | {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.api,
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "OMP_NUM_THREADS": "1",
            "PWD": str(repo),  # as any shell says; `prefect.yaml` reads it
        }
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._begin("server", "start", "--host", "127.0.0.1", "--port", str(self._port))
        deadline = time.monotonic() + 240
        while not self._healthy():
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.5)
        self("work-pool", "create", "nvds-process", "--type", "process")
        self("--no-prompt", "deploy", "--all")
        self._begin("worker", "start", "--pool", "nvds-process")

    def stop(self) -> None:
        for child in reversed(self._children):
            child.terminate()
        for child in self._children:
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def __call__(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "prefect", *arguments]
        done = subprocess.run(
            command, cwd=self._repo, env=self._environment, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, deployment: str, **parameters: Any) -> None:
        """Run a deployment to its end, which must be a good one."""
        given = [f"{name}={json.dumps(value)}" for name, value in parameters.items()]
        self("deployment", "run", deployment, "--watch", *(part for text in given for part in ("--param", text)))

    def artifacts(self, key: str) -> list[Any]:
        """Contents of the artifacts of one name, the newest first."""
        wanted = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC"}
        found = httpx.post(f"{self.api}/artifacts/filter", json=wanted).json()
        return [artifact["data"] for artifact in found]

    def _begin(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "prefect", *arguments]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._children.append(subprocess.Popen(command, cwd=self._repo, env=self._environment, **quiet))

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.api}/health").is_success
        except httpx.HTTPError:
            return False


@pytest.fixture
def prefect(repo: Path, tmp_path: Path) -> Iterator[Prefect]:
    started = Prefect(repo, tmp_path / "prefect")
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.mark.slow
def test_deployments_run_clips_rerun_what_failed_and_make_the_table(prefect: Prefect, tmp_path: Path) -> None:
    done = finished_run()
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    shutil.copy(done.clip, inputs / "good.mp4")
    shutil.copy(done.broken, inputs / "late.mp4")
    prefect.run("process-dataset/run", inputs=[str(inputs)], out=str(out), config=CONFIG)
    [summary] = json.loads(prefect.artifacts("summary")[0])
    assert (summary["done"], summary["failed"], summary["reasons"]) == (1, 1, "not_a_video: 1")

    shutil.copy(done.clip, inputs / "late.mp4")  # the upload has come to its end
    prefect.run("rerun-failed/rerun-failed", out=str(out), only=[])
    records = [read_record(str(folder)) for folder in sorted((out / "videos").iterdir())]
    assert [record["source"]["name"] for record in records if record] == ["good", "late"]

    prefect.run("make-table/table", out=str(out), output=str(tmp_path / "opw.csv"), format="csv")
    assert (tmp_path / "opw.csv").read_text().count("\ngood") == 1
    assert "late" in prefect.artifacts("videos")[0]
