"""What several tests of the stabiliser share: golden arrays, filled networks, and the protocol written out plainly."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nvds_core.models import create_model
from nvds_core.stabilization import NvdsNetwork
from tests.fill import fill

TESTS = Path(__file__).resolve().parents[2]
SMALL = TESTS / "data" / "nvds"
SHARED = TESTS.parent / ".." / "shared" / "reference" / "nvds"


def small_golden(name: str) -> dict[str, np.ndarray]:
    """Arrays of a small golden copy, which always lies in the repository."""
    with np.load(SMALL / f"{name}_small.npz") as file:
        return dict(file)


def shared_file(name: str) -> Path:
    """A file of the reference folder; skips the test where that folder is absent."""
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"../shared/reference/nvds/{name} is absent")
    return path


@lru_cache(maxsize=1)
def full_golden(name: str) -> dict[str, np.ndarray]:
    """Arrays of a whole golden file of the reference folder."""
    with np.load(shared_file(f"{name}.npz")) as file:
        return dict(file)


@lru_cache(maxsize=2)
def filled(name: str) -> NvdsNetwork:
    """Network ``name`` with weights of the fill rule; do not change it."""
    model = fill(create_model(name, pretrained=False))
    assert isinstance(model, NvdsNetwork)
    return model


def random_frames(count: int, height: int = 40, width: int = 48, seed: int = 0) -> Tensor:
    """Frames [count,4,height,width] like the network's input: RGB around 0, disparity in 0..1."""
    g = torch.Generator().manual_seed(seed)
    frames = torch.randn((count, 4, height, width), generator=g)
    frames[:, 3] = torch.rand((count, height, width), generator=g)
    return frames


@torch.inference_mode()
def plain_pass(model: NvdsNetwork, frames: Tensor) -> np.ndarray:
    """One pass in the published order: a whole window per frame, frames 0, 1, 2 repeated four times. [t,h,w]."""
    results = []
    for i in range(len(frames)):
        members = [i, i, i, i] if i < 3 else [i - 3, i - 2, i - 1, i]
        results.append(model(frames[members][None])[0, 0].numpy())
    return np.stack(results)


def plain_backward(model: NvdsNetwork, frames: Tensor) -> np.ndarray:
    """The backward pass: the same on the reversed list, put back into forward time order."""
    return plain_pass(model, frames.flip(0))[::-1]
