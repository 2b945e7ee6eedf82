from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nvds_core import ConfigError, WeightsError, create_model
from nvds_core import models as models_module
from nvds_core.checkpoints import file_digest
from nvds_core.models import BUNDLED, MODELS, WEIGHTS_DIR, bundled_weights, unfilled_model, unfilled_parameters
from nvds_core.stabilization import NvdsNetwork
from tests.fill import fill
from tests.nvds_core.weights_helpers import FILE, MiniNet, add_mini, mini_state

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


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The official file of ``mini`` in a cache of its own."""
    monkeypatch.setenv("NVDS_WEIGHTS", str(tmp_path))
    add_mini(monkeypatch)
    torch.save(mini_state(), tmp_path / FILE)
    return tmp_path / FILE


def weight_of(model: torch.nn.Module) -> torch.Tensor:
    return model.get_parameter("conv.weight")


def test_official_weights_are_loaded_when_asked_for_and_their_digest_is_logged(
    installed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nvds")
    model = create_model("mini", pretrained=True)
    assert torch.equal(weight_of(model), mini_state()["module.conv.weight"])
    assert not model.training
    assert model.get_buffer("table").tolist() == [0, 1, 2, 3, 4, 5]
    assert caplog.messages == [f"mini: weights {FILE}, sha256 {file_digest(installed)}"]
    assert not torch.equal(weight_of(create_model("mini")), weight_of(model))
    assert len(caplog.messages) == 1


def test_a_file_that_is_not_the_published_one_is_used_with_a_warning(
    installed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add_mini(monkeypatch, sha256="0" * 64)
    create_model("mini", pretrained=True)
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{installed} is not the published file" in warning


def test_a_variant_is_the_network_with_the_weights_of_its_own_file(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_mini(monkeypatch, "mini", "mini-fine")
    with pytest.raises(WeightsError, match=r"weights of mini-fine are missing.*mini-fine\.pth"):
        create_model("mini-fine")
    torch.save(
        {k: v * 2 if v.is_floating_point() else v for k, v in mini_state().items()},
        installed.with_name("mini-fine.pth"),
    )
    fine = create_model("mini-fine")
    assert isinstance(fine, MiniNet)
    assert torch.equal(weight_of(fine), 2 * mini_state()["module.conv.weight"])
    assert isinstance(create_model("mini-fine", pretrained=False), MiniNet)


def test_weights_can_come_from_any_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nvds")
    state = {
        k: v + 1 if v.is_floating_point() else v
        for k, v in fill(create_model("nvds-tiny", pretrained=False)).state_dict().items()
    }
    path = tmp_path / "trained further.ckpt"
    torch.save({"model": state}, path)
    for given in (path, str(path)):
        model = create_model("nvds-tiny", weights=given)
        assert torch.equal(model.state_dict()["edge_conv.0.weight"], state["edge_conv.0.weight"])
    assert caplog.messages[0] == f"nvds-tiny: weights trained further.ckpt, sha256 {file_digest(path)}"
    with pytest.raises(WeightsError, match="do not fit TinyPredictor"):
        create_model("tiny", weights=path)
    with pytest.raises(ConfigError, match="exclude each other"):
        create_model("nvds-tiny", weights=path, pretrained=False)


def test_weights_that_are_missing_or_damaged_are_told_before_the_network_is_built(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "mini", lambda: pytest.fail("built"))
    installed.write_bytes(b"no checkpoint")
    with pytest.raises(WeightsError, match=rf"{FILE}: not a whole checkpoint"):
        create_model("mini", pretrained=True)
    installed.unlink()
    with pytest.raises(WeightsError, match="nvds weights pull mini"):
        create_model("mini", pretrained=True)


def test_loading_fills_no_random_numbers_and_copies_nothing(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[dict[str, torch.Tensor]] = []
    original = models_module.read_checkpoint
    monkeypatch.setattr(models_module, "read_checkpoint", lambda path: read.append(original(path)) or read[0])
    before = torch.random.get_rng_state()
    model = create_model("mini", pretrained=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert weight_of(model).data_ptr() == read[0]["module.conv.weight"].data_ptr()


def test_an_unfilled_network_has_its_buffers_and_can_be_trained_after_loading() -> None:
    built = unfilled_model("nvds-tiny")
    ordinary = create_model("nvds-tiny", pretrained=False)
    tables = {k: v for k, v in ordinary.state_dict().items() if not v.is_floating_point()}
    assert len(tables) == 24
    assert all(torch.equal(built.state_dict()[key], value) for key, value in tables.items())
    assert all(parameter.requires_grad for parameter in built.parameters())


def test_parameters_are_filled_as_ever_outside_of_the_context_and_by_other_operations() -> None:
    with unfilled_parameters():
        parameter = torch.nn.Parameter(torch.zeros(4))
        torch.nn.init.constant_(parameter, 3.0)
        with torch.no_grad():
            parameter.view(2, 2)[0] = 5.0
            parameter[1:].copy_(torch.ones(3))
        parameter.data.add_(1.0)  # a tensor, no parameter
        other = torch.zeros(4).fill_(2.0)
    assert parameter.tolist() == [1.0] * 4
    assert other.tolist() == [2.0] * 4
    torch.nn.init.constant_(parameter, 3.0)
    assert parameter.tolist() == [3.0] * 4


@pytest.mark.slow
def test_the_official_layout_of_nvds_loads_from_its_file_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVDS_WEIGHTS", str(tmp_path))
    with unfilled_parameters():
        source = fill(create_model("nvds"))
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    unused = {
        "module.Stabilizer.conv_seg.weight": torch.ones(1, 128, 1, 1),
        "module.Stabilizer.conv_seg.bias": torch.ones(1),
    }
    torch.save(state | unused, tmp_path / "NVDS_Stabilizer.pth")
    model = create_model("nvds", pretrained=True)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items())
