"""Hand-made scenes whose answers can be written down."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nvds_core.synthetic import Scene, Solid, make_scene, render

SIZE = (96, 64)
FOCAL = 80.0


def staged(solids: list[Solid], centres: list[tuple[float, float, float]]) -> Scene:
    """The solids seen by a camera that looks along +z from the given places."""
    scene = make_scene(3, frames=len(centres), size=SIZE, kind="clutter").without_imaging()
    path = np.stack([np.concatenate([np.eye(3), -np.array(c, float)[:, None]], axis=1) for c in centres])
    lens = np.tile([FOCAL, FOCAL, (SIZE[0] - 1) / 2, (SIZE[1] - 1) / 2], (len(centres), 1))
    return dataclasses.replace(scene, solids=tuple(solids), cam_from_world=path, intrinsics=lens)


def placed(kind: str, half: tuple[float, float, float], *centres: tuple[float, float, float]) -> Solid:
    skin = make_scene(3, frames=1, kind="clutter").solids[0].material
    poses = np.stack([np.concatenate([np.eye(3), np.array(c, float)[:, None]], axis=1) for c in centres])
    return Solid(kind, half, poses, skin)  # type: ignore[arg-type]


WALL = placed("plane", (np.inf, np.inf, 0.0), (0.0, 0.0, 5.0))


def test_a_wall_across_the_view_has_one_depth():
    clip = render(staged([WALL], [(0, 0, 0), (0, 0, 1.0)]))
    np.testing.assert_allclose(clip.depth[0], 5.0, rtol=1e-6)
    np.testing.assert_allclose(clip.depth[1], 4.0, rtol=1e-6)


def test_a_sideways_step_moves_a_wall_by_focal_length_over_depth():
    clip = render(staged([WALL], [(0, 0, 0), (0.25, 0, 0)]))
    np.testing.assert_allclose(clip.flow_to_next[0, 0], -FOCAL * 0.25 / 5.0, atol=1e-5)
    np.testing.assert_allclose(clip.flow_to_previous[0, 0], FOCAL * 0.25 / 5.0, atol=1e-5)
    np.testing.assert_allclose(clip.flow_to_next[0, 1], 0.0, atol=1e-5)


def test_a_step_of_four_pixels_hides_the_four_columns_that_leave_the_picture():
    clip = render(staged([WALL], [(0, 0, 0), (0.25, 0, 0)]))
    assert clip.occluded_next[0, :, :4].all()
    assert not clip.occluded_next[0, :, 4:].any()
    assert clip.occluded_previous[0, :, -4:].all()


def test_walking_towards_a_wall_spreads_it_from_the_centre():
    clip = render(staged([WALL], [(0, 0, 0), (0, 0, 1.0)]))
    x = np.arange(SIZE[0]) - (SIZE[0] - 1) / 2
    np.testing.assert_allclose(clip.flow_to_next[0, 0, 10], x * (5.0 / 4.0 - 1.0), atol=1e-4)


def test_the_nearest_point_of_a_ball_is_its_radius_nearer_than_its_centre():
    size = (97, 65)  # odd, so that one pixel looks straight ahead
    scene = staged([WALL, placed("ellipsoid", (0.5, 0.5, 0.5), (0, 0, 3.0))], [(0, 0, 0)])
    lens = np.array([[FOCAL, FOCAL, 48.0, 32.0]])
    clip = render(dataclasses.replace(scene, size=size, intrinsics=lens))
    assert clip.depth[0, 32, 48] == pytest.approx(2.5, abs=1e-6)
    assert clip.object_id[0, 32, 48] == 1
    radius = np.sqrt((clip.object_id[0] == 1).sum() / np.pi)
    assert radius == pytest.approx(FOCAL * 0.5 / np.sqrt(3.0**2 - 0.5**2), rel=0.03)


def test_what_a_passing_box_covers_is_occluded_and_nothing_else():
    box = placed("box", (0.5, 0.5, 0.1), (0, 0, 2.1), (0.2, 0, 2.1))  # its front, at 2 m, moves by 8 pixels
    clip = render(staged([WALL, box], [(0, 0, 0), (0, 0, 0)]))
    front = clip.object_id[0] == 1
    covered = clip.object_id[1] == 1
    np.testing.assert_allclose(clip.flow_to_next[0, 0][front & (clip.depth[0] < 2.001)], 8.0, atol=1e-4)
    np.testing.assert_array_equal(clip.flow_to_next[0][:, ~front], 0.0)
    np.testing.assert_array_equal(clip.occluded_next[0] & ~front, covered & ~front)


def test_the_far_side_of_a_turning_box_is_occluded():
    turn = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    box = placed("box", (0.5, 0.5, 0.5), (0, 0, 3.0), (0, 0, 3.0))
    poses = box.world_from_object.copy()
    poses[1, :, :3] = turn
    clip = render(staged([WALL, dataclasses.replace(box, world_from_object=poses)], [(0, 0, 0), (0, 0, 0)]))
    front = (clip.object_id[0] == 1) & (np.abs(clip.depth[0] - 2.5) < 1e-4)
    assert front.sum() > 100
    assert clip.occluded_next[0][front].all()


def test_an_unmoved_scene_has_no_flow_and_no_occlusion():
    clip = render(staged([WALL, placed("cylinder", (0.4, 0.6, 0.4), (0.1, 0, 2.0))], [(0.3, 0.1, 0)] * 2))
    assert np.abs(clip.flow_to_next).max() < 1e-6
    assert not clip.occluded_next.any()
    np.testing.assert_array_equal(clip.rgb[0], clip.rgb[1])


def test_surfaces_too_near_the_camera_are_not_seen():
    clip = render(staged([WALL, placed("box", (0.1, 0.1, 0.05), (0, 0, 0.2))], [(0, 0, 0)]))
    assert clip.depth.min() >= 0.2


def test_an_empty_scene_is_all_sky():
    clip = render(staged([], [(0, 0, 0)]))
    assert (clip.object_id == -1).all()
    assert clip.depth.max() <= make_scene(3, frames=1, kind="clutter").sky.radius * (1 + 1e-6)
