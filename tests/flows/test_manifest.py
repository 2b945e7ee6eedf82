from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

import flows.manifest as manifest
from flows.manifest import make_manifest
from flows.planning import Plan, Unreadable
from nvds_core.video import VideoInfo
from storage import VideoRef
from storage.tables import read_run
from tests.tasks.helpers import workspace_in

RECORD = {"key": "k", "frames": 7, "opw": None, "source": {"width": 20, "height": 10, "duration_s": 0.5}}


def video(name: str, frames: int | None = 10) -> VideoRef:
    digest = f"{sum(map(ord, name)):064x}"
    return VideoRef(f"{name}-{digest[-10:]}", f"/in/{name}-{frames}.mp4", digest, "file", name)


@pytest.fixture(autouse=True)
def headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source's name says how many frames of 20x10 its header claims."""

    def measure(source: VideoRef) -> VideoInfo | None:
        frames = source.uri.rpartition("-")[2].partition(".")[0]
        if frames == "broken":
            return None
        count = None if frames == "None" else int(frames)
        return VideoInfo("file", count, 20, 10, 25.0, None if count is None else count / 25, 0, "h264", "yuv420p")

    monkeypatch.setattr(manifest, "measure", measure)


def plan_of(*videos: VideoRef, **more: object) -> Plan:
    return replace(Plan(videos, {}, (), ()), **more)


def test_every_clip_has_a_row_with_its_size_its_cost_and_its_state(tmp_path):
    done, pending, stale, left = video("done"), video("pending", 30), video("stale", 50), video("left")
    bad = Unreadable(video("bad"), "empty", "no bytes")
    plan = plan_of(
        *(done, pending, stale, left),
        done={done.video_id: RECORD},
        unreadable=(bad,),
        stale=frozenset({stale.video_id}),
        left=frozenset({left.video_id}),
    )
    workspace = workspace_in(tmp_path)
    make_manifest(plan, 40).write(workspace)
    rows = {row["video_id"].partition("-")[0]: row for row in read_run(workspace.out, "manifest", workspace.run_id)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "done": "done",
        "pending": "pending",
        "stale": "stale",
        "left": "left",
        "bad": "unreadable",
    }
    assert {name: row["frames"] for name, row in rows.items()} == {
        "done": 7,
        "pending": 30,
        "stale": 40,
        "left": 10,
        "bad": None,
    }
    assert rows["stale"]["duration_s"] == pytest.approx(40 / 25), "no more than the run takes of it"
    assert rows["pending"]["cost"] == 30 * 20 * 10
    assert rows["bad"]["reason"] == "empty"
    assert {name for name, row in rows.items() if row["shard"] is not None} == {"pending", "stale"}
    assert read_run(workspace.out, "manifest", "another") == []


def test_shards_are_balanced_and_do_not_depend_on_the_order_of_the_inputs():
    videos = [video(f"v{index}", 10 + 7 * index % 90) for index in range(100)]
    shards = make_manifest(plan_of(*videos), None).shards
    again = make_manifest(plan_of(*reversed(videos)), None).shards
    assert shards == again
    assert Counter(one for shard in shards for one in shard.videos) == Counter(videos)
    assert max(shard.cost for shard in shards) < 1.2 * min(shard.cost for shard in shards)
    assert [shard.cost for shard in shards] == sorted((shard.cost for shard in shards), reverse=True)


@pytest.mark.parametrize(("videos", "shards"), [(0, 0), (1, 1), (16, 16), (100, 16), (256, 16), (1000, 63)])
def test_few_videos_are_dealt_one_by_one_and_many_by_the_dozen(videos, shards):
    assert len(make_manifest(plan_of(*(video(f"v{index}") for index in range(videos))), None).shards) == shards


def test_what_has_no_length_is_guessed_and_what_has_no_header_comes_last():
    known, unknown, broken = video("known", 100), video("unknown", None), video("x", "broken")
    made = make_manifest(plan_of(known, broken, unknown), None)
    assert made.ordered == [unknown, known, broken]
