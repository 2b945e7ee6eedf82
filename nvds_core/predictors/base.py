"""What a single-image predictor is to the pipeline, and the registry that makes one from its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from nvds_core.checkpoints import state_digest
from nvds_core.models import create_model
from nvds_core.predictors.tiny import RGB_MEAN, RGB_STD
from nvds_core.types import ConfigError, CoreError


class Predictor(Protocol):
    """A network that gives affine-invariant disparity (near is large) of single pictures.

    `digest` names weights and preparation; it changes whenever an output could change and enters cache keys.
    `short_side` is the resolution it works best at; both sides of its input are multiples of `multiple`.
    """

    name: str
    digest: str
    short_side: int
    multiple: int

    def predict(self, unit_rgb: NDArray[np.float64]) -> NDArray[np.float32]:
        """Disparity [n,h,w] of pictures [n,h,w,3] in 0..1 (overshoot of a resize allowed)."""
        ...


class TinyDisparity:
    """`tiny` with its bundled weights."""

    name = "tiny"
    short_side = 192
    multiple = 32

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = create_model("tiny").to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.digest = f"tiny:{state_digest(self.model)}"

    @torch.inference_mode()
    def predict(self, unit_rgb: NDArray[np.float64]) -> NDArray[np.float32]:
        """Disparity [n,h,w] of pictures [n,h,w,3]; CoreError (reason ``not_finite``) if it is not finite."""
        normal = ((unit_rgb - np.array(RGB_MEAN)) / np.array(RGB_STD)).astype(np.float32)
        x = torch.from_numpy(normal).permute(0, 3, 1, 2).to(self.device, memory_format=torch.channels_last)
        return finite(self.model(x).float().cpu().numpy(), self.name)


PREDICTORS: dict[str, Callable[[torch.device | str], Predictor]] = {"tiny": TinyDisparity}


def create_predictor(name: str, device: torch.device | str = "cpu") -> Predictor:
    """Make a predictor by name.

    Raises:
        ConfigError: unknown name.
        WeightsError: its weights are missing.
    """
    if name not in PREDICTORS:
        raise ConfigError(f"unknown predictor {name!r}; known: {', '.join(sorted(PREDICTORS))}")
    return PREDICTORS[name](device)


def finite(disparity: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """The disparity itself; CoreError (reason ``not_finite``) if it holds NaN or infinity."""
    if not np.isfinite(disparity).all():
        raise CoreError(f"{name} returned values that are not finite; check its weights", reason="not_finite")
    return disparity
