"""DPT against arrays computed by the released implementation, and its parts against plain forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import timm
import torch
from torch import nn

from nvds_core import ShapeError
from nvds_core.predictors.building import build_quickly
from nvds_core.predictors.dpt import (
    KITTI,
    NYU,
    DptNetwork,
    Readout,
    Reassemble,
    StandardizedConv,
    metric_depth,
    resize_position_embedding,
)
from tests.fill import fill
from tests.nvds_core.predictors.reference import (
    HALF_LIMIT,
    filled_model,
    outputs_of,
    pictures,
    relative_error,
)

Golden = Callable[[str], Mapping[str, np.ndarray]]

LIMIT = 1e-4  # relative to the maximum; the hybrid's is 1e-3 for implementations with timm's weight standardisation


@pytest.fixture(scope="module")
def large() -> Iterator[nn.Module]:
    yield from filled_model("dpt-large")


@pytest.fixture(scope="module")
def hybrid() -> Iterator[nn.Module]:
    yield from filled_model("dpt-hybrid")


def tiny_dpt() -> DptNetwork:
    """The network in small: 5.5 million parameters in the transformer."""
    channels = (16, 16, 24, 24)
    resizes = (nn.ConvTranspose2d(16, 16, 4, 4), nn.ConvTranspose2d(16, 16, 2, 2), None, nn.Conv2d(24, 24, 3, 2, 1))
    parts = [Reassemble(192, c, resize) for c, resize in zip(channels, resizes, strict=True)]
    return DptNetwork(timm.create_model("vit_tiny_patch16_384", num_classes=0), (2, 5, 8, 11), parts, channels)


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    model = fill(build_quickly(tiny_dpt)).eval()
    model.state_dict()["scratch.output_conv.4.bias"].fill_(3.0)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("case", ["large_batch_64x96", "large_96x160", "large_128x96"])
def test_dpt_large_equals_the_golden_cases(golden: Golden, large: nn.Module, case: str) -> None:
    arrays = golden("dpt/golden_forward.npz")
    with torch.inference_mode():
        found = large(pictures(arrays, case, "dpt-large"))
    assert relative_error(found, arrays[f"{case}__depth"]) < LIMIT


@pytest.mark.slow
def test_intermediates_of_dpt_large_equal_the_golden_ones(golden: Golden, large: nn.Module) -> None:
    arrays = golden("dpt/golden_forward.npz")
    x = pictures(arrays, "large_96x160", "dpt-large")
    parts = {f"layer_{k}": f"pretrained.act_postprocess{k}" for k in (1, 2, 3, 4)}
    parts |= {"hook_1": "pretrained.model.blocks.5", "hook_4": "pretrained.model.blocks.23"}
    parts |= {"layer_4_rn": "scratch.layer4_rn", "path_4": "scratch.refinenet4", "path_3": "scratch.refinenet3"}
    found = outputs_of(large, x, parts)
    found["pos_embed"] = resize_position_embedding(large.state_dict()["pretrained.model.pos_embed"], (6, 10))
    stored = {key.removeprefix("large_96x160__") for key in arrays if key.startswith("large_96x160__")}
    assert found.keys() == stored - {"image", "depth"}
    for part, value in found.items():
        assert relative_error(value, arrays[f"large_96x160__{part}"]) < HALF_LIMIT, part


def test_dpt_hybrid_equals_the_golden_case(golden: Golden, hybrid: nn.Module) -> None:
    arrays = golden("dpt/golden_forward_hybrid.npz")
    x = pictures(arrays, "hybrid_96x160", "dpt-hybrid")
    parts = {"layer_3": "pretrained.act_postprocess3", "layer_4": "pretrained.act_postprocess4"}
    found = outputs_of(hybrid, x, parts | {"path_4": "scratch.refinenet4", "head": "scratch.output_conv"})
    assert relative_error(found.pop("head"), arrays["hybrid_96x160__depth"]) < LIMIT
    found["pos_embed"] = resize_position_embedding(hybrid.state_dict()["pretrained.model.pos_embed"], (6, 10))
    for part, value in found.items():
        assert relative_error(value, arrays[f"hybrid_96x160__{part}"]) < HALF_LIMIT, part


@pytest.mark.parametrize(("variant", "constants"), [("kitti", KITTI), ("nyu", NYU)])
def test_metric_variants_equal_the_golden_cases(
    golden: Golden, hybrid: nn.Module, variant: str, constants: tuple[float, float]
) -> None:
    arrays, case = golden("dpt/golden_forward_hybrid.npz"), f"hybrid_{variant}_64x96"
    with torch.inference_mode():
        found = metric_depth(hybrid(pictures(arrays, case, "dpt-hybrid")), *constants)
    assert relative_error(found, arrays[f"{case}__depth"]) < LIMIT


def test_metric_depth_of_nothing_is_far_and_finite() -> None:
    assert float(metric_depth(torch.zeros(1, 1, 1), 1.0, 0.0)) == pytest.approx(1e8)
    assert float(metric_depth(torch.full((1, 1, 1), 4.0), 0.5, 0.0)) == pytest.approx(0.5)


def test_the_position_embedding_is_unchanged_on_its_own_grid_and_bilinear_on_another() -> None:
    embedding = torch.randn(1, 1 + 24 * 24, 5, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(resize_position_embedding(embedding, (24, 24)), embedding, rtol=0, atol=1e-6)
    found = resize_position_embedding(embedding, (10, 40))[0]
    square = embedding[0, 1:].reshape(24, 24, 5).numpy()
    expected = cv2.resize(square, (40, 10), interpolation=cv2.INTER_LINEAR).reshape(-1, 5)
    torch.testing.assert_close(found[0], embedding[0, 0])
    np.testing.assert_allclose(found[1:].numpy(), expected, rtol=0, atol=1e-4)


def test_the_readout_is_a_linear_layer_on_patch_and_class_token_together() -> None:
    readout = fill(Readout(8)).double()
    tokens = torch.randn(2, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    both = torch.cat([tokens[:, 1:], tokens[:, :1].expand(-1, 6, -1)], dim=2)
    with torch.no_grad():
        torch.testing.assert_close(readout(tokens), readout.project(both))


@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [(3, 2, (8, 9)), (7, 2, (16, 10)), (1, 1, (4, 4)), (3, 1, (5, 6))]
)
def test_standardised_kernels_have_mean_0_and_deviation_1(kernel: int, stride: int, size: tuple[int, int]) -> None:
    original = nn.Conv2d(3, 4, kernel, stride, bias=False).double()
    conv = StandardizedConv.like(original)
    assert conv.weight is original.weight
    w = original.weight.detach()
    flat = w.reshape(4, -1)
    kernels = ((flat - flat.mean(1, keepdim=True)) / (flat.std(1, correction=0, keepdim=True) + 1e-5)).view_as(w)
    x = torch.randn(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    # TensorFlow's SAME: ceil(size / stride) outputs, of the padding the larger half behind
    pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in size]
    padded = np.pad(x[0].numpy(), [(0, 0)] + [(p // 2, p - p // 2) for p in pads])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
    expected = np.einsum("chwij,ocij->ohw", windows, kernels.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(conv(x)[0].numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(32, 32), (64, 160)])
def test_disparity_has_the_size_of_the_picture(tiny: nn.Module, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        disparity = tiny(torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(5)))
    assert disparity.shape == (2, *size)
    assert bool(torch.isfinite(disparity).all())
    assert float(disparity.min()) >= 0
    assert float(disparity.std()) > 0


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 3, 48, 64), (1, 3, 64, 80), (1, 1, 64, 64)])
def test_sizes_that_do_not_fit_are_refused(tiny: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected \[b,3,h,w\] with h and w multiples of 32") as error:
        tiny(torch.zeros(shape))
    assert str(shape) in str(error.value)


def test_threads_and_other_models_do_not_disturb_a_forward_pass(tiny: nn.Module) -> None:
    models = [tiny, build_quickly(tiny_dpt).eval()]
    g = torch.Generator().manual_seed(6)
    work = [(models[i % 2], torch.randn(1, 3, 32 * (1 + i % 3), 64, generator=g)) for i in range(8)]

    def run(job: tuple[nn.Module, torch.Tensor]) -> torch.Tensor:
        with torch.inference_mode():
            return job[0](job[1])

    alone = [run(job) for job in work]
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(run, work), alone, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
