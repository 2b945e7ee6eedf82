"""Child processes that die in the middle of their work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_until_killed(script: str, *arguments: str) -> None:
    """Run Python code in a child process until it prints a line, then kill it with signal 9."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert child.stdout is not None
    with child.stdout:
        line = child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert line.strip() == "ready", "the child ended before it could be killed"
