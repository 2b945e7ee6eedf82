from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nvds_core import ConfigError, CoreError, create_model
from nvds_core import models as models_module
from nvds_core.checkpoints import state_digest
from nvds_core.predictors.base import PREDICTORS, create_predictor, finite
from tests.fill import fill


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A filled `tiny` whose rounded weights take the place of the bundled ones."""
    model = fill(create_model("tiny", pretrained=False))
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(value.half())
    halves = {k: v.half() for k, v in model.state_dict().items() if v.is_floating_point()}
    save_file(halves, tmp_path / "tiny.safetensors")
    monkeypatch.setattr(models_module, "WEIGHTS_DIR", tmp_path)
    return model


def test_an_unknown_predictor_is_refused_with_the_known_names() -> None:
    with pytest.raises(ConfigError, match=f"unknown predictor 'big'; known: .*{sorted(PREDICTORS)[-1]}"):
        create_predictor("big")


def test_pictures_in_0_to_1_are_normalised_for_the_network(weights: nn.Module) -> None:
    pictures = np.random.default_rng(0).random((2, 64, 96, 3))
    found = create_predictor("tiny").predict(pictures)
    x = torch.from_numpy(((pictures - 0.5) / 0.25).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = weights(x.contiguous()).numpy()
    assert found.shape == (2, 64, 96)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_digest_names_the_weights(weights: nn.Module) -> None:
    assert create_predictor("tiny").digest == f"tiny:{state_digest(weights)}"


def test_values_that_are_not_finite_are_refused_with_the_name_of_the_predictor() -> None:
    good = np.ones((1, 2, 2), np.float32)
    assert finite(good, "tiny") is good
    with pytest.raises(CoreError, match="tiny returned values that are not finite") as error:
        finite(np.array([[[1.0, np.nan]]], np.float32), "tiny")
    assert error.value.reason == "not_finite"
