"""Which process this is, in words that tell it from all others, and whether another one still lives."""

from __future__ import annotations

import contextlib
import os
import socket
from functools import cache
from pathlib import Path

import psutil

_BOOT_ID, _PID_NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), "/proc/self/ns/pid"


def start_of(pid: int) -> float | None:
    """When a process began, to tell it from a later one of the same number; None if there is none.

    On Linux in clock ticks since boot, which do not move when somebody sets the clock.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] == "Z" else float(fields[19])
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


@cache
def machine() -> str:
    """Where process numbers mean the same: host name, this boot of it, and the container's own numbering."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(_BOOT_ID.read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink(_PID_NAMESPACE))
    return " ".join(parts)


def lives(where: object, pid: object, started: object) -> bool | None:
    """Whether the process `pid` that began at `started` lives; None if it ran elsewhere and cannot be asked."""
    if where != machine() or not isinstance(pid, int):
        return None
    return start_of(pid) == started
