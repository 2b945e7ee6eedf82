from __future__ import annotations

import ast
import errno
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
import torch

from flows.dispatch import WORKER_DIED
from flows.failures import explain, reason_for
from flows.shards import TIMED_OUT
from nvds_core.types import CoreError, DecodeError
from storage import StorageError


def failing_allocation(call) -> BaseException:
    with pytest.raises((MemoryError, RuntimeError, cv2.error)) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DecodeError("cut off", reason="truncated"), "truncated"),
        (CoreError("strange"), "error"),
        (StorageError("full", reason="disk_full"), "disk_full"),
        (OSError(errno.ENOSPC, "no space"), "disk_full"),
        (PermissionError(errno.EACCES, "no"), "read_only"),
        (MemoryError(), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
        (httpx.ConnectError("refused"), "orchestrator"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "internal"),
        (ZeroDivisionError("division by zero"), "internal"),
    ],
)
def test_every_error_has_a_short_reason(error, reason):
    assert reason_for(error) == reason


def test_memory_that_libraries_could_not_get_counts_as_memory():
    assert reason_for(failing_allocation(lambda: torch.empty(2**55))) == "memory"
    assert reason_for(failing_allocation(lambda: np.empty(2**50))) == "memory"


def test_only_what_nobody_foresaw_is_logged_with_its_trace(caplog):
    told = explain("v-1", "frames", DecodeError("v.mp4: cut off", reason="truncated"))
    assert told == {"reason": "truncated", "step": "frames", "message": "v.mp4: cut off"}
    assert caplog.records == []
    told = explain("v-1", "flow", ZeroDivisionError("division by zero"))
    assert told["message"] == "ZeroDivisionError: division by zero"
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_messages_are_short_and_hold_no_credentials():
    told = explain("v-1", "frames", DecodeError("https://me:secret@host/v.mp4 " + "x" * 10_000))
    assert "secret" not in told["message"]
    assert len(told["message"]) == 2000


def test_what_a_failed_step_held_is_let_go():
    import weakref

    class Large:
        pass

    held = []

    def step() -> None:
        large = Large()
        held.append(weakref.ref(large))
        raise DecodeError("no")

    try:
        step()
    except DecodeError as error:
        explain("v-1", "frames", error)
        assert held[0]() is None


WORKING = ("nvds_core/video", "nvds_core/predictors", "nvds_core/flow", "nvds_core/tto", "storage", "tasks")
# of commands, of notebooks, and of optimisation, which has its own table
NEVER_OF_A_FAILED_VIDEO = {"no_input", "library", "no_parallax"}


def reasons_in(folder: Path) -> Iterator[str]:
    """Every text that is given as ``reason=``."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "reason" and isinstance(node.value, ast.Constant):
                yield str(node.value.value)


def test_the_operators_page_explains_every_reason_a_video_can_fail_with(repo):
    explained = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page(repo), flags=re.MULTILINE))))
    used = {reason for folder in WORKING for reason in reasons_in(repo / folder)} - NEVER_OF_A_FAILED_VIDEO
    used |= {kind.reason for kind in (CoreError, *CoreError.__subclasses__(), StorageError)}
    used |= {TIMED_OUT, WORKER_DIED, "internal", "memory", "orchestrator", "disk_full", "read_only", "transient"}
    assert used <= explained, used - explained
    assert explained <= used, explained - used


def page(repo: Path) -> str:
    return (repo / "docs" / "operations.md").read_text(encoding="utf-8")
