"""The run's record on disk: one outcome per video, with its scores and timings; never Prefect's database."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import psutil

from storage import VideoRef
from storage.errors import redact
from storage.tables import append, compact
from tasks.workspace import StepResult, Workspace

FLUSH_S = 5.0  # how much of the tables a crash may cost; finished videos themselves are never lost
MEGABYTE = 1e6
TABLES = ("catalog", "outcomes", "timings", "scores")


@dataclass(frozen=True)
class Outcome:
    """What became of one video in one run; ``reason``, ``step`` and ``message`` name the first failure."""

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

    @property
    def opw(self) -> dict[str, float]:
        """Mean OPW by result."""
        if self.record is None:
            return {}
        return {name: float(values["mean"]) for name, values in self.record["opw"].items()}


class Ledger:
    """Collects rows and appends them to the tables every few seconds and at the end."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        self._part = 0
        self._flushed = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        """Take one outcome."""
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
            self.flush()

    def flush(self) -> None:
        """Append what has been collected."""
        for name, rows in self._rows.items():
            append(self._workspace.out, name, rows, run_id=self._workspace.run_id, part=self._part)
        self._part += 1
        self._rows = {name: [] for name in TABLES}
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Append the rest and merge the parts."""
        self.flush()
        for name in TABLES:
            compact(self._workspace.out, name)


def _outcome_row(outcome: Outcome, now: datetime) -> dict[str, Any]:
    record = outcome.record or {}
    return {
        "video_id": outcome.video.video_id,
        "uri": outcome.video.uri,
        "status": outcome.status,
        "reason": outcome.reason,
        "step": outcome.step,
        "message": outcome.message,
        "key": outcome.key,
        "frames": record.get("frames"),
        "width": record.get("width"),
        "height": record.get("height"),
        "cached": outcome.cached,
        "seconds": outcome.seconds,
        "peak_rss_mb": psutil.Process().memory_info().rss / MEGABYTE,
        "finished_at": now,
    }


def _catalog_row(video: VideoRef, record: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    source = record["source"]
    return {
        "video_id": video.video_id,
        "uri": video.uri,
        "kind": video.kind,
        "digest": video.digest,
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
    rows = []
    for name, values in record["opw"].items():
        pairs = values["pairs"]
        rows.append(
            {
                "video_id": outcome.video.video_id,
                "result": name,
                "metric": "opw",
                "protocol": record["opw_protocol"],
                "value": values["mean"],
                "mean_pairs": sum(pairs) / len(pairs) if pairs else 0.0,
                "pairs": len(pairs),
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


RESULTS = ("initial", "forward", "backward", "mix")


def summarize(outcomes: list[Outcome], out: str) -> dict[str, Any]:
    """What a run ends with: counts, failures by reason, mean OPW over the finished videos."""
    done = [outcome for outcome in outcomes if outcome.status == "done"]
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    reasons: dict[str, int] = {}
    for outcome in failed:
        reasons[str(outcome.reason)] = reasons.get(str(outcome.reason), 0) + 1
    opw: dict[str, float | None] = {}
    for name in RESULTS:
        values = [outcome.opw[name] for outcome in done if name in outcome.opw]
        opw[name] = sum(values) / len(values) if values else None
    return {
        "videos": len(outcomes),
        "done": len(done),
        "failed": len(failed),
        "cached": sum(outcome.cached for outcome in outcomes),
        "opw": opw,
        "reasons": reasons,
        "out": redact(out),
    }
