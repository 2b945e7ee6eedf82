"""The run's record on disk: one outcome per video, with its scores and timings; never Prefect's database."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

from storage import StorageError, VideoRef
from storage.tables import append, compact, latest
from tasks.workspace import StepResult, Workspace, public_text

FLUSH_S = 5.0  # how much of the tables a crash may cost; finished videos themselves are never lost
FLUSHES = 64  # until the parts are merged, so that "nvds status" need not open thousands
TABLES = ("catalog", "outcomes", "timings", "scores")
RESULTS = ("initial", "forward", "backward", "mix")
log = logging.getLogger("nvds")


@dataclass(frozen=True)
class Outcome:
    """What became of one video in one run; ``reason``, ``step`` and ``message`` name the first failure.

    ``peak_rss_mb`` is the largest memory so far of the process that worked on it.
    """

    video: VideoRef
    status: Literal["done", "failed"]
    cached: bool = False
    reason: str | None = None
    step: str | None = None
    message: str | None = None
    key: str | None = None
    seconds: float = 0.0
    record: Mapping[str, Any] | None = None
    steps: tuple[tuple[str, StepResult], ...] = ()
    peak_rss_mb: float | None = None

    @property
    def opw(self) -> dict[str, float]:
        """Mean OPW by result; nothing where it was not measured, or where there is no pair of frames to measure."""
        if self.record is None or self.record["opw"] is None:
            return {}
        return {name: float(values["mean"]) for name, values in self.record["opw"].items() if values.get("pairs") != []}

    @property
    def untouched(self) -> tuple[str, str] | None:
        """Status and reason of a finished video that could not be optimised; COLMAP's last words are in the reason."""
        account = (self.record or {}).get("tto")
        if not account or account["status"] == "ok":
            return None
        words = " | ".join(str(account["log_tail"]).splitlines())
        return str(account["status"]), str(account["reason"]) + (f"; COLMAP: {words}" if words else "")

    @property
    def slim(self) -> Outcome:
        """Itself without what grows with the number of frames, for keeping thousands."""
        opw = {name: {"mean": value} for name, value in self.opw.items()}
        if self.record is None:
            return replace(self, steps=())
        account = {"tto": self.record["tto"]} if "tto" in self.record else {}
        return replace(self, steps=(), record={"opw": opw, **account})


class Ledger:
    """Collects rows and appends them to the tables every few seconds and at the end; a context manager.

    A disk that is full for a while loses no row: rows stay in memory until they could be written. Only if they cannot
    be written at the end either, leaving the ``with`` block raises StorageError.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        self._writer = secrets.token_hex(3)  # a second run of the same name must not replace parts of the first
        self._part = 0
        self._flushed = time.monotonic()
        self._known = _done_rows(workspace.out)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        except StorageError as failure:
            if kind is None:
                raise
            log.error("the tables lack the last rows: %s", failure)  # the error on its way matters more
            return
        self._merge()

    def add(self, outcome: Outcome) -> None:
        """Take one outcome. One of an earlier run only if the tables lack it, so that they do not grow for nothing."""
        if outcome.cached and self._known.get(outcome.video.video_id) == outcome.key:
            return
        now = datetime.now(UTC)
        self._rows["outcomes"].append(_outcome_row(outcome, now))
        if outcome.record is not None:
            self._rows["catalog"].append(_catalog_row(outcome.video, outcome.record, now))
            self._rows["scores"] += _score_rows(outcome, now)
        self._rows["timings"] += [
            {
                "video_id": outcome.video.video_id,
                "step": step,
                "key": result.ref.key,
                "seconds": result.seconds,
                "cached": result.cached,
                "frames": result.frames,
                "finished_at": now,
            }
            for step, result in outcome.steps
        ]
        if time.monotonic() - self._flushed > FLUSH_S:
            try:
                self.flush()
            except StorageError as failure:
                log.warning("the tables cannot be written now, will try again: %s", failure)

    def flush(self) -> None:
        """Append what has been collected.

        Raises:
            StorageError: a table cannot be written; its rows are kept.
        """
        self._flushed = time.monotonic()
        part = f"{self._writer}-{self._part:06d}"
        self._part += 1
        for name in TABLES:
            append(self._workspace.out, name, self._rows[name], run_id=self._workspace.run_id, part=part)
            self._rows[name] = []
        if self._part % FLUSHES == 0:
            self._merge()

    def _merge(self) -> None:
        try:
            for name in TABLES:
                compact(self._workspace.out, name)
        except StorageError as failure:
            log.warning("the parts of the tables were not merged: %s", failure)


def peak_rss_mb() -> float:
    """The largest memory of this process so far, in megabytes."""
    from nvds_core.memory import peak_memory  # here, as the package loads torch, and "nvds status" must be quick

    return peak_memory()


def _done_rows(out: str) -> dict[str, str]:
    """The key of each video that the outcomes call done."""
    try:
        return {row["video_id"]: row["key"] for row in latest(out, "outcomes") if row["status"] == "done"}
    except StorageError as error:
        if error.reason != "format":
            raise
        log.warning("%s", error)
        return {}


def _outcome_row(outcome: Outcome, now: datetime) -> dict[str, Any]:
    record = outcome.record or {}
    reason, message = outcome.untouched or (outcome.reason, outcome.message)
    return {
        "video_id": outcome.video.video_id,
        "uri": public_text(outcome.video.uri),
        "status": outcome.status,
        "reason": reason,
        "step": "optimized" if outcome.untouched else outcome.step,
        "message": message,
        "key": outcome.key,
        "frames": record.get("frames"),
        "width": record.get("width"),
        "height": record.get("height"),
        "cached": outcome.cached,
        "seconds": outcome.seconds,
        "peak_rss_mb": outcome.peak_rss_mb,
        "finished_at": now,
    }


def _catalog_row(video: VideoRef, record: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    source = record["source"]
    return {
        "video_id": video.video_id,
        "uri": public_text(video.uri),
        "kind": video.kind,
        "digest": video.digest,
        "bytes": source.get("bytes"),
        "frames": record["frames"],
        "width": source.get("width"),
        "height": source.get("height"),
        "fps": source.get("fps"),
        "duration_s": source.get("duration_s"),
        "scenes": len(record["cuts"]) + 1,
        "at": now,
    }


def _score_rows(outcome: Outcome, now: datetime) -> list[dict[str, Any]]:
    record = outcome.record
    assert record is not None
    rows: list[dict[str, Any]] = []
    pairs = record["frames"] - len(record["cuts"]) - 1  # no pair crosses a cut
    if not pairs:  # the total of nothing is 0, which would count as perfectly steady
        return rows
    for name, values in (record["opw"] or {}).items():
        rows.append(
            {
                "video_id": outcome.video.video_id,
                "result": name,
                "metric": "opw",
                "protocol": record["opw_protocol"],
                "value": values["mean"],
                "mean_pairs": values["total"] / pairs,
                "pairs": pairs,
                "frames": record["frames"],
                "width": record["width"],
                "height": record["height"],
                "flow": record["weights"]["flow"],
                "choice": ",".join(str(choice) for choice in record["mix_choices"]) if name == "mix" else None,
                "key": outcome.key,
                "finished_at": now,
            }
        )
    return rows


def summarize(outcomes: Sequence[Outcome], out: str) -> dict[str, Any]:
    """What a run ends with: counts, failures by reason, mean OPW over the finished videos."""
    done = [outcome for outcome in outcomes if outcome.status == "done"]
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    reasons: dict[str, int] = {}
    for outcome in failed:
        reasons[str(outcome.reason)] = reasons.get(str(outcome.reason), 0) + 1
    opw: dict[str, float | None] = {}
    for name in (*RESULTS, *(["optimized"] if any("optimized" in outcome.opw for outcome in done) else [])):
        values = [outcome.opw[name] for outcome in done if name in outcome.opw]
        opw[name] = sum(values) / len(values) if values else None
    accounts = [outcome.record["tto"]["status"] for outcome in done if outcome.record and "tto" in outcome.record]
    optimized = {"tto": {status: accounts.count(status) for status in sorted(set(accounts))}} if accounts else {}
    return {
        **optimized,
        "videos": len(outcomes),
        "done": len(done),
        "failed": len(failed),
        "cached": sum(outcome.cached for outcome in outcomes),
        "opw": opw,
        "reasons": reasons,
        "out": public_text(out),
    }
