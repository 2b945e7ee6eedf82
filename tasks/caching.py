"""Steps: tasks that look before they work, as an artifact that exists is never made again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed

from storage import ArtifactRef, StorageError
from tasks.workspace import StepResult, Workspace

StepReturn = StepResult | State[StepResult]
P = ParamSpec("P")
R = TypeVar("R")
_PLAIN: ContextVar[bool] = ContextVar("plain", default=False)

RETRIES = 2
RETRY_DELAYS_S = [1, 10]
# Worth another try: a network file system or an object store had a bad moment. Everything else fails again.
TRANSIENT = (ConnectionError, TimeoutError, InterruptedError)


def may_pass(error: BaseException | None) -> bool:
    """Whether an error may go away by itself."""
    return isinstance(error, TRANSIENT) or (isinstance(error, StorageError) and error.reason == "transient")


def is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """`may_pass` as Prefect's condition for another attempt."""
    return may_pass(state.result(raise_on_failure=False))


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


class Step(Task[P, R]):
    """A Prefect task that inside `plain_steps` is an ordinary call, with the same further attempts."""

    def __call__(self, *args: P.args, **options: P.kwargs) -> R:  # type: ignore[override]
        if not _PLAIN.get():
            return super().__call__(*args, **options)
        for delay_s in RETRY_DELAYS_S:
            try:
                return self.fn(*args, **options)
            except Exception as error:
                if not may_pass(error):
                    raise
            time.sleep(delay_s)
        return self.fn(*args, **options)


def step(**options: Any) -> Callable[[Callable[P, R]], Step[P, R]]:
    """The decorator of a step; takes the options of Prefect's ``task``."""
    return lambda function: Step(function, **(TASK_OPTIONS | options))


@contextmanager
def plain_steps() -> Iterator[None]:
    """Inside, steps are ordinary calls: where videos are tasks themselves, a run of Prefect's for each of their steps
    would cost more than short clips do."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


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
