"""The allocator's setting and the peak, in processes of their own, as neither can be undone."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import ctypes, resource, sys
from nvds_core.memory import keep_freed_memory
if sys.argv[1] == "keep":
    print(keep_freed_memory())
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
size = 40 << 20
for _ in range(20):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(mode: str) -> int:
    run = subprocess.run([sys.executable, "-c", CODE, mode], capture_output=True, text=True, timeout=300, check=True)
    lines = run.stdout.split()
    if mode == "keep" and lines[0] == "False":
        pytest.skip("the C library has no mallopt")
    return int(lines[-1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_kept_memory_is_not_mapped_anew_by_every_allocation() -> None:
    pages = (40 << 20) // 4096
    saved = page_faults("plain") - page_faults("keep")
    assert saved > 15 * pages  # of 20 allocations only the first touches new pages


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the system counts it")
def test_the_peak_is_of_this_process_and_not_of_the_one_that_started_it() -> None:
    peak = "from nvds_core.memory import peak_memory; print(peak_memory())"
    start = f"""
import subprocess, sys
held = bytearray(1 << 30)
for page in range(0, len(held), 4096):
    held[page] = 1
subprocess.run([sys.executable, "-c", {peak!r}], check=True)
"""
    run = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=300, check=True)
    assert 10 < float(run.stdout) < 1000
