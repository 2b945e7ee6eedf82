"""A resumable training loop whose every step depends on (seed, step) only, so that a resumed run is the same run."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nvds_core.types import CoreError


@dataclass(frozen=True)
class LoopConfig:
    """Optimisation settings: AdamW, linear warm-up, cosine decay to zero, averaged weights (EMA) as the result."""

    steps: int = 4000
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.02
    ema: float = 0.998
    clip_norm: float = 1.0
    seed: int = 1
    bf16: bool = True
    checkpoint_every: int = 200
    log_every: int = 20


@dataclass(frozen=True)
class Progress:
    """One log line: step, total steps, mean of each loss term since the last line, seconds per step."""

    step: int
    steps: int
    losses: dict[str, float]
    seconds_per_step: float

    def __str__(self) -> str:
        terms = " ".join(f"{name} {value:.4f}" for name, value in self.losses.items())
        return f"step {self.step}/{self.steps} {terms} ({self.seconds_per_step:.2f} s/step)"


# Computes the loss terms of one step from the model, the step's only source of randomness, and the share of the
# training that is done (0..1).
StepFunction = Callable[[nn.Module, torch.Generator, float], dict[str, Tensor]]


def learning_rate(config: LoopConfig, step: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    share = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random stream of one step, on the CPU whatever the device, so that all machines draw the same batches."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def train(
    model: nn.Module,
    step_function: StepFunction,
    config: LoopConfig,
    *,
    checkpoint: Path,
    device: torch.device,
    report: Callable[[Progress], None] = lambda progress: None,
    stop_after: int | None = None,
) -> nn.Module:
    """Train ``model`` (on ``device``) and return its averaged copy; continues from ``checkpoint`` if that exists.

    Args:
        step_function: returns named loss terms; their sum is minimised.
        stop_after: leave after this step with the checkpoint written, as an interruption would.

    Raises:
        CoreError: when the loss is not finite.
    """
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    )
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    first = _restore(checkpoint, model, optimizer, average, device)
    model.train()
    sums: dict[str, float] = {}
    started = time.perf_counter()
    stop = config.steps if stop_after is None else min(stop_after, config.steps)
    for step in range(first, stop):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bf16):
            losses = step_function(model, step_generator(config.seed, step), step / config.steps)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise CoreError(f"training diverged at step {step}: loss {float(total.detach())}; lower the learning rate")
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        _update_average(average, model, min(config.ema, (step + 1) / (step + 10)))
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        done = step + 1
        if done % config.log_every == 0 or done == stop:
            count = min((done - 1) % config.log_every + 1, done - first)
            seconds = (time.perf_counter() - started) / count
            report(Progress(done, config.steps, {k: v / count for k, v in sums.items()}, seconds))
            sums, started = {}, time.perf_counter()
        if done % config.checkpoint_every == 0 or done == stop:
            _save(checkpoint, model, optimizer, average, done)
    model.load_state_dict(average)
    return model.eval()


@torch.no_grad()
def _update_average(average: dict[str, Tensor], model: nn.Module, keep: float) -> None:
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - keep)
        else:
            average[key].copy_(value)


def _save(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor], step: int
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step}
    torch.save(state, partial)
    os.replace(partial, path)


def _restore(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    device: torch.device,
) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for key, value in state["average"].items():
        average[key].copy_(value)
    return int(state["step"])
