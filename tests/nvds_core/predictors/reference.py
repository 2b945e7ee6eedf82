"""What the tests of the published predictors share: golden cases, filled networks and the outputs of their parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor, nn

from nvds_core import create_model
from nvds_core.predictors.transforms import TRANSFORMS
from tests.fill import fill

OFFICIAL = {
    "midas-v21": "midas/midas_v21_384",
    "midas-v21-small": "midas/midas_v21_small_256",
    "dpt-large": "dpt/dpt_large_384",
    "dpt-hybrid": "dpt/dpt_hybrid_384",
}
# Replaces the bias of the last layer, so that the golden disparity is mostly above zero.
LAST_BIAS = {"midas-v21-small": 0.5, "dpt-large": 3.0, "dpt-hybrid": 3.0}
PARAMETERS = {"midas-v21": 105_362_945, "midas-v21-small": 21_320_545, "dpt-large": 344_055_465}
HALF_LIMIT = 2e-3  # of intermediates stored in float16, relative to the maximum


def filled_model(name: str) -> Iterator[nn.Module]:
    """A model with the weights of the golden data; skips the test where memory is short. For module-wide fixtures."""
    needed = 2 * 4 * PARAMETERS.get(name, 123_146_985) + 2**29
    free = psutil.virtual_memory().available
    if free < needed:
        pytest.skip(f"{name} needs {needed / 2**30:.1f} GiB of free memory, {free / 2**30:.1f} are left")
    model = fill(create_model(name))
    if name in LAST_BIAS:
        model.state_dict()["scratch.output_conv.4.bias"].fill_(LAST_BIAS[name])
    yield model


def official_entries(shared: Path, name: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every entry of a published checkpoint."""
    folder, _, variant = OFFICIAL[name].partition("/")
    entries = json.loads((shared / "reference" / folder / "state_dict.json").read_text())[variant]
    return {key: tuple(shape) for key, (shape, _) in entries.items()}


def pictures(golden: Mapping[str, np.ndarray], case: str, name: str) -> Tensor:
    """Network input [n,3,h,w] of a golden case; skips where only the reduced copy without that case is at hand."""
    if f"{case}__image" not in golden:
        pytest.skip(f"golden case {case} lies in ../shared only")
    mean, std = np.array(TRANSFORMS[name].mean), np.array(TRANSFORMS[name].std)
    normal = ((golden[f"{case}__image"] / 255.0 - mean) / std).astype(np.float32)
    return torch.from_numpy(normal).permute(0, 3, 1, 2).contiguous()


def relative_error(found: Tensor, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest expected value."""
    assert found.shape == expected.shape
    expected = expected.astype(np.float32)
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


def outputs_of(model: nn.Module, x: Tensor, modules: Mapping[str, str]) -> dict[str, Tensor]:
    """Outputs of the named submodules (key -> path) in one forward pass."""
    seen: dict[str, Tensor] = {}

    def keep(key: str):  # type: ignore[no-untyped-def]
        return lambda module, inputs, output: seen.__setitem__(key, output)

    hooks = [model.get_submodule(path).register_forward_hook(keep(key)) for key, path in modules.items()]
    try:
        with torch.inference_mode():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
