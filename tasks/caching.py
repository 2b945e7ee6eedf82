"""Tasks that look before they work: an artifact that exists is never made again."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed

from storage import ArtifactRef, StorageError
from tasks.workspace import StepResult, Workspace

StepReturn = StepResult | State[StepResult]

RETRIES = 2
RETRY_DELAYS_S = [1, 10]
# Worth another try: a network file system or an object store had a bad moment. Everything else fails again.
TRANSIENT = (ConnectionError, TimeoutError, InterruptedError)


def is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Retry condition for Prefect: only errors that may go away by themselves."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, TRANSIENT) or (isinstance(error, StorageError) and error.reason == "transient")


# The truth is the artifact on disk, not Prefect's database: a key there would outlive a cleaned folder, and a lost
# database would forget finished work. So Prefect's own cache stays out of it.
TASK_OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": RETRIES,
    "retry_delay_seconds": RETRY_DELAYS_S,
    "retry_condition_fn": is_transient,
    "log_prints": False,
}


def produce(workspace: Workspace, ref: ArtifactRef, make: Callable[[Path], int]) -> StepReturn:
    """Make an artifact unless it exists.

    ``make(folder)`` fills the folder, which is published only on success, and returns the number of frames. If the
    artifact exists the task run ends in a completed state named "Cached".
    """
    store = workspace.store
    if store.find(ref) is not None:
        return Completed(name="Cached", data=StepResult(ref, True, 0.0, 0))
    started = time.perf_counter()
    with store.create(ref) as folder:
        frames = make(folder)
    return StepResult(ref, False, time.perf_counter() - started, frames)


def result_of(returned: StepReturn) -> StepResult:
    """What a task call gave: Prefect hands a state that a task returns, such as "Cached", to the caller as it is."""
    if isinstance(returned, State):
        result: StepResult = returned.result()
        return result
    return returned
