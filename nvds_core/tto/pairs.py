"""Which frames of a video are compared with which."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from nvds_core.types import ConfigError

PairMode = Literal["hierarchical2", "hierarchical", "consecutive"]


def pair_indices(n: int, mode: PairMode = "hierarchical2") -> list[tuple[int, int]]:
    """Directed pairs of ``n`` frames, both directions of each: near frames densely, far ones ever more sparsely.

    Level l compares frames 2^l apart, beginning at every 2^(l-1)-th frame (``hierarchical2``, about 5.9 n directed
    pairs) or every 2^l-th (``hierarchical``); ``consecutive`` is level 0 alone. Source: the released code of Zeng &
    Kalantari, CGF 2023.

    Args:
        n: number of frames, in the order of the video.

    Returns:
        (first, second) positions, by level, then by first, the later neighbour before the earlier one. No pair for
        fewer than two frames.

    Raises:
        ConfigError: unknown mode or a negative number.
    """
    if mode not in get_args(PairMode):
        raise ConfigError(f"pair mode {mode!r} is unknown; take one of {', '.join(get_args(PairMode))}")
    if n < 0:
        raise ConfigError(f"{n} frames make no sense; give 0 or more")
    levels = (n - 1).bit_length() if n > 1 else 0  # floor(log2(n - 1)) + 1
    if mode == "consecutive":
        levels = min(levels, 1)
    pairs = []
    for level in range(levels):
        distance = 1 << level
        step = distance if mode == "hierarchical" else max(distance // 2, 1)
        for start in range(0, n, step):
            pairs += [(start, end) for end in (start + distance, start - distance) if 0 <= end < n]
    return pairs


def unordered(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Each pair once, the earlier frame first, sorted: what CVD (Luo et al., SIGGRAPH 2020) trains on."""
    return sorted({(min(pair), max(pair)) for pair in pairs})


def training_pairs(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """For each frame its nearest later partner among the kept pairs: at most n - 1, a third of all pairs.

    Source: the released code of Zeng & Kalantari, CGF 2023; it is where their speed over CVD comes from.
    """
    nearest: dict[int, int] = {}
    for first, second in unordered(pairs):
        nearest.setdefault(first, second)
    return list(nearest.items())
