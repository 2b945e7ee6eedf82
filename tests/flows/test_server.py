"""Prefect's built-in server ends with the run, whatever ends the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from flows.server import prefect_server
from nvds_core.types import ConfigError

REPO = Path(__file__).resolve().parents[2]
PATIENCE_S = 60
CHILD = """
import time
from flows.server import prefect_server
with prefect_server():
    from prefect.client.orchestration import get_client
    with get_client(sync_client=True) as client:
        print(client.api_url, flush=True)
    time.sleep(600)
"""


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_a_killed_server_is_started_anew_and_a_killed_run_takes_its_server_along(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment["PYTHONPATH"] = str(REPO)
    with subprocess.Popen([sys.executable, "-c", CHILD], env=environment, cwd=tmp_path, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        url = run.stdout.readline().decode()
        assert url.startswith("http://127.0.0.1:")
        [server] = psutil.Process(run.pid).children(recursive=True)
        listening = [one.laddr.ip for one in server.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        assert listening == ["127.0.0.1"], "nobody else can reach it"
        server.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        while run.poll() is None and not answers(url.strip().rstrip("/")):
            if time.monotonic() > deadline:
                run.kill()
            time.sleep(0.1)
        assert run.poll() is None, "the server does not come back"
        [anew] = psutil.Process(run.pid).children(recursive=True)
        assert anew.pid != server.pid
        server = anew
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while not gone(server):
        assert time.monotonic() < deadline, "the server outlives the run"
        time.sleep(0.1)


def test_a_server_that_does_not_answer_is_said_with_the_setting_that_names_it():
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    nowhere = temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0})
    with nowhere, pytest.raises(ConfigError, match="PREFECT_API_URL"), prefect_server():
        pass
