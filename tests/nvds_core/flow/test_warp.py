from __future__ import annotations

import numpy as np
import pytest
import torch

from nvds_core.flow import flow_warp, occlusion_masks
from nvds_core.types import ShapeError


@pytest.fixture(scope="module")
def geometry(golden):
    arrays = golden("gmflow/golden_forward.npz")
    return {
        key.removeprefix("geometry__"): torch.from_numpy(value) for key, value in arrays.items() if "geometry" in key
    }


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_warping_agrees_with_the_golden_case(geometry, padding):
    warped = flow_warp(geometry["img"], geometry["fwd"], padding=padding)
    torch.testing.assert_close(warped, geometry[f"warp_{padding}"], atol=1e-5, rtol=0)


def test_the_inside_mask_agrees_with_the_golden_case(geometry):
    _, inside = flow_warp(geometry["img"], geometry["fwd"], return_inside=True)
    assert inside.dtype == torch.bool
    assert torch.equal(inside, geometry["inside"].bool())


@pytest.mark.parametrize(("suffix", "limits"), [("", {}), ("_a05_b1", {"alpha": 0.05, "beta": 1.0})])
def test_occlusion_agrees_with_the_golden_case(geometry, suffix, limits):
    forward, backward = occlusion_masks(geometry["fwd"], geometry["bwd"], **limits)
    assert torch.equal(forward, geometry[f"occ_fwd{suffix}"].bool())
    assert torch.equal(backward, geometry[f"occ_bwd{suffix}"].bool())


def test_a_whole_pixel_flow_fetches_the_neighbour():
    feature = torch.arange(12.0).view(1, 1, 3, 4)
    flow = torch.zeros(1, 2, 3, 4)
    flow[:, 0] = 1.0
    expected = np.array([[1, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0]], dtype=np.float32)
    np.testing.assert_allclose(flow_warp(feature, flow)[0, 0].numpy(), expected, atol=1e-5)


def test_the_second_channel_moves_along_rows():
    feature = torch.arange(12.0).view(1, 1, 3, 4)
    flow = torch.zeros(1, 2, 3, 4)
    flow[:, 1] = -0.5
    warped = flow_warp(feature, flow, padding="border")[0, 0]
    np.testing.assert_allclose(warped.numpy(), [[0, 1, 2, 3], [2, 3, 4, 5], [6, 7, 8, 9]], atol=1e-5)


def test_the_limits_of_the_image_count_as_inside():
    flow = torch.zeros(1, 2, 3, 5)
    flow[0, 0, 0, 0], flow[0, 0, 0, 1] = 4.0, 3.1
    _, inside = flow_warp(torch.zeros(1, 1, 3, 5), flow, return_inside=True)
    assert inside.sum() == 14
    assert not inside[0, 0, 1]


def test_an_image_one_pixel_wide_gives_finite_values():
    feature = torch.arange(3.0).view(1, 1, 3, 1)
    assert torch.equal(flow_warp(feature, torch.zeros(1, 2, 3, 1)), feature)


def test_flows_that_lead_back_are_not_occluded():
    forward = torch.full((1, 2, 8, 8), 2.0)
    hidden_forward, hidden_backward = occlusion_masks(forward, -forward)
    assert not hidden_forward[:, :6, :6].any()
    assert hidden_forward[:, 6:].all(), "leaving the image counts as occluded"
    assert not hidden_backward[:, 2:, 2:].any()


def test_a_flow_of_another_size_is_refused():
    with pytest.raises(ShapeError, match=r"\(1, 3, 8, 9\).*\(1, 2, 8, 8\)"):
        flow_warp(torch.zeros(1, 3, 8, 9), torch.zeros(1, 2, 8, 8))
    with pytest.raises(ShapeError, match="backward"):
        occlusion_masks(torch.zeros(1, 2, 8, 9), torch.zeros(1, 2, 8, 8))
