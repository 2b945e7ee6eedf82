from __future__ import annotations

import errno

import cv2
import httpx
import numpy as np
import pytest
import torch

from flows.failures import explain, reason_for
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
