from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from nvds_core.flow import FlowEstimator, create_flow, flow_names, network_flow
from nvds_core.flow.network_flow import NetworkFlow
from nvds_core.types import ConfigError, CoreError, ShapeError
from tests.nvds_core.flow.reference import filled
from tests.nvds_core.flow.test_dis import texture

CLOSE = 5e-3  # px; half of the tolerance of the golden flows


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """Four frames of a moving texture, of a size that needs padding."""
    scene = texture(60, 90)
    return [scene[i : i + 40, 2 * i : 2 * i + 56] for i in range(4)]


@pytest.fixture(scope="module")
def estimator() -> NetworkFlow:
    return NetworkFlow(filled("gmflow"), name="gmflow")


def direct(previous: np.ndarray, current: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The network called by hand: first from current to previous, then the other way."""
    img0, img1 = (torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)[None] for x in (current, previous))
    with torch.inference_mode():
        return filled("gmflow")(img0, img1)[0].numpy(), filled("gmflow")(img1, img0)[0].numpy()


def test_one_pass_gives_the_flow_to_the_previous_and_to_the_next_frame(
    estimator: NetworkFlow, frames: list[np.ndarray]
) -> None:
    assert isinstance(estimator, FlowEstimator)
    found, expected = estimator.estimate(*frames[:2]), direct(*frames[:2])
    for flow, truth in zip(found, expected, strict=True):
        assert flow.dtype == np.float32
        np.testing.assert_allclose(flow, truth, rtol=0, atol=CLOSE)
    alone = estimator.estimate_to_previous(*frames[:2])
    np.testing.assert_allclose(alone, expected[0], rtol=0, atol=CLOSE)
    assert np.abs(found[0] - found[1]).max() > 1, "the two directions must be distinguishable"


def test_the_golden_pair_comes_out_of_the_estimator(
    estimator: NetworkFlow, golden: Callable[[str], Mapping[str, np.ndarray]]
) -> None:
    arrays = golden("gmflow/golden_forward.npz")
    to_previous, to_next = estimator.estimate(arrays["padded__img1"][0], arrays["padded__img0"][0])
    np.testing.assert_allclose([to_previous, to_next], arrays["padded__flow"], rtol=0, atol=0.01)


@pytest.mark.parametrize(("name", "batch"), [("gmflow", 1), ("gmflow", 8), ("gmflow-refine", 2)])
def test_a_run_of_frames_gives_the_flows_of_its_pairs(name: str, batch: int, frames: list[np.ndarray]) -> None:
    runs = NetworkFlow(filled(name), name=name, batch=batch).estimate_pairs(frames)
    assert runs[0].shape == runs[1].shape == (3, 2, 40, 56)
    single = NetworkFlow(filled(name), name=name)
    for i in (0, 2):
        for flow, expected in zip(runs, single.estimate(frames[i], frames[i + 1]), strict=True):
            np.testing.assert_allclose(flow[i], expected, rtol=0, atol=5 * CLOSE if "refine" in name else CLOSE)


def test_each_frame_is_encoded_once(frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, seen = NetworkFlow(deepcopy(filled("gmflow")), name="gmflow", batch=2), []
    encode = estimator.model.encode

    def counting(images: torch.Tensor) -> list[torch.Tensor]:
        seen.append(len(images))
        return encode(images)

    monkeypatch.setattr(estimator.model, "encode", counting)
    estimator.estimate_pairs(frames)
    assert seen == [1, 2, 1]


def test_one_frame_has_no_pairs(estimator: NetworkFlow, frames: list[np.ndarray]) -> None:
    to_previous, to_next = estimator.estimate_pairs(frames[:1])
    assert to_previous.shape == to_next.shape == (0, 2, 40, 56)


def test_bytes_floats_and_views_give_the_same_flow_and_overshoot_is_not_clipped(
    estimator: NetworkFlow, frames: list[np.ndarray]
) -> None:
    expected = estimator.estimate(*frames[:2])
    for kind in (np.float32, np.float64):
        found = estimator.estimate(*(np.asfortranarray(frame.astype(kind)) for frame in frames[:2]))
        np.testing.assert_array_equal(found, expected)
    bright = [frame.astype(np.float32) + 60 for frame in frames[:2]]
    clipped = [np.minimum(frame, 255) for frame in bright]
    assert np.abs(estimator.estimate(*bright)[0] - estimator.estimate(*clipped)[0]).max() > CLOSE


def test_threads_share_one_estimator(estimator: NetworkFlow, frames: list[np.ndarray]) -> None:
    expected = estimator.estimate(*frames[:2])
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda _: estimator.estimate(*frames[:2]), range(4)):
            np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)


def test_half_precision_stays_near_full_precision(frames: list[np.ndarray], estimator: NetworkFlow) -> None:
    half = NetworkFlow(filled("gmflow"), name="gmflow", precision="bf16")
    found, expected = half.estimate(*frames[:2])[0], estimator.estimate(*frames[:2])[0]
    assert found.dtype == np.float32
    gap = np.abs(found - expected).mean()
    assert 1e-4 < gap < 0.05 * expected.std(), "bf16 rounds features to three digits, the flow follows"


def test_the_digest_follows_weights_name_and_precision_and_not_the_batch() -> None:
    model = filled("gmflow")
    base = NetworkFlow(model, name="gmflow").digest
    assert base == NetworkFlow(model, name="gmflow", batch=4).digest
    changed = deepcopy(model)
    with torch.no_grad():
        changed.upsampler[2].bias[0] += 1e-3
    others = {
        NetworkFlow(model, name="gmflow", precision="bf16").digest,
        NetworkFlow(changed, name="gmflow").digest,
        NetworkFlow(filled("gmflow-refine"), name="gmflow-refine").digest,
    }
    assert len(others | {base}) == 4


def test_settings_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'fp8'.*fp32, bf16"):
        NetworkFlow(filled("gmflow"), name="gmflow", precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="batch 0"):
        NetworkFlow(filled("gmflow"), name="gmflow", batch=0)


def test_frames_that_do_not_fit_are_refused(estimator: NetworkFlow, frames: list[np.ndarray]) -> None:
    with pytest.raises(ShapeError, match="current frame"):
        estimator.estimate(frames[0], frames[1][:, :-1])
    with pytest.raises(ShapeError, match=r"\[h, w, 3\]"):
        estimator.estimate_pairs([frame[..., 0] for frame in frames])
    with pytest.raises(ShapeError, match="got none"):
        estimator.estimate_pairs([])


def test_flow_that_is_not_finite_is_an_error(estimator: NetworkFlow, frames: list[np.ndarray]) -> None:
    broken = frames[1].astype(np.float32)
    broken[3, 4] = np.nan
    with pytest.raises(CoreError, match="not finite") as caught:
        estimator.estimate(frames[0], broken)
    assert caught.value.reason == "not_finite"


@pytest.mark.parametrize("name", ["gmflow", "gmflow-refine"])
def test_the_networks_are_found_by_name_with_their_published_weights(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def create(wanted: str, **options: Any) -> torch.nn.Module:
        asked.update(name=wanted, **options)
        return filled(wanted)

    monkeypatch.setattr(network_flow, "create_model", create)
    assert name in flow_names()
    for flow in (create_flow(f"{name}?batch=3&precision=bf16"), create_flow(name, "cpu", batch=3, precision="bf16")):
        assert isinstance(flow, NetworkFlow)
        assert (flow.name, flow.precision, flow.batch, flow.device.type) == (name, "bf16", 3, "cpu")
    assert asked == {"name": name, "pretrained": True}
    with pytest.raises(ConfigError, match="iterations"):
        create_flow(name, iterations=12)
    with pytest.raises(ConfigError, match="batch 'many'"):
        create_flow(f"{name}?batch=many")
