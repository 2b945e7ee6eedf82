"""The network behind a predictor, made ready to be trained."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nvds_core.predictors.base import Predictor, SplitPredictor
from nvds_core.tto.tuning import LEARNING_RATE
from nvds_core.types import ConfigError

LEARNING_RATES = {"tiny": 1e-3}
"""Networks whose rate is not `LEARNING_RATE`; that of tiny is two thirds of what it was trained with."""


@dataclass(frozen=True, eq=False)
class TunableNetwork:
    """A network of one's own to train.

    Attributes:
        module: ``[b, 3, h, w]`` prepared pictures to disparity ``[b, h, w]``, on the predictor's device.
        prepare: pictures ``[b, h, w, 3]`` in 0..1 to float32 ``[b, 3, h, w]``, on the host.
    """

    module: nn.Module
    prepare: Callable[[NDArray[np.float64]], Tensor]


def learning_rate_of(name: str) -> float:
    """The rate that suits the network of a predictor."""
    return LEARNING_RATES.get(name, LEARNING_RATE)


def check_tunable(predictor: Predictor, name: str) -> None:
    """Raise ConfigError, naming ``name``, unless a predictor shows its network."""
    if not isinstance(predictor, SplitPredictor) or not isinstance(getattr(predictor, "model", None), nn.Module):
        raise ConfigError(
            f"predictor {name} has no network that could be tuned on a video; take tiny, midas-v21, midas-v21-small, "
            "dpt-large or dpt-hybrid, or give its class the base SplitPredictor and the network as `model`"
        )


def tunable_network(predictor: Predictor, name: str) -> TunableNetwork:
    """A copy of a predictor's network whose weights may change; the predictor itself stays as it is.

    Raises:
        ConfigError: it has none, as ``folder:PATH`` (see `check_tunable`).
    """
    check_tunable(predictor, name)
    assert isinstance(predictor, SplitPredictor)
    with torch.inference_mode(False):
        module: nn.Module = copy.deepcopy(predictor.model)  # type: ignore[attr-defined]
        for parameter in module.parameters():
            parameter.requires_grad_(True)
    return TunableNetwork(module.eval(), predictor.prepare)
