"""Memory of this process: what the C library's allocator does with what has been freed, and the most there was."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

# Parameters of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
TOP_PAD = 64 << 20
_STATUS = Path("/proc/self/status")


def keep_freed_memory() -> bool:
    """Keep freed memory for the next allocation; for processes whose work is to run networks on a CPU.

    By default glibc returns large blocks to the system at once. A network allocates and frees its maps all the time,
    and mapping and clearing their pages anew takes a good part of its time (docs/performance.md). The process then
    keeps the most it ever used at once.

    Returns:
        True on Linux with glibc, False elsewhere, where nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, TOP_PAD))
    accepted = [mallopt(parameter, value) for parameter, value in settings]
    return all(accepted)


def peak_memory() -> float:
    """The most memory (MB) of this process so far.

    On Linux not from `getrusage`, which goes on from the peak of the process that started this one.
    """
    if _STATUS.is_file():
        (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
