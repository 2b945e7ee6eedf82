from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nvds_core.training.augment import blur, flicker, photometric, unit_range, zoom

HEIGHT, WIDTH = 48, 64


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinates(n: int) -> Tensor:
    """A picture whose two channels are its own x and y, [n,2,h,w]."""
    y, x = torch.meshgrid(torch.arange(HEIGHT).float(), torch.arange(WIDTH).float(), indexing="ij")
    return torch.stack([x, y]).expand(n, 2, HEIGHT, WIDTH).clone()


def landscape(place: Tensor) -> Tensor:
    """A smooth function of places [n,2,h,w] in the picture."""
    return (torch.sin(place[:, :1] / 9) + torch.cos(place[:, 1:] / 7)) / 2


def test_a_zoom_moves_all_maps_alike() -> None:
    place = coordinates(8)
    rgb = torch.cat([place, landscape(place)], dim=1)
    moved_rgb, moved_truth = zoom([rgb, landscape(place)], stream(0))
    torch.testing.assert_close(moved_rgb[:, 2:], moved_truth)
    # What a pixel shows is the scene at the place which the coordinate picture names.
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    error = (moved_truth - landscape(moved_rgb[:, :2]))[inside].abs()
    assert float(error.max()) < 0.02
    assert float((moved_truth - landscape(place))[inside].abs().amax(dim=(1, 2, 3)).min()) > 0.05  # all have moved


def test_a_zoom_enlarges_without_shearing_and_keeps_close_to_the_shape() -> None:
    (moved,) = zoom([coordinates(32)], stream(1))
    centre = moved[:, :, HEIGHT // 4 : -HEIGHT // 4, WIDTH // 4 : -WIDTH // 4]
    right = (centre[..., 1:] - centre[..., :-1]).mean(dim=(2, 3))
    down = (centre[..., 1:, :] - centre[..., :-1, :]).mean(dim=(2, 3))
    for step in (right, down):
        assert float(step.norm(dim=1).max()) < 1.02
        assert float(step.norm(dim=1).min()) > 0.5
    mirrored = right[:, 0] < 0
    assert 4 < int(mirrored.sum()) < 28
    assert bool((down[:, 1] > 0).all())  # never upside down


def test_a_zoom_is_drawn_anew_for_every_picture_and_repeated_for_the_same_stream() -> None:
    place = coordinates(4)
    (one,), (again,), (other,) = zoom([place], stream(2)), zoom([place], stream(2)), zoom([place], stream(3))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert all(not torch.equal(one[0], one[i]) for i in range(1, 4))


def test_flicker_differs_between_the_frames_of_a_still_clip() -> None:
    still = landscape(coordinates(6)).expand(6, 4, HEIGHT, WIDTH) / 2 + 0.5
    disturbed = flicker(still, stream(4))
    assert disturbed.shape == still.shape
    assert bool(torch.isfinite(disturbed).all())
    change = (disturbed[:, 1:] - disturbed[:, :-1]).abs().mean(dim=(2, 3))
    assert float(change.min()) > 0.005
    assert float(change.mean()) < 0.5  # a disturbance, not another scene
    assert torch.equal(disturbed, flicker(still, stream(4)))


def test_part_of_the_flicker_is_common_to_all_frames() -> None:
    still = torch.full((200, 4, 8, 12), 0.5)
    error = flicker(still, stream(5)) - still
    error = error - error.mean(dim=(2, 3), keepdim=True)
    common = error.mean(dim=1).square().mean()
    single = error.square().mean()
    assert float(common / single) > 0.3  # 1/4 would be left of independent errors


def test_every_frame_fills_the_unit_range() -> None:
    disparity = torch.rand((2, 3, 8, 9), generator=stream(6)) * 50 - 20
    scaled = unit_range(disparity)
    assert bool((scaled.amin(dim=(2, 3)) == 0).all())
    torch.testing.assert_close(scaled.amax(dim=(2, 3)), torch.ones(2, 3))
    torch.testing.assert_close(scaled, unit_range(3 * disparity + 7), rtol=0, atol=1e-5)


def test_a_constant_frame_becomes_zeros() -> None:
    assert not unit_range(torch.full((2, 4, 4), 0.3)).any()


@pytest.mark.parametrize("seed", range(4))
def test_colours_stay_in_range_and_change_alike_in_all_frames_of_a_clip(seed: int) -> None:
    picture = torch.rand((5, 1, 3, HEIGHT, WIDTH), generator=stream(100 + seed))
    changed = photometric(picture.expand(5, 4, 3, HEIGHT, WIDTH), stream(seed))
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
    means = changed.mean(dim=(2, 3, 4))
    assert float((means - means[:, :1]).abs().max()) < 2e-3  # only noise differs
    assert float((means[:, 0] - picture.mean(dim=(1, 2, 3, 4))).abs().max()) > 0.02


def test_blur_lowers_detail_and_keeps_flat_areas() -> None:
    flat = torch.full((1, 3, 16, 16), 0.7)
    torch.testing.assert_close(blur(flat), flat)
    stripes = torch.zeros(1, 1, 16, 16)
    stripes[..., ::2] = 1.0
    torch.testing.assert_close(blur(stripes), torch.full((1, 1, 16, 16), 0.5))
