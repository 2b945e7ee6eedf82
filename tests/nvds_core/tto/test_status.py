from __future__ import annotations

import pytest

from nvds_core.tto import material_status


@pytest.mark.parametrize(
    ("pairs", "shares", "status"),
    [
        ([], [], "no_pairs"),
        ([], [0.9], "no_pairs"),
        ([(0, 1), (1, 0)], [0.04, 0.04], "no_parallax"),
        ([(0, 1), (1, 0)], [], "no_parallax"),
        ([(0, 1), (1, 0)], [0.0, 0.1], "ok"),
    ],
)
def test_a_video_is_optimised_only_with_pairs_and_enough_reference(pairs, shares, status):
    assert material_status(pairs, shares) == status
