"""MiDaS v2.1 against arrays computed by the released implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nvds_core import ShapeError, WeightsError, create_model, load_state
from nvds_core.predictors.fusion import FusionBlock
from tests.fill import fill, fill_value
from tests.nvds_core.predictors.reference import (
    filled_model,
    official_entries,
    outputs_of,
    pictures,
    relative_error,
)

Golden = Callable[[str], Mapping[str, np.ndarray]]

LIMIT = 1e-4  # relative to the maximum
PARTS = {
    "layer_3": "pretrained.layer3",
    "layer_4": "pretrained.layer4",
    "layer_2_rn": "scratch.layer2_rn",
    "layer_4_rn": "scratch.layer4_rn",
    "path_4": "scratch.refinenet4",
    "path_3": "scratch.refinenet3",
}


@pytest.fixture(scope="module")
def small() -> Iterator[nn.Module]:
    yield from filled_model("midas-v21-small")


@pytest.fixture(scope="module")
def large() -> Iterator[nn.Module]:
    yield from filled_model("midas-v21")


@pytest.mark.parametrize("case", ["small_128x64", "small_96x160"])
def test_the_small_model_equals_the_golden_cases(golden: Golden, small: nn.Module, case: str) -> None:
    arrays = golden("midas/golden_forward.npz")
    with torch.inference_mode():
        found = small(pictures(arrays, case, "midas-v21-small"))
    assert relative_error(found, arrays[f"{case}__depth"]) < LIMIT


@pytest.mark.parametrize("case", ["large_batch_64x96", "large_96x160"])
def test_the_large_model_equals_the_golden_cases(golden: Golden, large: nn.Module, case: str) -> None:
    arrays = golden("midas/golden_forward.npz")
    with torch.inference_mode():
        found = large(pictures(arrays, case, "midas-v21"))
    assert relative_error(found, arrays[f"{case}__depth"]) < LIMIT


@pytest.mark.parametrize(("name", "case"), [("midas-v21-small", "small_96x160"), ("midas-v21", "large_96x160")])
def test_intermediate_maps_equal_the_golden_ones(
    golden: Golden, request: pytest.FixtureRequest, name: str, case: str
) -> None:
    arrays = golden("midas/golden_forward.npz")
    x = pictures(arrays, case, name)
    found = outputs_of(request.getfixturevalue(case.partition("_")[0]), x, PARTS)
    for part in PARTS:
        assert relative_error(found[part], arrays[f"{case}__{part}"]) < LIMIT, part


def official_state(shared: Path) -> dict[str, torch.Tensor]:
    entries = official_entries(shared, "midas-v21-small")
    state = {k: torch.from_numpy(fill_value(k, s)) for k, s in entries.items() if not k.endswith("batches_tracked")}
    state["scratch.output_conv.4.bias"].fill_(0.5)
    return state


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_with_all_published_names_loads(shared: Path, golden: Golden, prefix: str) -> None:
    state = {prefix + key: value for key, value in official_state(shared).items()}
    model = load_state(create_model("midas-v21-small"), state)
    arrays = golden("midas/golden_forward.npz")
    with torch.inference_mode():
        found = model(pictures(arrays, "small_128x64", "midas-v21-small"))
    assert relative_error(found, arrays["small_128x64__depth"]) < LIMIT


def test_a_checkpoint_of_the_other_size_is_refused_and_changes_nothing(small: nn.Module) -> None:
    before = {key: value.clone() for key, value in small.state_dict().items()}
    with torch.device("meta"):
        other = create_model("midas-v21").state_dict()
    with pytest.raises(WeightsError, match=r"do not fit MidasNetwork: .* missing: .* extra: .* of another shape: "):
        load_state(small, {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in other.items()})
    assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64), (1, 3, 48, 64), (1, 3, 64, 0), (1, 3, 63, 96)])
def test_sizes_that_do_not_fit_are_refused(small: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected \[b,3,h,w\] with h and w multiples of 32") as error:
        small(torch.zeros(shape))
    assert str(shape) in str(error.value)


def test_threads_do_not_disturb_each_other(small: nn.Module) -> None:
    g = torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, 3, 32 * (1 + i % 2), 64, generator=g) for i in range(6)]

    def run(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return small(x)

    alone = [run(x) for x in inputs]
    with ThreadPoolExecutor(3) as pool:
        for found, expected in zip(pool.map(run, inputs), alone, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rectified", [False, True])
def test_a_fusion_block_computes_the_published_order_of_steps(rectified: bool) -> None:
    block = fill(FusionBlock(6, 4, coarsest=False, rectified_skip=rectified, projected=True)).double()
    g = torch.Generator().manual_seed(1)
    path, finer = (torch.randn(2, 6, 5, 7, generator=g, dtype=torch.float64) for _ in range(2))

    def unit(x: torch.Tensor, unit: nn.Module) -> torch.Tensor:
        y = unit.conv2(torch.relu(unit.conv1(torch.relu(x))))
        return y + (torch.relu(x) if rectified else x)

    expected = unit(path + unit(finer, block.resConfUnit1), block.resConfUnit2)
    expected = nn.functional.interpolate(expected, scale_factor=2, mode="bilinear", align_corners=True)
    with torch.no_grad():
        torch.testing.assert_close(block(path, finer), block.out_conv(expected), rtol=1e-10, atol=1e-10)


def test_a_file_in_the_published_form_makes_the_model(shared: Path, small: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "midas_v21_small_256.pt"
    torch.save(official_state(shared), path)
    torch.manual_seed(10)
    model = create_model("midas-v21-small", weights=path)
    expected = small.state_dict()
    assert not model.training
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
