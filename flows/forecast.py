"""What ``--dry-run`` says: what is done, pending, stale and failed, and how long the rest will take."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from flows.choosing import failures
from flows.config import RunConfig
from flows.manifest import make_manifest
from flows.planning import Plan
from flows.runs import TO_DO
from flows.status import frames_of, measured_rate
from storage.errors import one_line, redact
from tasks.workspace import public_text


def forecast(plan: Plan, out: str, config: RunConfig) -> dict[str, Any]:
    """The counts of a plan as plain JSON.

    ``pending`` is all that would be worked on; ``stale`` (there is a result of other settings or weights) and
    ``failed`` (by the reason of the last attempt) are parts of it. ``estimated_s`` is None until the output has seen a
    run to measure the rate from.
    """
    made = make_manifest(plan, config.frames.limit)
    pending = {video.video_id for video in plan.pending}
    failed = Counter(reason for name, reason in failures(plan, out).items() if name in pending)
    rate = measured_rate(out)
    frames = frames_of([row for row in made.rows if row["state"] in TO_DO])
    return {
        "videos": len(plan.videos) + len(plan.unreadable),
        "done": len(plan.done),
        "pending": len(pending),
        "stale": len(plan.stale & pending),
        "failed": dict(sorted(failed.items())),
        "unreadable": dict(sorted(Counter(bad.reason for bad in plan.unreadable).items())),
        "shards": len(made.shards),
        "frames": round(frames),
        "frames_per_second": rate,
        "estimated_s": frames / rate if rate else None,
        "dry_run": True,
        "out": redact(out),
    }


def forecast_lines(plan: Plan, expected: dict[str, Any]) -> list[str]:
    """The forecast in words, the pending videos one by one."""
    reasons = _listed(expected["unreadable"])
    lines = [
        f"{expected['videos']} videos: {expected['done']} done, {expected['pending']} pending, "
        f"{len(plan.unreadable)} unreadable" + (f" ({reasons})" if reasons else "")
    ]
    parts = [f"{expected['stale']} stale (other settings or weights)"] if expected["stale"] else []
    parts += [f"failed last time: {_listed(expected['failed'])}"] if expected["failed"] else []
    lines += [f"  of the pending: {'; '.join(parts)}"] if parts else []
    if expected["pending"]:
        time = "unknown, as nothing was measured here yet"
        if expected["estimated_s"] is not None:
            span = timedelta(seconds=round(expected["estimated_s"]))
            time = f"{span} at the {expected['frames_per_second']:.2f} frames/s of the last run"
        lines.append(f"  {expected['frames']} frames in {expected['shards']} shards; estimated time: {time}")
    lines += [f"  pending: {video.video_id}  {public_text(video.uri)}" for video in plan.pending]
    lines += [f"  unreadable: {public_text(bad.video.uri)}: {public_text(bad.message)}" for bad in plan.unreadable]
    for video in plan.duplicates:
        lines.append(f"  duplicate: {public_text(video.uri)}  (same name and content as {video.video_id})")
    return [one_line(line) for line in lines]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items())
