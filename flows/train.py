"""Train the bundled models again: render the scenes, train the predictor, then the stabiliser on its outputs, twice."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from nvds_core.training.data import SetConfig, render_set
from nvds_core.training.loop import Progress
from nvds_core.training.recipe import Recipe, export_weights, steady_stabilizer, train_predictor, train_stabilizer
from nvds_core.types import ConfigError

STAGES = ("all", "predictor", "stabilizer")
# Rendered sets, checkpoints and weights on disk are the record, so that an interrupted training goes on where it was.
OPTIONS: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}


def scaled(recipe: Recipe, share: float) -> Recipe:
    """The same recipe with fewer scenes and steps, for a try."""

    def part(number: int) -> int:
        return max(2, round(number * share))

    return replace(
        recipe,
        predictor_set=replace(recipe.predictor_set, scenes=part(recipe.predictor_set.scenes)),
        stabilizer_set=replace(recipe.stabilizer_set, scenes=part(recipe.stabilizer_set.scenes)),
        steady_set=replace(recipe.steady_set, scenes=part(recipe.steady_set.scenes)),
        predictor_loop=replace(recipe.predictor_loop, steps=part(recipe.predictor_loop.steps)),
        stabilizer_loop=replace(recipe.stabilizer_loop, steps=part(recipe.stabilizer_loop.steps)),
        steady_stages=tuple(
            replace(stage, loop=replace(stage.loop, steps=part(stage.loop.steps))) for stage in recipe.steady_stages
        ),
    )


@task(name="render-scenes", task_run_name="render-scenes {config.name}", **OPTIONS)
def render_scenes(config: SetConfig, root: str, workers: int) -> str:
    """Render one training set unless it is there."""

    def report(done: int, total: int) -> None:
        if done == total or done // 16 % 10 == 0:
            say(f"rendered {done}/{total} scenes of {config.name}")

    return str(render_set(config, Path(root), workers=workers, report=report))


@task(name="train-predictor", **OPTIONS)
def fit_predictor(recipe: Recipe, data: str, out: str, device: str) -> str:
    """Train `tiny`, or go on with it, and write its weights."""
    model = train_predictor(recipe, Path(data), _checkpoint(out, "tiny"), torch.device(device), _progress("tiny"))
    export_weights(model, _weights(out, "tiny"), recipe)
    return str(_weights(out, "tiny"))


@task(name="train-stabilizer", **OPTIONS)
def fit_stabilizer(recipe: Recipe, data: str, predictor_weights: str, out: str, device: str) -> str:
    """Train `nvds-tiny` for the first time, on the float16 predictor that users get, and write its weights."""
    name = stage_name(recipe, 0)
    model = train_stabilizer(
        recipe, Path(data), Path(predictor_weights), _checkpoint(out, name), torch.device(device), _progress(name)
    )
    export_weights(model, _weights(out, name), recipe)
    return str(_weights(out, name))


@task(name="steady-stabilizer", task_run_name="steady-stabilizer {stage}", **OPTIONS)
def fit_steady(
    recipe: Recipe, stage: int, data: str, predictor_weights: str, first_weights: str, out: str, device: str
) -> str:
    """Go on with `nvds-tiny` in one of the recipe's steady stages (1, 2, ...), and write its weights."""
    name = stage_name(recipe, stage)
    model = steady_stabilizer(
        recipe,
        recipe.steady_stages[stage - 1],
        Path(data),
        Path(predictor_weights),
        Path(first_weights),
        _checkpoint(out, name),
        torch.device(device),
        _progress(name),
    )
    export_weights(model, _weights(out, name), recipe)
    return str(_weights(out, name))


def stage_name(recipe: Recipe, stage: int) -> str:
    """What checkpoint and weights of a stage of the stabiliser are called; the last one's are the model."""
    return "nvds-tiny" if stage == len(recipe.steady_stages) else f"nvds-tiny-stage-{stage}"


def _checkpoint(out: str, name: str) -> Path:
    return Path(out) / "checkpoints" / f"{name}.pt"


def _weights(out: str, name: str) -> Path:
    return Path(out) / "weights" / f"{name}.safetensors"


@flow(name="train-models", validate_parameters=False)
def train_models(
    out: str, *, device: str | None = None, stage: str = "all", share: float = 1.0, workers: int = 2
) -> dict[str, str]:
    """Train both models by the recipe of the bundled weights; a second call goes on where the first stopped.

    Args:
        out: local folder for rendered sets, checkpoints and weights.
        device: ``cpu`` or ``cuda``; the accelerator if there is one by default.
        stage: ``all``, ``predictor``, or ``stabilizer`` (needs the predictor's weights in ``out``).
        share: part of the recipe's scenes and steps, for a try.
        workers: processes that render.

    Returns:
        Paths of the weights by model.
    """
    if stage not in STAGES:
        raise ConfigError(f"stage {stage!r} is not one of {', '.join(STAGES)}")
    if not 0 < share <= 1:
        raise ConfigError(f"share {share} must be above 0 and at most 1")
    recipe = Recipe() if share == 1 else scaled(Recipe(), share)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    sets = str(Path(out) / "scenes")
    weights = {"tiny": str(_weights(out, "tiny"))}
    if stage in ("all", "predictor"):
        data = render_scenes(recipe.predictor_set, sets, workers)
        weights["tiny"] = fit_predictor(recipe, data, out, device)
    if stage in ("all", "stabilizer"):
        if not Path(weights["tiny"]).is_file():
            raise ConfigError(f"{weights['tiny']} is absent; train the predictor first (--stage predictor)")
        data = render_scenes(recipe.stabilizer_set, sets, workers)
        weights["nvds-tiny"] = fit_stabilizer(recipe, data, weights["tiny"], out, device)
        data = render_scenes(recipe.steady_set, sets, workers)
        for number in range(1, len(recipe.steady_stages) + 1):
            weights["nvds-tiny"] = fit_steady(recipe, number, data, weights["tiny"], weights["nvds-tiny"], out, device)
    create_markdown_artifact("\n".join(f"- {name}: `{path}`" for name, path in weights.items()), key="weights")
    return weights


def _progress(name: str):  # type: ignore[no-untyped-def]
    def report(progress: Progress) -> None:
        say(f"{name}: {progress}")

    return report


def say(text: str) -> None:
    """One line for whoever watches; standard output stays free for results."""
    print(text, file=sys.stderr, flush=True)
