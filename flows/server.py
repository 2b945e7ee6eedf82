"""Prefect's server for one run: the one that the settings name, or an own one that ends with this process.

Prefect would start such a server by itself, but it outlives a killed run (kill -9, memory) and keeps its port and its
memory for ever. Ours reads from a pipe that only the run holds open: whatever ends the run ends the pipe, and with it
the server.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from flows.server_process import LOOPBACK, STOP_S
from nvds_core.types import ConfigError

LOOK_S = 0.1
RESTARTS = 5
DRAIN_S = 30.0  # 5,000 events, of about 700 videos, took 20 s
PROGRAM = Path(__file__).with_name("server_process.py")
# How Prefect tells a server that it belongs to one program: no UI, no settings of a permanent one.
EPHEMERAL = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}

log = logging.getLogger("nvds")


@contextmanager
def prefect_server() -> Iterator[None]:
    """Have Prefect's API while the block runs.

    Raises:
        ConfigError: reason ``prefect``: the server that PREFECT_API_URL names does not answer, or none can be started.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if PREFECT_API_URL.value():
        _greet()
        yield
        return
    with _Server() as server, temporary_settings({PREFECT_API_URL: server.url}):
        try:
            yield
        finally:
            _send_the_rest()


class _Server:
    """A server process that is started anew, at its port and with its database, if somebody kills it."""

    def __init__(self) -> None:
        self._process = _start(0)
        try:
            self._port = _port_of(self._process)
            _wait_for(self._process, self.url)
        except BaseException:
            _stop(self._process)
            raise
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="server", daemon=True)

    def __enter__(self) -> _Server:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        _stop(self._process)

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://{LOOPBACK}:{self._port}/api"

    def _keep(self) -> None:
        for _ in range(RESTARTS):
            while self._process.poll() is None:
                if self._over.wait(LOOK_S):
                    return
            log.warning("Prefect's built-in server died; starting it anew")
            _stop(self._process)
            self._process = _start(self._port)


def _greet() -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
    if problem is not None:
        raise ConfigError(
            f"Prefect's server cannot be reached ({problem}); check PREFECT_API_URL, or unset it for the built-in one",
            reason="prefect",
        ) from problem


def _start(port: int) -> subprocess.Popen[bytes]:
    from prefect.settings import get_current_settings

    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    # -P: the folder of the program holds modules of ours. A session of its own: Ctrl-C is for the run, which then still
    # tells the server how it ended.
    return subprocess.Popen(
        [sys.executable, "-P", str(PROGRAM), str(port)],
        env={**os.environ, **EPHEMERAL, **settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def _port_of(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    said = process.stdout.readline().decode().strip()
    if not said:
        raise ConfigError("Prefect's built-in server did not start; what it said is above", reason="prefect")
    return int(said)


def _wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

    patience: int = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    deadline = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(LOOK_S)
    how = "ended" if process.poll() is not None else f"does not answer after {patience} s"
    raise ConfigError(
        f"Prefect's built-in server {how}; PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS gives it more time",
        reason="prefect",
    )


def _send_the_rest() -> None:
    """Let Prefect deliver the events it still holds: its thread would look for our server for ever afterwards."""
    from prefect.events.worker import EventsWorker

    EventsWorker.drain_all(timeout=DRAIN_S, at_exit=False)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
