from __future__ import annotations

import math

import pytest
import torch

from nvds_core.flow import gmflow_transformer
from nvds_core.flow.gmflow_transformer import AttentionLayer, add_position, window_attention
from tests.nvds_core.flow.reference import features, rolled_attention


@pytest.mark.parametrize("shifted", [False, True], ids=["plain", "shifted"])
@pytest.mark.parametrize(
    ("size", "splits"),
    [((8, 12), 2), ((6, 10), 2), ((16, 24), 8), ((24, 16), 8), ((4, 4), 2), ((2, 6), 2), ((3, 3), 1)],
)
def test_cutting_at_half_windows_equals_rolling_and_masking(size: tuple[int, int], splits: int, shifted: bool) -> None:
    query, key, value = (features(2, *size, 8, seed=s) for s in (1, 2, 3))
    found = window_attention(query, key, value, splits, shifted=shifted)
    expected = rolled_attention(query, key, value, splits, shifted=shifted)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_positions_repeat_in_every_window_and_follow_the_closed_form() -> None:
    added = add_position(torch.zeros(1, 6, 8, 128, dtype=torch.float64), 2)[0]
    torch.testing.assert_close(added[:3, :4], added[3:, 4:], rtol=0, atol=0)
    for y, x, pair in [(0, 0, 0), (2, 1, 5), (1, 3, 31)]:
        down = (y + 1) / (3 + 1e-6) * 2 * math.pi / 10_000 ** (2 * pair / 64)
        across = (x + 1) / (4 + 1e-6) * 2 * math.pi / 10_000 ** (2 * pair / 64)
        expected = [math.sin(down), math.cos(down), math.sin(across), math.cos(across)]
        found = added[y, x, [2 * pair, 2 * pair + 1, 64 + 2 * pair, 64 + 2 * pair + 1]]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_perceptron_in_parts_equals_the_perceptron_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = AttentionLayer(8, perceptron=True).double()
    source, target = features(2, 4, 6, 8, seed=4), features(2, 4, 6, 8, seed=5)
    whole = layer(source, target, 2, shifted=True)
    monkeypatch.setattr(gmflow_transformer, "PERCEPTRON_ROWS", 7)
    torch.testing.assert_close(layer(source, target, 2, shifted=True), whole, rtol=0, atol=1e-12)
