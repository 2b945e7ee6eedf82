from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import ShardSpec, StorageError, VideoRef, make_video_id, plan_shards, read_record, write_record


def videos(count: int) -> list[VideoRef]:
    return [VideoRef(f"v{i:04d}", f"/in/{i}.mp4", f"{i:064x}", "file", f"{i}.mp4") for i in range(count)]


def test_video_ids_are_safe_and_tell_contents_apart():
    assert make_video_id("my clip.mp4", "0123456789abcdef") == "my-clip.mp4-0123456789"
    assert make_video_id("../../x", "a" * 64) == "x-aaaaaaaaaa"
    assert make_video_id("🎬", "a" * 64) != make_video_id("🎬", "b" * 64)
    assert make_video_id("record.json", "a" * 64) != "record.json"
    with pytest.raises(StorageError, match="no hex digest"):
        make_video_id("a", "../../../../x")


@given(st.lists(st.floats(0, 1e9), max_size=40), st.integers(1, 12), st.randoms())
def test_a_plan_holds_each_video_once_and_does_not_depend_on_the_order(
    costs: list[float], shards: int, shuffler: random.Random
):
    refs = videos(len(costs))
    plan = plan_shards(refs, costs, shards=shards)
    pairs = list(zip(refs, costs, strict=True))
    shuffler.shuffle(pairs)
    by_id = {ref.video_id: cost for ref, cost in pairs}
    assert plan_shards([ref for ref, _ in pairs], by_id, shards=shards) == plan
    assert plan_shards([ref for ref, _ in pairs], [cost for _, cost in pairs], shards=shards) == plan
    planned = [video.video_id for shard in plan for video in shard.videos]
    assert sorted(planned) == sorted(by_id)
    assert [shard.index for shard in plan] == list(range(len(plan)))
    assert len(plan) == min(shards, len(costs))
    assert all(shard.videos for shard in plan)
    if plan:
        # the bound of the longest-first rule: no shard exceeds the mean by more than one video
        mean = sum(costs) / len(plan)
        assert max(shard.cost for shard in plan) <= (mean + max(costs)) * (1 + 1e-9)


def test_longest_come_first_in_a_shard_and_among_shards():
    plan = plan_shards(videos(6), [1, 9, 3, 7, 5, 2], shards=2)
    assert [[video.video_id for video in shard.videos] for shard in plan] == [
        ["v0001", "v0002", "v0005"],
        ["v0003", "v0004", "v0000"],
    ]
    assert [shard.cost for shard in plan] == [14.0, 13.0]


def test_shard_cost_sets_the_number_of_shards():
    assert len(plan_shards(videos(100), [1.0] * 100, shard_cost=10)) == 10
    assert len(plan_shards(videos(3), [100.0] * 3, shard_cost=10)) == 3
    assert len(plan_shards(videos(5), [0.0] * 5, shard_cost=10)) == 1
    assert plan_shards([], [], shard_cost=10) == []


def test_videos_without_cost_spread_evenly():
    assert [len(shard.videos) for shard in plan_shards(videos(8), [0.0] * 8, shards=4)] == [2, 2, 2, 2]


def test_the_same_video_under_two_addresses_is_planned_once():
    first = VideoRef("same-1", "/a/x.mp4", "1", "file", "x")
    second = VideoRef("same-1", "/b/x.mp4", "1", "file", "x")
    for pair in ([first, second], [second, first]):
        assert plan_shards(pair, [2.0, 2.0], shards=2) == [ShardSpec(0, (first,), 2.0)]


@pytest.mark.parametrize("options", [{}, {"shards": 1, "shard_cost": 1.0}, {"shard_cost": 0.0}])
def test_a_plan_needs_one_sensible_measure(options: dict[str, float]):
    with pytest.raises(StorageError):
        plan_shards(videos(2), [1.0, 1.0], **options)


@pytest.mark.parametrize("costs", [[1.0], [1.0, -1.0], [1.0, float("nan")], {"v0000": 1.0}])
def test_costs_must_fit_the_videos(costs: object):
    with pytest.raises(StorageError, match="cost"):
        plan_shards(videos(2), costs, shards=1)


def test_a_record_comes_back_from_its_folder_or_its_own_name(tmp_path: Path):
    write_record(tmp_path / "videos" / "a", {"key": "abc", "frames": 3})
    assert read_record(tmp_path / "videos" / "a") == {"key": "abc", "frames": 3}
    assert read_record(tmp_path / "videos" / "a" / "record.json") == {"key": "abc", "frames": 3}


@pytest.mark.parametrize("text", ["", '{"key": ', "[1]", "\x00\x00"])
def test_a_damaged_or_absent_record_means_not_done(tmp_path: Path, text: str):
    assert read_record(tmp_path) is None
    (tmp_path / "record.json").write_text(text)
    assert read_record(tmp_path) is None


def test_a_place_that_cannot_be_reached_is_no_missing_record(tmp_path: Path):
    (tmp_path / "record.json").mkdir()
    with pytest.raises(StorageError) as caught:
        read_record(tmp_path)
    assert caught.value.reason == "storage"
