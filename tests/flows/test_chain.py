"""What becomes of one video when a step fails; the steps themselves are stood in for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import flows.chain as chain
from flows.chain import process_video
from flows.config import RunConfig
from flows.planning import refs_of
from flows.reporting import describe
from nvds_core.types import DecodeError
from storage import StorageError, VideoRef, write_record
from tasks.publish import video_url
from tasks.workspace import make_workspace


@pytest.mark.parametrize(
    ("step", "function", "error", "reason"),
    [
        ("frames", "extract_frames", DecodeError("cut off", reason="truncated"), "truncated"),
        ("initial", "predict_initial", MemoryError(), "memory"),
        ("flow", "estimate_flow", ZeroDivisionError("strange"), "internal"),
        ("published", "publish_video", StorageError("no space", reason="disk_full"), "disk_full"),
    ],
)
def test_whatever_a_step_raises_becomes_a_failed_outcome(tmp_path, monkeypatch, step, function, error, reason):
    def done(*arguments: object) -> object:
        return SimpleNamespace(cached=False)

    def fails(*arguments: object) -> object:
        raise error

    for name in ("extract_frames", "predict_initial", "estimate_flow", "stabilize", "score_video", "publish_video"):
        monkeypatch.setattr(chain, name, fails if name == function else done)
    video = VideoRef("v-0123456789", "/in/v.mp4", "0" * 64, "file", "v")
    outcome = process_video(make_workspace(str(tmp_path / "out")), video, RunConfig())
    assert (outcome.status, outcome.step, outcome.reason) == ("failed", step, reason)
    assert "\n" not in describe(outcome)
    assert outcome.peak_rss_mb > 10


def test_of_two_steps_that_fail_side_by_side_the_first_in_the_order_of_the_pipeline_is_named(tmp_path, monkeypatch):
    def fails(*arguments: object) -> object:
        raise DecodeError("either", reason="decode")

    monkeypatch.setattr(chain, "extract_frames", lambda *arguments: SimpleNamespace(cached=False))
    for name in ("predict_initial", "estimate_flow"):
        monkeypatch.setattr(chain, name, fails)
    video = VideoRef("v-0123456789", "/in/v.mp4", "0" * 64, "file", "v")
    for _ in range(5):
        outcome = process_video(make_workspace(str(tmp_path / "out")), video, RunConfig())
        assert (outcome.step, outcome.reason) == ("initial", "decode")
        assert [step for step, _ in outcome.steps] == ["frames"]


def test_models_that_vanish_in_the_middle_fail_the_video_and_not_the_run(tmp_path, monkeypatch):
    def fails(*arguments: object) -> object:
        raise DecodeError("weights gone", reason="weights")

    monkeypatch.setattr(chain, "refs_of", fails)
    video = VideoRef("v-0123456789", "/in/v.mp4", "0" * 64, "file", "v")
    outcome = process_video(make_workspace(str(tmp_path / "out")), video, RunConfig())
    assert (outcome.status, outcome.step, outcome.key) == ("failed", "plan", None)


def test_what_was_finished_since_the_plan_was_made_is_not_made_again(tmp_path, monkeypatch):
    def fails(*arguments: object) -> object:
        raise AssertionError("a step was taken")

    for name in ("extract_frames", "predict_initial", "estimate_flow", "stabilize", "score_video", "publish_video"):
        monkeypatch.setattr(chain, name, fails)
    workspace, config = make_workspace(str(tmp_path / "out")), RunConfig()
    video = VideoRef("v-0123456789", "/in/v.mp4", "0" * 64, "file", "v")
    record = {"key": refs_of(video, config).published.key, "opw": None}
    write_record(video_url(workspace.out, video.video_id), record)
    outcome = process_video(workspace, video, config)
    assert (outcome.status, outcome.cached, outcome.record, outcome.steps) == ("done", True, record, ())
