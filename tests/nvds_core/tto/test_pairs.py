from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nvds_core.tto import pair_indices, training_pairs, unordered
from nvds_core.types import ConfigError

TESTS = Path(__file__).resolve().parents[2]
FILES = (TESTS.parent / ".." / "shared" / "reference" / "tto" / "pairs.json", TESTS / "data" / "tto" / "pairs.json")


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    """Pairs of the original sampler; the reduced copy where the full one is absent."""
    return json.loads(next(path for path in FILES if path.is_file()).read_text())


@pytest.mark.parametrize("mode", ["hierarchical2", "hierarchical", "consecutive"])
def test_pairs_are_those_of_the_original_sampler(published, mode):
    for n, pairs in published[f"{mode}_two_way"].items():
        assert sorted(pair_indices(int(n), mode)) == [tuple(pair) for pair in pairs], n


def test_each_pair_once_is_the_original_one_way_list(published):
    for n, pairs in published["hierarchical2_one_way"].items():
        assert unordered(pair_indices(int(n))) == [tuple(pair) for pair in pairs], n


def test_pairs_of_gappy_frame_numbers_are_pairs_of_positions(published):
    frames = published["subset"]["frames"]
    pairs = sorted((frames[i], frames[j]) for i, j in pair_indices(len(frames)))
    assert pairs == [tuple(pair) for pair in published["subset"]["hierarchical2_two_way"]]


def test_counts_are_the_original_ones(published):
    for n, (directed, undirected) in published["counts"].items():
        pairs = pair_indices(int(n))
        assert (len(pairs), len(unordered(pairs))) == (directed, undirected), n
    assert len(pair_indices(244)) == 1430


def test_pairs_come_by_level_then_start_then_forward_before_backward():
    assert pair_indices(4) == [(0, 1), (1, 2), (1, 0), (2, 3), (2, 1), (3, 2), (0, 2), (1, 3), (2, 0), (3, 1)]


def test_every_pair_has_its_reverse_and_none_comes_twice():
    for n in range(2, 70):
        pairs = pair_indices(n)
        assert len(set(pairs)) == len(pairs)
        assert {(j, i) for i, j in pairs} == set(pairs)
        assert all(0 <= i < n and 0 <= j < n for i, j in pairs)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_frames_make_no_pair(n):
    assert pair_indices(n) == []


def test_unknown_modes_and_negative_numbers_are_refused():
    with pytest.raises(ConfigError, match="exhausted"):
        pair_indices(5, "exhausted")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="-1"):
        pair_indices(-1)


def test_training_takes_the_nearest_later_partner_that_was_kept():
    assert training_pairs(pair_indices(5)) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    kept = [(0, 4), (4, 0), (0, 2), (2, 0), (2, 3), (3, 2), (3, 1), (1, 3)]
    assert training_pairs(kept) == [(0, 2), (1, 3), (2, 3)]


@pytest.mark.parametrize("case", ["exact_lateral", "exact_forward", "rotation_pair"])
def test_training_pairs_are_those_the_original_chose(golden, case):
    arrays = golden("tto/golden.npz")
    if f"{case}/train_pairs" not in arrays:
        pytest.skip(f"{case} is not in the reduced golden data")
    saved = [tuple(p) for p, yes in zip(arrays[f"{case}/dpairs"], arrays[f"{case}/pseudo_saved"], strict=True) if yes]
    assert training_pairs(saved) == [tuple(pair) for pair in arrays[f"{case}/train_pairs"].tolist()]
