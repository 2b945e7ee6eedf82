"""Which of the unfinished videos a rerun takes: by state, by reason, or by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flows.planning import Plan
from nvds_core.types import ConfigError
from storage import VideoRef
from storage.locations import safe_name
from storage.tables import latest

FAILED, STALE = "failed", "stale"


def choose(plan: Plan, out: str, only: Sequence[str]) -> Plan:
    """The plan with nothing but what fits one of the words: ``failed``, ``stale``, a reason, or a video.

    A video is named by its id, a beginning of it, or the name of its source. No words, no choice.

    Raises:
        ConfigError: a word that fits nothing.
    """
    if not only:
        return plan
    videos = {video.video_id: video for video in (*plan.videos, *(bad.video for bad in plan.unreadable))}
    failed = failures(plan, out)
    chosen = {name for word in only for name in _fitting(word, videos, failed, plan.stale)}
    return replace(
        plan,
        unreadable=tuple(bad for bad in plan.unreadable if bad.video.video_id in chosen),
        left=frozenset(video.video_id for video in plan.pending if video.video_id not in chosen),
    )


def failures(plan: Plan, out: str) -> dict[str, str]:
    """Reason by video id: of the last attempt at what is pending, and of what cannot be read now."""
    pending = {video.video_id for video in plan.pending}
    rows = latest(out, "outcomes")
    failed = {row["video_id"]: str(row["reason"]) for row in rows if row["status"] != "done"}
    known = {name: reason for name, reason in failed.items() if name in pending}
    return known | {bad.video.video_id: bad.reason for bad in plan.unreadable}


def _fitting(
    word: str, videos: Mapping[str, VideoRef], failed: Mapping[str, str], stale: frozenset[str]
) -> frozenset[str]:
    if word == FAILED:
        return frozenset(failed)
    if word == STALE:
        return stale
    fitting = {name for name, reason in failed.items() if reason == word}
    fitting = fitting or {name for name, video in videos.items() if word in (name, video.name, safe_name(video.name))}
    fitting = fitting or {name for name in videos if name.startswith(word)}
    if not fitting:
        reasons = ", ".join(sorted(set(failed.values()))) or "none"
        raise ConfigError(
            f"--only {word}: no such reason or video; give failed, stale, one of the reasons ({reasons}), or a video",
            reason="no_match",
        )
    return frozenset(fitting)
