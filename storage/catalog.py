"""Videos, the shards they are worked off in, and the record that makes one done."""

from __future__ import annotations

import heapq
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.errors import StorageError
from storage.files import read_json, write_json_atomic
from storage.trees import RECORD
from storage.urls import URL, join, safe_name

_DIGEST_DIGITS = 10


@dataclass(frozen=True)
class VideoRef:
    """One input video.

    Attributes:
        video_id: stable, file-name safe, made by `make_video_id`.
        uri: where the source is (path or fsspec URL).
        digest: hex digest of the content.
        kind: ``file`` or ``frames`` (a folder of pictures).
        name: what people call it.
    """

    video_id: str
    uri: str
    digest: str
    kind: str
    name: str


@dataclass(frozen=True)
class ShardSpec:
    """The videos one worker takes in one go, costliest first, and the sum of their costs."""

    index: int
    videos: tuple[VideoRef, ...]
    cost: float


def make_video_id(name: str, digest: str) -> str:
    """The safe form of `name`, a dash, the first 10 digits of the content's hex digest.

    Raises:
        StorageError: the digest is not one.
    """
    if not re.fullmatch(rf"[0-9a-f]{{{_DIGEST_DIGITS},}}", digest):
        raise StorageError(f"{name!r}: {digest!r} is no hex digest of 10 or more digits", reason="format")
    return f"{safe_name(name)}-{digest[:_DIGEST_DIGITS]}"


def plan_shards(
    videos: Iterable[VideoRef],
    costs: Mapping[str, float] | Sequence[float],
    *,
    shard_cost: float | None = None,
    shards: int | None = None,
) -> list[ShardSpec]:
    """Deal the videos into balanced shards: the costliest first, each to the shard with the least so far.

    The plan depends on the set of videos and on their costs only, not on their order or on who will work. A video
    given twice (same id: same name and content) is planned once.

    Args:
        videos: what to plan.
        costs: by video id, or in the order of `videos`; frames x pixels is a good one. Not negative.
        shard_cost: wanted cost of a shard; or
        shards: wanted number of shards. There are never more than videos, and none is empty.

    Returns:
        Shards, the costliest first, numbered from 0.
    """
    videos = list(videos)
    if (shard_cost is None) == (shards is None):
        raise StorageError("plan_shards needs exactly one of shard_cost and shards", reason="format")
    cost_of = _costs_by_id(videos, costs)
    unique = {video.video_id: video for video in sorted(videos, key=lambda video: video.uri, reverse=True)}
    if not unique:
        return []
    if shard_cost is not None:
        if not shard_cost > 0:
            raise StorageError(f"shard_cost {shard_cost} must be above 0", reason="format")
        shards = math.ceil(math.fsum(cost_of[name] for name in sorted(unique)) / shard_cost)
    by_cost = sorted(unique, key=lambda name: (-cost_of[name], name))
    bins = _deal(by_cost, cost_of, max(1, min(shards or 1, len(unique))))
    filled = [(math.fsum(cost_of[name] for name in names), names) for names in bins]
    filled.sort(key=lambda item: (-item[0], item[1]))
    return [ShardSpec(i, tuple(unique[name] for name in names), cost) for i, (cost, names) in enumerate(filled)]


def _deal(names: Sequence[str], cost_of: Mapping[str, float], count: int) -> list[list[str]]:
    bins: list[list[str]] = [[] for _ in range(count)]
    # the number of videos breaks ties, so that videos without cost spread too
    loads = [(0.0, 0, index) for index in range(count)]
    for name in names:
        load, size, index = heapq.heappop(loads)
        bins[index].append(name)
        heapq.heappush(loads, (load + cost_of[name], size + 1, index))
    return bins


def _costs_by_id(videos: Sequence[VideoRef], costs: Mapping[str, float] | Sequence[float]) -> dict[str, float]:
    if not isinstance(costs, Mapping):
        if len(costs) != len(videos):
            raise StorageError(f"{len(costs)} costs for {len(videos)} videos", reason="format")
        costs = {video.video_id: cost for video, cost in sorted(zip(videos, costs, strict=True), key=_by_cost)}
    for video in videos:
        cost = costs.get(video.video_id)
        if cost is None or not (math.isfinite(cost) and cost >= 0):
            raise StorageError(f"{video.video_id}: cost {cost}; it must be a number of 0 or more", reason="format")
    return {video.video_id: float(costs[video.video_id]) for video in videos}


def _by_cost(item: tuple[VideoRef, float]) -> float:
    # of two costs for one id the larger is kept, whatever the order
    return item[1]


def write_record(url: URL, record: Mapping[str, Any]) -> None:
    """Write the record of a video, atomically. `url` is its folder or the ``record.json`` in it."""
    write_json_atomic(_record_url(url), dict(record))


def read_record(url: URL) -> dict[str, Any] | None:
    """The record of a video, None when absent or damaged: such a video is not done.

    Raises:
        StorageError: ``transient``, ``read_only`` or ``storage``: the place cannot be reached, which says nothing about
            the video.
    """
    try:
        record = read_json(_record_url(url))
    except StorageError as error:
        if error.reason in ("absent", "format"):
            return None
        raise
    return record if isinstance(record, dict) else None


def _record_url(url: URL) -> str:
    text = os.fspath(url)
    return text if text.rpartition("/")[2] == RECORD else join(text, RECORD)
