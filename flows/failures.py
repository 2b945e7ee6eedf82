"""What went wrong with one video, in the words of the ledger."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from nvds_core.types import CoreError
from storage import StorageError
from storage.errors import reason_of
from tasks.memory import is_memory_error, release_memory
from tasks.workspace import public_text

log = logging.getLogger("nvds")

MESSAGE_LENGTH = 2000
ORCHESTRATOR_MODULES = {"httpx", "httpcore", "prefect"}


def explain(video_id: str, step: str, error: Exception) -> dict[str, Any]:
    """Reason, step and message of a failed step; what nobody foresaw is also logged with its trace.

    Frees what the step held: its frames live on in the trace of the error otherwise.
    """
    reason = reason_for(error)
    if reason == "internal":
        log.error("%s: step %s failed", video_id, step, exc_info=error)
    message = public_text(error) or type(error).__name__
    if not isinstance(error, CoreError | StorageError):
        message = f"{type(error).__name__}: {message}"
    traceback.clear_frames(error.__traceback__)
    if reason == "memory":
        release_memory()
    return {"reason": reason, "step": step, "message": message[:MESSAGE_LENGTH]}


def reason_for(error: BaseException) -> str:
    """The slug of an error; "internal" for what is a bug of ours or of a library."""
    if isinstance(error, CoreError | StorageError):
        return error.reason
    if is_memory_error(error):
        return "memory"
    if type(error).__module__.split(".")[0] in ORCHESTRATOR_MODULES:
        return "orchestrator"
    return reason_of(error) if isinstance(error, OSError) else "internal"
