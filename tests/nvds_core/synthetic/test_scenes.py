"""Seeds, families, paths and the imaging chain."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nvds_core.synthetic import SCENE_KINDS, make_scene, render, render_frame
from nvds_core.synthetic.motion import CAMERA_STYLES, camera_path, glide, object_motion, rotation
from nvds_core.types import ConfigError

SIZE = (64, 48)


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_a_seed_gives_the_same_pixels_every_time():
    first, second = (render(make_scene(21, frames=3, size=SIZE)) for _ in range(2))
    np.testing.assert_array_equal(first.rgb, second.rgb)
    np.testing.assert_array_equal(first.flow_to_next, second.flow_to_next)


def test_a_single_frame_equals_that_frame_of_the_clip():
    scene = make_scene(7, frames=3, size=SIZE)
    clip, frame = render(scene), render_frame(scene, 2)
    np.testing.assert_array_equal(frame.rgb, clip.rgb[2])
    np.testing.assert_array_equal(frame.depth, clip.depth[2])


def test_resolution_changes_the_sampling_and_not_the_scene():
    small, large = (make_scene(8, frames=1, size=size).without_imaging() for size in ((64, 48), (192, 144)))
    coarse, fine = render_frame(small, 0), render_frame(large, 0)
    np.testing.assert_array_equal(coarse.object_id, fine.object_id[1::3, 1::3])
    np.testing.assert_allclose(coarse.depth, fine.depth[1::3, 1::3], rtol=1e-4)


def test_the_families_appear_all_by_themselves():
    assert {make_scene(seed, frames=1, size=(16, 12)).kind for seed in range(40)} == set(SCENE_KINDS)


@pytest.mark.parametrize("kind", SCENE_KINDS)
def test_views_are_not_one_bare_wall(kind):
    spreads, objects = [], []
    for seed in range(200, 212):
        frame = render_frame(make_scene(seed, frames=2, size=SIZE, kind=kind), 0)
        near, far = np.quantile(frame.depth, [0.1, 0.9])
        spreads.append(far / near)
        objects.append(len(np.unique(frame.object_id)))
    assert np.median(spreads) > 1.5
    assert np.median(objects) >= 4


def test_seeds_differ_in_colour_and_in_shape():
    frames = [render_frame(make_scene(seed, frames=1, size=SIZE), 0) for seed in range(30, 50)]
    tones = np.array([frame.rgb.reshape(-1, 3).mean(axis=0) for frame in frames])
    assert tones.std(axis=0).min() > 15
    assert 40 < tones.mean() < 200


def test_motion_reaches_from_none_to_fast():
    clips = [render(make_scene(seed, frames=2, size=SIZE)) for seed in range(40)]
    speeds = np.array([np.median(np.linalg.norm(clip.flow_to_next[0], axis=0)) for clip in clips]) * 192 / SIZE[0]
    assert speeds.min() < 0.1
    assert speeds.max() > 5.0


def test_unknown_kinds_and_empty_clips_are_refused():
    with pytest.raises(ConfigError, match="'underwater' is unknown; take one of room"):
        make_scene(0, frames=1, kind="underwater")
    with pytest.raises(ConfigError, match="0 frames"):
        make_scene(0, frames=0)
    with pytest.raises(ConfigError, match="ask for 0 to 1"):
        render_frame(make_scene(0, frames=2, size=SIZE), 2)


@pytest.mark.parametrize("style", CAMERA_STYLES)
def test_camera_paths_are_rigid_start_in_place_and_keep_their_pace(style):
    path = camera_path(
        generator(5), 20, style=style, start=(0, -1.5, 0), pitch=-0.3, roll=0.1, focus=2.0, focal=150.0, flow=4.0
    )
    turns = path[:, :, :3]
    np.testing.assert_allclose(turns @ np.swapaxes(turns, 1, 2), np.broadcast_to(np.eye(3), (20, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1.0)
    centres = -np.swapaxes(turns, 1, 2) @ path[:, :, 3:]
    np.testing.assert_allclose(centres[0, :, 0], [0, -1.5, 0], atol=1e-12)
    ahead = np.einsum("tij,j->ti", np.swapaxes(turns, 1, 2), [0, 0, 1])
    step = 150.0 * (np.linalg.norm(np.diff(centres[:, :, 0], axis=0), axis=1).max() / 2.0)
    turn = 150.0 * np.linalg.norm(np.diff(ahead, axis=0), axis=1).max()
    assert step + turn < 8 * 4.0
    assert (step + turn > 0.2) == (style != "static")


def test_a_camera_pitched_down_sees_the_floor_below_its_axis():
    turn = rotation(0.0, -0.5)
    assert (turn @ [0, 0, 1])[1] > 0  # y points down


def test_a_glide_swings_within_its_reach():
    path = glide(generator(3), 500, 0.3, 1.5)
    assert path[0] == 0.0
    assert np.ptp(path) <= 3.0 + 1e-9
    assert np.abs(np.diff(path)).max() <= 0.3 + 1e-9


def test_ground_motion_keeps_things_upright_and_on_the_ground():
    motion = object_motion(generator(2), 30, [1.0, -0.5, 4.0], 0.05, 0.1, True)
    np.testing.assert_allclose(motion[:, 1, :3], np.broadcast_to([0, 1, 0], (30, 3)), atol=1e-12)
    np.testing.assert_allclose(motion[:, 1, 3], 0.0, atol=1e-9)


def test_exposure_changes_pixels_and_not_the_truth():
    scene = make_scene(12, frames=2, size=SIZE).without_imaging()
    gain = scene.imaging.gain * [1.0, 0.5]
    static = dataclasses.replace(
        scene,
        cam_from_world=scene.cam_from_world[[0, 0]],
        intrinsics=scene.intrinsics[[0, 0]],
        solids=tuple(dataclasses.replace(s, world_from_object=s.world_from_object[:1]) for s in scene.solids),
        imaging=dataclasses.replace(scene.imaging, gain=gain, contrast=0.0),
    )
    clip = render(static)
    np.testing.assert_array_equal(clip.depth[0], clip.depth[1])
    usable = (clip.rgb[0] > 20) & (clip.rgb[0] < 250)
    ratio = clip.rgb[1][usable] / clip.rgb[0][usable]
    assert np.median(ratio) == pytest.approx(0.5 ** (1 / scene.imaging.gamma), abs=0.02)


def test_noise_has_the_stated_strength_and_is_new_in_every_frame():
    scene = make_scene(12, frames=2, size=SIZE).without_imaging()
    dim = dataclasses.replace(scene.imaging, gain=scene.imaging.gain * 0.3)
    static = dataclasses.replace(scene, imaging=dim)
    noisy = dataclasses.replace(scene, imaging=dataclasses.replace(dim, noise=0.02))
    errors = [render_frame(noisy, i).rgb.astype(float) - render_frame(static, i).rgb for i in range(2)]
    middle = (render_frame(static, 0).rgb > 25) & (render_frame(static, 0).rgb < 230)
    assert errors[0][middle].std() == pytest.approx(0.02 * 255, rel=0.1)
    assert abs(np.corrcoef(errors[0][middle], errors[1][middle])[0, 1]) < 0.1


@pytest.mark.parametrize(("change", "limit"), [({"jpeg": 60}, 20), ({"blur": 1.0}, 40), ({"vignette": 0.5}, 80)])
def test_lens_and_compression_change_the_picture_a_little(change, limit):
    scene = make_scene(15, frames=1, size=SIZE).without_imaging()
    plain = render_frame(scene, 0).rgb.astype(float)
    changed = render_frame(dataclasses.replace(scene, imaging=dataclasses.replace(scene.imaging, **change)), 0).rgb
    assert 0 < np.abs(changed - plain).mean() < limit


# The bundled weights were trained on these scenes: a change here means that training no longer reproduces them, and
# that RENDERER_VERSION is to be raised.
@pytest.mark.parametrize(
    ("seed", "kind", "median_depth", "mean_code"),
    [
        (0, "tabletop", 0.9210, 118.03),
        (1, "outdoor", 6.8363, 106.49),
        (2, "room", 3.0009, 141.97),
        (3, "room", 1.2318, 146.23),
        (4, "people", 28.5730, 111.14),
        (13, "people", 2.0764, 131.74),
    ],
)
def test_the_scenes_of_a_seed_have_not_changed(seed, kind, median_depth, mean_code):
    scene = make_scene(seed, frames=2, size=SIZE)
    frame = render_frame(scene, 1)
    assert scene.kind == kind
    assert float(np.median(frame.depth)) == pytest.approx(median_depth, rel=1e-3)
    # Rounding differs between processors: seed 2 has a mean of 141.97 on an Intel Xeon and of 142.45 on an AMD EPYC.
    assert frame.rgb.mean() == pytest.approx(mean_code, abs=0.6)
