"""The rendered truth against slow, separately written geometry in float64."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from nvds_core.synthetic import SCENE_KINDS, Clip, Scene, make_scene, render

WIDTH, HEIGHT = 96, 64
SEEDS = (1, 2, 7, 14, 17)  # outdoor, room, tabletop, clutter, people: all moving by a pixel and more


@pytest.fixture(scope="module", params=SEEDS)
def rendered(request: pytest.FixtureRequest) -> tuple[Scene, Clip]:
    scene = make_scene(request.param, frames=3, size=(WIDTH, HEIGHT)).without_imaging()
    return scene, render(scene)


def pose_of(scene: Scene, index: int, frame: int) -> np.ndarray:
    """world_from_object as a 4x4 matrix; the sky does not move."""
    matrix = np.eye(4)
    if index >= 0:
        poses = scene.solids[index].world_from_object
        matrix[:3] = poses[frame if len(poses) > 1 else 0]
    return matrix


def camera_of(clip: Clip, frame: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3] = clip.cam_from_world[frame]
    return matrix


def lens_of(clip: Clip, frame: int) -> np.ndarray:
    fx, fy, cx, cy = clip.intrinsics[frame]
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def outside_of(kind: str, half: tuple[float, ...], points: np.ndarray) -> np.ndarray:
    """Signed implicit function [n] of points [n, 3]: zero on the surface, negative inside (a plane has no inside)."""
    if kind == "plane":
        within = (np.abs(points[:, :2]) <= np.array(half[:2]) + 1e-6).all(axis=1)
        return np.where(within, np.abs(points[:, 2]), np.inf)
    scaled = points / np.array(half)
    if kind == "box":
        return np.abs(scaled).max(axis=1) - 1.0
    if kind == "ellipsoid":
        return np.sqrt((scaled**2).sum(axis=1)) - 1.0
    return np.maximum(np.hypot(scaled[:, 0], scaled[:, 2]), np.abs(scaled[:, 1])) - 1.0


def blocked(scene: Scene, frame: int, start: np.ndarray, stop: np.ndarray, skip: float = 0.2) -> bool:
    """Whether a solid cuts the segment, found by sampling it; its first `skip` metres and its very end are left out."""
    share = np.linspace(skip / np.linalg.norm(stop - start), 1.0 - 1e-3, 3000)[:, None]
    samples = np.concatenate([start + share * (stop - start), np.ones((3000, 1))], axis=1)
    for index, solid in enumerate(scene.solids):
        local = (samples @ np.linalg.inv(pose_of(scene, index, frame)).T)[:, :3]
        if solid.kind == "plane":
            crossing = np.flatnonzero(np.diff(np.sign(local[:, 2])) != 0)
            if (np.abs(local[crossing, :2]) < np.array(solid.half[:2])).all(axis=1).any():
                return True
        elif outside_of(solid.kind, solid.half, local).min() < 0.0:
            return True
    return False


def sampled_pixels(seed: int, count: int) -> list[tuple[int, int]]:
    rng = np.random.Generator(np.random.PCG64(seed))
    return list(zip(rng.integers(0, HEIGHT, count).tolist(), rng.integers(0, WIDTH, count).tolist(), strict=True))


def world_point(clip: Clip, frame: int, row: int, column: int) -> np.ndarray:
    ray = np.linalg.inv(lens_of(clip, frame)) @ [column, row, 1.0]
    return np.linalg.inv(camera_of(clip, frame)) @ np.append(ray * float(clip.depth[frame, row, column]), 1.0)


def test_every_pixel_lies_on_the_surface_it_names(rendered):
    scene, clip = rendered
    for row, column in sampled_pixels(1, 200):
        index = int(clip.object_id[1, row, column])
        point = world_point(clip, 1, row, column)
        if index < 0:
            assert np.linalg.norm(point[:3]) == pytest.approx(scene.sky.radius, rel=1e-4)
            continue
        local = (np.linalg.inv(pose_of(scene, index, 1)) @ point)[None, :3]
        solid = scene.solids[index]
        size = 1.0 if solid.kind == "plane" else min(solid.half)
        assert abs(outside_of(solid.kind, solid.half, local)[0]) * size < 1e-5 * clip.depth[1, row, column] + 1e-5


def test_nothing_stands_between_the_camera_and_a_pixel(rendered):
    scene, clip = rendered
    eye = np.linalg.inv(camera_of(clip, 1))[:3, 3]
    wrong = [blocked(scene, 1, eye, world_point(clip, 1, r, c)[:3]) for r, c in sampled_pixels(2, 60)]
    assert sum(wrong) <= 1  # sampling along a grazing ray may clip a corner


@pytest.mark.parametrize("forward", [True, False])
def test_flow_is_the_projection_of_the_same_object_point(rendered, forward):
    scene, clip = rendered
    source, target = (1, 2) if forward else (2, 1)
    flow = (clip.flow_to_next if forward else clip.flow_to_previous)[1]
    for row, column in sampled_pixels(3, 200):
        index = int(clip.object_id[source, row, column])
        local = np.linalg.inv(pose_of(scene, index, source)) @ world_point(clip, source, row, column)
        there = (camera_of(clip, target) @ pose_of(scene, index, target) @ local)[:3]
        if there[2] < 0.1:
            continue
        landing = (lens_of(clip, target) @ there)[:2] / there[2]
        expected = landing - [column, row]
        np.testing.assert_allclose(flow[:, row, column], expected, atol=1e-3 + 1e-4 * np.abs(expected).max())


def test_occlusion_agrees_with_looking_from_the_other_camera(rendered):
    scene, clip = rendered
    eye = np.linalg.inv(camera_of(clip, 2))[:3, 3]
    rng = np.random.Generator(np.random.PCG64(4))
    hidden_rows = np.argwhere(clip.occluded_next[1])
    seen_rows = np.argwhere(~clip.occluded_next[1])
    wrong = checked = 0
    for rows, expected in ((hidden_rows, True), (seen_rows, False)):
        for row, column in rng.permutation(rows)[:40]:
            index = int(clip.object_id[1, row, column])
            local = np.linalg.inv(pose_of(scene, index, 1)) @ world_point(clip, 1, row, column)
            point = (pose_of(scene, index, 2) @ local)[:3]
            x, y = np.array([column, row]) + clip.flow_to_next[1][:, row, column]
            out = not (0 <= x <= WIDTH - 1 and 0 <= y <= HEIGHT - 1)
            wrong += (out or blocked(scene, 2, eye, point)) != expected
            checked += 1
    assert wrong <= 0.02 * checked


def test_warping_the_next_frame_gives_this_one(rendered):
    _, clip = rendered
    grid = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))).astype(np.float32)
    x, y = grid + clip.flow_to_next[0]
    warped = cv2.remap(clip.rgb[1], x, y, cv2.INTER_LINEAR).astype(np.float64)
    seen = ~clip.occluded_next[0]
    after = np.abs(warped - clip.rgb[0]).mean(axis=2)[seen]
    before = np.abs(clip.rgb[1].astype(np.float64) - clip.rgb[0]).mean(axis=2)[seen]
    wrong_way = cv2.remap(clip.rgb[1], 2 * grid[0] - x, 2 * grid[1] - y, cv2.INTER_LINEAR).astype(np.float64)
    opposite = np.abs(wrong_way - clip.rgb[0]).mean(axis=2)[seen]
    assert np.median(after) < 3.0
    assert after.mean() < 0.4 * before.mean()  # what remains is the blur of resampling
    assert after.mean() < 0.4 * opposite.mean()


def test_depth_of_seen_points_is_found_again_where_the_flow_leads(rendered):
    scene, clip = rendered
    wrong = checked = 0
    for row, column in sampled_pixels(6, 400):
        if clip.occluded_next[0, row, column]:
            continue
        index = int(clip.object_id[0, row, column])
        local = np.linalg.inv(pose_of(scene, index, 0)) @ world_point(clip, 0, row, column)
        z = (camera_of(clip, 1) @ pose_of(scene, index, 1) @ local)[2]
        x, y = np.rint([column, row] + clip.flow_to_next[0][:, row, column]).astype(int)
        around = clip.depth[1, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        wrong += not (around.min() * 0.98 <= z <= around.max() * 1.02)
        checked += 1
    assert checked > 100
    assert wrong <= 0.02 * checked


@pytest.mark.parametrize("kind", SCENE_KINDS)
def test_depth_is_finite_and_never_nearer_than_the_camera_allows(kind):
    for seed in range(3):
        clip = render(make_scene(seed, frames=2, size=(64, 48), kind=kind), flow=False)
        assert np.isfinite(clip.depth).all()
        assert clip.depth.min() >= 0.2
        assert clip.disparity.max() <= 5.0
        assert clip.flow_to_next.shape == (0, 2, 48, 64)
