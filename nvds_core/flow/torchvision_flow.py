"""RAFT (Teed and Deng, ECCV 2020) as torchvision builds it, with the weights that torchvision publishes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow import Raft_Large_Weights, Raft_Small_Weights, raft_large, raft_small

from nvds_core.checkpoints import load_state, read_checkpoint, state_digest
from nvds_core.flow.base import FloatArray, check_frame_pair
from nvds_core.types import ConfigError, CoreError, WeightsError

MULTIPLE: Final = 8
SMALLEST_SIDE: Final = 128  # below it a level of torchvision's correlation pyramid has no pixel left
NUMBER_OF_UPDATES: Final = 12  # torchvision's default, with which its published errors were measured
VERSION: Final = 1  # raise when the same weights would give another flow
# name -> (network, published weights that are taken without a file of one's own)
NETWORKS: Final[dict[str, tuple[Callable[..., nn.Module], Any]]] = {
    "raft_large": (raft_large, Raft_Large_Weights.C_T_SKHT_V2),
    "raft_small": (raft_small, Raft_Small_Weights.C_T_V2),
}


class RaftFlow:
    """One of `NETWORKS` as a flow estimator; see `FlowEstimator` for shapes and units.

    Frames are continued with their border pixels to multiples of 8 and at least 128 pixels, half on each side. Both
    directions of a pair go through the network as one batch.

    Args:
        name: ``raft_large`` or ``raft_small``.
        device: where the network computes.
        weights: a state_dict file of torchvision's for this network; without one, the published file is looked for
            where torchvision itself puts it (``hub/checkpoints`` in the cache of torch).

    Raises:
        ConfigError: another name.
        WeightsError: no such file, damaged, or made for another network.
    """

    def __init__(self, name: str, device: torch.device | str = "cpu", weights: str | None = None) -> None:
        if name not in NETWORKS:
            raise ConfigError(f"no RAFT called {name!r}; choose one of: {', '.join(NETWORKS)}")
        self.name, self.device = name, torch.device(device)
        path = find_weights(name, weights)
        self.model = load_state(NETWORKS[name][0](weights=None), read_checkpoint(path)).eval().to(self.device)
        self.digest = f"{name}:v{VERSION}:{state_digest(self.model)}"
        self._one_at_a_time = threading.Lock()  # the network keeps the pyramid of the pair it works on

    def estimate(self, previous_rgb: np.ndarray, current_rgb: np.ndarray) -> tuple[FloatArray, FloatArray]:
        """Return ``(to_previous, to_next)``, each ``[2, h, w]`` float32 pixels.

        Raises:
            ShapeError: the frames are not ``[h, w, 3]`` of one size.
            CoreError: reason ``not_finite``.
        """
        check_frame_pair(previous_rgb, current_rgb)
        previous, current = self._prepared(previous_rgb), self._prepared(current_rgb)
        both = self._flow(torch.cat([current, previous]), torch.cat([previous, current]), current_rgb.shape[:2])
        return both[0], both[1]

    def estimate_to_previous(self, previous_rgb: np.ndarray, current_rgb: np.ndarray) -> FloatArray:
        """Return ``to_previous`` alone, for half the work."""
        check_frame_pair(previous_rgb, current_rgb)
        found = self._flow(self._prepared(current_rgb), self._prepared(previous_rgb), current_rgb.shape[:2])
        return np.asarray(found[0])

    def _prepared(self, rgb: np.ndarray) -> Tensor:
        """[1,3,H,W] in -1..1 of a frame [h,w,3] in 0..255, padded."""
        unit = torch.from_numpy(np.ascontiguousarray(rgb, dtype=np.float32)).to(self.device) / 255.0
        picture = (unit * 2.0 - 1.0).permute(2, 0, 1)[None]
        return F.pad(picture, padding(rgb.shape[1], rgb.shape[0]), mode="replicate")

    @torch.inference_mode()
    def _flow(self, from_rgb: Tensor, to_rgb: Tensor, size: tuple[int, ...]) -> FloatArray:
        """Flow [b,2,h,w] of prepared frames, without what the padding added."""
        with self._one_at_a_time:
            flow = self.model(from_rgb, to_rgb, num_flow_updates=NUMBER_OF_UPDATES)[-1].float()
        height, width = size
        left, _, top, _ = padding(width, height)
        found: FloatArray = flow[:, :, top : top + height, left : left + width].cpu().numpy()
        if not np.isfinite(found).all():
            raise CoreError(f"{self.name} returned a flow that is not finite; check its weights", reason="not_finite")
        return np.ascontiguousarray(found)


def large(device: torch.device | str, weights: str | None = None) -> RaftFlow:
    """``raft_large``, 5.3 million weights."""
    return RaftFlow("raft_large", device, weights)


def small(device: torch.device | str, weights: str | None = None) -> RaftFlow:
    """``raft_small``, 1.0 million weights."""
    return RaftFlow("raft_small", device, weights)


def padding(width: int, height: int) -> tuple[int, int, int, int]:
    """Pixels to add left, right, top and bottom of a frame."""
    found: list[int] = []
    for side in (width, height):
        missing = max(SMALLEST_SIDE, -(-side // MULTIPLE) * MULTIPLE) - side
        found += [missing // 2, missing - missing // 2]
    return found[0], found[1], found[2], found[3]


def find_weights(name: str, weights: str | None) -> Path:
    """The file with the weights of a network: the one given, else the published one in torch's cache.

    Raises:
        WeightsError: it is not there; says what to fetch and where to put it.
    """
    address = NETWORKS[name][1].url
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise WeightsError(f"{name}: no weights file {weights}; check the path, or fetch {address}")
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / address.rsplit("/", 1)[1]
    if not path.is_file():
        raise WeightsError(
            f"{name}: its weights are not there; fetch {address} to {path}, or name a file: {name}?weights=FILE"
        )
    prefix = path.stem.rsplit("-", 1)[1]  # torch.hub's rule: the name ends with the first digits of the sha256
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(prefix):
        raise WeightsError(f"{name}: {path} is damaged, its sha256 does not begin with {prefix}; fetch {address} again")
    return path
