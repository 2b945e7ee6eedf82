from __future__ import annotations

import threading
import time

import pytest

import flows.shards as shards
from flows.shards import watched
from storage import VideoRef

VIDEOS = [VideoRef(name, f"/in/{name}.mp4", "0" * 64, "file", name) for name in "abc"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "LOOK_S", 0.005)


def test_the_first_unsettled_video_is_the_one_that_hangs():
    found = threading.Event()
    hanging = []

    def hangs(video: VideoRef) -> None:
        hanging.append(video.name)
        found.set()

    with watched(VIDEOS, {"a": 60.0, "b": 0.05, "c": 0.001}, hangs) as settled:
        settled()
        assert found.wait(20)
    assert hanging == ["b"], "c waits for b, which says nothing about c"


def test_a_video_in_time_or_without_a_limit_is_left_alone():
    hanging: list[VideoRef] = []
    with watched(VIDEOS, {"a": 60.0}, hanging.append) as settled:
        time.sleep(0.05)
        settled()
        time.sleep(0.05)
        settled()
        settled()
    assert hanging == []


def test_each_video_has_its_time_from_when_it_is_the_first():
    hanging: list[VideoRef] = []
    with watched(VIDEOS, dict.fromkeys("abc", 1.0), hanging.append) as settled:
        for _ in VIDEOS:
            time.sleep(0.4)
            settled()
    assert hanging == [], "1.2 s in all, 0.4 s each"
