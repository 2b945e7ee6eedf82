"""GMFlow against arrays made by the released code with the same deterministic weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nvds_core import ShapeError, WeightsError, create_model, load_state, occlusion_masks
from tests.nvds_core.flow.reference import filled

Golden = Callable[[str], Mapping[str, np.ndarray]]
Case = dict[str, Tensor]

LIMITS = {"gmflow": (0.01, 1e-3), "gmflow-refine": (0.05, 2e-3)}  # largest and mean difference, px
MODEL_OF = {"basic": "gmflow", "basic_batch": "gmflow", "padded": "gmflow", "refine": "gmflow-refine"}
SMALL_COPY = Path(__file__).resolve().parents[2] / "data" / "gmflow" / "golden_forward.npz"


@pytest.fixture
def case(golden: Golden) -> Callable[[str], Case]:
    """Arrays of one golden case as tensors, pictures as float ``[b, 3, h, w]``."""

    def load(name: str) -> Case:
        arrays = golden("gmflow/golden_forward.npz")
        found = {
            key.removeprefix(f"{name}__"): torch.from_numpy(array)
            for key, array in arrays.items()
            if key.startswith(f"{name}__")
        }
        if "img0" not in found:
            pytest.skip(f"golden case {name} is only in ../shared/reference, which is not beside this checkout")
        for picture in ("img0", "img1"):
            found[picture] = found[picture].permute(0, 3, 1, 2).float()
        return found

    return load


def run(name: str, img0: Tensor, img1: Tensor, **options: bool) -> Tensor:
    with torch.inference_mode():
        flow: Tensor = filled(name)(img0, img1, **options)
    return flow


def assert_same_flow(found: Tensor, expected: Tensor, name: str) -> None:
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    gap = (found - expected).abs()
    largest, mean = LIMITS[name]
    assert float(gap.max()) < largest
    assert float(gap.mean()) < mean


@pytest.mark.parametrize("name", MODEL_OF)
def test_both_directions_equal_the_golden_flows(name: str, case: Callable[[str], Case]) -> None:
    data = case(name)
    found = run(MODEL_OF[name], data["img0"], data["img1"], bidirectional=True)
    assert_same_flow(found, data["flow"], MODEL_OF[name])
    if "occ_fwd" in data:
        for mask, expected in zip(occlusion_masks(*found.chunk(2)), ("occ_fwd", "occ_bwd"), strict=True):
            assert float((mask != data[expected].bool()).float().mean()) <= 1e-3


@pytest.mark.parametrize("name", ["padded", "refine"])
def test_one_way_equals_the_forward_half(name: str, case: Callable[[str], Case]) -> None:
    data = case(name)
    found = run(MODEL_OF[name], data["img0"], data["img1"])
    assert_same_flow(found, data["flow"][: len(found)], MODEL_OF[name])


def test_normalised_pictures_equal_the_golden_case_of_nvds(case: Callable[[str], Case]) -> None:
    data = case("nvds")
    img0, img1 = ((data[key] / 255 - 0.5) / 0.5 for key in ("img0", "img1"))
    assert_same_flow(run("gmflow", img0, img1, normalize=False), data["flow"], "gmflow")


def test_resizing_to_an_inference_size_equals_the_golden_case(case: Callable[[str], Case]) -> None:
    data = case("resized")
    height, width = data["flow"].shape[2:]
    small = [F.interpolate(data[k], (64, 96), mode="bilinear", align_corners=True) for k in ("img0", "img1")]
    flow = F.interpolate(run("gmflow", *small), (height, width), mode="bilinear", align_corners=True)
    assert_same_flow(flow * torch.tensor([width / 96, height / 64]).view(2, 1, 1), data["flow"], "gmflow")


@pytest.mark.parametrize("name", ["basic", "refine"])
def test_intermediate_maps_equal_the_golden_ones(name: str, case: Callable[[str], Case]) -> None:
    data, model = case(name), filled(MODEL_OF[name])
    if "backbone0" not in data:
        pytest.skip(f"intermediates of {name} are only in ../shared/reference, which is not beside this checkout")
    seen: list[tuple[str, Tensor]] = []

    def keep(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        kind = "backbone" if module is model.backbone else "transformer"
        seen.extend((kind, x if kind == "backbone" else x.permute(0, 3, 1, 2)) for x in output)

    def keep_flow(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.extend((("flow_matched", inputs[1]), ("flow_propagated", output)))

    hooks = [module.register_forward_hook(keep) for module in (model.backbone, model.transformer)]
    hooks.append(model.feature_flow_attn.register_forward_hook(keep_flow))
    try:
        run(MODEL_OF[name], data["img0"], data["img1"], bidirectional=True)
    finally:
        for hook in hooks:
            hook.remove()
    kinds: dict[str, list[Tensor]] = {}
    for kind, value in seen:
        kinds.setdefault(kind, []).append(value)
    found = {f"transformer{i // 2}_{i % 2}": x for i, x in enumerate(kinds.pop("transformer"))}
    found |= {f"backbone{i}": x for i, x in enumerate(reversed(kinds.pop("backbone")))}
    found |= {f"{kind}{i}": x for kind, values in kinds.items() for i, x in enumerate(values)}
    assert found.keys() == data.keys() - {"img0", "img1", "flow", "occ_fwd", "occ_bwd"}
    for key, value in found.items():
        tolerance = 2e-3 * float(data[key].abs().max())
        torch.testing.assert_close(value, data[key], rtol=0, atol=tolerance, msg=lambda text, k=key: f"{k}: {text}")


def test_the_small_copy_is_part_of_the_whole_file(shared: Path) -> None:
    with np.load(shared / "reference" / "gmflow" / "golden_forward.npz") as whole, np.load(SMALL_COPY) as small:
        for key in small:
            rows = [0, 2] if key == "basic_batch__flow" else slice(len(small[key]))  # the first of two pairs
            np.testing.assert_array_equal(small[key], whole[key][rows])


@pytest.mark.parametrize(
    ("name", "official", "count"), [("gmflow", "gmflow", 4_680_288), ("gmflow-refine", "gmflow_with_refine", 4_716_720)]
)
class TestStateDict:
    def test_the_parameters_are_as_many_as_in_the_released_network(self, name: str, official: str, count: int) -> None:
        assert sum(parameter.numel() for parameter in create_model(name).parameters()) == count

    def test_keys_and_shapes_are_those_of_the_released_network(
        self, name: str, official: str, count: int, shared: Path
    ) -> None:
        table = json.loads((shared / "reference" / "gmflow" / "state_dict.json").read_text())[official]
        own = {key: [list(value.shape), str(value.dtype)] for key, value in create_model(name).state_dict().items()}
        assert own == {key: [shape, f"torch.{dtype}"] for key, (shape, dtype) in table.items()}

    def test_weights_load_with_and_without_a_wrapper_and_nothing_may_be_missing(
        self, name: str, official: str, count: int
    ) -> None:
        state = filled(name).state_dict()
        for prefix in ("", "module."):
            model = load_state(create_model(name), {prefix + key: value for key, value in state.items()})
            assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        key = "transformer.layers.5.cross_attn_ffn.mlp.2.weight"
        with pytest.raises(WeightsError, match=rf"1 missing: {key}"):
            load_state(create_model(name), {k: v for k, v in state.items() if k != key})


def pictures(height: int, width: int, *, count: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Smooth random pictures ``[count, 3, height, width]`` in 0..255."""
    coarse = torch.rand((2 * count, 3, 5, 6), generator=torch.Generator().manual_seed(seed)) * 255
    first, second = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255).chunk(2)
    return first, second


@pytest.mark.parametrize(
    ("name", "size", "processed"),
    [
        ("gmflow", (32, 48), (32, 48)),
        ("gmflow", (1, 1), (32, 32)),
        ("gmflow", (16, 64), (32, 64)),
        ("gmflow", (33, 47), (48, 48)),
        ("gmflow-refine", (32, 96), (64, 96)),
        ("gmflow-refine", (65, 64), (96, 64)),
    ],
)
def test_any_size_is_continued_to_one_that_can_be_cut(
    name: str, size: tuple[int, int], processed: tuple[int, int]
) -> None:
    img0, img1 = pictures(*size)
    assert filled(name).padded_size(size) == processed
    found = run(name, img0, img1, bidirectional=True)
    assert found.shape == (2, 2, *size)
    # The rule by hand: border pixels repeated by index, half of the difference above and to the left.
    top, left = ((p - s) // 2 for p, s in zip(processed, size, strict=True))
    rows = (torch.arange(processed[0]) - top).clamp(0, size[0] - 1)
    columns = (torch.arange(processed[1]) - left).clamp(0, size[1] - 1)
    grown = [picture[:, :, rows][..., columns] for picture in (img0, img1)]
    whole = run(name, *grown, bidirectional=True)
    expected = whole[:, :, top : top + size[0], left : left + size[1]]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_swapping_the_pictures_swaps_the_halves() -> None:
    img0, img1 = pictures(40, 56, count=2)
    forward, backward = run("gmflow", img0, img1, bidirectional=True).chunk(2)
    swapped = run("gmflow", img1, img0, bidirectional=True)
    torch.testing.assert_close(swapped, torch.cat((backward, forward)), rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", LIMITS)
def test_pairs_of_a_batch_do_not_influence_each_other(name: str) -> None:
    img0, img1 = pictures(64, 64, count=2)
    together = run(name, img0, img1)
    for i in range(2):
        alone = run(name, img0[i : i + 1], img1[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=LIMITS[name][0] / 2)


def test_bytes_and_floats_give_the_same_flow() -> None:
    img0, img1 = (picture.round().to(torch.uint8) for picture in pictures(32, 32))
    assert torch.equal(run("gmflow", img0, img1), run("gmflow", img0.float(), img1.float()))


def test_pictures_that_are_no_pair_are_refused() -> None:
    model, picture = filled("gmflow"), torch.zeros(1, 3, 32, 32)
    with pytest.raises(ShapeError, match=r"\(1, 3, 32, 32\) != picture 1 \(1, 3, 32, 40\)"):
        model(picture, torch.zeros(1, 3, 32, 40))
    for wrong in ((3, 32, 32), (1, 4, 32, 32), (1, 32, 32, 3), (1, 3, 0, 32), (0, 3, 32, 32)):
        with pytest.raises(ShapeError, match=r"\[b, 3, h, w\] with at least one pixel"):
            model(torch.zeros(wrong), torch.zeros(wrong))


def test_gradients_reach_the_pictures() -> None:
    img0, img1 = pictures(32, 32)
    img0.requires_grad_()
    filled("gmflow")(img0, img1).abs().sum().backward()
    assert img0.grad is not None
    assert bool(torch.isfinite(img0.grad).all())
    assert float(img0.grad.abs().max()) > 0
    filled("gmflow").zero_grad()
