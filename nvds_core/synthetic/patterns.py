"""Tileable texture patterns: masks that blend colours, and a shade. Each is [256, 256, 4] in 0..1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

SIDE = 256
Pattern = NDArray[np.float32]
_Y, _X = np.meshgrid(np.arange(SIDE) / SIDE, np.arange(SIDE) / SIDE, indexing="ij")


def spectral(rng: Generator, slope: float, low: float = 1.0, high: float = 90.0, stretch: float = 1.0) -> Pattern:
    """Gaussian noise with amplitude falling as frequency^-slope inside a band; mean 0.5, deviation 0.2, clipped."""
    rows, columns = np.fft.fftfreq(SIDE)[:, None] * SIDE, np.fft.rfftfreq(SIDE)[None] * SIDE
    radius = np.maximum(np.hypot(rows * stretch, columns / stretch), 1e-6)
    gain = np.where((radius >= low) & (radius <= high), radius ** -(slope + 1.0), 0.0)
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * gain, s=(SIDE, SIDE))
    field = field / max(float(field.std()), 1e-12)
    return np.clip(0.5 + 0.2 * field, 0.0, 1.0).astype(np.float32)


def _stack(first: NDArray, second: NDArray, third: NDArray, shade: NDArray) -> Pattern:
    return np.stack([np.broadcast_to(a, (SIDE, SIDE)) for a in (first, second, third, shade)], 2).astype(np.float32)


def _cells(rng: Generator, rows: int, columns: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Cell indices of a rows x columns grid and the position inside the cell, 0..1."""
    return (_Y * rows).astype(int), (_X * columns).astype(int), (_Y * rows) % 1, (_X * columns) % 1


def plain(rng: Generator) -> Pattern:
    tone = spectral(rng, 1.2, 1, 12)
    return _stack(0.3 * spectral(rng, 1.0, 1, 6), np.zeros(1), np.zeros(1), tone)


def noise(rng: Generator) -> Pattern:
    slope = rng.uniform(0.4, 1.4)
    masks = [spectral(rng, slope, int(rng.integers(1, 6))) for _ in range(3)]
    return _stack(masks[0], masks[1], masks[2], spectral(rng, 0.5))


def blotches(rng: Generator) -> Pattern:
    slope, low, sharp = rng.uniform(0.6, 1.6), int(rng.integers(1, 9)), rng.uniform(4, 30)
    masks = [np.clip((spectral(rng, slope, low) - rng.uniform(0.45, 0.65)) * sharp + 0.5, 0, 1) for _ in range(3)]
    return _stack(masks[0], masks[1], masks[2], spectral(rng, 0.7))


def grass(rng: Generator) -> Pattern:
    stretch = rng.uniform(1.0, 2.5)
    return _stack(
        spectral(rng, 0.1, 8, 110, stretch), spectral(rng, 0.8, 2), spectral(rng, 0.0, 30, 120), spectral(rng, 0.2, 4)
    )


def checks(rng: Generator) -> Pattern:
    count = 2 * int(rng.integers(1, 7))
    row, column, _, _ = _cells(rng, count, count)
    tone = rng.uniform(0.3, 0.7, (count, count))[row, column]
    return _stack((row + column) % 2, np.zeros(1), 0.4 * spectral(rng, 1.0), 0.7 * tone + 0.3 * spectral(rng, 0.8))


def _bands(rng: Generator, count: int) -> NDArray:
    """One row of SIDE values: `count` bands of random width and value."""
    edges = np.sort(rng.choice(np.arange(2, SIDE), count - 1, replace=False))
    return rng.uniform(0, 1, (count, 3))[np.searchsorted(edges, np.arange(SIDE), side="right")]


def stripes(rng: Generator) -> Pattern:
    bands = _bands(rng, int(rng.integers(4, 40)))[None]
    return _stack(bands[..., 0] > 0.5, bands[..., 1] > 0.7, 0.3 * bands[..., 2], spectral(rng, 0.8))


def plaid(rng: Generator) -> Pattern:
    across, down = _bands(rng, int(rng.integers(5, 25)))[None], _bands(rng, int(rng.integers(5, 25)))[:, None]
    weave = 0.5 + 0.15 * np.sin(2 * np.pi * 64 * (_X + _Y))
    masks = [0.5 * (across[..., k] > 0.6) + 0.5 * (down[..., k] > 0.6) for k in range(3)]
    return _stack(masks[0], masks[1], masks[2], weave + 0.2 * (spectral(rng, 0.8) - 0.5))


def bricks(rng: Generator) -> Pattern:
    rows = 2 * int(rng.integers(2, 7))
    columns = max(2, int(rows * rng.choice([0.5, 1.0, 0.25])))
    shift = rng.choice([0.0, 0.5])
    row = (_Y * rows).astype(int)
    along = (_X * columns + shift * (row % 2)) % columns
    column, inside_x, inside_y = along.astype(int), along % 1, (_Y * rows) % 1
    gap = rng.uniform(0.02, 0.12)
    joint = (inside_y < gap) | (inside_x < gap * columns / rows)
    values = rng.uniform(0, 1, (rows, columns, 3))[row, column]
    first, second = np.where(joint, 0, values[..., 0] * rng.uniform(0.2, 1)), np.where(joint, 0, 0.4 * values[..., 1])
    return _stack(first, second, joint, 0.5 + 0.3 * (values[..., 2] - 0.5) + 0.5 * (spectral(rng, 0.6) - 0.5))


def dots(rng: Generator) -> Pattern:
    count = int(rng.integers(3, 13))
    row, column, y, x = _cells(rng, count, count)
    radius = rng.uniform(0.1, 0.48, (count, count))[row, column]
    inside = np.clip((radius - np.hypot(y - 0.5, x - 0.5)) * 12 + 0.5, 0, 1)
    pick = rng.uniform(0, 1, (count, count))[row, column]
    return _stack(inside * (pick > 0.4), inside * (pick <= 0.4), 0.3 * spectral(rng, 1), spectral(rng, 0.8))


def wood(rng: Generator) -> Pattern:
    planks = int(rng.integers(1, 7))
    row = (_Y * planks).astype(int)
    fibre = spectral(rng, 0.6, 2, 120, 4.0).T if rng.uniform() < 0.2 else spectral(rng, 0.6, 2, 120, 0.22)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (3 * planks * _Y + 4 * spectral(rng, 1.8, 1, 8, 0.4)))
    tone = rng.uniform(0, 1, planks)[row]
    seam = 0.8 * ((_Y * planks) % 1 < (0.02 * planks if planks > 1 else 0.0))
    return _stack(0.6 * rings * fibre + 0.3 * tone, 0.4 * fibre, seam, 0.5 * fibre + 0.25 + 0.2 * tone)


def cells(rng: Generator) -> Pattern:
    count = int(rng.integers(8, 50))
    points, nearest = rng.uniform(0, 1, (count, 2)), np.full((2, SIDE, SIDE), 9.0)
    owner = np.zeros((SIDE, SIDE), int)
    for index, (py, px) in enumerate(points):
        gap_y, gap_x = np.abs(_Y - py), np.abs(_X - px)
        distance = np.hypot(np.minimum(gap_y, 1 - gap_y), np.minimum(gap_x, 1 - gap_x))
        closer = distance < nearest[0]
        nearest[1] = np.where(closer, nearest[0], np.minimum(nearest[1], distance))
        nearest[0] = np.where(closer, distance, nearest[0])
        owner[closer] = index
    joint = np.clip(1.5 - (nearest[1] - nearest[0]) * 60, 0, 1)
    values = rng.uniform(0, 1, (count, 3))[owner]
    joint = joint * rng.choice([0, 1])
    return _stack(values[..., 0], 0.5 * values[..., 1], joint, 0.3 * values[..., 2] + 0.7 * spectral(rng, 0.7))


def _text(rng: Generator, canvas: NDArray, top: int, left: int, height: int, width: int) -> None:
    """Lines of word-like strokes written into channel 2 of a rectangle of the canvas."""
    line = int(rng.integers(5, 12))
    for y in range(top + line, top + height - line, line):
        words = np.repeat(rng.uniform(0, 1, width // 7 + 1) > 0.22, 7)[:width]
        letters = np.repeat(rng.uniform(0, 1, width // 2 + 1) > 0.35, 2)[:width]
        end = int(width * rng.uniform(0.5, 0.95))
        ink = (words & letters)[3:end]
        canvas[y : y + max(2, line // 2), left + 3 : left + 3 + len(ink), 2] = ink


def poster(rng: Generator) -> Pattern:
    canvas = np.zeros((SIDE, SIDE, 3))
    canvas[:] = rng.uniform(0, 0.4, 3) * [1, 1, 0]
    for _ in range(int(rng.integers(4, 40))):
        height, width = (rng.uniform(0.04, 0.5, 2) * SIDE).astype(int)
        top, left = int(rng.integers(0, SIDE - height)), int(rng.integers(0, SIDE - width))
        block = canvas[top : top + height, left : left + width]
        if rng.uniform() < 0.3:
            _text(rng, canvas, top, left, height, width)
        elif rng.uniform() < 0.3:
            y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
            block[y**2 + x**2 < 1] = rng.uniform(0, 1, 3)
        else:
            block[:] = rng.uniform(0, 1, 3) + rng.uniform(-0.3, 0.3) * np.linspace(-1, 1, height)[:, None, None]
    return _stack(canvas[..., 0], canvas[..., 1], canvas[..., 2], 0.35 + 0.3 * spectral(rng, 0.8))


def page(rng: Generator) -> Pattern:
    canvas = np.zeros((SIDE, SIDE, 3))
    for left in range(0, SIDE, SIDE // int(rng.integers(1, 4))):
        _text(rng, canvas, 0, left, SIDE, min(SIDE - left, SIDE // 2))
    return _stack(canvas[..., 0], 0.2 * spectral(rng, 1), canvas[..., 2], 0.35 + 0.3 * spectral(rng, 1))


def facade(rng: Generator) -> Pattern:
    rows, columns = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    row, column, y, x = _cells(rng, rows, columns)
    wide, tall = rng.uniform(0.2, 0.45), rng.uniform(0.2, 0.42)
    inside_x, inside_y = np.abs(x - 0.5), np.abs(y - 0.5)
    glass = (inside_x < wide) & (inside_y < tall) & (inside_x > 0.015)
    frame = (inside_x < wide + 0.04) & (inside_y < tall + 0.05) & ~glass
    glow = rng.uniform(0.5, 1, (rows, columns))[row, column]
    return _stack(0.3 * spectral(rng, 0.8, 2), frame, glass * glow, 0.3 + 0.4 * spectral(rng, 0.7))


def books(rng: Generator) -> Pattern:
    shelves = int(rng.integers(1, 5))
    canvas = np.zeros((SIDE, SIDE, 3))
    for shelf in range(shelves):
        top, bottom = shelf * SIDE // shelves, (shelf + 1) * SIDE // shelves
        left = 0
        while left < SIDE:
            width, height = int(rng.integers(4, 22)), int((bottom - top) * rng.uniform(0.55, 0.92))
            column = canvas[bottom - height : bottom, left : left + width]
            column[:] = rng.uniform(0, 1, 3) if rng.uniform() > 0.08 else [0, 0, 1]
            column[int(height * 0.2) : int(height * rng.uniform(0.25, 0.5))] *= rng.uniform(0.3, 1)
            left += width
        canvas[bottom - 5 : bottom] = [0.2, 0.2, 0.0]
    return _stack(canvas[..., 0], canvas[..., 1], canvas[..., 2], 0.3 + 0.4 * spectral(rng, 0.5))


STRUCTURES: tuple[tuple[Callable[[Generator], Pattern], int], ...] = (
    (plain, 3), (noise, 5), (blotches, 6), (grass, 5), (checks, 3), (stripes, 5), (plaid, 4), (bricks, 6),
    (dots, 3), (wood, 6), (cells, 4), (poster, 10), (page, 3), (facade, 5), (books, 4),
)  # fmt: skip
"""Pattern makers and how many variants the bank holds of each."""
