"""Which arithmetic a block of work gets, and that it ends with the block."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tasks.precision import computing
from tasks.transfer import Uploader, download

CPU = torch.device("cpu")


def product_type() -> torch.dtype:
    return (torch.ones(4, 4) @ torch.ones(4, 4)).dtype


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_products_inside_the_block_have_the_wanted_type_and_outside_they_do_not(precision, expected):
    with computing(precision, CPU):
        assert product_type() == expected
    assert product_type() == torch.float32


def test_the_block_ends_with_an_error_as_well():
    with pytest.raises(ZeroDivisionError), computing("bf16", CPU):
        _ = 1 / 0
    assert product_type() == torch.float32


@pytest.mark.parametrize(("precision", "told"), [("fp32", "before"), ("tf32", "before"), ("bf16", "bf16")])
def test_a_model_that_knows_about_precision_is_told_of_bf16_for_the_length_of_the_block(precision, told):
    model = SimpleNamespace(precision="before")
    with computing(precision, CPU, model):
        assert model.precision == told
    assert model.precision == "before"


def test_a_model_that_knows_nothing_of_precision_is_left_alone():
    model = SimpleNamespace()
    with computing("bf16", CPU, model):
        assert vars(model) == {}


def test_on_a_cpu_copies_hand_their_argument_through():
    values = torch.arange(6.0).reshape(2, 3)
    assert Uploader(CPU)(values).ready() is values
    assert torch.equal(Uploader(CPU)(values.numpy()).ready(), values)
    assert download(values).numpy().tolist() == values.tolist()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
def test_on_a_gpu_many_copies_arrive_unmixed_and_products_differ_by_precision():
    device = torch.device("cuda")
    upload = Uploader(device)
    sent = [torch.full((256, 256), float(number)) for number in range(50)]
    copies = [upload(tensor) for tensor in sent]
    back = [download(copy.ready() * 2) for copy in copies]
    assert [result.numpy()[0, 0] for result in back] == [2.0 * number for number in range(50)]
    values = torch.randn(512, 512, device=device)
    with computing("fp32", device):
        exact = values @ values
    with computing("tf32", device):
        rough = values @ values
    assert 0 < (exact - rough).abs().max() < 1
