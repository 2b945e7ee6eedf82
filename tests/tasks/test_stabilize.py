from __future__ import annotations

import numpy as np
import pytest
import torch

from nvds_core.stabilization import prepare_frame, stabilize_stream, stabilize_video
from nvds_core.types import CoreError
from nvds_core.video import open_video
from tasks import memory, workers
from tasks import stabilize as stabilize_module
from tasks.initial import PredictorConfig, predict_initial
from tasks.stabilize import StabilizerConfig, stabilize, stabilized_ref
from tests.tasks.helpers import SIZE, clip, extracted, pictures_of, read, scenes, workspace_in

SCENES = [(0, 4), (4, 6)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The workspace, the decoded pictures of a video of two scenes, its frames, initial disparity and both passes."""
    folder = tmp_path_factory.mktemp("stabilize")
    workspace = workspace_in(folder)
    path = clip(folder / "v.mp4", scenes(4, 2))
    with open_video(path) as reader:
        rgb = np.stack([frame.rgb for frame in reader])
    frames = extracted(workspace, path)
    initial = predict_initial.fn(workspace, frames, PredictorConfig()).ref
    stable = stabilize.fn(workspace, frames, initial, StabilizerConfig()).ref
    return workspace, rgb, frames, initial, stable


ROUNDING = 1e-5  # of values of a few units


def quantized(disparity: np.ndarray) -> np.ndarray:
    """SPEC section 2 step 2: each frame between its extremes, truncated to 16 bits."""
    low = disparity.min(axis=(1, 2), keepdims=True).astype(np.float64)
    high = disparity.max(axis=(1, 2), keepdims=True).astype(np.float64)
    return np.trunc(65535 * ((disparity - low) / (high - low))).astype(np.uint16)


def expected_of(rgb: np.ndarray, disparity: np.ndarray, scenes: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    """`stabilize_video` on arrays, scene by scene."""
    model, _ = workers.stabilizer("nvds-tiny")
    parts = [stabilize_video(model, rgb[a:b], disparity[a:b], SIZE) for a, b in scenes]
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("forward", "backward")}


def test_every_scene_equals_the_core_function_on_arrays(made):
    workspace, rgb, _frames, initial, stable = made
    expected = expected_of(rgb, quantized(read(workspace.store, initial, "initial")), SCENES)
    for name, values in expected.items():
        found = read(workspace.store, stable, name)
        assert found.shape == (6, SIZE[1], SIZE[0])
        # the fixed point of the frames is all that may differ
        assert np.abs(found - values).max() < 1e-3 * np.ptp(values), name


def test_windows_never_cross_a_cut(made):
    workspace, _, frames, initial, stable = made
    model, _ = workers.stabilizer("nvds-tiny")
    disparity = quantized(read(workspace.store, initial, "initial"))
    inputs = [prepare_frame(*pair) for pair in zip(pictures_of(workspace.store, frames), disparity, strict=True)]
    apart = [result for a, b in SCENES for result in stabilize_stream(model, inputs[a:b])]
    across = list(stabilize_stream(model, inputs))
    # each of these frames has a window that would reach into the other scene
    for name, reaching in {"forward": (4, 5), "backward": (1, 2)}.items():
        found = read(workspace.store, stable, name)
        # two runs may differ in the last bits: where memory lies decides how kernels split their work
        assert np.abs(found - np.stack([getattr(result, name) for result in apart])).max() < ROUNDING, name
        gaps = [float(np.abs(found[index] - getattr(across[index], name)).max()) for index in range(6)]
        different = [index for index, gap in enumerate(gaps) if gap > 10 * ROUNDING]
        assert different == list(reaching), name


def test_forward_only_computes_one_pass_and_has_another_key(made):
    workspace, _rgb, frames, initial, stable = made
    forward = StabilizerConfig(direction="forward")
    ref = stabilize.fn(workspace, frames, initial, forward).ref
    assert ref != stable
    assert ref == stabilized_ref(frames, initial, forward)
    assert np.array_equal(read(workspace.store, ref, "forward"), read(workspace.store, stable, "forward"))
    assert not (workspace.store.path(ref) / "arrays" / "backward").exists()


def test_a_stabiliser_that_returns_nan_fails_by_name_and_leaves_nothing(made, monkeypatch):
    workspace, _, frames, initial, _ = made
    model, _ = workers.stabilizer("nvds-tiny")

    def broken(attended: torch.Tensor, *arguments: object) -> torch.Tensor:
        return torch.full((len(attended), 1, SIZE[1], SIZE[0]), float("nan"))

    monkeypatch.setattr(model, "finish", broken)
    monkeypatch.setattr(workers, "stabilizer", lambda name: (model, "broken"))
    with pytest.raises(CoreError, match="not finite") as caught:
        stabilize.fn(workspace, frames, initial, StabilizerConfig())
    assert caught.value.reason == "not_finite"
    assert workspace.store.find(stabilized_ref(frames, initial, StabilizerConfig())) is None


@pytest.mark.parametrize(("direction", "restarted_at"), [("both", 0), ("forward", 3)])
def test_when_memory_runs_out_it_goes_on_with_smaller_batches_where_the_results_ended(
    tmp_path, monkeypatch, caplog, direction, restarted_at
):
    workspace = workspace_in(tmp_path)
    frames = extracted(workspace, clip(tmp_path / "v.mp4", 9))
    initial = predict_initial.fn(workspace, frames, PredictorConfig()).ref
    config = StabilizerConfig(direction=direction)
    expected = stabilize.fn(workspace, frames, initial, config).ref
    model, _ = workers.stabilizer("nvds-tiny")
    original, tried = model.encode, []

    def encode(batch: torch.Tensor) -> torch.Tensor:
        tried.append(len(batch))
        if len(batch) > 1 and len(tried) > 3:  # six frames fit, which give results up to frame 2 or 5
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(batch)

    monkeypatch.setattr(model, "encode", encode)
    monkeypatch.setattr(workers, "stabilizer", lambda name: (model, f"hungry {direction}"))
    monkeypatch.setattr(stabilize_module, "CPU_BATCH", 2)
    monkeypatch.setattr(memory, "_CHOSEN", {})
    ref = stabilize.fn(workspace, frames, initial, config).ref
    assert tried == [2, 2, 2, 2] + [1] * (9 - restarted_at), "three frames before the next result come again"
    assert "going on with 1" in caplog.text
    for name in config.passes:
        assert np.abs(read(workspace.store, ref, name) - read(workspace.store, expected, name)).max() < ROUNDING
