"""Tiny models with random weights, saved the way published ones are."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nvds_core.predictors.base import create_predictor
from nvds_core.predictors.transformers_predictor import model_quantity
from nvds_core.types import ConfigError, WeightsError

transformers = pytest.importorskip("transformers", reason="the extra transformers is not installed")

SIZE = (64, 96)


def save_depth_anything(folder: Path, seed: int = 0, **options: object) -> Path:
    """A Depth Anything V2 of 31 thousand weights with its processor."""
    torch.manual_seed(seed)
    backbone = transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=1,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        **options,
    )
    processor = transformers.DPTImageProcessor(
        size={"height": 70, "width": 70}, keep_aspect_ratio=True, ensure_multiple_of=14, resample=3
    )
    model = transformers.DepthAnythingForDepthEstimation(config)
    for value in model.parameters():  # the head's ReLU would leave nothing of a random network
        value.data.add_(0.05)
    if config.depth_estimation_type == "metric":  # or its sigmoid would be at its end everywhere
        model.head.conv3.weight.data.mul_(1e-3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def relative(tmp_path_factory) -> Path:
    return save_depth_anything(tmp_path_factory.mktemp("relative"))


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).random((2, *SIZE, 3)) * 1.2 - 0.1


def by_hand(folder: Path, unit_rgb: np.ndarray) -> np.ndarray:
    """One picture at a time through PIL-like bytes, the processor's resize, the network and a bicubic resize back."""
    processor = transformers.DPTImageProcessor.from_pretrained(folder)
    model = transformers.DepthAnythingForDepthEstimation.from_pretrained(folder).eval()
    maps = []
    for picture in unit_rgb:
        code = torch.from_numpy(np.floor(np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)).permute(2, 0, 1)
        with torch.no_grad():
            raw = model(processor(code, return_tensors="pt")["pixel_values"]).predicted_depth
        maps.append(torch.nn.functional.interpolate(raw[None], SIZE, mode="bicubic")[0, 0].numpy())
    return np.stack(maps)


def test_a_relative_model_gives_its_output_as_disparity(relative, pictures):
    predictor = create_predictor(f"transformers:{relative}")
    found = predictor.predict(pictures)
    assert found.shape == (2, *SIZE)
    assert found.dtype == np.float32
    expected = by_hand(relative, pictures)
    assert np.ptp(expected) > 1e-3, "a constant map would prove nothing"
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())
    assert (predictor.short_side, predictor.multiple) == (64, 32)


def test_a_metric_model_becomes_inverse_depth(tmp_path, pictures):
    folder = save_depth_anything(tmp_path, depth_estimation_type="metric", max_depth=20)
    depth = by_hand(folder, pictures)
    assert 0 < depth.min() < depth.max() <= 20
    found = create_predictor(f"transformers:{folder}").predict(pictures)
    np.testing.assert_allclose(found, 1 / depth, rtol=1e-4)


def test_the_option_quantity_goes_before_what_the_config_says(relative, pictures):
    taken = create_predictor(f"transformers:{relative}?quantity=depth").predict(pictures)
    np.testing.assert_allclose(taken, 1 / np.maximum(by_hand(relative, pictures), 1e-3), rtol=1e-3)
    with pytest.raises(ConfigError, match="quantity is 'metres', must be disparity or depth"):
        create_predictor(f"transformers:{relative}?quantity=metres")


@pytest.mark.parametrize(
    ("config", "quantity"),
    [
        ({"model_type": "depth_anything", "depth_estimation_type": "relative"}, "disparity"),
        ({"model_type": "depth_anything", "depth_estimation_type": "metric"}, "depth"),
        ({"model_type": "dpt", "backbone_config": None}, "disparity"),
        ({"model_type": "dpt", "backbone_config": SimpleNamespace(model_type="bit")}, "disparity"),
        ({"model_type": "zoedepth"}, "depth"),
        ({"model_type": "depth_pro"}, "depth"),
        ({"model_type": "glpn"}, "depth"),
    ],
)
def test_published_types_tell_what_they_predict(config, quantity):
    assert model_quantity(SimpleNamespace(**config), "x") == quantity


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "dpt", "backbone_config": SimpleNamespace(model_type="dinov2")},
        {"model_type": "chmv2"},
        {"model_type": "tomorrow"},
    ],
)
def test_a_model_that_does_not_tell_is_not_guessed(config):
    with pytest.raises(ConfigError, match=r"transformers:x: .*add \?quantity=disparity or \?quantity=depth"):
        model_quantity(SimpleNamespace(**config), "x")


def test_zoedepth_is_asked_with_the_size_its_padding_needs(tmp_path, pictures, monkeypatch):
    """The processor pads before it resizes; the map must come back for the picture alone."""
    folder = save_depth_anything(tmp_path, depth_estimation_type="metric", max_depth=20)
    processor = transformers.ZoeDepthImageProcessor(size={"height": 70, "width": 98}, ensure_multiple_of=14)
    processor.save_pretrained(folder)
    predictor = create_predictor(f"transformers:{folder}")
    found = predictor.predict(pictures)
    codes = [np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8) for picture in pictures]
    values = processor(codes, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    with torch.no_grad():
        outputs = predictor.model(values)
    expected = processor.post_process_depth_estimation(outputs, source_sizes=[SIZE] * 2, target_sizes=[SIZE] * 2)
    for map_, entry in zip(found, expected, strict=True):
        np.testing.assert_allclose(map_, 1 / entry["predicted_depth"].numpy(), rtol=1e-4)


def test_the_digest_names_weights_processor_and_quantity_but_not_the_place(relative, tmp_path):
    digest = create_predictor(f"transformers:{relative}").digest
    copy = tmp_path / "copy"
    shutil.copytree(relative, copy)
    assert create_predictor(f"transformers:{copy}").digest == digest
    assert create_predictor(f"transformers:{copy}?quantity=depth").digest != digest
    settings = copy / "preprocessor_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"image_mean": [0.1, 0.2, 0.3]}))
    assert create_predictor(f"transformers:{copy}").digest != digest
    other = save_depth_anything(tmp_path / "other", seed=1)
    assert create_predictor(f"transformers:{other}").digest != digest


def drop(folder: Path, part: str) -> None:
    """Take the weights whose name holds ``part`` out of a checkpoint."""
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    assert any(part in name for name in state)
    save_file({n: v for n, v in state.items() if part not in n}, folder / "model.safetensors", {"format": "pt"})


def test_weights_that_no_forward_pass_reads_may_be_absent_and_change_nothing_from_load_to_load(
    relative, tmp_path, pictures
):
    folder = tmp_path / "published"
    shutil.copytree(relative, folder)
    drop(folder, "fusion_stage.layers.0.residual_layer1.")
    first, second = (create_predictor(f"transformers:{folder}") for _ in range(2))
    assert first.digest == second.digest
    whole = create_predictor(f"transformers:{relative}")
    np.testing.assert_array_equal(first.predict(pictures), whole.predict(pictures))


def damaged(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    if how == "incomplete":
        drop(folder, "head.conv3")
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif how == "no weights":
        weights.unlink()
    elif how == "no processor":
        (folder / "preprocessor_config.json").unlink()
    elif how == "another kind":
        (folder / "config.json").write_text('{"model_type": "bert"}')
    else:
        (folder / "config.json").write_text('{"model_type": "no_such_type"}')


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("incomplete", "2 weights are missing (head.conv3.bias, head.conv3.weight"),
        ("truncated", "cannot be loaded"),
        ("no weights", "cannot be loaded"),
        ("no processor", "cannot be loaded"),
        ("another kind", "cannot be loaded"),
        ("unknown kind", "cannot be loaded"),
    ],
)
def test_what_is_no_whole_depth_model_is_refused_with_its_name(relative, tmp_path, how, words):
    folder = tmp_path / "model"
    shutil.copytree(relative, folder)
    damaged(folder, how)
    with pytest.raises(WeightsError, match=re.escape(f"transformers:{folder}: {words}")) as error:
        create_predictor(f"transformers:{folder}")
    assert "\n" not in str(error.value)


@pytest.fixture
def offline_hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of the Hub, and no way to the Hub itself."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize("source", ["some/model", "no/such/folder", "./typo"])
def test_without_network_one_line_says_what_to_fetch(offline_hub, source):
    with pytest.raises(WeightsError, match=re.escape(f"transformers:{source}: no such folder")) as error:
        create_predictor(f"transformers:{source}")
    assert f"hf download {source}" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_was_fetched_before_is_taken_without_network(relative, offline_hub):
    import huggingface_hub.constants as constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = Path(constants.HF_HUB_CACHE) / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(relative, repository / "snapshots" / commit)
    digest = create_predictor(f"transformers:{relative}").digest
    assert create_predictor("transformers:some/model").digest == digest
    assert create_predictor(f"transformers:some/model?revision={commit}").digest == digest
    with pytest.raises(WeightsError, match="some/model"):
        create_predictor("transformers:some/model?revision=v2")
    with pytest.raises(ConfigError, match="has no revision 'v2'"):
        create_predictor(f"transformers:{relative}?revision=v2")


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r'needs the package transformers; install it with pip install "nvds'):
        create_predictor("transformers:some/model")
