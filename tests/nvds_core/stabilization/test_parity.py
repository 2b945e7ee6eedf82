"""The full network and the protocol against arrays computed by the released implementation's description."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nvds_core import stabilize_video
from nvds_core.stabilization import prepare_frame, prepare_rgb, quantize_disparity
from nvds_core.stabilization.windows import window_grid
from tests.nvds_core.stabilization.reference import filled, full_golden, small_golden

LIMIT = 1e-4  # of outputs, absolute
HALF_LIMIT = 2e-3  # of intermediates stored in float16, relative to max(1, |x|)
VIDEO_SIZES = {"a": (96, 64), "b": (64, 64)}


def forward_error(golden: dict[str, np.ndarray], case: str) -> float:
    with torch.inference_mode():
        output = filled("nvds")(torch.from_numpy(golden[f"{case}_input"])).numpy()
    assert output.shape == golden[f"{case}_output"].shape
    return float(np.abs(output - golden[f"{case}_output"]).max())


@pytest.mark.parametrize("case", ["d", "e"])
def test_outputs_equal_the_small_golden_cases(case: str) -> None:
    assert forward_error(small_golden("golden_forward"), case) < LIMIT


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_outputs_equal_the_other_golden_cases(case: str) -> None:
    assert forward_error(full_golden("golden_forward"), case) < LIMIT


@pytest.mark.parametrize("name", ["golden_forward", "golden_video"])
def test_the_small_copies_are_parts_of_the_whole_files(name: str) -> None:
    whole = full_golden(name)
    for key, array in small_golden(name).items():
        np.testing.assert_array_equal(array, whole[key])


def test_intermediate_maps_equal_those_of_golden_case_a() -> None:
    golden, model = full_golden("golden_forward"), filled("nvds")
    head = model.Stabilizer
    modules = {
        "maps": model.backbone,
        "fused": head.linear_fuse,
        **{f"block{i}": block for i, block in enumerate(head.decoder_focal.blocks)},
        "edge_half": model.edge_conv1,
        "ffm2": head.ffm2,
        "ffm1": head.ffm1,
        "prerelu": head.AO,
    }
    seen: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, output)

    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        with torch.inference_mode():
            model(torch.from_numpy(golden["a_input"]))
    finally:
        for hook in hooks:
            hook.remove()

    found = {f"c{i}": c[-1] for i, c in enumerate(seen.pop("maps"), start=1)}
    found["fused"] = seen.pop("fused")
    height, width = found["c1"].shape[1:]
    grid = window_grid(height, width, torch.device("cpu"))
    for i in range(4):
        found[f"block{i}"] = grid.join(seen.pop(f"block{i}"))[0].permute(2, 0, 1)
    found |= {name: output[0] for name, output in seen.items()}
    stored = {key.removeprefix("a_mid_") for key in golden if key.startswith("a_mid_")}
    assert stored == found.keys()
    for name, value in found.items():
        expected = golden[f"a_mid_{name}"].astype(np.float32)
        assert value.shape == expected.shape, name
        error = np.abs(value.numpy() - expected) / np.maximum(1, np.abs(expected))
        assert error.max() < HALF_LIMIT, f"{name}: {error.max()}"


def video(case: str) -> dict[str, np.ndarray]:
    golden = small_golden("golden_video") if case == "b" else full_golden("golden_video")
    return {key.removeprefix(f"{case}_"): value for key, value in golden.items() if key.startswith(f"{case}_")}


@pytest.mark.parametrize("case", ["a", "b"])
def test_the_network_input_equals_that_of_the_golden_videos(case: str) -> None:
    golden = video(case)
    for i, expected in enumerate(golden["rgbd"]):
        frame = prepare_frame(prepare_rgb(golden["rgb"][i], VIDEO_SIZES[case]), golden["depth"][i])
        assert frame.dtype == torch.float32
        np.testing.assert_allclose(frame.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", ["a", "b"])
def test_both_passes_and_their_mean_equal_the_golden_videos(case: str) -> None:
    golden = video(case)
    result = stabilize_video(filled("nvds"), golden["rgb"], golden["depth"], size=VIDEO_SIZES[case])
    for name in ("forward", "backward", "mix"):
        found = getattr(result, name)
        assert found.dtype == np.float32
        assert np.abs(found - golden[name]).max() < LIMIT, name
    # A difference of a few float32 steps in the mean can carry a value over one truncation, not further.
    grey = np.stack([quantize_disparity(frame) for frame in result.mix])
    assert np.abs(grey.astype(int) - golden["mix_gray16"].astype(int)).max() <= 1


@pytest.mark.parametrize("case", ["a", "b"])
def test_the_16_bit_form_equals_the_golden_one_in_every_bit(case: str) -> None:
    golden = video(case)
    grey = np.stack([quantize_disparity(frame) for frame in golden["mix"]])
    assert int((grey != golden["mix_gray16"]).sum()) == 0
