from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from nvds_core.types import ConfigError, ShapeError
from nvds_core.video import CutConfig, CutDetector, open_video
from tests.nvds_core.video.makers import panning

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


def cuts_of(frames, **options):
    detector = CutDetector(CutConfig(**options))
    for rgb in frames:
        detector.push(rgb)
    return detector.finish()


@pytest.fixture(scope="module")
def scenes():
    return [panning(30, seed=seed) for seed in range(4)]


def test_every_joint_of_different_scenes_is_found_and_nothing_else(scenes):
    a, b, c, d = scenes
    assert cuts_of(a + b[:7] + c[:20] + d) == [30, 37, 57]


def test_scenes_of_one_or_two_frames_are_found(scenes):
    a, b, c, d = scenes
    assert cuts_of(a[:1] + b[:2] + c[:10] + d[:1]) == [1, 3, 13]


def test_two_pictures_suffice(scenes):
    assert cuts_of([scenes[0][0], scenes[1][0]]) == [1]
    assert cuts_of([scenes[0][0], scenes[0][1]]) == []
    assert cuts_of(scenes[0][:1]) == cuts_of([]) == []


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("flash", [lambda f: np.full_like(f, 255), lambda f: cv2.convertScaleAbs(f, alpha=2, beta=90)])
def test_a_flash_is_no_cut(scenes, length, flash):
    frames = [flash(f) if 12 <= i < 12 + length else f for i, f in enumerate(scenes[0])]
    assert cuts_of(frames) == []


def test_a_longer_disturbance_has_a_start_and_an_end(scenes):
    frames = [np.full_like(f, 255) if 10 <= i < 20 else f for i, f in enumerate(scenes[0])]
    assert cuts_of(frames) == [10, 20]


def test_a_step_of_exposure_is_no_cut(scenes):
    assert cuts_of([f if i < 15 else (f * 0.35).astype(np.uint8) for i, f in enumerate(scenes[0])]) == []


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_a_fast_pan_is_no_cut(share):
    assert cuts_of(panning(12, seed=5, step=int(160 * share))) == []


def test_noise_without_any_scene_has_no_cuts():
    rng = np.random.default_rng(0)
    assert cuts_of(rng.integers(0, 256, (20, 90, 160, 3), dtype=np.uint8)) == []


def test_cuts_survive_strong_noise_and_darkness(scenes):
    rng = np.random.default_rng(0)
    frames = [np.clip(f * 0.4 + rng.normal(0, 8, f.shape), 0, 255).astype(np.uint8) for f in scenes[0] + scenes[1]]
    assert cuts_of(frames) == [30]


def test_flat_title_cards_of_different_brightness_are_cut():
    cards = [np.full((90, 160, 3), colour, np.uint8) for colour in [(200, 20, 20)] * 5 + [(20, 20, 220)] * 5]
    assert cuts_of(cards) == [5]


def test_the_minimum_length_and_the_switch_are_obeyed(scenes):
    a, b, c, _ = scenes
    frames = a[:20] + b[:3] + c[:20]
    assert cuts_of(frames) == [20, 23]
    assert cuts_of(frames, min_scene_frames=8) == [20]
    assert cuts_of(frames, enabled=False) == []
    with pytest.raises(ConfigError):
        CutConfig(min_scene_frames=0)


def test_other_arrays_than_rgb_frames_are_refused():
    with pytest.raises(ShapeError, match="float32"):
        CutDetector().push(np.zeros((8, 8, 3), np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        ("vdw_stereo/rgbdemo.mp4", [63]),  # its first scene, shipped as 000001.mp4, has 63 frames
        ("vdw_stereo/000001.mp4", []),
        ("vdw_stereo/000002.mp4", []),
        ("clips/davis_rollercoaster.mp4", []),
        ("rgbd_scene", []),
    ],
)
def test_the_shared_footage_has_the_cuts_it_is_known_for(name, cuts):
    if not (SHARED / name).exists():
        pytest.skip(f"shared footage {name} is not beside the repository")
    with open_video(SHARED / name) as reader:
        assert cuts_of(frame.rgb for frame in reader) == cuts
