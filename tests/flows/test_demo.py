from __future__ import annotations

import cv2
import pytest

from flows import demo
from nvds_core.video import open_video
from storage import open_volume
from tests.flows.finished import nvds


@pytest.mark.slow
def test_the_demo_makes_volumes_a_table_a_comparison_and_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SIZE", (224, 128))
    monkeypatch.setattr(demo, "SCENE_FRAMES", 6)
    monkeypatch.chdir(tmp_path)
    result = nvds("demo")
    assert result.exit_code == 0, result.stderr
    out = tmp_path / "demo-out"
    [folder] = (out / "videos").iterdir()
    volume = open_volume(folder)
    assert volume.frames == 12
    assert volume.attributes["cuts"] == [6]
    with open_video(out / "comparison.mp4") as reader:
        assert sum(1 for _ in reader) == 12
    strip = cv2.imread(str(out / "strip.png"))
    assert strip.shape[1] > 3 * volume.shape[2]
    for words in ("mean of 1", "comparison.mp4", "strip.png"):
        assert words in result.stdout


def test_the_rendered_clip_is_a_real_video_with_one_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SIZE", (96, 64))
    monkeypatch.setattr(demo, "SCENE_FRAMES", 3)
    demo.render_clip(tmp_path / "clip.mp4")
    with open_video(tmp_path / "clip.mp4") as reader:
        assert (reader.info.codec, reader.info.width, reader.info.height) == ("h264", 96, 64)
        assert sum(1 for _ in reader) == 6


def test_real_footage_is_taken_only_if_it_is_there(tmp_path, monkeypatch):
    (tmp_path / "repo").mkdir()
    monkeypatch.chdir(tmp_path / "repo")
    assert demo.real_clips() == []
    clips = tmp_path / "shared" / "data" / "clips"
    clips.mkdir(parents=True)
    (clips / "a.mp4").touch()
    assert demo.real_clips() == [str(demo.REAL_CLIPS)]
