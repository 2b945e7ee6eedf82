"""Flow of all pairs of a video: by pairs, by runs of frames, and when memory runs out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks import memory, workers
from tasks.flow_fields import NAMES, FlowConfig, estimate_flow
from tests.tasks.helpers import clip, extracted, pictures_of, read, scenes, workspace_in

STARTS = (0, 11)


class Networked:
    """An estimator like a network: takes runs of frames, of which its memory holds so many pairs."""

    name, digest, device = "networked", "networked:0", torch.device("cpu")

    def __init__(self, fits: int = 99) -> None:
        self.fits, self.tried = fits, []

    def estimate(self, previous: np.ndarray, current: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise AssertionError("a network is asked for runs")

    def estimate_pairs(self, frames: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        self.tried.append(len(frames) - 1)
        if len(frames) - 1 > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        means = np.array([frame.mean() for frame in frames], np.float32)
        field = np.ones((2, *frames[0].shape[:2]), np.float32)
        return np.stack([m * field for m in means[:-1]]), np.stack([m * field for m in means[1:]])


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Twelve frames in two scenes; the second one has a single frame."""
    folder = tmp_path_factory.mktemp("flow")
    workspace = workspace_in(folder)
    return workspace, extracted(workspace, clip(folder / "v.mp4", scenes(11, 1)))


def test_every_pair_has_both_directions_and_scene_starts_are_zero(video):
    workspace, frames = video
    ref = estimate_flow.fn(workspace, frames, FlowConfig("dis-ultrafast")).ref
    to_previous, to_next = (read(workspace.store, ref, name) for name in NAMES)
    pictures = pictures_of(workspace.store, frames) * 255.0
    estimator = workers.flow("dis-ultrafast")
    for index in range(12):
        if index in STARTS:
            assert not to_previous[index].any()
            assert not to_next[index].any()
        else:
            back, forth = estimator.estimate(pictures[index - 1], pictures[index])
            assert np.array_equal(to_previous[index], back)
            assert np.array_equal(to_next[index], forth)


@pytest.mark.parametrize("fits", [99, 3])
def test_a_network_gets_runs_of_frames_that_fit_and_every_row_stays_in_its_place(video, monkeypatch, fits):
    workspace, frames = video
    estimator = Networked(fits)
    estimator.digest = f"networked:{fits}"
    monkeypatch.setattr(workers, "flow", lambda name: estimator)
    monkeypatch.setattr(memory, "_CHOSEN", {})
    ref = estimate_flow.fn(workspace, frames, FlowConfig("networked")).ref
    to_previous, to_next = (read(workspace.store, ref, name)[:, 0, 0, 0] for name in NAMES)
    means = (pictures_of(workspace.store, frames) * 255.0).mean(axis=(1, 2, 3)).astype(np.float32)
    inside = [index for index in range(12) if index not in STARTS]
    assert np.allclose(to_previous[inside], means[[index - 1 for index in inside]])
    assert np.allclose(to_next[inside], means[inside])
    assert estimator.tried == ([7, 3] if fits == 99 else [7, 4, 2, 2, 2, 1, 2, 1])
