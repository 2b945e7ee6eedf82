from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nvds_core.synthetic.motion import rotation
from nvds_core.tto import consistency_mask, pseudo_reference
from nvds_core.types import ConfigError, ShapeError
from tests.nvds_core.tto.cases import GOLDEN_CASES, MOTIONS, GoldenCase, cameras, still_video

LENS = torch.tensor([[60.0, 50.0, 15.5, 11.5]], dtype=torch.float64)
FORWARD = torch.tensor([[[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -0.3]]], dtype=torch.float64)
SIDEWAYS = torch.tensor([[[1.0, 0, 0, -0.3], [0, 1, 0, 0], [0, 0, 1, 0]]], dtype=torch.float64)


def exact_flow(depth: np.ndarray, pose: np.ndarray, lens_i: np.ndarray, lens_j: np.ndarray) -> np.ndarray:
    """Flow [2, h, w] of a depth map, by 4x4 and 3x3 matrices."""
    height, width = depth.shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    points = np.stack([(x - lens_i[2]) / lens_i[0] * depth, (y - lens_i[3]) / lens_i[1] * depth, depth])
    moved = np.einsum("ab,bhw->ahw", pose[:, :3], points) + pose[:, 3, None, None]
    u, v = lens_j[0] * moved[0] / moved[2] + lens_j[2], lens_j[1] * moved[1] / moved[2] + lens_j[3]
    return np.stack([u - x, v - y])


def foot_of_perpendicular(
    pixel: np.ndarray, match: np.ndarray, lens_i: np.ndarray, lens_j: np.ndarray, pose: np.ndarray
) -> tuple[float, float, float]:
    """Depth, sin^2 and off-line distance by another route: two points of the line, the foot, two rays crossed."""
    inverse_i, matrix_j = np.linalg.inv(_matrix(lens_i)), _matrix(lens_j)
    ray = inverse_i @ np.append(pixel, 1.0)
    turned, shift = pose[:, :3] @ ray, pose[:, 3]
    fundamental = np.linalg.inv(matrix_j).T @ np.cross(np.eye(3), shift) @ pose[:, :3] @ inverse_i
    a, b, c = -fundamental @ np.append(pixel, 1.0)
    gap = (a * match[0] + b * match[1] + c) / np.hypot(a, b)
    foot = match - gap * np.array([a, b]) / np.hypot(a, b)
    view = np.linalg.inv(matrix_j) @ np.append(foot, 1.0)
    depth = np.linalg.lstsq(np.stack([turned, -view], axis=1), -shift, rcond=None)[0][0]
    point = turned * depth + shift
    cosine = turned @ point / np.linalg.norm(turned) / np.linalg.norm(point)
    return float(depth), float(1 - cosine**2), float(abs(gap))


def _matrix(lens: np.ndarray) -> np.ndarray:
    return np.array([[lens[0], 0, lens[2]], [0, lens[1], lens[3]], [0, 0, 1.0]])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_depth_is_that_of_the_nearest_point_of_the_epipolar_line(seed):
    rng = np.random.default_rng(seed)
    lens_i, lens_j = (np.array([50, 50, 4, 3]) + rng.uniform(-1, 1, 4) * [10, 20, 2, 2] for _ in range(2))
    turn, shift = rotation(*rng.normal(scale=0.05, size=3)), rng.normal(scale=0.2, size=(3, 1))
    pose = np.concatenate([turn, shift], axis=1)
    flow = exact_flow(rng.uniform(1, 4, (6, 8)), pose, lens_i, lens_j) + rng.normal(scale=0.7, size=(2, 6, 8))
    found = pseudo_reference(*(torch.from_numpy(a)[None] for a in (flow, lens_i, lens_j, pose)))
    limited = pseudo_reference(*(torch.from_numpy(a)[None] for a in (flow, lens_i, lens_j, pose)), offline_max=0.5)
    for y in range(6):
        for x in range(8):
            pixel = np.array([x, y], float)
            depth, sin2, gap = foot_of_perpendicular(pixel, pixel + flow[:, y, x], lens_i, lens_j, pose)
            if found.valid[0, y, x]:
                assert float(found.depth[0, y, x]) == pytest.approx(depth, rel=1e-6)
                assert float(found.sin2[0, y, x]) == pytest.approx(sin2, rel=1e-6, abs=1e-12)
                assert bool(limited.valid[0, y, x]) == (gap <= 0.5)


def test_the_depth_minimises_the_distance_of_the_projection_along_the_line():
    rng = np.random.default_rng(4)
    lens = LENS[0].numpy()
    pose = np.concatenate([rotation(0.02, -0.03, 0.01), np.array([[0.2], [0.05], [0.1]])], axis=1)
    flow = exact_flow(rng.uniform(1, 3, (24, 32)), pose, lens, lens) + rng.normal(scale=0.5, size=(2, 24, 32))
    found = pseudo_reference(torch.from_numpy(flow)[None], LENS, LENS, torch.from_numpy(pose)[None])
    depth = found.depth[0].numpy()

    def distance(scale: float) -> np.ndarray:
        return np.linalg.norm(exact_flow(depth * scale, pose, lens, lens) - flow, axis=0)

    valid = found.valid[0].numpy()
    assert valid.mean() > 0.9
    for scale in (0.999, 1.001):
        assert (distance(scale)[valid] >= distance(1.0)[valid] - 1e-9).all()


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_depth_validity_and_angle_agree_with_the_golden_data(golden, name):
    case = GoldenCase(golden("tto/golden.npz"), name)
    found = pseudo_reference(
        case.flow, *case.cameras(case.i, case.j), baseline_min=case.options["baseline_min"], sin2_min=2e-6
    )
    valid = (found.valid & consistency_mask(case.flow, case.flow_back)).numpy()
    assert np.array_equal(valid, case["ours_valid"])
    np.testing.assert_allclose(found.depth.numpy()[valid], case["ours_pseudo"][valid], rtol=1e-5)
    np.testing.assert_allclose(found.sin2.numpy()[valid], case["ours_sin2"][valid], rtol=2e-5)
    if name != "noisy_lateral":
        truth = case["depth_true"][case.i]
        np.testing.assert_allclose(found.depth.numpy()[valid], truth[valid], rtol=1e-5)


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_the_published_variant_agrees_with_the_released_code(golden, name):
    case = GoldenCase(golden("tto/golden.npz"), name)
    found = pseudo_reference(
        case.flow,
        *case.cameras(case.i, case.j),
        variant="published",
        depth_j=torch.from_numpy(case["depth_pred"][case.j]),
        baseline_min=case.options["baseline_min"],
    )
    assert np.array_equal(found.valid.numpy(), case["mask_depth"])
    known = found.valid.numpy() & (case["pseudo"] < 50)
    error = np.abs(found.depth.numpy()[known] / case["pseudo"][known] - 1)
    assert np.median(error) < 1e-4
    assert np.quantile(error, 0.99) < 2e-2
    mask = consistency_mask(case.flow, case.flow_back, sampling="published-mask")
    assert np.array_equal((found.valid & mask).numpy(), case["mask_rectified"])


@pytest.mark.parametrize("motion", ["still", "turning"])
def test_a_camera_that_stays_in_its_place_gives_no_depth(motion):
    video = still_video(3, motion)
    flow, _ = video.flow(0, 3)
    assert nothing(pseudo_reference(torch.from_numpy(flow)[None], *cameras(video, 0, 3)))


@pytest.mark.parametrize("motion", MOTIONS)
def test_exact_flow_and_poses_give_the_true_depth(motion):
    video = still_video(3, motion)
    for i, j in ((0, 1), (1, 0), (0, 4), (4, 2)):
        flow, hidden = video.flow(i, j)
        found = pseudo_reference(torch.from_numpy(flow)[None], *cameras(video, i, j))
        seen = found.valid[0].numpy() & ~hidden
        assert seen.mean() > 0.5
        np.testing.assert_allclose(found.depth[0].numpy()[seen], video.depth[i][seen], rtol=1e-5)


def test_a_batch_gives_what_its_pairs_give_alone_whatever_the_size_of_the_blocks(monkeypatch):
    torch.manual_seed(0)
    flow, lens = torch.randn(3, 2, 30, 40), LENS.repeat(3, 1)
    pose = torch.cat([FORWARD, SIDEWAYS, FORWARD - SIDEWAYS + FORWARD])
    whole = pseudo_reference(flow, lens, lens, pose)
    monkeypatch.setattr("nvds_core.tto.reference.BLOCK", 300)
    for k in range(3):
        one = slice(k, k + 1)
        alone = pseudo_reference(flow[one], lens[one], lens[one], pose[one])
        for name in ("depth", "valid", "sin2"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(whole, name)[k], equal_nan=True)


def nothing(found) -> bool:
    return not found.valid.any() and bool(found.depth.isnan().all())


def test_cameras_in_one_place_give_no_depth():
    turned = torch.from_numpy(np.concatenate([rotation(0.1), np.zeros((3, 1))], axis=1))[None]
    assert nothing(pseudo_reference(torch.randn(1, 2, 24, 32), LENS, LENS, turned))
    assert nothing(pseudo_reference(torch.zeros(1, 2, 24, 32), LENS, LENS, torch.eye(3, 4)[None]))


def test_the_epipole_itself_has_no_depth():
    lens = torch.tensor([[60.0, 60.0, 16.0, 12.0]])
    depth = np.full((24, 32), 2.0)
    flow = exact_flow(depth, FORWARD[0].numpy(), lens[0].numpy(), lens[0].numpy())
    found = pseudo_reference(torch.from_numpy(flow)[None], lens, lens, FORWARD, sin2_min=0.0)
    assert not found.valid[0, 12, 16]
    assert found.depth[0, 12, 16].isnan()
    assert int(found.valid.sum()) == 24 * 32 - 1


def test_parallel_rays_have_no_depth():
    assert nothing(pseudo_reference(torch.zeros(1, 2, 24, 32), LENS, LENS, SIDEWAYS))


def test_matches_that_lead_behind_a_camera_have_no_depth():
    apart = torch.zeros(1, 2, 24, 32)
    apart[:, 0] = 3.0  # a camera that moves right sees things move left
    assert nothing(pseudo_reference(apart, LENS, LENS, SIDEWAYS))
    behind = torch.tensor([[[-1.0, 0, 0, 0.3], [0, 1, 0, 0], [0, 0, -1, 0]]])  # looks back
    assert not pseudo_reference(torch.randn(1, 2, 24, 32), LENS, LENS, behind).valid.any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_flow_that_is_no_number_gives_no_depth(value):
    flow = torch.full((1, 2, 24, 32), -1.0)
    flow[0, 0, 5, 5] = value
    found = pseudo_reference(flow, LENS, LENS, SIDEWAYS)
    assert not found.valid[0, 5, 5]
    assert found.depth[0, 5, 5].isnan()
    assert int(found.valid.sum()) == 24 * 32 - 1


def test_thresholds_are_exclusive_limits_of_angle_and_baseline():
    flow = torch.full((1, 2, 24, 32), -1.0)

    def valid(**options: float) -> Tensor:
        return pseudo_reference(flow.double(), LENS, LENS, SIDEWAYS, **options).valid

    sin2 = pseudo_reference(flow.double(), LENS, LENS, SIDEWAYS).sin2
    middle = float(sin2.median())
    assert torch.equal(valid(sin2_min=middle), sin2 > middle)
    assert valid(baseline_min=0.29).all()
    assert not valid(baseline_min=float(SIDEWAYS[0, 0, 3].abs())).any()


def test_results_have_the_precision_of_the_flow():
    flow = torch.full((1, 2, 24, 32), -1.0)
    for dtype in (torch.float32, torch.float64):
        found = pseudo_reference(flow.to(dtype), LENS, LENS, SIDEWAYS)
        assert found.depth.dtype == found.sin2.dtype == dtype
        torch.testing.assert_close(found.depth, torch.full_like(found.depth, 60 * 0.3))


def test_arrays_that_do_not_fit_and_unknown_variants_are_refused():
    flow = torch.zeros(2, 2, 24, 32)
    with pytest.raises(ShapeError, match="intrinsics_i"):
        pseudo_reference(flow, LENS, LENS, SIDEWAYS)
    with pytest.raises(ShapeError, match="flow"):
        pseudo_reference(flow[0], LENS, LENS, SIDEWAYS)
    with pytest.raises(ConfigError, match="depth_j"):
        pseudo_reference(flow[:1], LENS, LENS, SIDEWAYS, variant="published")
    with pytest.raises(ShapeError, match="depth_j"):
        pseudo_reference(flow[:1], LENS, LENS, SIDEWAYS, variant="published", depth_j=torch.ones(1, 3, 3))
    with pytest.raises(ConfigError, match="theirs"):
        pseudo_reference(flow[:1], LENS, LENS, SIDEWAYS, variant="theirs")  # type: ignore[arg-type]
