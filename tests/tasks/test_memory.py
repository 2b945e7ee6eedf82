"""Batches that fit, and what happens when they do not."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from nvds_core.types import ConfigError
from tasks import memory, workers
from tasks.initial import PredictorConfig, initial_ref, predict_initial
from tasks.memory import Batches, LimitsConfig, batches, free_memory, is_memory_error, parse_bytes
from tests.tasks.helpers import clip, extracted, read, workspace_in

CPU = torch.device("cpu")


class Hungry:
    """A predictor whose memory holds `fits` pictures; disparity is the first channel."""

    name, short_side, multiple = "hungry", 64, 32

    def __init__(self, fits: int, error: type[Exception]) -> None:
        self.fits, self.error = fits, error
        self.digest = f"hungry:{fits}"
        self.tried: list[int] = []

    def predict(self, unit_rgb: np.ndarray) -> np.ndarray:
        self.tried.append(len(unit_rgb))
        if len(unit_rgb) > self.fits:
            raise self.error("CUDA out of memory. Tried to allocate 20.00 GiB")
        return unit_rgb[..., 0].astype(np.float32)


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(memory, "_CHOSEN", {})


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_a_batch_that_exhausts_the_memory_is_halved_and_the_step_goes_on(tmp_path, monkeypatch, caplog, fresh, error):
    workspace = workspace_in(tmp_path)
    frames = extracted(workspace, clip(tmp_path / "v.mp4", 11))
    model, roomy = Hungry(3, error), Hungry(100, error)
    monkeypatch.setattr(workers, "predictor", lambda name: roomy)
    expected = read(workspace.store, predict_initial.fn(workspace, frames, PredictorConfig("roomy")).ref, "initial")
    monkeypatch.setattr(workers, "predictor", lambda name: model)
    with caplog.at_level(logging.WARNING, "nvds"):
        ref = predict_initial.fn(workspace, frames, PredictorConfig("hungry")).ref
    assert np.array_equal(read(workspace.store, ref, "initial"), expected)
    assert model.tried == [8, 4, 2, 2, 2, 2, 2, 1], "what did not fit is not tried again"
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "hungry" in said[0]
    assert "batches of 8, going on with 4" in said[0]


def test_the_smaller_batch_is_remembered_for_the_next_video(tmp_path, monkeypatch, fresh):
    workspace, model = workspace_in(tmp_path), Hungry(4, MemoryError)
    monkeypatch.setattr(workers, "predictor", lambda name: model)
    for seed in (1, 2):
        frames = extracted(workspace, clip(tmp_path / f"{seed}.mp4", 8, seed=seed))
        predict_initial.fn(workspace, frames, PredictorConfig("hungry"))
    assert model.tried == [8, 4, 4, 4, 4]


def test_a_single_picture_that_does_not_fit_fails_with_its_own_error(tmp_path, monkeypatch, fresh):
    workspace, model = workspace_in(tmp_path), Hungry(0, torch.OutOfMemoryError)
    frames = extracted(workspace, clip(tmp_path / "v.mp4", 4))
    monkeypatch.setattr(workers, "predictor", lambda name: model)
    with pytest.raises(torch.OutOfMemoryError):
        predict_initial.fn(workspace, frames, PredictorConfig("hungry"))
    assert model.tried == [4, 2, 1]
    assert workspace.store.find(initial_ref(frames, PredictorConfig("hungry"))) is None
    assert list((workspace.store.root / ".tmp").iterdir()) == []


def test_other_errors_are_not_taken_for_exhausted_memory():
    tried = []

    def fails(part: list[int]) -> None:
        tried.append(len(part))
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape"):
        list(Batches("x", most=8, item_bytes=1, budget=100).map(fails, [0] * 8))
    assert tried == [8]


@pytest.mark.parametrize(
    ("budget", "item", "most", "size"),
    [(100, 10, 8, 8), (79, 10, 8, 4), (39, 10, 8, 2), (5, 10, 8, 1), (100, 10, 6, 6)],
)
def test_the_batch_follows_from_the_budget(budget, item, most, size):
    assert Batches("x", most=most, item_bytes=item, budget=budget).size == size


def test_the_dials_bound_the_batch(monkeypatch, fresh):
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**30)
    arguments = {"most": 8, "item_bytes": 2**20, "device": CPU}
    assert batches("x", **arguments, limits=LimitsConfig()).size == 8
    assert batches("x", **arguments, limits=LimitsConfig(max_memory="4M")).size == 4
    assert batches("x", **arguments, limits=LimitsConfig(batch=3)).size == 3
    assert LimitsConfig(max_memory="100G").budget(CPU) == 2**29, "never more than a share of what is free"


@pytest.mark.parametrize(
    ("text", "size"), [("8G", 8 * 2**30), ("1.5GiB", 3 * 2**29), ("512 M", 2**29), ("300kb", 300 * 1024), ("77", 77)]
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1G", "lots", "8 bananas", "1e9"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="8G"):
        LimitsConfig(max_memory=text)


@pytest.mark.parametrize("settings", [{"batch": 0}, {"videos": 0}])
def test_limits_below_one_are_refused(settings):
    with pytest.raises(ConfigError, match="1 or more"):
        LimitsConfig(**settings)


def test_free_memory_is_what_the_machine_and_the_container_leave(tmp_path):
    assert 0 < free_memory(CPU) <= memory._available() * 2
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 200\n")
    assert memory._container_free(tmp_path) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._container_free(tmp_path) > 2**60


@pytest.mark.parametrize(
    ("error", "exhausted"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("x"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), True),
        (RuntimeError("shape"), False),
        (OSError("out of memory"), False),
    ],
)
def test_exhausted_memory_is_known_by_type_or_by_the_words_of_torch(error, exhausted):
    assert is_memory_error(error) is exhausted
