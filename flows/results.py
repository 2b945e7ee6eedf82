"""What an output folder holds: one row per video with its scores, and the state of the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flows.ledger import RESULTS
from storage import StorageError, settled_videos
from storage.catalog import read_record
from storage.errors import one_line, redact
from storage.files import exists, list_names
from storage.urls import is_local, join, safe_name

Row = dict[str, Any]
DIVISOR = "frames"  # OPW of a video is the sum over pairs divided by this count (protocol "nvds")
SCORED = (*RESULTS, "optimized")  # the last after `nvds tto`
COLUMNS = (
    *("video_id", "status", "reason", "frames", "scenes", "width", "height"),
    *SCORED,
    *("ratio", "protocol", "flow", "divisor", "uri", "message"),
)


def video_rows(out: str) -> list[Row]:
    """One row per video, sorted by id, with the columns `COLUMNS`; missing values are None.

    Raises:
        StorageError: ``absent``: nothing was ever run into this folder.
    """
    return [row_of(outcome) for outcome in settled_videos(out)]


def row_of(outcome: Row) -> Row:
    """The row of one settled video (`storage.settled_videos`)."""
    scores: dict[str, Row] = outcome["opw"]
    opw = {name: _finite(scores[name]["value"]) if name in scores else None for name in SCORED}
    measured = next(iter(scores.values()), None)
    return {
        "video_id": outcome["video_id"],
        "status": outcome["status"],
        "reason": outcome["reason"],
        "frames": outcome["frames"],
        "scenes": outcome["catalog"].get("scenes"),
        "width": outcome["width"],
        "height": outcome["height"],
        **opw,
        "ratio": _ratio(opw["mix"], opw["initial"]),
        "protocol": measured["protocol"] if measured else None,
        "flow": measured["flow"] if measured else None,
        "divisor": DIVISOR if measured else None,
        "uri": outcome["uri"],
        "message": outcome["message"],
    }


def mean_row(rows: Sequence[Row]) -> Row:
    """Plain means over the finished videos; ``ratio`` is the mean mix over the mean initial of videos with both."""
    done = [row for row in rows if row["status"] == "done"]
    means = {name: _mean([row[name] for row in done if row[name] is not None]) for name in SCORED}
    both = [row for row in done if row["mix"] is not None and row["initial"] is not None]
    ratio = _ratio(_mean([row["mix"] for row in both]), _mean([row["initial"] for row in both]))
    return {"videos": len(done), **means, "ratio": ratio}


def measured_with(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The protocols, flows, sizes and divisors that occur: numbers of different ones must not be compared."""
    scored = [row for row in rows if row["protocol"]]
    return {
        "protocol": sorted({row["protocol"] for row in scored}),
        "flow": sorted({row["flow"] for row in scored}),
        "divisor": sorted({row["divisor"] for row in scored}),
        "size": sorted({f"{row['width']}x{row['height']}" for row in scored}),
    }


def example(uri: str, message: str | None) -> str:
    """One failure in one line that says which video, once."""
    text = message or "no message"
    return one_line(text if redact(uri) in text else f"{redact(uri)}: {text}")


def find_video(out: str, name: str) -> tuple[str, Row]:
    """The URL and the record of one finished video, by its id, a unique beginning of it, or its source's name.

    Raises:
        StorageError: reason ``absent`` when none fits or it is not finished, ``ambiguous`` when several do.
    """
    ids = _published(out)
    stem = safe_name(name.rstrip("/").rpartition("/")[2])
    named = [video for video in ids if video.rpartition("-")[0] in (stem, stem.rpartition(".")[0])]
    fitting = [name] if name in ids else named or [video for video in ids if video.startswith(name)]
    if len(fitting) != 1:
        listed = ", ".join((fitting or ids)[:8]) or "none"
        what = "fits several videos" if fitting else "fits no finished video"
        reason = "ambiguous" if fitting else "absent"
        raise StorageError(f"{redact(out)}: {name!r} {what}; choose one of: {listed}", reason=reason)
    url = join(out, "videos", fitting[0])
    record = read_record(url)
    if record is None:
        raise StorageError(f"{fitting[0]} is not finished; run 'nvds run' again", reason="incomplete")
    return url, record


def _published(out: str) -> list[str]:
    folder = join(out, "videos")
    names = [name for name in list_names(folder) if not name.startswith(".")]  # being replaced
    if not is_local(folder):  # too many to be asked for one by one
        return names
    return [name for name in names if exists(join(folder, name, "record.json"))]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
