"""Real footage through the whole pipeline, and the pipeline on a Prefect server of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from storage import open_volume, read_record
from tests.flows.helpers import CONFIG, leftovers, run

REPO = Path(__file__).resolve().parents[1]
FRAMES = 4


@pytest.fixture
def footage(shared: Path) -> Path:
    path = shared / "data" / "vdw_stereo" / "000002.mp4"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in ../shared/data")
    return path


def check(out: Path) -> None:
    """One finished volume whose results belong together."""
    (folder,) = (out / "videos").iterdir()
    volume, record = open_volume(folder), read_record(folder)
    assert record is not None
    assert volume.results == ("initial", "forward", "backward", "mix")
    assert volume.frames == record["frames"] == FRAMES
    assert min(volume.shape[1:]) == 64
    values = {name: volume.read(name) for name in volume.results}
    assert all(np.isfinite(maps).all() and np.ptp(maps) > 0 for maps in values.values())
    if record["mix_choices"] == ["mean"]:
        assert np.allclose(values["mix"], (values["forward"] + values["backward"]) / 2, atol=1e-3)
    else:
        assert np.array_equal(values["mix"], values[record["mix_choices"][0]])
    assert len(record["opw"]["mix"]["pairs"]) == FRAMES - 1


def test_real_footage_becomes_a_volume_and_stays_one(prefect_api, footage, tmp_path):
    frames = {**CONFIG["frames"], "limit": FRAMES}
    summary, _ = run(footage, tmp_path / "out", frames=frames)
    assert (summary["done"], summary["failed"]) == (1, 0)
    check(tmp_path / "out")
    again, _ = run(footage, tmp_path / "out", frames=frames)
    assert again["cached"] == 1
    assert leftovers(tmp_path / "out") == []


@contextmanager
def server(home: Path) -> Iterator[str]:
    """A real ``prefect server start`` on a free port; its whole process group ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PREFECT_HOME": str(home)}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}/api"
        wait_for(f"{url}/health", process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended by itself"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError("the server did not answer")


CHILD = """
import json, sys
from flows.process import process_dataset
print(json.dumps(process_dataset(**json.loads(sys.argv[1]))))
"""


@pytest.mark.slow
def test_a_run_reports_to_the_server_that_prefect_api_url_names(footage, tmp_path):
    frames = {**CONFIG["frames"], "limit": FRAMES}
    parameters = {"inputs": [str(footage)], "out": str(tmp_path / "out"), "config": {"frames": frames}}
    with server(tmp_path / "prefect") as url:
        environment = {**os.environ, "PREFECT_API_URL": url, "PYTHONPATH": str(REPO)}
        child = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps(parameters)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert child.returncode == 0, child.stderr
        request = urllib.request.Request(
            f"{url}/task_runs/filter", data=b"{}", headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            names = {run["name"] for run in json.loads(answer.read())}
    assert json.loads(child.stdout)["done"] == 1
    assert child.stderr == ""
    assert any(name.startswith("extract-frames 000002-") for name in names)
    check(tmp_path / "out")
