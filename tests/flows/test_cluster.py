"""Runs with worker processes, some of which die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from flows.cluster import same_environment, visible_gpus
from flows.status import status_of
from storage.tables import latest
from tasks import workers
from tests.flows.helpers import digests, run
from tests.flows.test_server import gone
from tests.nvds_core.video.makers import write_video
from tests.plugin_site import plugin_site
from tests.tasks.helpers import clip, scenes

REPO = Path(__file__).resolve().parents[2]
PATIENCE_S = 120
# What it does depends on the colour of a picture: red kills the process, blue takes for ever.
TRAP = """
import os, signal, time
class Trap:
    name, digest, short_side, multiple = "trap", "trap:1", 64, 32
    def __init__(self, device):
        pass
    def predict(self, unit_rgb):
        red, green, blue = unit_rgb.mean(axis=(0, 1, 2))
        if red > 2 * blue:
            os.kill(os.getpid(), signal.SIGKILL)
        if blue > 2 * red:
            time.sleep(3600)
        return unit_rgb.mean(axis=3).astype("float32")
"""
SETTINGS = {
    "predictor": {"name": "trap"},
    "stabilizer": {"name": "none"},
    "score": {"name": "none"},
    "frames": {"size": {"short_side": 64}},
    "workers": {"count": 2, "deaths": 1},
}
COLOURS = {"red": (200, 20, 20), "blue": (20, 20, 200), "grey": (120, 120, 120), "white": (230, 230, 230)}
CHILD = """
import json, sys
from flows.process import process_dataset
if __name__ == "__main__":
    print(json.dumps(process_dataset([sys.argv[1]], sys.argv[2], json.loads(sys.argv[3]))))
"""


@pytest.fixture
def site(tmp_path):
    """The folder that the trap is installed in, for this process and those it starts."""
    (tmp_path / "site").mkdir()
    with plugin_site(tmp_path / "site") as found:
        found.install("trap", TRAP, {"nvds.predictors": {"trap": "trap:Trap"}})
        yield found.folder
    workers._predictor.cache_clear()


def inputs(folder: Path, *colours: str) -> Path:
    folder.mkdir()
    for name in colours:
        write_video(folder / f"{name}.mp4", [np.full((64, 96, 3), COLOURS[name], np.uint8)] * 4)
    return folder


@pytest.mark.slow
def test_a_video_that_kills_its_worker_is_a_row_and_the_others_are_done(prefect_api, site, tmp_path):
    summary, watched = run(inputs(tmp_path / "in", "red", "grey", "white"), tmp_path / "out", **SETTINGS)
    assert {name: summary[name] for name in ("done", "failed", "reasons")} == {
        "done": 2,
        "failed": 1,
        "reasons": {"worker_died": 1},
    }
    assert "1 workers died" in str(watched.named("red").message)
    assert all(outcome.peak_rss_mb for outcome in watched.outcomes if outcome.status == "done")
    assert {row["status"] for row in latest(str(tmp_path / "out"), "outcomes")} == {"done", "failed"}
    assert status_of(str(tmp_path / "out"))["pending"] == 0


@pytest.mark.slow
def test_a_video_that_several_workers_share_has_the_bits_of_one_made_in_one_go(prefect_api, tmp_path, caplog):
    (tmp_path / "in").mkdir()
    clip(tmp_path / "in" / "long.mp4", scenes(9, 14))
    sizes = {"frames": {"size": {"short_side": 64}}}
    run(tmp_path / "in", tmp_path / "alone", **sizes)
    with caplog.at_level("INFO", logger="nvds"):
        summary, _ = run(tmp_path / "in", tmp_path / "out", **sizes, workers={"count": 2, "block_frames": 8})
    assert "1 long videos are shared" in caplog.text
    assert summary["done"] == 1
    assert digests(tmp_path / "out") == digests(tmp_path / "alone")
    assert not list((tmp_path / "out" / ".work").glob("*-part/*"))


@pytest.mark.slow
def test_a_killed_run_takes_its_workers_along_and_nothing_listens_beyond_this_machine(prefect_api, site, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(CHILD)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), str(site)]), "PREFECT_API_URL": prefect_api}
    command = [sys.executable, str(script), str(inputs(tmp_path / "in", "blue", "grey")), str(tmp_path / "out")]
    with subprocess.Popen([*command, json.dumps(SETTINGS)], env=environment, cwd=tmp_path) as main:
        deadline = time.monotonic() + PATIENCE_S
        while not list((tmp_path / "out" / "videos").glob("grey-*/record.json")):
            assert main.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        family = [psutil.Process(main.pid), *psutil.Process(main.pid).children(recursive=True)]
        addresses = {
            connection.laddr.ip
            for process in family
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        main.send_signal(signal.SIGKILL)
    assert addresses == {"127.0.0.1"}
    assert len(family) >= 3
    deadline = time.monotonic() + PATIENCE_S
    while not all(gone(process) for process in family):
        assert time.monotonic() < deadline, "workers outlive the run"
        time.sleep(0.1)
    state = status_of(str(tmp_path / "out"))
    assert (state["at_work"], state["running"]) == (False, 0)
    assert state["pending"] >= 1


def test_a_cluster_leaves_the_environment_as_it_was(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with same_environment(["OMP_NUM_THREADS", "MKL_NUM_THREADS"]):
        os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    assert os.environ["OMP_NUM_THREADS"] == "5"
    assert "MKL_NUM_THREADS" not in os.environ


def test_the_gpus_that_somebody_chose_are_the_ones_that_are_dealt_out(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-abc")
    assert visible_gpus() == ["5", "GPU-abc"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
