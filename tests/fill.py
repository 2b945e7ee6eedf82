"""Weights that depend on nothing but the name and the shape of each state_dict entry.

The golden data of the reference folder were made with networks filled like this. The rule is written here once more,
in our own words, so that the tests with small golden copies run without that folder; `tests/test_fill.py` compares
both.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import nn

KEPT_LEAVES = ("num_batches_tracked", "attn_mask", "relative_position_index", "valid_ind_rolled")


def fill_value(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 value of entry ``key``: one PCG64 stream per key, scaled by what the entry's name says it is."""
    leaf = key.rpartition(".")[2]
    stream = np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")))
    if leaf == "running_var":
        return stream.random(shape, dtype=np.float32) + np.float32(0.5)
    normal = np.asarray(stream.standard_normal(shape, dtype=np.float32))
    if leaf == "running_mean":
        return normal * np.float32(0.1)
    if len(shape) < 2:
        return _vector(normal, is_bias=leaf == "bias" or leaf.endswith("_bias"))
    if leaf == "weight" or leaf.endswith("_weight"):
        one_output = len(shape) == 4 and shape[0] == 1  # keeps a depth head mostly above its last ReLU
        return (normal + np.float32(0.5) if one_output else normal) * np.float32(1 / math.sqrt(math.prod(shape[1:])))
    return normal * np.float32(0.2)


def _vector(normal: np.ndarray, *, is_bias: bool) -> np.ndarray:
    if not is_bias:
        return np.float32(1) + normal * np.float32(0.1)
    value = normal * np.float32(0.05)
    return value + np.float32(0.1) if normal.shape == (1,) else value


@torch.no_grad()
def fill(module: nn.Module) -> nn.Module:
    """Fill the floating-point entries of ``module`` in place and return it."""
    for key, value in module.state_dict().items():
        if value.is_floating_point() and key.rpartition(".")[2] not in KEPT_LEAVES:
            value.copy_(torch.from_numpy(fill_value(key, tuple(value.shape))))
    return module
