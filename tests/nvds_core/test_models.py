from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nvds_core import ConfigError, WeightsError, create_model
from nvds_core import models as models_module
from nvds_core.models import BUNDLED, MODELS, WEIGHTS_DIR, bundled_weights
from nvds_core.stabilization import NvdsNetwork
from tests.fill import fill

MEBIBYTE = 2**20


def example(name: str) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.rand((1, 3, 64, 96) if name == "tiny" else (1, 4, 4, 64, 96), generator=g)


def test_an_unknown_model_is_refused_with_the_known_names() -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'midas'; known: .*nvds, nvds-tiny, tiny"):
        create_model("midas")


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="model 'nvds-tiny' has no option heads, width"):
        create_model("nvds-tiny", pretrained=False, width=3, heads=2)


@pytest.mark.parametrize("name", ["tiny", "nvds-tiny"])
def test_models_without_weights_are_in_evaluation_mode_and_give_finite_disparity(name: str) -> None:
    model = create_model(name, pretrained=False)
    assert not any(module.training for module in model.modules())
    with torch.inference_mode():
        output = model(example(name))
    assert output.shape == ((1, 64, 96) if name == "tiny" else (1, 1, 64, 96))
    assert bool(torch.isfinite(output).all())
    assert float(output.min()) >= 0


def test_the_tiny_stabiliser_is_the_full_network_in_small() -> None:
    tiny, full = create_model("nvds-tiny", pretrained=False), None
    with torch.device("meta"):
        full = create_model("nvds")
    assert type(tiny) is type(full) is NvdsNetwork
    # The same parts: all names of the small network are names of the large one, which only has more encoder blocks.
    extra = full.state_dict().keys() - tiny.state_dict().keys()
    assert tiny.state_dict().keys() <= full.state_dict().keys()
    assert all(key.startswith("backbone.block") for key in extra)


@pytest.mark.parametrize(("name", "low", "high"), [("tiny", 1e6, 4e6), ("nvds-tiny", 1e6, 5e6)])
def test_tiny_models_are_tiny(name: str, low: float, high: float) -> None:
    count = sum(p.numel() for p in create_model(name, pretrained=False).parameters())
    assert low < count < high


def test_weights_that_the_package_does_not_bring_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"no weights for 'nvds' come with this package.*load_state"):
        bundled_weights("nvds")


@pytest.mark.parametrize("name", BUNDLED)
def test_a_package_without_its_weights_says_so(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_module, "WEIGHTS_DIR", tmp_path)
    with pytest.raises(WeightsError, match=f"no weights for '{name}'"):
        create_model(name)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights_are_loaded_by_default(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = fill(create_model(name, pretrained=False))
    halves = {k: v.half() for k, v in source.state_dict().items() if v.is_floating_point()}
    save_file(halves, tmp_path / f"{name}.safetensors")
    monkeypatch.setattr(models_module, "WEIGHTS_DIR", tmp_path)
    model = create_model(name)
    assert not model.training
    state = model.state_dict()
    assert all(torch.equal(state[key], value.float()) for key, value in halves.items())
    assert all(state[key].dtype == torch.float32 for key in halves)


@pytest.mark.parametrize("name", BUNDLED)
def test_the_released_weights_are_small_half_precision_and_give_a_map_that_is_no_constant(name: str) -> None:
    path = WEIGHTS_DIR / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"weights of {name} are not trained yet")
    assert path.stat().st_size <= 8 * MEBIBYTE
    assert {v.dtype for v in load_file(path).values() if v.is_floating_point()} == {torch.float16}
    model = create_model(name)
    with torch.inference_mode():
        output = model(example(name))
    assert bool(torch.isfinite(output).all())
    assert float(output.std()) > 1e-4


def test_every_bundled_model_can_be_made_by_name() -> None:
    assert set(BUNDLED) <= MODELS.keys()
