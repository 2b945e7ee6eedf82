"""What became of every video of an output folder: the newest outcome of each, with its catalog row and its scores."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from storage.errors import StorageError, redact
from storage.files import exists
from storage.tables import latest
from storage.urls import URL, join

STORE_FILE = "nvds-store.json"
Row = dict[str, Any]


def newest_outcomes(root: URL) -> list[Row]:
    """The newest outcome of each video, sorted by id; a failure counts no longer once its place gave something newer.

    Raises:
        StorageError: ``absent``: nothing was ever run into this folder.
    """
    rows = latest(root, "outcomes")
    if not rows and not exists(join(root, STORE_FILE)):
        raise StorageError(
            f"{redact(root)}: no output of nvds there; give the folder of 'nvds run --out'", reason="absent"
        )
    newest: dict[str, datetime] = {}
    for row in rows:
        newest[row["uri"]] = max(row["finished_at"], newest.get(row["uri"], row["finished_at"]))
    return [row for row in rows if row["status"] == "done" or row["finished_at"] == newest[row["uri"]]]


def settled_videos(root: URL) -> list[Row]:
    """`newest_outcomes` with what is known about each video.

    Returns:
        Rows of the table ``outcomes``, each with ``catalog``, its row of that table ({} for what was never decoded),
        and ``opw``, rows of the table ``scores`` by result.

    Raises:
        StorageError: ``absent``: nothing was ever run into this folder.
    """
    kept = newest_outcomes(root)
    catalog = {row["video_id"]: row for row in latest(root, "catalog")}
    # Scores of earlier settings stay in the table. Those of the volume that is there now were written with its outcome.
    opw: dict[tuple[str, datetime], dict[str, Row]] = {}
    for row in latest(root, "scores"):
        if row["metric"] == "opw":
            opw.setdefault((row["video_id"], row["finished_at"]), {})[row["result"]] = row
    return [
        row
        | {
            "catalog": catalog.get(row["video_id"], {}) if row["status"] == "done" else {},
            "opw": opw.get((row["video_id"], row["finished_at"]), {}),
        }
        for row in kept
    ]
