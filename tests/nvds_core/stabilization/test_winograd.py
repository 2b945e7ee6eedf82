"""The shorter way of 3x3 convolutions against the direct one in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from benchmarks.stabilizer import Streaming, build, in_layout, random_frames
from nvds_core.stabilization import winograd
from nvds_core.stabilization.winograd import Conv3x3, convolve, transform_kernel


def random_layer(inputs: int, outputs: int) -> Conv3x3:
    torch.manual_seed(0)
    return Conv3x3(inputs, outputs).eval()


def exact(layer: Conv3x3, x: torch.Tensor) -> torch.Tensor:
    assert layer.bias is not None
    return F.conv2d(x.double(), layer.weight.double(), layer.bias.double(), padding=1)


@pytest.mark.parametrize("size", [(8, 12), (7, 10), (1, 1), (5, 3), (12, 21)])
def test_the_shorter_way_gives_the_convolution_at_sizes_that_tiles_do_not_divide(size: tuple[int, int]) -> None:
    layer = random_layer(5, 7)
    x = torch.randn(3, 5, *size)
    assert layer.bias is not None
    with torch.inference_mode():
        found = convolve(x, transform_kernel(layer.weight), layer.bias)
    torch.testing.assert_close(found.double(), exact(layer, x), rtol=0, atol=1e-5)


def test_a_wide_layer_takes_the_shorter_way_in_inference_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*args: torch.Tensor) -> torch.Tensor:
        calls.append(len(args))
        return convolve(*args)

    monkeypatch.setattr(winograd, "convolve", counted)
    monkeypatch.setattr(winograd, "MAX_THREADS", torch.get_num_threads())
    wide, narrow = random_layer(winograd.MIN_CHANNELS, 8), random_layer(winograd.MIN_CHANNELS - 1, 8)
    x = torch.randn(1, winograd.MIN_CHANNELS, 9, 14)
    with torch.no_grad():
        torch.testing.assert_close(wide(x).double(), exact(wide, x), rtol=0, atol=2e-5)
        assert calls == [3]
        narrow(x[:, 1:])
        wide.double()(x.double())
        with torch.autocast("cpu", torch.bfloat16):
            wide.float()(x)
    wide(x).sum().backward()
    assert wide.weight.grad is not None
    assert calls == [3]


def test_new_weights_are_used_after_the_old_ones_were_transformed() -> None:
    layer = random_layer(winograd.MIN_CHANNELS, 4)
    other = {name: torch.randn_like(value) for name, value in layer.state_dict().items()}
    x = torch.randn(1, winograd.MIN_CHANNELS, 6, 6)
    with torch.no_grad():
        layer(x)
        layer.load_state_dict(other)
        torch.testing.assert_close(layer(x).double(), exact(layer, x), rtol=0, atol=2e-3)


def test_the_benchmark_leaves_weights_that_take_the_shorter_way() -> None:
    model = build("nvds-tiny", filled=False)
    with torch.inference_mode():
        frames = random_frames(4, (32, 32))
        assert in_layout(model, torch.channels_last, lambda: Streaming(model, frames), 1) > 0
    assert not any(weight.is_inference() for weight in model.parameters())
    assert all(weight.is_contiguous() for weight in model.parameters())
