"""What a run has before it: every clip with its size, its cost, its state and its shard, written down at planning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.planning import Plan
from flows.runs import MANIFEST, UNTOLD_FRAMES
from storage import ShardSpec, VideoRef, plan_shards
from storage.tables import append
from tasks.sources import bytes_of, measure
from tasks.workspace import Workspace, public_text

PART = "plan"
# A shard is what a worker is given in one go: large enough that handing it over costs nothing beside the work, small
# enough that a worker's death costs little. Few videos are dealt one by one, so that all workers have some.
SHARD_VIDEOS, FEW = 16, 16


@dataclass(frozen=True)
class Manifest:
    """Rows of the table ``manifest`` and the shards of what is to do, the costliest first."""

    rows: list[dict[str, Any]]
    shards: list[ShardSpec]

    def long(self, block_frames: int) -> list[VideoRef]:
        """What is to do and would keep one worker busy when all others are done, the costliest first.

        Longer than a block and more than its share of the work; which videos these are follows from the videos alone.
        """
        rows = {row["video_id"]: row for row in self.rows}
        share = sum(shard.cost for shard in self.shards) / FEW
        return [
            video
            for video in self.ordered
            if (rows[video.video_id]["frames"] or 0) > block_frames and rows[video.video_id]["cost"] > share
        ]

    @property
    def ordered(self) -> list[VideoRef]:
        """What is to do, the costliest first, so that the last to end is a short one."""
        costs = {row["video_id"]: row["cost"] for row in self.rows}
        videos = [video for shard in self.shards for video in shard.videos]
        return sorted(videos, key=lambda video: (-costs[video.video_id], video.video_id))

    def write(self, workspace: Workspace) -> None:
        """Add the rows to the tables of the output."""
        append(workspace.out, MANIFEST, self.rows, run_id=workspace.run_id, part=PART)


def make_manifest(plan: Plan, frames_limit: int | None) -> Manifest:
    """Measure what is to do, by its headers, and deal it into shards of equal cost: frames x pixels.

    Shards follow from the videos alone, not from the number of workers or the order of the inputs.
    """
    rows = [_row(plan, video, frames_limit) for video in plan.videos]
    costs = {row["video_id"]: row["cost"] for row in rows}
    pending = plan.pending
    count = max(math.ceil(len(pending) / SHARD_VIDEOS), min(len(pending), FEW))
    shards = plan_shards(pending, costs, shards=count) if pending else []
    number = {video.video_id: shard.index for shard in shards for video in shard.videos}
    refused = [
        _identity(bad.video) | {"state": "unreadable", "reason": bad.reason, "cost": 0.0} for bad in plan.unreadable
    ]
    return Manifest([row | {"shard": number.get(row["video_id"])} for row in rows] + refused, shards)


def _identity(video: VideoRef) -> dict[str, Any]:
    named = {"video_id": video.video_id, "uri": public_text(video.uri), "kind": video.kind, "digest": video.digest}
    return named | {"bytes": bytes_of(video)}


def _row(plan: Plan, video: VideoRef, frames_limit: int | None) -> dict[str, Any]:
    record = plan.done.get(video.video_id)
    state = "done" if record else "left" if video.video_id in plan.left else "pending"
    if state == "pending" and video.video_id in plan.stale:
        state = "stale"
    size = _size_of_record(record) if record else _size_of_source(video, frames_limit)
    cost = 1.0
    if size["width"]:
        cost = float((size["frames"] or UNTOLD_FRAMES) * size["width"] * size["height"])
    return _identity(video) | size | {"state": state, "cost": cost}


def _size_of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    source = record["source"]
    return {"frames": record["frames"], **{name: source.get(name) for name in ("width", "height", "duration_s")}}


def _size_of_source(video: VideoRef, frames_limit: int | None) -> dict[str, Any]:
    info = measure(video)
    if info is None:
        return dict.fromkeys(("frames", "width", "height", "duration_s"))
    frames, duration = info.frames, info.duration_s
    if frames_limit is not None and frames is not None and frames > frames_limit:
        duration = None if duration is None else duration * frames_limit / frames
        frames = frames_limit
    return {"frames": frames, "width": info.width, "height": info.height, "duration_s": duration}
