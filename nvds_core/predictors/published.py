"""MiDaS v2.1 and DPT as predictors of the pipeline, run the way NVDS runs them."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvds_core.checkpoints import state_digest
from nvds_core.models import create_model
from nvds_core.predictors.base import SplitPredictor
from nvds_core.predictors.building import MULTIPLE, check_picture
from nvds_core.predictors.transforms import HALF, TRANSFORMS, normalize
from nvds_core.types import ConfigError

VERSION = 1  # of how a picture is prepared and computed; part of the digest, so raise it whenever results may change

Precision = Literal["fp32", "bf16"]


class PublishedDisparity(SplitPredictor):
    """One of the published models with its official checkpoint.

    NVDS feeds every predictor pictures at inference size, normalised with mean and deviation 0.5 - MiDaS too, though it
    was trained with ImageNet's numbers and its own scripts use them (`preprocess`).

    Args:
        name: a model of `TRANSFORMS`.
        device: where it runs.
        precision: ``bf16`` runs under autocast, faster on hardware that multiplies bfloat16; the head's last layer and
            the result stay in float32.

    Raises:
        ConfigError: unknown name or precision.
        WeightsError: the checkpoint is missing or does not fit.
    """

    short_side = 384
    multiple = MULTIPLE

    def __init__(self, name: str, device: torch.device | str = "cpu", *, precision: Precision = "fp32") -> None:
        if name not in TRANSFORMS:
            raise ConfigError(f"{name!r} is not a published predictor; known: {', '.join(sorted(TRANSFORMS))}")
        if precision not in ("fp32", "bf16"):
            raise ConfigError(f"unknown precision {precision!r}; known: fp32, bf16")
        self.name = name
        self.device = torch.device(device)
        self.precision = precision
        model = create_model(name, pretrained=True)
        self.digest = f"{name}:v{VERSION}:{precision}:{state_digest(model)}"
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def prepare(self, unit_rgb: NDArray[np.float64]) -> Tensor:
        """As `SplitPredictor.prepare`; ShapeError for sides that are no multiples of 32."""
        x = torch.from_numpy(normalize(unit_rgb, HALF, HALF)).permute(0, 3, 1, 2)
        check_picture(x)
        return x

    @torch.inference_mode()
    def infer(self, x: Tensor) -> Tensor:
        x = x.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            disparity: Tensor = self.model(x)
        return disparity.float()


# What the registry calls with a device; options of a name, as in ``dpt-large?precision=bf16``, come as keywords.
midas_v21 = partial(PublishedDisparity, "midas-v21")
midas_v21_small = partial(PublishedDisparity, "midas-v21-small")
dpt_large = partial(PublishedDisparity, "dpt-large")
dpt_hybrid = partial(PublishedDisparity, "dpt-hybrid")
