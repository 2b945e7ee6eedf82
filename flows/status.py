"""How an output folder stands, from its tables, the manifest of the last run and the leases; volumes are not listed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from flows.results import example
from flows.runs import MANIFEST, TO_DO, UNTOLD_FRAMES, PastRun, last_run
from storage.errors import redact
from storage.leases import open_claims
from storage.settled import newest_outcomes
from storage.tables import latest, read_run

Row = dict[str, Any]
DAY_S, HOUR_S = 86400.0, 3600.0


def status_of(out: str, now: datetime | None = None) -> dict[str, Any]:
    """Counts over all videos, failures by reason with one example each, and the last run with its pace.

    Args:
        out: output folder or URL.
        now: the present moment, for tests.
    """
    rows = {row["video_id"]: row for row in newest_outcomes(out)}
    last = last_run(out)
    planned = {row["video_id"]: row for row in read_run(out, MANIFEST, last.run_id)} if last else {}
    began = min((row["at"] for row in planned.values()), default=last.began if last else datetime.now(UTC))
    notes = [claim for claim in open_claims(out) if claim["alive"] is not False]
    running = {str(claim["note"]["video_id"]) for claim in notes if "video_id" in claim.get("note", {})}
    open_rows = [row for row in planned.values() if _is_open(row, rows.get(row["video_id"]), began)]
    unsettled = {row["video_id"] for row in open_rows} | running
    settled = [row for name, row in rows.items() if name not in unsettled]
    failed = [row for row in settled if row["status"] != "done"]
    at_work = last is not None and any(claim.get("run_id") == last.run_id for claim in notes)
    fresh = [row for row in rows.values() if row["finished_at"] >= began and _was_made(row)]
    pace = _pace(out, fresh, began, (now or datetime.now(UTC)) if at_work else None, last.devices if last else 1)
    return {
        "videos": len(settled) + len(unsettled),
        "done": len(settled) - len(failed),
        "failed": len(failed),
        "running": len(running),
        "pending": len(unsettled - running),
        "reasons": reasons_of(failed),
        "at_work": at_work,
        **pace,
        "eta_s": _eta(open_rows, pace["frames_per_second"]) if at_work else None,
        "last_run": _described(last),
        "out": redact(out),
    }


def reasons_of(failed: Iterable[Row]) -> dict[str, Any]:
    """Failures by reason: how many, and one example."""
    reasons: dict[str, Any] = {}
    for row in failed:
        entry = reasons.setdefault(str(row["reason"]), {"videos": 0, "example": example(row["uri"], row["message"])})
        entry["videos"] += 1
    return reasons


def measured_rate(out: str) -> float | None:
    """Frames per second of the newest run that made something, all of its workers together."""
    made = [row for row in latest(out, "outcomes") if _was_made(row)]
    if not made:
        return None
    newest = max(made, key=lambda row: row["finished_at"])["run_id"]
    rows = [row for row in made if row["run_id"] == newest]
    began = min(row["finished_at"] - timedelta(seconds=row["seconds"]) for row in rows)
    return _per_second(rows, began, max(row["finished_at"] for row in rows))


def frames_of(rows: Sequence[Row]) -> float:
    """Frames of planned videos; those of unknown length count as much as the others on average."""
    known = [row["frames"] for row in rows if row["frames"] is not None]
    mean = sum(known) / len(known) if known else UNTOLD_FRAMES
    return sum(known) + mean * (len(rows) - len(known))


def _is_open(planned: Row, row: Row | None, began: datetime) -> bool:
    """Whether a video of the last run's plan still has to be worked on."""
    if planned["state"] in TO_DO:
        return row is None or row["finished_at"] < began
    return planned["state"] == "left" and row is None


def _was_made(row: Row) -> bool:
    return row["status"] == "done" and not row["cached"] and bool(row["frames"])


def _pace(out: str, fresh: Sequence[Row], began: datetime, now: datetime | None, devices: int) -> dict[str, Any]:
    if not fresh:
        return {"frames_per_second": None, "video_hours_per_device_day": None}
    until = now or max(row["finished_at"] for row in fresh)
    lengths = {row["video_id"]: row["duration_s"] or 0.0 for row in latest(out, "catalog")}
    hours = sum(lengths.get(row["video_id"], 0.0) for row in fresh) / HOUR_S
    days = max((until - began).total_seconds(), 1e-3) / DAY_S
    return {
        "frames_per_second": _per_second(fresh, began, until),
        "video_hours_per_device_day": hours / (days * devices),
    }


def _per_second(rows: Sequence[Row], began: datetime, until: datetime) -> float:
    # at least a millisecond: clocks of several machines may differ
    return float(sum(row["frames"] for row in rows) / max((until - began).total_seconds(), 1e-3))


def _eta(open_rows: Sequence[Row], rate: float | None) -> float | None:
    return frames_of(open_rows) / rate if rate else None


def _described(last: PastRun | None) -> dict[str, Any] | None:
    if last is None:
        return None
    counts = {name: (last.summary or {}).get(name) for name in ("videos", "done", "failed", "cached")}
    ended = {"ended": last.summary is not None}
    return {"run_id": last.run_id, "began": last.began.isoformat(timespec="seconds")} | ended | counts
