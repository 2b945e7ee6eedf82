from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tasks.frames as frames_module
from nvds_core.sizes import SizeConfig
from nvds_core.stabilization import prepare_rgb
from nvds_core.types import ConfigError, DecodeError
from nvds_core.video import CutConfig, open_video
from tasks.frames import FrameArtifact, FramesConfig, decode_unit, encode_unit, extract_frames, frames_ref
from tasks.workspace import Workspace
from tests.nvds_core.video.makers import corners, cut_off, panning, write_video
from tests.tasks.helpers import SIZE, SMALL, SOURCE, clip, extracted, pictures_of, scenes, video_of, workspace_in


def test_fixed_point_keeps_the_range_with_overshoot_to_half_a_step():
    values = np.linspace(-0.5, 1.4999, 9001)
    assert np.abs(decode_unit(encode_unit(values)) - values).max() <= 0.5 / 32768 + 1e-12


def test_frames_are_the_released_resize_of_the_decoded_pictures_overshoot_included(tmp_path):
    rng = np.random.default_rng(0)
    blocks = rng.choice([0, 255], (10, 10, 3)).astype(np.uint8).repeat(12, 0).repeat(16, 1)
    path = clip(tmp_path / "hard edges.mp4", [blocks] * 3)
    workspace = workspace_in(tmp_path)
    found = pictures_of(workspace.store, extracted(workspace, path))
    with open_video(path) as reader:
        expected = np.stack([prepare_rgb(frame.rgb, SIZE) for frame in reader])
    assert expected.min() < -0.01
    assert expected.max() > 1.01
    assert np.abs(found - expected).max() <= 0.5 / 32768 + 1e-12


def test_a_video_is_decoded_once_and_in_one_pass(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(frames_module, "open_video", lambda path, **k: opened.append(path) or open_video(path, **k))
    path, workspace = clip(tmp_path / "v.mp4", 3), workspace_in(tmp_path)
    extracted(workspace, path)
    again = extract_frames.fn(workspace, video_of(path), SMALL, 192, 32)
    assert again.name == "Cached"
    assert len(opened) == 1


def test_scenes_lie_between_the_cuts_and_times_come_along(tmp_path):
    workspace = workspace_in(tmp_path)
    ref = extracted(workspace, clip(tmp_path / "v.mp4", scenes(5, 3)))
    frames = FrameArtifact(workspace.store, ref)
    assert frames.cuts == [5]
    assert frames.scenes == [(0, 5), (5, 8)]
    assert frames.times == pytest.approx(np.arange(8) / 24, abs=1e-3)
    assert frames.source["codec"] == "h264"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_shortest_videos_are_one_scene(tmp_path, count):
    workspace = workspace_in(tmp_path)
    frames = FrameArtifact(workspace.store, extracted(workspace, clip(tmp_path / "v.mp4", count)))
    assert frames.scenes == [(0, count)]
    assert frames.read(0, count).shape == (count, 64, 96, 3)


def test_a_rotated_video_is_upright_and_its_size_follows_the_shown_picture(tmp_path):
    path = write_video(tmp_path / "v.mp4", [corners(96, 64)] * 2, rotation=90, options={"crf": "10"})
    workspace = workspace_in(tmp_path)
    frames = FrameArtifact(workspace.store, extracted(workspace, path))
    assert (frames.width, frames.height) == (64, 96)
    with open_video(path) as reader:
        shown = next(iter(reader)).rgb
    assert np.abs(frames.read(0, 1)[0] - shown / 255.0).max() < 1e-4


def test_size_comes_from_the_predictor_unless_it_is_given(tmp_path):
    path, workspace = clip(tmp_path / "v.mp4", 2), workspace_in(tmp_path)
    by_model = FrameArtifact(workspace.store, extracted(workspace, path, FramesConfig(), short_side=128))
    assert (by_model.width, by_model.height) == (160, 128)
    exact = FramesConfig(size=SizeConfig(width=64, height=64))
    by_hand = FrameArtifact(workspace.store, extracted(workspace, path, exact))
    assert (by_hand.width, by_hand.height) == (64, 64)


def test_a_limit_takes_the_first_frames(tmp_path):
    path, workspace = clip(tmp_path / "v.mp4", 6), workspace_in(tmp_path)
    assert FrameArtifact(workspace.store, extracted(workspace, path, replace(SMALL, limit=2))).frames == 2
    with pytest.raises(ConfigError, match="limit is 0"):
        FramesConfig(limit=0)


def test_blocks_of_large_pictures_are_shorter_and_cover_every_frame_once(tmp_path, monkeypatch):
    workspace = workspace_in(tmp_path)
    frames = FrameArtifact(workspace.store, extracted(workspace, clip(tmp_path / "v.mp4", 5)))
    monkeypatch.setattr(frames_module, "BLOCK_BYTES", 2 * 64 * 96 * 3 * 8)
    blocks = list(frames.blocks(0, 5, 16))
    assert [(first, len(block)) for first, block in blocks] == [(0, 2), (2, 2), (4, 1)]
    assert all(block.nbytes <= frames_module.BLOCK_BYTES for _, block in blocks)
    monkeypatch.setattr(frames_module, "BLOCK_BYTES", 1)
    assert list(frames.ranges(3, 5, 16)) == [(3, 4), (4, 5)]


def test_a_video_that_cannot_be_decoded_to_its_end_leaves_nothing_behind(tmp_path):
    path = write_video(tmp_path / "v.mp4", panning(60, size=SOURCE), container_options={"movflags": "+faststart"})
    cut_off(path, 0.5)
    workspace = workspace_in(tmp_path)
    with pytest.raises(DecodeError, match=r"v\.mp4"):
        extract_frames.fn(workspace, video_of(path), SMALL, 192, 32)
    left = [place for place in workspace.store.root.rglob("*") if place.is_file()]
    assert left == []


def test_a_source_that_changes_after_it_was_identified_is_refused(tmp_path):
    path, workspace = clip(tmp_path / "v.mp4", 2), workspace_in(tmp_path)
    video = video_of(path)
    clip(path, 3, seed=9)
    with pytest.raises(DecodeError, match="changed while") as caught:
        extract_frames.fn(workspace, video, SMALL, 192, 32)
    assert caught.value.reason == "changed"
    assert workspace.store.find(frames_ref(video, SMALL, 192, 32)) is None


def test_a_remote_source_gives_the_same_frames_and_its_copy_is_not_kept(tmp_path, memory_store):
    path = clip(tmp_path / "v.mp4", 3)
    memory_store.pipe_file("/bucket/v.mp4", path.read_bytes())
    here, there = workspace_in(tmp_path / "a"), workspace_in(tmp_path / "b")
    local = extracted(here, path)
    remote = replace(video_of(path), uri="memory://bucket/v.mp4")
    assert extract_frames.fn(there, remote, SMALL, 192, 32).ref == local, "keys do not depend on places"
    assert np.array_equal(pictures_of(here.store, local), pictures_of(there.store, local))
    assert [entry.name for entry in there.store.path(local).iterdir()] == ["arrays"]


def test_an_error_of_a_remote_source_names_its_address_without_credentials(tmp_path, memory_store):
    (tmp_path / "bad.mp4").write_bytes(b"nonsense" * 20)
    memory_store.pipe_file("/bucket/bad.mp4", b"nonsense" * 20)
    remote = replace(video_of(tmp_path / "bad.mp4"), uri="memory://bucket/bad.mp4")
    with pytest.raises(DecodeError, match=r"^memory://bucket/bad\.mp4: not a video") as caught:
        extract_frames.fn(workspace_in(tmp_path), remote, SMALL, 192, 32)
    assert caught.value.reason == "not_a_video"


def test_cut_detection_can_be_switched_off_and_is_part_of_the_key(tmp_path):
    path, workspace = clip(tmp_path / "v.mp4", scenes(3, 3)), workspace_in(tmp_path)
    off = replace(SMALL, cuts=CutConfig(enabled=False))
    assert FrameArtifact(workspace.store, extracted(workspace, path, off)).cuts == []
    assert frames_ref(video_of(path), off, 192, 32) != frames_ref(video_of(path), SMALL, 192, 32)


def test_a_workspace_is_small_and_says_where_things_are(tmp_path):
    workspace = workspace_in(tmp_path)
    assert isinstance(workspace, Workspace)
    assert workspace.work == str(tmp_path / "out" / ".work")
