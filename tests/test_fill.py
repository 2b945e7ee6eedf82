from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from tests.fill import KEPT_LEAVES, fill, fill_value

REFERENCE = Path(__file__).resolve().parents[1] / ".." / "shared" / "reference" / "fill.py"

ENTRIES: list[tuple[str, tuple[int, ...]]] = [
    ("a.weight", (8, 3, 3, 3)),
    ("a.bias", (8,)),
    ("head.weight", (1, 8, 1, 1)),
    ("head.bias", (1,)),
    ("pool.weight", (1, 49)),
    ("norm.weight", (8,)),
    ("layer_scale", ()),
    ("bn.running_var", (8,)),
    ("bn.running_mean", (8,)),
    ("in_proj_weight", (12, 4)),
    ("in_proj_bias", (12,)),
    ("pos_embed", (1, 5, 8)),
    ("relative_position_bias_table", (169, 8)),
]


@pytest.mark.parametrize(("key", "shape"), ENTRIES)
def test_every_kind_of_entry_gets_the_value_of_the_reference_rule(key: str, shape: tuple[int, ...]) -> None:
    if not REFERENCE.is_file():
        pytest.skip("../shared/reference/fill.py is absent")
    spec = importlib.util.spec_from_file_location("reference_fill", REFERENCE)
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    assert set(KEPT_LEAVES) == reference.KEEP
    expected = reference.fill_tensor(key, shape)
    value = fill_value(key, shape)
    assert value.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(value, expected)


def test_counters_keep_their_value_and_all_else_is_filled() -> None:
    module = fill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    state = module.state_dict()
    assert int(state["1.num_batches_tracked"]) == 0
    for key, value in state.items():
        if value.is_floating_point():
            np.testing.assert_array_equal(value.numpy(), fill_value(key, tuple(value.shape)))
