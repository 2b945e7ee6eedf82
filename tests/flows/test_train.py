from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from flows import train
from nvds_core.models import create_model, load_weights
from nvds_core.training.data import SetConfig
from nvds_core.training.recipe import Recipe
from nvds_core.types import ConfigError

WHOLE = Recipe()
SMALL = replace(
    WHOLE,
    predictor_set=SetConfig(1_000_000, 2, 1, width=64, height=64, flow=False),
    stabilizer_set=SetConfig(2_000_000, 2, 5, width=64, height=64),
    steady_set=SetConfig(3_000_000, 2, 7, width=64, height=64),
    predictor_batch=1,
    stabilizer_batch=1,
    predictor_loop=replace(WHOLE.predictor_loop, steps=2, log_every=1),
    stabilizer_loop=replace(WHOLE.stabilizer_loop, steps=2, log_every=1),
    steady_batch=1,
    steady_stages=tuple(
        replace(stage, loop=replace(stage.loop, steps=2, log_every=1), losses=replace(stage.losses, crop=(48, 32)))
        for stage in WHOLE.steady_stages
    ),
)


@pytest.mark.slow
def test_training_writes_weights_that_load_and_a_second_call_trains_nothing(
    tmp_path: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "Recipe", lambda: SMALL)
    paths = train.train_models(str(tmp_path), device="cpu", workers=1)
    said = capsys.readouterr().err
    assert "nvds-tiny-stage-0: step 2/2" in said
    assert "nvds-tiny-stage-1: step 2/2" in said
    assert "nvds-tiny: step 2/2" in said
    stages = [
        load_weights(create_model("nvds-tiny", pretrained=False), tmp_path / "weights" / f"{name}.safetensors")
        for name in ("nvds-tiny-stage-0", "nvds-tiny-stage-1", "nvds-tiny-stage-2", "nvds-tiny")
    ]
    for before, after in pairwise(stages):  # each stage goes on from the one before
        pairs = zip(before.parameters(), after.parameters(), strict=True)
        assert 0 < max(float((a - b).detach().abs().max()) for a, b in pairs) < 0.01
    trained = torch.load(tmp_path / "checkpoints" / "nvds-tiny.pt", weights_only=True)["average"]
    for name, before in stages[-2].state_dict().items():  # the last stage's weights go a part of the way only
        if before.is_floating_point():
            expected = before + WHOLE.steady_stages[-1].kept * (trained[name] - before)
            torch.testing.assert_close(stages[-1].state_dict()[name], expected, rtol=1e-3, atol=1e-6)  # kept as float16
    first = {name: Path(path).read_bytes() for name, path in paths.items()}
    for name, path in paths.items():
        model = load_weights(create_model(name, pretrained=False), Path(path))
        assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
        with safe_open(path, framework="pt") as file:
            assert json.loads(file.metadata()["recipe"])["stabilizer_loop"]["steps"] == 2
    again = train.train_models(str(tmp_path), device="cpu", workers=1)
    assert "step" not in capsys.readouterr().err
    assert {name: Path(path).read_bytes() for name, path in again.items()} == first


def test_a_share_shrinks_scenes_and_steps_but_keeps_the_seeds() -> None:
    part = train.scaled(WHOLE, 0.01)
    assert part.predictor_set.scenes == 90
    assert part.stabilizer_loop.steps == round(0.01 * WHOLE.stabilizer_loop.steps)
    assert part.predictor_set.first_seed == WHOLE.predictor_set.first_seed


def test_unknown_stages_and_shares_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'both' is not one of all, predictor, stabilizer"):
        train.train_models.fn(str(tmp_path), stage="both")
    with pytest.raises(ConfigError, match="share 2 must be above 0"):
        train.train_models.fn(str(tmp_path), share=2)


def test_training_seeds_are_not_those_of_tests_tables_and_the_demo() -> None:
    sets = (WHOLE.predictor_set, WHOLE.stabilizer_set, WHOLE.steady_set)
    assert min(s.first_seed for s in sets) >= 1_000_000
    assert len({seed for s in sets for seed in range(s.first_seed, s.first_seed + s.scenes)}) == sum(
        s.scenes for s in sets
    )
