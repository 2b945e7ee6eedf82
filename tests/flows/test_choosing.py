from __future__ import annotations

from dataclasses import replace

import pytest

from flows.choosing import choose
from flows.config import RunConfig
from flows.forecast import forecast, forecast_lines
from flows.planning import Plan, Unreadable
from nvds_core.types import ConfigError
from storage import VideoRef
from storage.tables import append
from tests.tasks.helpers import workspace_in

NAMES = ("done", "broken", "slow", "stale", "new")


def video(name: str) -> VideoRef:
    return VideoRef(f"{name}-0123456789", f"/in/{name}.mp4", "0" * 64, "file", name)


@pytest.fixture
def out(tmp_path) -> str:
    rows = [
        {"video_id": video("broken").video_id, "status": "failed", "reason": "truncated"},
        {"video_id": video("slow").video_id, "status": "failed", "reason": "timed_out"},
        {"video_id": video("done").video_id, "status": "failed", "reason": "truncated"},
    ]
    place = workspace_in(tmp_path).out
    append(place, "outcomes", rows, run_id="before", part=0)
    return place


@pytest.fixture
def plan() -> Plan:
    done, stale = video("done").video_id, video("stale").video_id
    bad = Unreadable(video("bad"), "empty", "no bytes")
    record = {"frames": 5, "source": {}}
    everything = Plan(tuple(map(video, NAMES)), {done: record}, (bad,), (), stale=frozenset({stale}))
    return replace(everything, inputs=("/in",))


@pytest.mark.parametrize(
    ("only", "pending", "unreadable"),
    [
        ([], {"broken", "slow", "stale", "new"}, 1),
        (["failed"], {"broken", "slow"}, 1),
        (["stale"], {"stale"}, 0),
        (["truncated"], {"broken"}, 0),
        (["empty"], set(), 1),
        (["timed_out", "stale"], {"slow", "stale"}, 0),
        (["new"], {"new"}, 0),
        (["sl"], {"slow"}, 0),
        (["broken-0123456789"], {"broken"}, 0),
        (["done"], set(), 0),
    ],
)
def test_a_rerun_takes_what_the_words_fit_and_leaves_the_rest(out, plan, only, pending, unreadable):
    chosen = choose(plan, out, only)
    assert {one.name for one in chosen.pending} == pending
    assert len(chosen.unreadable) == unreadable
    assert chosen.videos == plan.videos
    assert chosen.done == plan.done


def test_a_word_that_fits_nothing_is_refused_with_what_would(out, plan):
    with pytest.raises(ConfigError, match="empty, timed_out, truncated"):
        choose(plan, out, ["truncted"])


def test_a_forecast_counts_by_state_and_reason_and_estimates_from_the_measured_rate(out, plan):
    before = forecast(plan, out, RunConfig())
    assert before["estimated_s"] is None
    assert (before["videos"], before["done"], before["pending"], before["stale"]) == (6, 1, 4, 1)
    assert before["failed"] == {"timed_out": 1, "truncated": 1}
    assert before["unreadable"] == {"empty": 1}
    assert "unknown" in "".join(forecast_lines(plan, before))
    made = {"video_id": "x", "status": "done", "frames": 600, "seconds": 60.0, "cached": False}
    append(out, "outcomes", [made], run_id="before", part=1)
    after = forecast(plan, out, RunConfig())
    assert after["frames_per_second"] == pytest.approx(10.0)
    assert after["estimated_s"] == pytest.approx(4 * 300 / 10.0), "four sources whose length nobody knows"
    lines = forecast_lines(plan, after)
    assert "6 videos: 1 done, 4 pending, 1 unreadable (empty 1)" in lines[0]
    assert "0:02:00 at the 10.00 frames/s" in lines[2]
