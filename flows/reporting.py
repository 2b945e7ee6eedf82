"""What a person sees while a run works: a progress bar in a terminal, plain lines in a log, nothing when told so."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flows.ledger import Outcome
from flows.planning import Plan
from storage.errors import one_line
from tasks.workspace import public_text

log = logging.getLogger("nvds")


class Reporter(Protocol):
    """Told of every step of a run."""

    def start(self, plan: Plan) -> None:
        """The plan is made."""
        ...

    def video(self, outcome: Outcome) -> None:
        """One video is settled."""
        ...

    def finish(self) -> None:
        """The run ends, well or not."""
        ...


class Silent:
    """Says nothing."""

    def start(self, plan: Plan) -> None:
        return None

    def video(self, outcome: Outcome) -> None:
        return None

    def finish(self) -> None:
        return None


class Lines:
    """One line per video on standard error; in a terminal with a progress bar below them."""

    def __init__(self, *, bar: bool | None = None) -> None:
        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._bar_wanted = sys.stderr.isatty() if bar is None else bar
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._total, self._count = 0, 0

    def start(self, plan: Plan) -> None:
        self._total, self._count = len(plan.videos) + len(plan.unreadable), 0
        self._say(f"{self._total} videos: {len(plan.done)} done before, {len(plan.pending)} to do")
        for duplicate in plan.duplicates:
            self._say(f"{public_text(duplicate.uri)}: same name and content as another input; one result serves both")
        if self._bar_wanted:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self._console)
            self._bar.start()
            self._task = self._bar.add_task("videos", total=self._total)

    def video(self, outcome: Outcome) -> None:
        self._count += 1
        if not outcome.cached:
            self._say(f"[{self._count}/{self._total}] {describe(outcome)}")
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, text: str) -> None:
        with suppress(OSError):  # a closed terminal must not end a run of many hours
            self._console.print(one_line(text), markup=False, emoji=False)


def describe(outcome: Outcome) -> str:
    """One line about one outcome."""
    name = outcome.video.video_id
    if outcome.status == "failed":
        return f"{name}: FAILED at {outcome.step} ({outcome.reason}): {outcome.message}"
    scores = " ".join(f"{key} {value:.4f}" for key, value in outcome.opw.items())
    scores = f"OPW {scores}" if scores else "not scored"
    frames = outcome.record["frames"] if outcome.record else 0
    untouched = outcome.untouched
    if untouched is not None:
        scores += f"; not optimised ({untouched[0]}): {untouched[1]}"
    return f"{name}: {frames} frames in {outcome.seconds:.1f} s, {scores}"


_SILENT = Silent()
_REPORTER: ContextVar[Reporter] = ContextVar("reporter")


def current_reporter() -> Reporter:
    """Who is told, in this context."""
    return _REPORTER.get(_SILENT)


@contextmanager
def reporting(reporter: Reporter) -> Iterator[None]:
    """Tell ``reporter`` of the runs inside the block."""
    token = _REPORTER.set(reporter)
    try:
        yield
    finally:
        _REPORTER.reset(token)


def shown_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary of a run, which also becomes a table artifact of the flow run.

    That is for whoever looks at the server; a server that went away meanwhile costs nobody a finished run.
    """
    import httpx
    from prefect.artifacts import create_table_artifact

    counts = {name: summary[name] for name in ("videos", "done", "cached", "failed")}
    reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(summary["reasons"].items()))
    opw = {f"OPW {name}": value for name, value in summary["opw"].items()}
    try:
        create_table_artifact([{**counts, "reasons": reasons, **opw}], key="summary", description=summary["out"])
    except httpx.HTTPError as error:
        log.warning("Prefect's server did not take the summary: %s", error)
    return summary
