"""Ray intersections against dense sampling along the ray."""

from __future__ import annotations

import numpy as np
import pytest

from nvds_core.synthetic.shapes import entry_distance, surface

HALF = (0.7, 1.1, 0.7)


def inside(kind: str, points: np.ndarray) -> np.ndarray:
    scaled = points / np.array(HALF)
    if kind == "box":
        return (np.abs(scaled) < 1).all(axis=-1)
    if kind == "ellipsoid":
        return (scaled**2).sum(axis=-1) < 1
    return (scaled[..., 0] ** 2 + scaled[..., 2] ** 2 < 1) & (np.abs(scaled[..., 1]) < 1)


def rays(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.Generator(np.random.PCG64(seed))
    origin = rng.standard_normal((count, 3))
    origin *= 4.0 / np.linalg.norm(origin, axis=1, keepdims=True)
    direction = rng.uniform(-1, 1, (count, 3)) - origin
    return origin, direction / np.linalg.norm(direction, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["box", "ellipsoid", "cylinder"])
def test_rays_enter_where_the_first_inner_sample_lies(kind):
    origin, direction = rays(1, 150)
    found = entry_distance(kind, HALF, tuple(origin.T), tuple(direction.T))
    distances = np.linspace(0, 8, 8001)
    hit = inside(kind, origin[:, None] + distances[None, :, None] * direction[:, None])
    for ray in range(len(origin)):
        if hit[ray].any():
            assert found[ray] == pytest.approx(distances[hit[ray].argmax()], abs=1.1e-3)
        else:
            passed = origin[ray] + found[ray] * direction[ray] if np.isfinite(found[ray]) else None
            assert passed is None or not inside(kind, passed * 0.99).any()  # at most a graze between two samples


@pytest.mark.parametrize("kind", ["box", "ellipsoid", "cylinder"])
def test_normals_have_length_one_and_look_back_at_the_ray(kind):
    origin, direction = rays(2, 300)
    distance = entry_distance(kind, HALF, tuple(origin.T), tuple(direction.T))
    hit = np.isfinite(distance)
    points = origin[hit] + distance[hit, None] * direction[hit]
    normal, coordinates = surface(kind, HALF, points.T, origin[0])
    assert hit.sum() > 100
    np.testing.assert_allclose(np.linalg.norm(normal, axis=0), 1.0)
    assert ((normal * direction[hit].T).sum(axis=0) <= 1e-9).all()
    assert not inside(kind, points + 1e-6 * normal.T).any()
    assert inside(kind, points - 1e-6 * normal.T).all()
    assert coordinates.shape == (2, hit.sum())


def test_a_rectangle_ends_where_it_says_and_a_plane_does_not():
    origin, direction = (np.array([0.0, 0.69, 0.71, 50.0]), 0.0, -2.0), (0.0, 0.0, 1.0)
    np.testing.assert_array_equal(
        entry_distance("plane", (0.7, 1.0, 0.0), origin, direction), [2.0, 2.0, np.inf, np.inf]
    )
    assert entry_distance("plane", (np.inf, np.inf, 0.0), origin, direction) == 2.0


def test_rays_along_a_face_do_not_divide_by_zero():
    assert entry_distance("box", HALF, (0.0, 0.0, -3.0), (0.0, 0.0, 1.0)) == pytest.approx(2.3)
    assert np.isinf(entry_distance("box", HALF, (0.8, 0.0, -3.0), (0.0, 0.0, 1.0)))
    assert np.isinf(entry_distance("cylinder", HALF, (0.8, -3.0, 0.0), (0.0, 1.0, 0.0)))
