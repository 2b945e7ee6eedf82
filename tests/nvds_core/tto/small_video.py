"""A small video with references and a small network, for the tests of the fine-tuning; `python -m` runs one."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvds_core.checkpoints import state_digest
from nvds_core.tto import TuneConfig, TuneVideo, align_network, finetune, pair_indices, training_pairs, unordered

FRAMES, HEIGHT, WIDTH = 6, 24, 32


class SmallNetwork(nn.Module):
    """Three convolutions with batch normalisation and dropout: disparity from a picture and a ramp."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.dropout(F.relu(self.norm(self.first(x))), 0.2, self.training)
        return F.softplus(self.last(F.relu(self.second(y)))[:, 0])


def network() -> SmallNetwork:
    torch.manual_seed(3)
    return SmallNetwork().eval()


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth [n, h, w] of a tilted plane seen by a camera that moves sideways, intrinsics and poses."""
    lens = np.tile([30.0, 30.0, (WIDTH - 1) / 2, (HEIGHT - 1) / 2], (FRAMES, 1))
    poses = np.tile(np.eye(3, 4), (FRAMES, 1, 1))
    poses[:, 0, 3] = -0.1 * np.arange(FRAMES)
    slope = (np.arange(HEIGHT) - lens[0, 3]) / 30.0
    plane = 3.0 / (1 + 0.8 * slope)  # z + 0.8 y = 3 looks the same from all places
    depth = np.broadcast_to(plane[:, None], (FRAMES, HEIGHT, WIDTH)).copy()
    return depth, lens, poses


def video(method: str = "pseudo", *, kill_at: int = -1) -> TuneVideo:
    """The tilted plane; its process kills itself when a frame is read for the `kill_at`-th time."""
    depth, lens, poses = scene()
    shade = np.random.default_rng(0).uniform(-1, 1, (FRAMES, 3, HEIGHT, WIDTH)).astype(np.float32)
    shade[:, 0] = np.linspace(-1, 1, HEIGHT)[:, None]
    reads = 0

    def frame(position: int) -> Tensor:
        nonlocal reads
        reads += 1
        if reads == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.from_numpy(shade[position])

    def pair(i: int, j: int) -> tuple[Tensor, Tensor]:
        flow = np.zeros((2, HEIGHT, WIDTH), np.float32)
        flow[0] = -30.0 * 0.1 * (j - i) / depth[i]
        x = np.arange(WIDTH) + flow[0]
        return torch.from_numpy(flow), torch.from_numpy((x >= 0) & (x <= WIDTH - 1))

    def reference(position: int) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(depth[position].astype(np.float32)), torch.full((HEIGHT, WIDTH), 3.0)

    pairs = pair_indices(FRAMES)
    chosen = unordered(pairs) if method == "cvd" else training_pairs(pairs)
    return TuneVideo(FRAMES, frame, pair, reference, tuple(chosen), lens, poses)


def run(checkpoint: Path | None, config: TuneConfig, *, kill_at: int = -1) -> tuple[str, str]:
    """Fine-tune and describe the outcome: digest of the weights, and the losses bit for bit."""
    torch.use_deterministic_algorithms(True)
    model = network()
    alignment = align_network(model, video(config.method))
    result = finetune(model, video(config.method, kill_at=kill_at), alignment, config, checkpoint=checkpoint)
    losses = ",".join(value.hex() for value in (*result.validation, *result.training))
    return state_digest(model), f"{result.status} {result.best_epoch} {losses}"


if __name__ == "__main__":
    run(Path(sys.argv[1]), TuneConfig(epochs=4, learning_rate=1e-2, batch_norm="batch"), kill_at=int(sys.argv[2]))
