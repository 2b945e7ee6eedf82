"""How the main process deals with its workers; these are stood in for, so that they can die on command."""

from __future__ import annotations

import pickle
import queue
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

import flows.claims as claims_module
from flows.claims import Claims
from flows.cluster import WorkersConfig
from flows.config import RunConfig
from flows.crew import JOB
from flows.dispatch import MOST_ATTEMPTS, clip_limits, work_with
from flows.ledger import Outcome
from flows.manifest import Manifest
from flows.pieces import Piece, limit_of
from flows.shards import BEGAN, ENDED, TIMED_OUT
from flows.tto import TtoConfig
from nvds_core.types import ConfigError
from storage import ShardSpec, VideoRef
from storage.leases import Leases, open_claims
from tasks.parts import Span, spans_of
from tasks.workspace import make_workspace

CONFIG = RunConfig(workers=WorkersConfig(count=2, deaths=2, block_frames=500))
LONG = 1000.0
BLOCKS = (Span(0, 500), Span(500, 1000))


class KilledWorker(Exception):
    """As Dask calls it."""


class Future:
    """The end of a shard that is known beforehand."""

    def __init__(self, ending: list[Outcome] | Exception) -> None:
        self.ending = ending
        self.released = False

    def result(self) -> Any:
        if isinstance(self.ending, Exception):
            raise self.ending
        return self

    def release(self) -> None:
        self.released = True


class FakeState:
    def __init__(self, returned: list[Any]) -> None:
        self.returned = returned

    def result(self) -> list[Any]:
        return self.returned


class FakeCrew:
    """Works off a shard at once; `deadly` videos kill the worker as they begin, `hanging` ones are found to hang.

    A long video comes in the blocks of `spans`; `bad` are pieces ("frames", or the first frame) and how they end.
    """

    def __init__(
        self,
        *,
        deadly: str = "",
        hanging: str = "",
        mute: bool = False,
        error: Exception | None = None,
        spans: Sequence[Span] = (),
        bad: dict[str, list[str]] | None = None,
    ):
        self.inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.size, self.shares_videos, self.spans, self.bad = 2, bool(spans), list(spans), bad or {}
        self.deadly, self.hanging, self.mute, self.error = deadly, hanging, mute, error or KilledWorker()
        self.submitted: list[str] = []
        self.most = self.open = 0

    def piece(self, piece: Piece, limits_s: Any) -> Any:
        what = str(piece.span.start) if piece.span else "frames"
        self.submitted.append(f"{piece.video.name}:{what}")
        end = self.bad[what].pop(0) if self.bad.get(what) else ""
        self.inbox.put((BEGAN, piece.name))
        if end == "hangs":
            self.inbox.put((TIMED_OUT, piece.video.video_id))
        future = Future(ValueError("one frame is bad") if end == "fails" else KilledWorker())
        if not end:
            future.result = lambda: FakeState([] if piece.span else self.spans)  # type: ignore[method-assign]
        self.inbox.put((JOB, future))
        return future

    def submit(self, shard: ShardSpec | Piece, limits_s: Any) -> Any:
        if isinstance(shard, Piece):
            return self.piece(shard, limits_s)
        self.submitted.append("".join(video.name for video in shard.videos))
        self.open += 1
        self.most = max(self.most, self.open)
        outcomes: list[Outcome] = []
        future = Future(self.error)
        for video in shard.videos:
            if not self.mute:
                self.inbox.put((BEGAN, video.video_id))
            if video.name in self.hanging:
                self.inbox.put((TIMED_OUT, video.video_id))
            if video.name in self.deadly + self.hanging:
                break
            outcomes.append(Outcome(video, "failed", reason="decode", step="frames"))
            if not self.mute:
                self.inbox.put((ENDED, pickle.dumps(outcomes[-1])))
        else:
            future.result = lambda: FakeState(outcomes)  # type: ignore[method-assign]
        self.inbox.put((JOB, future))
        release = future.release

        def released() -> None:
            self.open -= 1
            release()

        future.release = released  # type: ignore[method-assign]
        return future


def video(name: str) -> VideoRef:
    return VideoRef(f"{name}-0123456789", f"/in/{name}.mp4", f"{ord(name):064x}", "file", name)


def shards(*names: str) -> Manifest:
    videos = [[video(name) for name in group] for group in names]
    rows = [
        {"video_id": one.video_id, "frames": LONG if one.name == "L" else 10, "cost": LONG if one.name == "L" else 10.0}
        for group in videos
        for one in group
    ]
    return Manifest(rows, [ShardSpec(index, tuple(group), 10.0 * len(group)) for index, group in enumerate(videos)])


@pytest.fixture
def work(tmp_path, monkeypatch) -> Callable[..., dict[str, str | None]]:
    """Work off shards and return the reason by name; every lease must have been given back."""
    monkeypatch.setattr(claims_module, "LOOK_S", 0.01)
    workspace = make_workspace(str(tmp_path / "out"))

    def work(crew: FakeCrew, *names: str, config: RunConfig = CONFIG) -> dict[str, str | None]:
        with Claims(workspace) as claims:
            outcomes = list(work_with(crew, shards(*names), config, claims))
            assert [claim["note"] for claim in open_claims(workspace.out)] == [{"run": True}]
        assert len({outcome.video for outcome in outcomes}) == len(outcomes), "each once"
        return {outcome.video.name: outcome.reason for outcome in outcomes}

    return work


def test_every_video_comes_once_though_it_is_told_twice_and_few_shards_are_in_flight(work):
    crew = FakeCrew()
    assert work(crew, *"abcdefghij") == dict.fromkeys("abcdefghij", "decode")
    assert crew.submitted == list("abcdefghij"), "in the order of the plan"
    assert crew.most <= 2 * crew.size


def test_the_video_that_kills_workers_is_found_and_its_neighbours_are_done(work):
    crew = FakeCrew(deadly="b")
    assert work(crew, "abc", "de") == {**dict.fromkeys("acde", "decode"), "b": "worker_died"}
    assert crew.submitted == ["abc", "de", "b", "c", "b"], "what had ended is not done again"


def test_outcomes_whose_messages_were_lost_are_taken_from_the_end_of_the_shard(work):
    assert work(FakeCrew(mute=True), "ab", "c") == dict.fromkeys("abc", "decode")


def test_a_video_that_kills_before_anything_is_heard_of_it_is_given_up_as_well(work):
    crew = FakeCrew(deadly="b", mute=True)
    assert work(crew, "b", "c") == {"b": "worker_died", "c": "decode"}
    assert crew.submitted.count("b") == MOST_ATTEMPTS


def test_a_hanging_video_is_given_up_at_once_with_its_limit_in_the_message(work):
    crew = FakeCrew(hanging="a")
    assert work(crew, "ab") == {"a": "timed_out", "b": "decode"}
    assert crew.submitted == ["ab", "b"]


def test_an_error_beneath_our_code_becomes_the_reason(work):
    assert work(FakeCrew(deadly="a", error=MemoryError("no room")), "a") == {"a": "memory"}


def test_what_another_run_holds_comes_when_it_is_free(work, tmp_path):
    crew = FakeCrew()
    with Leases(tmp_path / "out", "other") as other:
        assert other.claim(video("a").digest)
        submit = crew.submit

        def submit_and_free(shard: ShardSpec, limits_s: Any) -> Any:
            other.close()
            return submit(shard, limits_s)

        crew.submit = submit_and_free  # type: ignore[method-assign]
        assert work(crew, "ab", "c") == dict.fromkeys("abc", "decode")
    assert crew.submitted == ["b", "c", "a"]


def test_a_long_video_is_decoded_then_shared_then_put_together_and_the_others_follow(work):
    crew = FakeCrew(spans=BLOCKS)
    assert work(crew, "aLb", "c") == dict.fromkeys("abcL", "decode")
    assert crew.submitted[0] == "L:frames"
    assert crew.submitted.index("L:0") < crew.submitted.index("L:500") < crew.submitted.index("L")
    assert sorted(crew.submitted) == ["L", "L:0", "L:500", "L:frames", "ab", "c"]


def test_a_video_of_one_block_or_one_that_cannot_be_decoded_goes_on_as_any_other(work):
    for crew in (FakeCrew(spans=BLOCKS[:1]), FakeCrew(spans=BLOCKS, bad={"frames": ["fails"]})):
        assert work(crew, "L") == {"L": "decode"}
        assert crew.submitted == ["L:frames", "L"]


def test_an_error_in_a_block_is_left_to_the_last_job(work):
    crew = FakeCrew(spans=BLOCKS, bad={"500": ["fails"]})
    assert work(crew, "L") == {"L": "decode"}
    assert crew.submitted == ["L:frames", "L:0", "L:500", "L"]


def test_a_block_whose_worker_dies_is_done_again_and_the_one_that_kills_workers_ends_its_video(work):
    crew = FakeCrew(spans=BLOCKS, bad={"0": ["dies"], "frames": ["dies"]})
    assert work(crew, "L", "a") == {"L": "decode", "a": "decode"}
    assert (crew.submitted.count("L:0"), crew.submitted.count("L:500"), crew.submitted.count("L")) == (2, 1, 1)
    crew = FakeCrew(spans=BLOCKS, bad={"500": ["dies", "dies"]})
    assert work(crew, "L", "a") == {"L": "worker_died", "a": "decode"}
    assert "L" not in crew.submitted


def test_a_block_that_hangs_ends_its_video_at_once(work):
    crew = FakeCrew(spans=spans_of(10_000, 500), bad={"0": ["hangs"]})
    assert work(crew, "L", "a") == {"L": "timed_out", "a": "decode"}
    assert "L:9500" not in crew.submitted, "what waits is dropped"


def test_only_what_is_longer_than_a_block_and_more_than_its_share_is_shared(work):
    manifest = shards("L", "ab")
    assert [one.name for one in manifest.long(500)] == ["L"]
    assert manifest.long(1000) == []
    many = [replace(video("L"), video_id=f"L{index}-0123456789") for index in range(16)]
    rows = [{"video_id": one.video_id, "frames": 1000, "cost": 1000.0} for one in many]
    assert Manifest(rows, [ShardSpec(0, tuple(many), 16000.0)]).long(500) == [], "there are enough for all workers"


def test_a_block_may_take_as_long_as_its_frames_allow():
    assert limit_of(Piece(video("a"), Span(10, 30)), 5000.0, CONFIG) == 900.0 + 30.0 * 20
    assert limit_of(Piece(video("a")), 5000.0, CONFIG) == 5000.0


def test_a_clip_may_take_as_long_as_its_frames_allow_and_an_optimised_one_for_ever():
    assert clip_limits(shards("a"), CONFIG) == {video("a").video_id: 900.0 + 30.0 * 10}
    assert clip_limits(shards("a"), RunConfig(tto=TtoConfig())) == {}


@pytest.mark.parametrize(
    "settings",
    [{"count": -1}, {"deaths": 0}, {"block_frames": 0}, {"clip_s": 0.0}, {"count": 1, "scheduler": "tcp://host:8786"}],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigError):
        WorkersConfig(**settings)
