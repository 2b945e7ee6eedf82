"""The texture bank: patterns with their mip levels, packed so that one gather fetches four channels."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from nvds_core.synthetic.patterns import SIDE, STRUCTURES

LEVELS = SIDE.bit_length()  # 256 ... 1
_LEVEL_SIDES = SIDE >> np.arange(LEVELS)
_LEVEL_STARTS = np.concatenate([[0], np.cumsum(_LEVEL_SIDES**2)]).astype(np.int32)
_TEXTURE_TEXELS = int(_LEVEL_STARTS[-1])
_BANK_SEED = 20231001


@functools.cache
def texture_names() -> dict[str, tuple[int, ...]]:
    """Bank indices by pattern name."""
    names: dict[str, tuple[int, ...]] = {}
    start = 0
    for maker, count in STRUCTURES:
        names[maker.__name__] = tuple(range(start, start + count))
        start += count
    return names


@functools.cache
def texture_bank() -> NDArray[np.uint32]:
    """All textures, all mip levels, flat; four 8-bit channels per texel. Built once per process."""
    texels = []
    seeds = iter(np.random.SeedSequence(_BANK_SEED).spawn(sum(count for _, count in STRUCTURES)))
    for maker, count in STRUCTURES:
        for _ in range(count):
            pattern = maker(np.random.Generator(np.random.PCG64(next(seeds))))
            texels.append(_pack_levels(np.clip(pattern, 0.0, 1.0)))
    return np.concatenate(texels)


def _pack_levels(pattern: NDArray[np.float32]) -> NDArray[np.uint32]:
    levels = []
    for side in _LEVEL_SIDES:
        codes = np.rint(pattern * 255.0).astype(np.uint8)
        levels.append(np.ascontiguousarray(codes).view(np.uint32).ravel())
        if side > 1:
            pattern = pattern.reshape(side // 2, 2, side // 2, 2, 4).mean(axis=(1, 3))
    return np.concatenate(levels)


def sample_textures(
    texture: NDArray[np.int32], u: NDArray[np.float32], v: NDArray[np.float32], texels_per_pixel: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Trilinear lookup.

    Args:
        texture: [n] bank index.
        u, v: [n] coordinates in tiles (1.0 = one repetition).
        texels_per_pixel: [n] level-0 texels one pixel spans; finer detail than that is faded out.

    Returns:
        [4, n] in 0..1.
    """
    level = np.log2(np.clip(texels_per_pixel, 1.0, float(SIDE // 2)))
    low = level.astype(np.int32)
    start = texture * np.int32(_TEXTURE_TEXELS)
    fine, coarse = _bilinear(start, low, u, v), _bilinear(start, low + 1, u, v)
    even, odd = _blend(fine, coarse, ((level - low) * _ONE + 0.5).astype(np.uint32))
    channels = np.empty((4, len(u)), np.float32)
    channels[0], channels[1], channels[2], channels[3] = even & _LOW, odd & _LOW, even >> _SIXTEEN, odd >> _SIXTEEN
    channels *= np.float32(1.0 / 255.0)
    return channels


# Two 8-bit channels travel in one 32-bit word, 16 bits apart, so that one multiplication weighs both.
_LANES, _EIGHT, _ONE, _HALVES = np.uint32(0x00FF00FF), np.uint32(8), np.uint32(256), np.uint32(0x00800080)
_LOW, _SIXTEEN = np.uint32(0xFF), np.uint32(16)
_Lanes = tuple[NDArray[np.uint32], NDArray[np.uint32]]


def _blend(first: _Lanes, second: _Lanes, share: NDArray[np.uint32]) -> _Lanes:
    """(256 - share) / 256 of the first and share / 256 of the second, rounded."""
    rest = _ONE - share
    even = ((first[0] * rest + second[0] * share + _HALVES) >> _EIGHT) & _LANES
    odd = ((first[1] * rest + second[1] * share + _HALVES) >> _EIGHT) & _LANES
    return even, odd


def _bilinear(
    start: NDArray[np.int32], level: NDArray[np.int32], u: NDArray[np.float32], v: NDArray[np.float32]
) -> _Lanes:
    bank = texture_bank()
    side = np.int32(SIDE) >> level
    start = start + _LEVEL_STARTS[level]
    # 1/256 texel fixed point: the low byte is the share of the next texel
    x, y = np.floor((u * side - 0.5) * _ONE).astype(np.int32), np.floor((v * side - 0.5) * _ONE).astype(np.int32)
    right_share, bottom_share = (x & 255).astype(np.uint32), (y & 255).astype(np.uint32)
    wrap = side - 1
    x, y = x >> 8, y >> 8
    left, right = x & wrap, (x + 1) & wrap
    top, bottom = start + (y & wrap) * side, start + ((y + 1) & wrap) * side

    def fetch(row: NDArray[np.int32], column: NDArray[np.int32]) -> _Lanes:
        texel = bank.take(row + column)
        return texel & _LANES, (texel >> _EIGHT) & _LANES

    upper = _blend(fetch(top, left), fetch(top, right), right_share)
    lower = _blend(fetch(bottom, left), fetch(bottom, right), right_share)
    return _blend(upper, lower, bottom_share)
