from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from nvds_core import create_model
from nvds_core.predictors.building import POOL, build_quickly
from tests.nvds_core.predictors.reference import OFFICIAL, PARAMETERS, official_entries

UNUSED_UNIT = 2 * (256 * 256 * 9 + 256)  # refinenet4.resConfUnit1 of the wide decoders


@pytest.mark.parametrize("name", OFFICIAL)
def test_names_and_shapes_are_those_of_the_published_checkpoint(shared: Path, name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    official = official_entries(shared, name)
    used = {key: shape for key, shape in official.items() if not key.startswith(model.UNUSED_PREFIXES)}  # type: ignore[arg-type]
    assert own == used


@pytest.mark.parametrize(
    ("name", "unused"),
    [
        ("midas-v21", UNUSED_UNIT),
        ("midas-v21-small", 2 * (512 * 512 * 9 + 512)),
        ("dpt-large", UNUSED_UNIT + 1000 * 1025 + 2 * 1024),
    ],
)
def test_models_have_the_published_number_of_parameters(name: str, unused: int) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert all(value.is_meta for value in model.state_dict().values())
    assert sum(value.numel() for value in model.parameters()) + unused == PARAMETERS[name]


class Example(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(1024, 1100)  # more values than the pool has
        self.conv = nn.Conv2d(8, 16, 3)
        self.norm = nn.BatchNorm2d(16)
        self.token = nn.Parameter(torch.zeros(1, 1, 64))


def test_quick_weights_are_random_with_the_spread_that_keeps_signals_alive() -> None:
    torch.manual_seed(7)
    model = build_quickly(Example)
    assert model.wide.weight.numel() > POOL
    assert float(model.wide.weight.detach().std()) == pytest.approx(1024**-0.5, rel=0.01)
    assert float(model.conv.weight.detach().std()) == pytest.approx(72**-0.5, rel=0.1)
    rows = nn.functional.normalize(model.wide.weight.detach(), dim=1)
    similar = (rows @ rows.T).fill_diagonal_(0)
    assert float(similar.abs().max()) < 0.3, "rows repeat"
    assert bool((model.wide.bias == 0).all())
    assert bool((model.norm.weight == 1).all())
    assert bool((model.norm.running_mean == 0).all())
    assert bool((model.norm.running_var == 1).all())
    assert int(model.norm.num_batches_tracked) == 0


def test_quick_weights_follow_the_seed() -> None:
    made = []
    for seed in (8, 8, 9):
        torch.manual_seed(seed)
        made.append(build_quickly(Example).conv.weight.detach())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
