"""Fine-tuning a single-image network on one video, epoch by epoch, resumable, with the best epoch kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from nvds_core.tto.alignment import Alignment
from nvds_core.tto.losses import DISPARITY_WEIGHT, POINT_WEIGHT, cvd_loss, log_loss, point_loss
from nvds_core.tto.material import TuneVideo, disparities
from nvds_core.tto.progress import TuneState, fingerprint, load_progress, save_progress
from nvds_core.tto.status import TuneStatus
from nvds_core.types import ConfigError

Method = Literal["pseudo", "cvd"]
LEARNING_RATE = 1e-4  # released for midas2, to which most predictors here are related
BATCH = {"pseudo": 3, "cvd": 4}  # pairs, as released


@dataclass(frozen=True)
class TuneConfig:
    """Settings of the fine-tuning; released values where there are any.

    Attributes:
        method: ``pseudo`` pulls to the reference depth, ``cvd`` is Consistent Video Depth (Luo et al., 2020).
        epochs: passes over the pairs.
        learning_rate: of Adam, constant; None takes `LEARNING_RATE`, `nvds tto` the network's own (`learning_rate_of`).
        batch: pairs at once; 0 takes the method's own (3 and 4).
        point_weight: of the distance of points, beside the reference term.
        disparity_weight: of CVD's disparity term.
        clip_norm: largest gradient norm.
        batch_norm: ``frozen`` uses the running statistics, ``batch`` those of the batch, as released.
    """

    method: Method = "pseudo"
    epochs: int = 20
    learning_rate: float | None = None
    batch: int = 0
    point_weight: float = POINT_WEIGHT
    disparity_weight: float = DISPARITY_WEIGHT
    clip_norm: float = 1.0
    batch_norm: Literal["frozen", "batch"] = "frozen"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in BATCH:
            raise ConfigError(f'method {self.method!r} is unknown; take "pseudo" or "cvd"')
        if self.epochs < 0 or self.batch < 0 or not self.rate > 0 or not self.clip_norm > 0:
            raise ConfigError(
                f"epochs {self.epochs}, batch {self.batch}, learning rate {self.rate} and clip norm "
                f"{self.clip_norm} make no sense; give positive numbers"
            )

    @property
    def rate(self) -> float:
        return LEARNING_RATE if self.learning_rate is None else self.learning_rate

    @property
    def pairs_at_once(self) -> int:
        return self.batch or BATCH[self.method]


@dataclass(frozen=True)
class TuneResult:
    """How a fine-tuning went.

    Attributes:
        status: ``diverged`` if the last validation loss is not at most the initial one; the network then has its
            initial weights again.
        best_epoch: the epoch whose weights the network has, 0 for the initial ones.
        validation: loss before the first and after each epoch.
        training: mean loss of each epoch.
        skipped: batches left out because their loss was not finite.
        resumed_at: epochs that were taken from a checkpoint.
        seconds: wall time of all attempts; of those that were broken off, up to their last whole epoch.
        seconds_before: what of it was taken from a checkpoint.
    """

    status: TuneStatus
    best_epoch: int
    validation: tuple[float, ...]
    training: tuple[float, ...]
    skipped: int
    resumed_at: int
    seconds: float
    seconds_before: float


Report = Callable[[int, float, float], None]  # epoch, training loss, validation loss


def finetune(
    network: nn.Module,
    video: TuneVideo,
    alignment: Alignment,
    config: TuneConfig | None = None,
    *,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    report: Report = lambda epoch, training, validation: None,
) -> TuneResult:
    """Tune ``network`` (on ``device``) to a video and leave it with the weights of its best epoch.

    The order of the pairs, and all else that is random, depends on the seed and the number of the epoch alone: a run
    that was killed and goes on from its checkpoint ends, on a CPU, with the very same bits.

    Args:
        network: frames ``[b, 3, h, w]`` to disparity ``[b, h, w]``.
        alignment: from its disparity to depth, fitted before (`align_network`).
        checkpoint: file of the state after each epoch, replaced as a whole; continued from if it exists.

    Raises:
        CoreError: (reason ``checkpoint``) the checkpoint is damaged or was made with other settings.
    """
    config, device, started = config or TuneConfig(), torch.device(device), time.perf_counter()
    optimizer = torch.optim.Adam(network.parameters(), lr=config.rate)
    own = fingerprint(network, video, alignment, config)
    state = load_progress(checkpoint, network, optimizer, own) if checkpoint and checkpoint.is_file() else None
    resumed_at, seconds_before = (len(state.training), state.seconds) if state else (0, 0.0)
    if state is None:
        before = validation_loss(network, video, alignment, config, device)
        state = TuneState(best=_copy(network), initial=_copy(network), validation=[before])
    while len(state.training) < config.epochs and math.isfinite(state.validation[-1]):
        _one_epoch(network, optimizer, video, alignment, config, device, state)
        loss = validation_loss(network, video, alignment, config, device)
        if loss < min(state.validation):
            state.best, state.best_epoch = _copy(network), len(state.training)
        state.validation.append(loss)
        report(len(state.training), state.training[-1], loss)
        state.seconds = seconds_before + time.perf_counter() - started
        if checkpoint:
            save_progress(checkpoint, network, optimizer, own, state)
    diverged = not state.validation[-1] <= state.validation[0]
    network.load_state_dict(state.initial if diverged else state.best)
    network.eval()
    return TuneResult(
        status="diverged" if diverged else "ok",
        best_epoch=0 if diverged else state.best_epoch,
        validation=tuple(state.validation),
        training=tuple(state.training),
        skipped=state.skipped,
        resumed_at=resumed_at,
        seconds=seconds_before + time.perf_counter() - started,
        seconds_before=seconds_before,
    )


def _one_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    video: TuneVideo,
    alignment: Alignment,
    config: TuneConfig,
    device: torch.device,
    state: TuneState,
) -> None:
    epoch = len(state.training)
    network.train(config.batch_norm == "batch")
    total, number = 0.0, 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed * 1_000_003 + epoch)
        for pairs in _shuffled(video.pairs, config):
            depth = _depth_of(network, video, alignment, pairs, device)
            loss = pair_loss(depth, video, pairs, alignment, config, device)
            if not torch.isfinite(loss):
                state.skipped += 1
                continue
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
            optimizer.step()
            total, number = total + float(loss.detach()) * len(pairs), number + len(pairs)
    state.training.append(total / number if number else math.nan)


def _shuffled(pairs: tuple[tuple[int, int], ...], config: TuneConfig) -> list[list[tuple[int, int]]]:
    """The batches of an epoch, from torch's generator.

    CVD draws its pairs at random. Those of the pseudo reference method are a chain through the video: it is cut at
    random into runs, whose neighbours share frames, so that three pairs cost four frames instead of six.
    """
    size = config.pairs_at_once
    if config.method == "cvd":
        return _batches([pairs[k] for k in torch.randperm(len(pairs)).tolist()], size)
    cut = int(torch.randint(min(size, len(pairs)), ()))
    runs = [list(pairs[:cut])] * (cut > 0) + _batches(pairs[cut:], size)
    return [runs[k] for k in torch.randperm(len(runs)).tolist()]


def _batches(pairs: Sequence[tuple[int, int]], size: int) -> list[list[tuple[int, int]]]:
    return [list(pairs[start : start + size]) for start in range(0, len(pairs), size)]


def _depth_of(
    network: nn.Module, video: TuneVideo, alignment: Alignment, pairs: list[tuple[int, int]], device: torch.device
) -> dict[int, Tensor]:
    """Depth ``[h, w]`` by position; a frame of several pairs goes through the network once."""
    positions = sorted({position for pair in pairs for position in pair})
    depth = alignment.depth(network(video.frames(positions, device)).float())
    return dict(zip(positions, depth, strict=True))


def pair_loss(
    depth: Mapping[int, Tensor] | Sequence[Tensor] | Tensor,
    video: TuneVideo,
    pairs: list[tuple[int, int]],
    alignment: Alignment,
    config: TuneConfig,
    device: torch.device,
) -> Tensor:
    """The method's loss of some pairs: mean over both directions and over the pairs.

    Args:
        depth: of the positions in ``pairs``, ``[h, w]`` in the unit of the alignment.
    """
    batch = video.pair_batch(pairs, alignment.unit, device)
    sides = [torch.stack([depth[pair[k]] for pair in pairs]).to(device) for k in (0, 1)]
    losses: list[Tensor] = []
    for way, (near, far), own in ((batch, sides, 0), (batch.reversed(), sides[::-1], 1)):
        if config.method == "cvd":
            focal = way.intrinsics_i[:, :2].mean()
            losses += cvd_loss(near, far, way, focal=focal, disparity_weight=config.disparity_weight)
        else:
            reference, weight = video.references([pair[own] for pair in pairs], alignment.unit, device)
            losses += [log_loss(near, reference, weight), config.point_weight * point_loss(near, far, way)]
    return torch.stack(losses).sum() / 2


@torch.inference_mode()
def validation_loss(
    network: nn.Module, video: TuneVideo, alignment: Alignment, config: TuneConfig, device: torch.device
) -> float:
    """The mean loss over all pairs, in evaluation mode; holds one depth map per frame."""
    depth = [alignment.depth(m) for m in disparities(network, video, batch=config.pairs_at_once, device=device)]
    total = 0.0
    for pairs in _batches(video.pairs, config.pairs_at_once):
        total += float(pair_loss(depth, video, pairs, alignment, config, device)) * len(pairs)
    return total / len(video.pairs)


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
