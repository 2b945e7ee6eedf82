"""Inputs as found on real disks, all in one folder: each good one is done once, each bad one has its reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.cleaning import clean
from flows.status import status_of
from tasks import workers
from tests.flows.helpers import digests, leftovers, run
from tests.nvds_core.video.makers import write_sound, write_video
from tests.plugin_site import plugin_site

# Reads its orders from the colour of a picture.
MODEL = """
class Moody:
    name, digest, short_side, multiple = "moody", "moody:1", 64, 32
    def __init__(self, device):
        pass
    def predict(self, unit_rgb):
        disparity = unit_rgb.mean(axis=3).astype("float32")
        for picture, values in zip(unit_rgb, disparity):
            red, green, blue = picture.mean(axis=(0, 1))
            if red > 2 * blue:
                raise RuntimeError("this frame is more than I can take")
            if green > 2 * blue:
                values[0, 0] = float("nan")
            if blue > 2 * red:
                raise MemoryError
        return disparity
"""
SETTINGS: dict[str, Any] = {
    "predictor": {"name": "moody"},
    "stabilizer": {"name": "none"},
    "score": {"name": "none"},
    "frames": {"size": {"short_side": 64}},
}
GREY, RED, GREEN, BLUE = (120, 120, 120), (200, 20, 20), (20, 200, 20), (20, 20, 200)
GOOD = {
    "with space.mp4",
    "line\nbreak.mp4",
    "fisch 🐟.mp4",
    "dots..mp4",
    "-leading-dash.mp4",
    "x" * 251 + ".mp4",
    os.fsdecode(b"not-text-\xff.mp4"),
    "one frame.mp4",
    "sub/with space.mp4",
}
BAD = {
    "empty.mp4": "empty",
    "corrupt.mp4": "not_a_video",
    "sound.mp4": "no_video_stream",
    "pipe.mp4": "unreadable",
    "dangling.mp4": "not_found",
    "folder.mp4": "not_a_video",
    "raises.mp4": "internal",
    "nan.mp4": "not_finite",
    "memory.mp4": "memory",
}


def film(path: Path, colours: list[tuple[int, int, int]], level: int) -> Path:
    """A video of plain frames; `level` makes contents differ."""
    pictures = [np.full((64, 96, 3), colour, np.uint8) for colour in colours]
    for picture in pictures:
        picture[:8, :8] = level
    return write_video(path, pictures)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "in"
    (folder / "sub").mkdir(parents=True)
    plain = folder.parent / "plain.mp4"
    for level, name in enumerate(sorted(GOOD)):
        film(plain, [GREY] * (1 if name == "one frame.mp4" else 3), 10 * level)
        os.rename(plain, folder / name)
    (folder / "empty.mp4").touch()
    (folder / "corrupt.mp4").write_bytes(b"nonsense" * 50)
    write_sound(folder / "sound.mp4")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "dangling.mp4").symlink_to("nowhere")
    (folder / "folder.mp4").mkdir()
    for name, colour in (("raises", RED), ("nan", GREEN), ("memory", BLUE)):
        film(folder / f"{name}.mp4", [GREY, colour, GREY], 0)
    return folder


@pytest.mark.slow
def test_each_good_video_is_done_once_and_each_bad_one_has_its_reason(prefect_api, inputs, tmp_path):
    (tmp_path / "site").mkdir()
    out = tmp_path / "out"
    with plugin_site(tmp_path / "site") as site:
        site.install("moody", MODEL, {"nvds.predictors": {"moody": "moody:Moody"}})
        summary, watched = run(inputs, out, **SETTINGS)
        again, _ = run(inputs, out, **SETTINGS)
    workers._predictor.cache_clear()
    reasons = {Path(outcome.video.uri).name: outcome.reason for outcome in watched.outcomes if outcome.reason}
    assert reasons == BAD
    assert (summary["done"], summary["failed"]) == (len(GOOD), len(BAD))
    assert (again["done"], again["cached"], again["failed"]) == (len(GOOD), len(GOOD), len(BAD))
    assert len(digests(out)) == len(GOOD)
    assert {entry.name for entry in out.parent.iterdir()} == {"out", "site"}, "nothing leaves the output"
    report = clean(str(out))
    assert report["held_by"] == []
    assert leftovers(out) == []
    assert {entry.name for entry in (out / ".work").iterdir()} <= {"digests.json"}
    state = status_of(str(out))
    assert (state["done"], state["failed"], state["pending"]) == (len(GOOD), len(BAD), 0)
