"""The published models as predictors of the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nvds_core import ConfigError, CoreError, ShapeError, WeightsError
from nvds_core.checkpoints import state_digest
from nvds_core.predictors import published
from nvds_core.predictors.base import create_predictor
from nvds_core.predictors.published import VERSION, PublishedDisparity
from nvds_core.predictors.transforms import TRANSFORMS
from tests.nvds_core.predictors.reference import filled_model

NAME = "midas-v21-small"


@pytest.fixture(scope="module")
def model() -> Iterator[nn.Module]:
    yield from filled_model(NAME)


@pytest.fixture
def weights(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A filled network in the place of the official checkpoint."""

    def create(name: str, **options: Any) -> nn.Module:
        assert (name, options) == (NAME, {"pretrained": True})
        return model

    monkeypatch.setattr(published, "create_model", create)
    return model


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).random((2, 64, 96, 3)) * 1.1 - 0.05  # with the overshoot of a resize


def test_pictures_are_normalised_by_one_half_as_nvds_does(weights: nn.Module, pictures: np.ndarray) -> None:
    found = create_predictor(NAME).predict(pictures)
    x = torch.from_numpy(((pictures - 0.5) / 0.5).astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    with torch.inference_mode():
        expected = weights(x).numpy()
    assert found.shape == (2, 64, 96)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-4 * expected.max()


def test_the_digest_names_model_weights_and_precision(weights: nn.Module) -> None:
    weights_digest = state_digest(weights)
    assert create_predictor(NAME).digest == f"{NAME}:v{VERSION}:fp32:{weights_digest}"
    assert create_predictor(f"{NAME}?precision=bf16").digest == f"{NAME}:v{VERSION}:bf16:{weights_digest}"


def test_bf16_differs_from_fp32_by_rounding_only(weights: nn.Module, pictures: np.ndarray) -> None:
    exact = PublishedDisparity(NAME).predict(pictures)
    coarse = PublishedDisparity(NAME, precision="bf16").predict(pictures)
    assert coarse.dtype == np.float32
    gap = np.abs(coarse - exact)
    assert 0 < gap.mean() < 0.01 * exact.max()
    # more than the 256 steps per power of two that a result in bfloat16 would have
    assert len(np.unique(coarse)) > 0.5 * coarse.size


def test_sizes_that_do_not_fit_are_refused(weights: nn.Module) -> None:
    with pytest.raises(ShapeError, match=r"multiples of 32, got \(1, 3, 64, 80\)"):
        create_predictor(NAME).predict(np.zeros((1, 64, 80, 3)))


def test_values_that_are_not_finite_are_refused(weights: nn.Module) -> None:
    with pytest.raises(CoreError, match=f"{NAME} returned values that are not finite") as error:
        create_predictor(NAME).predict(np.full((1, 32, 32, 3), np.nan))
    assert error.value.reason == "not_finite"


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_every_published_model_is_a_predictor_of_the_pipeline(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "create_model", lambda name, **options: nn.Conv2d(1, 1, 1))
    predictor = create_predictor(name)
    assert (predictor.name, predictor.short_side, predictor.multiple) == (name, 384, 32)


def test_unknown_names_and_precisions_are_refused() -> None:
    with pytest.raises(ConfigError, match="'tiny' is not a published predictor; known: dpt-hybrid, dpt-large"):
        PublishedDisparity("tiny")
    with pytest.raises(ConfigError, match="unknown precision 'fp8'; known: fp32, bf16"):
        PublishedDisparity(NAME, precision="fp8")  # type: ignore[arg-type]


def test_a_missing_checkpoint_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(name: str, **options: Any) -> nn.Module:
        raise WeightsError(f"no weights for {name!r}")

    monkeypatch.setattr(published, "create_model", create)
    with pytest.raises(WeightsError, match="no weights for 'dpt-hybrid'"):
        create_predictor("dpt-hybrid")
