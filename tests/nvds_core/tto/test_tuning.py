from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nvds_core.checkpoints import state_digest
from nvds_core.models import create_model
from nvds_core.tto import Alignment, TuneConfig, TuneVideo, align_network, disparities, finetune, tuning
from nvds_core.tto.network import learning_rate_of
from nvds_core.tto.tuning import pair_loss, validation_loss
from nvds_core.types import ConfigError, CoreError, ShapeError
from tests.nvds_core.tto.small_video import FRAMES, SmallNetwork, network, run, scene, video

FAST = TuneConfig(epochs=4, learning_rate=1e-2)


def relative_error(model: torch.nn.Module, alignment: Alignment) -> float:
    maps = torch.stack(list(disparities(model, video(), batch=2, device=torch.device("cpu"))))
    return float((alignment.depth(maps).numpy() * alignment.unit / scene()[0] - 1).__abs__().mean())


@pytest.mark.parametrize("method", ["pseudo", "cvd"])
def test_both_methods_bring_the_network_nearer_to_the_truth(method):
    model, material = network(), video(method)
    alignment = align_network(model, material)
    before = relative_error(model, alignment)
    # The pictures of this video are noise, which a weight of points above 0.5 has the network ignore altogether.
    config = TuneConfig(method=method, epochs=12, learning_rate=1e-2, point_weight=0.1)
    result = finetune(model, material, alignment, config)
    assert result.status == "ok"
    assert result.validation[result.best_epoch] == min(result.validation) < 0.7 * result.validation[0]
    assert relative_error(model, alignment) < 0.3 * before
    assert len(result.training) == 12
    assert not model.training


def test_the_kept_weights_have_the_loss_that_is_reported_for_them():
    model, material = network(), video()
    alignment = align_network(model, material)
    result = finetune(model, material, alignment, FAST)
    again = validation_loss(model, material, alignment, FAST, torch.device("cpu"))
    assert again == result.validation[result.best_epoch]


def test_a_rate_that_diverges_is_refused_and_the_network_stays_as_it_was():
    model, material = network(), video()
    before, alignment = state_digest(model), align_network(model, material)
    result = finetune(model, material, alignment, TuneConfig(epochs=3, learning_rate=1e3))
    assert result.status == "diverged"
    assert result.best_epoch == 0
    assert state_digest(model) == before


class Stumbling(SmallNetwork):
    """Knows no answer, while it is trained, to batches with the given frame."""

    def __init__(self, frame: torch.Tensor) -> None:
        super().__init__()
        self.bad = frame

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stumbles = self.training and any(torch.equal(frame, self.bad) for frame in x)
        return super().forward(x) * (torch.nan if stumbles else 1.0)


def test_losses_that_are_no_numbers_skip_their_batch_and_nothing_else():
    material = video()
    model = Stumbling(material.frame(FRAMES - 1)).eval()
    alignment = align_network(model, material)
    result = finetune(model, material, alignment, TuneConfig(epochs=1, batch=1, batch_norm="batch"))
    assert result.skipped == 1, "the pair (4, 5)"
    assert np.isfinite(result.training[0])
    assert np.isfinite(result.validation[1])


def test_a_video_whose_loss_is_no_number_is_left_alone():
    model, material = network(), video()
    before, alignment = state_digest(model), align_network(model, material)
    unknown = torch.full_like(material.reference(0)[0], torch.nan)
    result = finetune(
        model, dataclasses.replace(material, reference=lambda k: (unknown, torch.ones_like(unknown))), alignment, FAST
    )
    assert (result.status, result.training) == ("diverged", ())
    assert state_digest(model) == before


def test_no_epochs_change_nothing():
    model, material = network(), video()
    before = state_digest(model)
    result = finetune(model, material, align_network(model, material), TuneConfig(epochs=0))
    assert (result.status, result.best_epoch, state_digest(model)) == ("ok", 0, before)


def test_a_run_cut_between_epochs_ends_with_the_same_bits(tmp_path):
    whole = run(None, dataclasses.replace(FAST, batch_norm="batch"))
    path = tmp_path / "progress.pt"
    for epochs in (1, 3, 4):
        parts = run(path, dataclasses.replace(FAST, batch_norm="batch", epochs=epochs))
    assert parts == whole


@pytest.mark.parametrize("kill_at", [3, 40])
def test_a_run_killed_in_the_middle_ends_with_the_same_bits(tmp_path, kill_at):
    config = dataclasses.replace(FAST, batch_norm="batch")
    path = tmp_path / "progress.pt"
    command = [sys.executable, "-m", "tests.nvds_core.tto.small_video", str(path), str(kill_at)]
    killed = subprocess.run(command, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert path.is_file() == (kill_at > 20), "the second kill comes after the first epoch"
    assert run(path, config) == run(None, config)


def test_a_resumed_run_says_where_it_went_on_and_leaves_one_file(tmp_path):
    path = tmp_path / "progress.pt"
    (tmp_path / "progress.pt.partial-1").write_bytes(b"of one that was killed while it wrote")
    model, material = network(), video()
    alignment = align_network(model, material)
    finetune(model, material, alignment, dataclasses.replace(FAST, epochs=3), checkpoint=path)
    seen = []
    result = finetune(network(), material, alignment, FAST, checkpoint=path, report=lambda *values: seen.append(values))
    assert result.resumed_at == 3
    assert seen == [(4, result.training[3], result.validation[4])]
    assert [file.name for file in tmp_path.iterdir()] == ["progress.pt"]


def test_the_seconds_of_a_resumed_run_are_those_of_all_attempts(tmp_path, monkeypatch):
    now = 0.0

    def report(epoch: int, training: float, validation: float) -> None:
        nonlocal now
        now += 10.0  # as long as each epoch took

    monkeypatch.setattr(tuning, "time", SimpleNamespace(perf_counter=lambda: now))
    material = video()
    alignment = align_network(network(), material)
    for epochs, before in ((3, 0.0), (4, 30.0)):
        config = dataclasses.replace(FAST, epochs=epochs)
        result = finetune(network(), material, alignment, config, checkpoint=tmp_path / "progress.pt", report=report)
        assert (result.seconds, result.seconds_before) == (10.0 * epochs, before)


@pytest.mark.parametrize("change", ["settings", "alignment", "weights", "damage"])
def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path, change):
    path = tmp_path / "progress.pt"
    material = video()
    alignment = align_network(network(), material)
    finetune(network(), material, alignment, dataclasses.replace(FAST, epochs=1), checkpoint=path)
    model, config = network(), FAST
    if change == "settings":
        config = dataclasses.replace(FAST, learning_rate=2e-2)
    elif change == "alignment":
        alignment = dataclasses.replace(alignment, shift=alignment.shift + 0.1)
    elif change == "weights":
        torch.nn.init.zeros_(model.last.weight)
    else:
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CoreError, match=r"progress\.pt.*remove it") as caught:
        finetune(model, material, alignment, config, checkpoint=path)
    assert caught.value.reason == "checkpoint"


def test_the_loss_of_a_batch_is_the_mean_of_its_pairs():
    material, device = video(), torch.device("cpu")
    depth = torch.rand(FRAMES, 24, 32) + 0.5
    for method in ("pseudo", "cvd"):
        config = TuneConfig(method=method)
        alone = [
            float(pair_loss(depth, material, [pair], Alignment(1, 0, 2.0), config, device)) for pair in material.pairs
        ]
        together = float(pair_loss(depth, material, list(material.pairs), Alignment(1, 0, 2.0), config, device))
        assert together == pytest.approx(np.mean(alone), rel=1e-5)


@pytest.mark.parametrize("method", ["pseudo", "cvd"])
def test_the_truth_has_no_loss_and_all_else_has_some(method):
    material, device, config = video(method), torch.device("cpu"), TuneConfig(method=method)
    truth = torch.from_numpy(scene()[0]).float() / 2
    here = Alignment(1.0, 0.0, unit=2.0)
    assert float(pair_loss(truth, material, list(material.pairs), here, config, device)) < 1e-4
    assert float(pair_loss(truth * 1.1, material, list(material.pairs), here, config, device)) > 1e-2


def test_the_unit_of_the_poses_does_not_matter():
    material = video()
    large = dataclasses.replace(
        material,
        reference=lambda k: (material.reference(k)[0] * 100, material.reference(k)[1]),
        cam_from_world=material.cam_from_world * np.array([1, 1, 1, 100.0]),
    )
    small_fit, large_fit = (align_network(network(), v) for v in (material, large))
    assert large_fit.unit == pytest.approx(100 * small_fit.unit, rel=1e-5)
    losses = [
        validation_loss(network(), v, fit, FAST, torch.device("cpu"))
        for v, fit in ((material, small_fit), (large, large_fit))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(
    "options", [{"method": "other"}, {"epochs": -1}, {"learning_rate": 0.0}, {"batch": -2}, {"clip_norm": float("nan")}]
)
def test_settings_without_sense_are_refused(options):
    with pytest.raises(ConfigError):
        TuneConfig(**options)


def test_each_network_has_its_own_learning_rate_unless_one_is_given():
    assert TuneConfig(learning_rate=0.5).rate == 0.5
    assert (learning_rate_of("tiny"), learning_rate_of("dpt-large")) == (1e-3, TuneConfig().rate)


def test_videos_that_do_not_fit_together_are_refused():
    good = video()
    with pytest.raises(ShapeError, match="intrinsics"):
        dataclasses.replace(good, intrinsics=good.intrinsics[:2])
    for pairs in ((), ((1, 0),), ((0, FRAMES),)):
        with pytest.raises(ConfigError, match="pairs"):
            dataclasses.replace(good, pairs=pairs)


def test_the_bundled_network_can_be_tuned():
    small = video()

    def enlarged(values: torch.Tensor) -> torch.Tensor:
        return values.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)

    large = TuneVideo(
        small.n,
        lambda k: enlarged(small.frame(k)),
        lambda i, j: (enlarged(small.pair(i, j)[0]) * 2, enlarged(small.pair(i, j)[1])),
        lambda k: (enlarged(small.reference(k)[0]), enlarged(small.reference(k)[1])),
        small.pairs,
        small.intrinsics * 2 + np.array([0, 0, 0.5, 0.5]),
        small.cam_from_world,
    )
    model = create_model("tiny")
    result = finetune(model, large, align_network(model, large), TuneConfig(epochs=2))
    assert result.status == "ok"
    assert result.validation[2] < result.validation[0]
