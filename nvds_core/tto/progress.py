"""The state of a fine-tuning between epochs, on disk."""

from __future__ import annotations

import glob
import hashlib
import os
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nvds_core.checkpoints import state_digest
from nvds_core.types import CoreError

if TYPE_CHECKING:
    from nvds_core.tto.alignment import Alignment
    from nvds_core.tto.material import TuneVideo
    from nvds_core.tto.tuning import TuneConfig

PROGRESS_VERSION = 1


@dataclass
class TuneState:
    """What is known after some epochs, besides the weights and the optimiser.

    Attributes:
        best, initial: weights.
        validation: loss before the first and after each epoch.
        training: mean loss of each epoch.
        seconds: wall time of all attempts, each up to the last epoch that it finished.
    """

    best: dict[str, Tensor]
    initial: dict[str, Tensor]
    validation: list[float]
    training: list[float] = field(default_factory=list)
    best_epoch: int = 0
    skipped: int = 0
    seconds: float = 0.0


def fingerprint(network: nn.Module, video: TuneVideo, alignment: Alignment, config: TuneConfig) -> str:
    """What a run depends on, but for the pictures, the flow and the number of epochs: more may be asked for later."""
    settings = {key: value for key, value in asdict(config).items() if key != "epochs"}
    digest = hashlib.sha256(repr((PROGRESS_VERSION, settings, asdict(alignment), video.n, video.pairs)).encode())
    digest.update(video.intrinsics.tobytes())
    digest.update(video.cam_from_world.tobytes())
    digest.update(state_digest(network).encode())
    return digest.hexdigest()


def save_progress(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, own: str, state: TuneState) -> None:
    """Replace the file as a whole: whoever is killed here leaves the previous epoch behind.

    What such a one had written so far, five times the network at most, is removed by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{glob.escape(path.name)}.partial-*"):
        left.unlink(missing_ok=True)
    content = {"own": own, "network": network.state_dict(), "optimizer": optimizer.state_dict(), "state": vars(state)}
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_progress(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, own: str) -> TuneState:
    """Bring network and optimiser to where they were.

    Raises:
        CoreError: (reason ``checkpoint``) the file is damaged or belongs to another run.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found, state = content["own"], TuneState(**content["state"])
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise CoreError(
            f"{path}: not a whole checkpoint ({error}); remove it to start anew", reason="checkpoint"
        ) from error
    if found != own:
        raise CoreError(
            f"{path}: belongs to a fine-tuning with other settings, poses or weights; remove it to start anew",
            reason="checkpoint",
        )
    network.load_state_dict(content["network"])
    optimizer.load_state_dict(content["optimizer"])
    return state
