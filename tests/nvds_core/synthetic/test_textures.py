"""The texture bank's lookups against a plain bilinear one, and its patterns."""

from __future__ import annotations

import numpy as np
import pytest

from nvds_core.synthetic.patterns import SIDE, STRUCTURES, spectral
from nvds_core.synthetic.textures import sample_textures, texture_bank, texture_names

TEXELS = sum((SIDE >> level) ** 2 for level in range(9))


def level_zero(index: int) -> np.ndarray:
    flat = texture_bank()[index * TEXELS : index * TEXELS + SIDE * SIDE]
    return flat.view(np.uint8).reshape(SIDE, SIDE, 4).astype(np.float64) / 255


def lookup(index: int, u: np.ndarray, v: np.ndarray, texels: float) -> np.ndarray:
    count = len(u)
    return sample_textures(
        np.full(count, index, np.int32), u.astype(np.float32), v.astype(np.float32), np.full(count, texels, np.float32)
    )


def test_texel_centres_give_the_stored_texels():
    rows, columns = np.arange(0, SIDE, 17), np.arange(0, SIDE, 17)
    found = lookup(9, (columns + 0.5) / SIDE, (rows + 0.5) / SIDE, 1.0)
    np.testing.assert_allclose(found.T, level_zero(9)[rows, columns], atol=0.5 / 255)


def test_lookups_between_texels_are_bilinear_and_wrap():
    rng = np.random.Generator(np.random.PCG64(1))
    u, v = rng.uniform(-3, 3, 300), rng.uniform(-3, 3, 300)
    picture = level_zero(30)
    x, y = u * SIDE - 0.5, v * SIDE - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    share_x, share_y = (x - left)[:, None], (y - top)[:, None]

    def texel(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return picture[row % SIDE, column % SIDE]

    upper = texel(top, left) * (1 - share_x) + texel(top, left + 1) * share_x
    lower = texel(top + 1, left) * (1 - share_x) + texel(top + 1, left + 1) * share_x
    np.testing.assert_allclose(lookup(30, u, v, 1.0).T, upper * (1 - share_y) + lower * share_y, atol=3 / 255)


def test_far_away_a_texture_is_its_mean():
    u = np.linspace(0, 1, 50)
    for index in range(0, 70, 7):
        spread = lookup(index, u, u, 1e6).T - level_zero(index).mean(axis=(0, 1))
        assert np.abs(spread).mean() < 0.12


def test_detail_fades_as_pixels_grow():
    rng = np.random.Generator(np.random.PCG64(2))
    u, v = rng.uniform(0, 1, 2000), rng.uniform(0, 1, 2000)
    spreads = [lookup(texture_names()["grass"][0], u, v, texels).std(axis=1).mean() for texels in (1, 4, 16, 64)]
    assert spreads == sorted(spreads, reverse=True)


@pytest.mark.parametrize("maker", [maker for maker, _ in STRUCTURES], ids=lambda maker: maker.__name__)
def test_patterns_have_four_channels_and_some_contrast(maker):
    pattern = maker(np.random.Generator(np.random.PCG64(4)))
    assert pattern.shape == (SIDE, SIDE, 4)
    assert np.isfinite(pattern).all()
    assert pattern.std(axis=(0, 1)).max() > 0.02


def test_spectral_noise_tiles_without_a_seam():
    field = spectral(np.random.Generator(np.random.PCG64(5)), 1.5)
    inner = np.abs(np.diff(field, axis=1)).mean()
    seam = np.abs(field[:, 0] - field[:, -1]).mean()
    assert seam < 1.5 * inner
