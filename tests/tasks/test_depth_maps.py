from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nvds_core.types import ConfigError, DecodeError
from storage import VolumeWriter, open_arrays
from tasks.depth_maps import check_one_video, maps_of
from tasks.initial import PredictorConfig, initial_ref, predict_initial
from tasks.workers import predictor
from tests.tasks.helpers import SIZE, clip, extracted, read, video_of, workspace_in

FRAMES = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The workspace, a video of 4 frames and its frames artifact."""
    folder = tmp_path_factory.mktemp("maps")
    workspace = workspace_in(folder)
    path = clip(folder / "clip.mp4", FRAMES)
    return workspace, video_of(path), extracted(workspace, path)


@pytest.fixture
def depth() -> np.ndarray:
    return 1 + np.random.default_rng(0).random((FRAMES, SIZE[1] * 2, SIZE[0] * 2))


def volume(folder: Path, depth: np.ndarray) -> Path:
    frames, height, width = depth.shape
    results = ("initial", "mix")
    shape = {"frames": frames, "height": height, "width": width}
    with VolumeWriter(str(folder), results=results, encoding="float32", **shape) as writer:
        writer.write("initial", 0, (1 / depth).astype(np.float32))
        writer.write("mix", 0, (5 / depth).astype(np.float32))
    return folder


def initial_of(made, root: Path, options: str = "") -> np.ndarray:
    workspace, video, frames = made
    ref = predict_initial.fn(workspace, frames, PredictorConfig(f"folder:{root}{options}"), video=video).ref
    return read(workspace.store, ref, "initial")


def halved(maps: np.ndarray) -> np.ndarray:
    return maps.reshape(FRAMES, SIZE[1], 2, SIZE[0], 2).mean(axis=(2, 4))


def test_files_become_the_initial_disparity_at_the_size_of_the_frames(made, depth, tmp_path):
    np.savez(tmp_path / "clip.npz", depth=depth)
    found = initial_of(made, tmp_path)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, halved(1 / depth), rtol=1e-5)


def test_a_volume_of_ours_gives_the_result_that_is_asked_for(made, depth, tmp_path):
    volume(tmp_path / "videos" / made[1].video_id, depth)
    np.testing.assert_allclose(initial_of(made, tmp_path), halved(1 / depth), rtol=1e-5)
    np.testing.assert_allclose(initial_of(made, tmp_path, "?result=mix"), halved(5 / depth), rtol=1e-5)
    with pytest.raises(ConfigError, match="has no result 'backward', only initial, mix"):
        initial_of(made, tmp_path, "?result=backward")
    with pytest.raises(ConfigError, match=r"leave \?quantity=depth out"):
        initial_of(made, tmp_path, "?quantity=depth")


def test_the_key_follows_the_content_of_the_maps_and_not_their_place(made, depth, tmp_path):
    _, video, frames = made

    def key(root: Path, options: str = "") -> str:
        return initial_ref(frames, PredictorConfig(f"folder:{root}{options}"), video).key

    for name in "ab":
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "clip.npy", depth)
    before = key(tmp_path / "a")
    assert key(tmp_path / "b") == before
    assert key(tmp_path / "a", "?quantity=depth") != before
    np.save(tmp_path / "a" / "clip.npy", depth * 2)
    assert key(tmp_path / "a") != before
    maps = [volume(tmp_path / "c" / "clip", depth), volume(tmp_path / "d" / "clip", depth)]
    assert key(maps[0].parent) == key(maps[1].parent) != key(maps[0].parent, "?result=mix")


def test_the_digest_of_the_maps_is_named_in_what_was_made(made, depth, tmp_path):
    workspace, video, frames = made
    np.save(tmp_path / "clip.npy", depth)
    name = f"folder:{tmp_path}"
    ref = predict_initial.fn(workspace, frames, PredictorConfig(name), video=video).ref
    digest = open_arrays(workspace.store.path(ref) / "arrays").attributes["predictor"]
    assert digest == f"{predictor(name).digest}:{maps_of(predictor(name), video).digest}"


def test_another_number_of_maps_than_frames_leaves_nothing(made, depth, tmp_path):
    workspace, video, frames = made
    np.save(tmp_path / "clip.npy", depth[1:])
    config = PredictorConfig(f"folder:{tmp_path}")
    with pytest.raises(DecodeError, match="3 maps for a video of 4 frames"):
        predict_initial.fn(workspace, frames, config, video=video)
    assert workspace.store.find(initial_ref(frames, config, video)) is None


def test_a_run_of_the_first_frames_takes_the_first_maps(depth, tmp_path):
    from dataclasses import replace

    from tests.tasks.helpers import SMALL

    workspace, path = workspace_in(tmp_path), clip(tmp_path / "clip.mp4", FRAMES)
    frames = extracted(workspace, path, replace(SMALL, limit=2))
    np.save(tmp_path / "clip.npy", depth)
    config = PredictorConfig(f"folder:{tmp_path / 'clip.npy'}?quantity=depth")
    ref = predict_initial.fn(workspace, frames, config, video=video_of(path)).ref
    np.testing.assert_allclose(read(workspace.store, ref, "initial"), halved(1 / depth)[:2], rtol=1e-5)


def test_the_maps_of_one_video_are_not_given_to_two(made, depth, tmp_path):
    video = made[1]
    other = video_of(clip(tmp_path / "other.mp4", FRAMES, seed=3))
    np.save(tmp_path / "clip.npy", depth)
    alone = f"folder:{tmp_path / 'clip.npy'}"
    check_one_video(alone, [video])
    with pytest.raises(ConfigError, match=r"2 would take them \(clip, other"):
        check_one_video(alone, [video, other])
    np.save(tmp_path / "other.npy", depth)
    check_one_video(f"folder:{tmp_path}", [video, other])
    check_one_video("tiny", [video, other])


def test_maps_without_a_video_are_refused(made, tmp_path):
    with pytest.raises(ConfigError, match="needs to know the video"):
        initial_ref(made[2], PredictorConfig(f"folder:{tmp_path}"))
