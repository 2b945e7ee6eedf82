from __future__ import annotations

import pytest
import torch

from nvds_core import ShapeError, create_model
from nvds_core.predictors.tiny import TinyPredictor
from tests.fill import fill


def make_model() -> TinyPredictor:
    model = fill(create_model("tiny", pretrained=False))
    assert isinstance(model, TinyPredictor)
    return model


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (33, 47), (50, 130)])
def test_disparity_has_the_size_of_the_picture_and_is_positive(size: tuple[int, int]) -> None:
    with torch.inference_mode():
        disparity = make_model()(torch.randn(2, 3, *size))
    assert disparity.shape == (2, *size)
    assert disparity.dtype == torch.float32
    assert bool(torch.isfinite(disparity).all())
    assert float(disparity.min()) > 0


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    model, pictures = make_model(), torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        together, alone = model(pictures), torch.cat([model(p[None]) for p in pictures])
    assert float((together - alone).abs().max()) < 1e-4


def test_every_pixel_sees_the_whole_picture() -> None:
    model, picture = make_model(), torch.randn(1, 3, 128, 192, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(picture)[0, 0, 0], picture)
    assert float(gradient[0, :, -16:, -16:].abs().max()) > 0


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64), (1, 3, 31, 64), (1, 3, 64, 16)])
def test_other_shapes_are_refused_with_the_expected_and_the_given_one(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\[b,3,h,w\] with h and w of at least 32") as error:
        make_model()(torch.zeros(shape))
    assert str(shape) in str(error.value)
