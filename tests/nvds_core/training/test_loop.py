from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nvds_core import CoreError, create_model
from nvds_core.training.loop import LoopConfig, Progress, StepFunction, learning_rate, step_generator, train
from nvds_core.training.predictor import predictor_step
from tests.fill import fill
from tests.nvds_core.training.clips import sliding_set

CPU = torch.device("cpu")
TOY = LoopConfig(steps=7, warmup=2, learning_rate=0.05, ema=0.9, bf16=False, log_every=2, checkpoint_every=3, seed=5)


def toy() -> nn.Module:
    return fill(nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1)))


def toy_step(model: nn.Module, g: torch.Generator, progress: float) -> dict[str, Tensor]:
    x = torch.rand((16, 3), generator=g)
    error = model(x)[:, 0] - x.sum(dim=1)
    return {"square": error.square().mean(), "size": 0.1 * error.abs().mean()}


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_rate_warms_up_linearly_and_falls_to_zero_on_a_cosine() -> None:
    config = LoopConfig(steps=110, warmup=10, learning_rate=2.0)
    rates = [learning_rate(config, step) for step in range(111)]
    assert rates[:10] == pytest.approx([0.2 * k for k in range(1, 11)])
    assert rates[10] == pytest.approx(2.0)
    assert rates[60] == pytest.approx(1.0)
    assert rates[35] == pytest.approx(1 + math.cos(math.pi / 4))
    assert rates[110] == pytest.approx(0.0)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))


def test_a_step_draws_the_same_numbers_wherever_the_run_began() -> None:
    first = torch.rand(4, generator=step_generator(1, 10))
    assert torch.equal(first, torch.rand(4, generator=step_generator(1, 10)))
    assert not torch.equal(first, torch.rand(4, generator=step_generator(1, 11)))
    assert not torch.equal(first, torch.rand(4, generator=step_generator(2, 10)))


@pytest.mark.parametrize(("stops", "bf16"), [((3,), False), ((1, 2, 5), False), ((3,), True)])
def test_an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, stops: tuple[int, ...], bf16: bool
) -> None:
    config = replace(TOY, bf16=bf16)
    whole = train(toy(), toy_step, config, checkpoint=tmp_path / "whole.pt", device=CPU)
    for stop in stops:
        train(toy(), toy_step, config, checkpoint=tmp_path / "parts.pt", device=CPU, stop_after=stop)
    parts = train(toy(), toy_step, config, checkpoint=tmp_path / "parts.pt", device=CPU)
    assert same(state_of(whole), state_of(parts))
    ends = [torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "parts.pt")]
    assert same(ends[0]["model"], ends[1]["model"])
    assert ends[0]["step"] == ends[1]["step"] == 7


def test_the_predictor_resumes_bit_for_bit(tmp_path: Path) -> None:
    config = LoopConfig(steps=4, warmup=1, bf16=False, checkpoint_every=10)
    step = predictor_step(sliding_set(), 1, CPU)

    def model() -> nn.Module:
        return fill(create_model("tiny", pretrained=False))

    start = state_of(model())
    whole = train(model(), step, config, checkpoint=tmp_path / "whole.pt", device=CPU)
    train(model(), step, config, checkpoint=tmp_path / "parts.pt", device=CPU, stop_after=2)
    parts = train(model(), step, config, checkpoint=tmp_path / "parts.pt", device=CPU)
    assert same(state_of(whole), state_of(parts))
    assert not torch.equal(start["head.1.weight"], state_of(whole)["head.1.weight"])


def test_a_finished_run_returns_its_result_without_another_step(tmp_path: Path) -> None:
    result = train(toy(), toy_step, TOY, checkpoint=tmp_path / "run.pt", device=CPU)

    def never(model: nn.Module, g: torch.Generator, progress: float) -> dict[str, Tensor]:
        raise AssertionError("a finished run took a step")

    again = train(toy(), never, TOY, checkpoint=tmp_path / "run.pt", device=CPU)
    assert same(state_of(result), state_of(again))


def test_the_result_is_the_running_average_of_the_weights_in_evaluation_mode(tmp_path: Path) -> None:
    weights: list[Tensor] = []

    def recording(model: nn.Module, g: torch.Generator, progress: float) -> dict[str, Tensor]:
        assert model.training
        weights.append(model.get_parameter("0.weight").detach().clone().double())
        return toy_step(model, g, progress)

    result = train(toy(), recording, TOY, checkpoint=tmp_path / "run.pt", device=CPU)
    end = torch.load(tmp_path / "run.pt", weights_only=True)
    weights.append(end["model"]["0.weight"].double())
    expected = weights[0]
    for step, after in enumerate(weights[1:]):
        keep = min(TOY.ema, (step + 1) / (step + 10))
        expected = keep * expected + (1 - keep) * after
    assert float((result.get_parameter("0.weight").detach() - expected).abs().max()) < 1e-6
    assert not result.training


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    config = LoopConfig(steps=40, warmup=5, learning_rate=0.05, ema=0.9, bf16=False, log_every=10)
    lines: list[Progress] = []
    train(toy(), toy_step, config, checkpoint=tmp_path / "run.pt", device=CPU, report=lines.append)
    assert lines[-1].losses["square"] < 0.2 * lines[0].losses["square"]


def recorded(values: list[float], step: StepFunction = toy_step) -> StepFunction:
    def run(model: nn.Module, g: torch.Generator, progress: float) -> dict[str, Tensor]:
        losses = step(model, g, progress)
        values.append(float(losses["square"].detach()))
        return losses

    return run


def test_progress_lines_give_the_mean_loss_since_the_last_one(tmp_path: Path) -> None:
    values: list[float] = []
    lines: list[Progress] = []
    train(toy(), recorded(values), TOY, checkpoint=tmp_path / "run.pt", device=CPU, report=lines.append)
    assert [(line.step, line.steps) for line in lines] == [(2, 7), (4, 7), (6, 7), (7, 7)]
    expected = [sum(values[0:2]) / 2, sum(values[2:4]) / 2, sum(values[4:6]) / 2, values[6]]
    assert [line.losses["square"] for line in lines] == pytest.approx(expected)
    assert str(lines[0]).startswith(f"step 2/7 square {lines[0].losses['square']:.4f} size ")


def test_the_first_progress_line_after_a_resume_counts_the_steps_since_then(tmp_path: Path) -> None:
    train(toy(), toy_step, TOY, checkpoint=tmp_path / "run.pt", device=CPU, stop_after=3)
    values: list[float] = []
    lines: list[Progress] = []
    train(toy(), recorded(values), TOY, checkpoint=tmp_path / "run.pt", device=CPU, report=lines.append)
    assert lines[0].step == 4
    assert lines[0].losses["square"] == pytest.approx(values[0])


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    calls: list[int] = []

    def breaking(model: nn.Module, g: torch.Generator, progress: float) -> dict[str, Tensor]:
        calls.append(len(calls))
        losses = toy_step(model, g, progress)
        return losses | {"square": losses["square"] * math.nan} if len(calls) == 6 else losses

    with pytest.raises(CoreError, match="training diverged at step 5: loss nan; lower the learning rate"):
        train(toy(), breaking, TOY, checkpoint=tmp_path / "run.pt", device=CPU)
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    assert state["step"] == 3
    assert all(bool(torch.isfinite(v).all()) for v in state["average"].values())


def test_a_checkpoint_replaces_the_last_one_whole(tmp_path: Path) -> None:
    train(toy(), toy_step, TOY, checkpoint=tmp_path / "deep" / "run.pt", device=CPU)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["run.pt"]
