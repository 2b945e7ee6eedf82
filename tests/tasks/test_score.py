from __future__ import annotations

import numpy as np
import pytest

from nvds_core.metrics import opw_video
from tasks.score import read_scores
from tasks.stabilize import StabilizerConfig
from tests.tasks.helpers import clip, pictures_of, read, scenes, scored_inputs, workspace_in

SCENES = [(0, 4), (4, 6), (6, 7)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Scores of a video of three scenes, the last of one frame, and the arrays they are made of."""
    folder = tmp_path_factory.mktemp("score")
    workspace = workspace_in(folder)
    inputs, scores = scored_inputs(workspace, clip(folder / "v.mp4", scenes(4, 2, 1)), StabilizerConfig())
    store = workspace.store
    assert inputs.stabilized is not None
    arrays = {
        "rgb": (pictures_of(store, inputs.frames) * 255).astype(np.float32),
        "to_previous": read(store, inputs.flow, "to_previous"),
        "to_next": read(store, inputs.flow, "to_next"),
        "initial": read(store, inputs.initial, "initial"),
        "forward": read(store, inputs.stabilized, "forward"),
        "backward": read(store, inputs.stabilized, "backward"),
    }
    return read_scores(workspace, scores), arrays


def in_time(arrays: dict[str, np.ndarray], values: np.ndarray, scene: tuple[int, int]) -> np.ndarray:
    """Pairs of one scene in forward time, from whole arrays."""
    start, stop = scene
    return opw_video(arrays["rgb"][start:stop], values[start:stop], arrays["to_previous"][start + 1 : stop]).pairs


def against_time(arrays: dict[str, np.ndarray], values: np.ndarray, scene: tuple[int, int]) -> np.ndarray:
    """Pairs of one scene when the video runs backwards: everything reversed, then back into time order."""
    part = slice(*scene)
    flow = arrays["to_next"][scene[0] + 1 : scene[1]][::-1]
    return opw_video(arrays["rgb"][part][::-1], values[part][::-1], flow).pairs[::-1]


@pytest.mark.parametrize("name", ["initial", "forward", "backward"])
def test_scores_equal_opw_of_the_whole_arrays_without_pairs_across_cuts(made, name):
    scores, arrays = made
    expected = np.concatenate([in_time(arrays, arrays[name], scene) for scene in SCENES])
    assert len(expected) == 7 - 3
    assert scores["opw"][name]["pairs"] == pytest.approx(expected, rel=1e-5)


def test_the_published_total_of_the_backward_pass_is_in_its_own_order_of_time(made):
    scores, arrays = made
    expected = sum(against_time(arrays, arrays["backward"], scene).sum() for scene in SCENES)
    assert scores["opw"]["backward"]["reversed_total"] == pytest.approx(expected, rel=1e-5)
    assert abs(scores["opw"]["backward"]["total"] - expected) > 1e-4 * expected, "the two orders can be told apart"
    assert all("reversed_total" not in scores["opw"][name] for name in ("initial", "forward", "mix"))


def test_the_mean_divides_by_frames_and_the_total_adds_the_pairs(made):
    scores, _ = made
    assert scores["frames"] == 7
    for result in scores["opw"].values():
        assert result["total"] == pytest.approx(sum(result["pairs"]))
        assert result["mean"] == pytest.approx(result["total"] / 7)


def test_each_scene_takes_the_mix_of_the_published_rule(made):
    scores, arrays = made
    expected, mixed = [], []
    for scene in SCENES:
        initial, forward = (in_time(arrays, arrays[name], scene).sum() for name in ("initial", "forward"))
        backward = against_time(arrays, arrays["backward"], scene).sum()
        mean = (arrays["forward"] + arrays["backward"]) / 2
        if forward < initial and backward < initial:
            expected.append("mean")
        else:
            expected.append("forward" if forward < backward else "backward")
        chosen = {"mean": mean, "forward": arrays["forward"], "backward": arrays["backward"]}[expected[-1]]
        mixed.append(in_time(arrays, chosen, scene))
    assert scores["choices"] == expected
    assert scores["opw"]["mix"]["pairs"] == pytest.approx(np.concatenate(mixed), rel=1e-5)


def test_flow_rows_are_zero_where_a_scene_begins(made):
    _, arrays = made
    for name in ("to_previous", "to_next"):
        assert [index for index in range(7) if not arrays[name][index].any()] == [0, 4, 6]


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (StabilizerConfig(name="none"), ["initial"]),
        (StabilizerConfig(direction="forward"), ["initial", "forward"]),
    ],
)
def test_without_both_passes_there_is_nothing_to_mix(tmp_path, config, names):
    workspace = workspace_in(tmp_path)
    _, scores = scored_inputs(workspace, clip(tmp_path / "v.mp4", scenes(2, 1)), config)
    found = read_scores(workspace, scores)
    assert list(found["opw"]) == names
    assert found["choices"] == [None, None]
    assert len(found["opw"]["initial"]["pairs"]) == 1
