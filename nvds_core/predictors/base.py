"""What a single-image predictor is to the pipeline, and the registry that makes one from its name."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvds_core.checkpoints import state_digest
from nvds_core.models import create_model
from nvds_core.plugins import Foreign, Registry, parse_name
from nvds_core.predictors.tiny import RGB_MEAN, RGB_STD
from nvds_core.types import ConfigError, CoreError, ShapeError


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


class SplitPredictor(ABC):
    """A predictor in two parts, so that preparing, copying and computing can go on side by side."""

    name: str

    @abstractmethod
    def prepare(self, unit_rgb: NDArray[np.float64]) -> Tensor:
        """Network input [n,3,h,w] float32 of pictures [n,h,w,3] in 0..1, on the host."""

    @abstractmethod
    def infer(self, x: Tensor) -> Tensor:
        """Disparity [n,h,w] float32 of prepared pictures, on the network's device; not checked for being finite."""

    def predict(self, unit_rgb: NDArray[np.float64]) -> NDArray[np.float32]:
        """Disparity [n,h,w] of pictures [n,h,w,3] in 0..1.

        Raises:
            ShapeError: sides that the network cannot take.
            CoreError: reason ``not_finite``, if the disparity is not finite.
        """
        return finite(self.infer(self.prepare(unit_rgb)).cpu().numpy(), self.name)


class TinyDisparity(SplitPredictor):
    """`tiny` with its bundled weights."""

    name = "tiny"
    short_side = 192
    multiple = 32

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = create_model("tiny").to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.digest = f"tiny:{state_digest(self.model)}"

    def prepare(self, unit_rgb: NDArray[np.float64]) -> Tensor:
        normal = ((unit_rgb - np.array(RGB_MEAN)) / np.array(RGB_STD)).astype(np.float32)
        return torch.from_numpy(normal).permute(0, 3, 1, 2)

    @torch.inference_mode()
    def infer(self, x: Tensor) -> Tensor:
        disparity: Tensor = self.model(x.to(self.device, memory_format=torch.channels_last))
        return disparity.float()


# Built-in predictors, one line each: name -> "module:factory", imported when first used and called as factory(device).
PREDICTORS: dict[str, str] = {
    "tiny": "nvds_core.predictors.base:TinyDisparity",
    "midas-v21": "nvds_core.predictors.published:midas_v21",
    "midas-v21-small": "nvds_core.predictors.published:midas_v21_small",
    "dpt-large": "nvds_core.predictors.published:dpt_large",
    "dpt-hybrid": "nvds_core.predictors.published:dpt_hybrid",
}
# Those with an argument behind a colon: scheme -> (what it is, "module:factory"), called as factory(argument, device).
SCHEMES: dict[str, tuple[str, str]] = {
    "folder": ("PATH", "nvds_core.predictors.folder:DepthFolder"),
    "transformers": ("ID", "nvds_core.predictors.transformers_predictor:TransformersDepth"),
}
REGISTRY = Registry("predictor", "nvds.predictors", PREDICTORS, SCHEMES)


def predictor_names() -> tuple[str, ...]:
    """Names that `create_predictor` accepts, sorted; those that take an argument as ``folder:PATH``."""
    return REGISTRY.names()


def register_predictor(name: str, factory: Callable[..., Predictor]) -> None:
    """Make `create_predictor(name, device)` call ``factory(device)`` in this process; ConfigError if it is taken."""
    REGISTRY.register(name, factory)


def create_predictor(name: str, device: torch.device | str = "cpu") -> Predictor:
    """Make a predictor by name.

    Args:
        name: one of `predictor_names()`, with options behind a question mark: ``folder:maps?quantity=depth``.
        device: where its network computes.

    Raises:
        ConfigError: unknown or contested name, options it does not take, a plug-in that does not work.
        WeightsError: its weights are missing.
    """
    made = REGISTRY.make(name, device)
    predictor: Predictor = made.value if made.package is None else CheckedPredictor(made.value, name, made.package)
    return predictor


class CheckedPredictor(Foreign):
    """A predictor of another package, held to the contract of `Predictor`, so that its mistakes carry its name."""

    def __init__(self, inner: Any, name: str, package: str) -> None:
        super().__init__(inner, f"predictor {name!r} of {package}")
        wanted = {"name": str, "digest": str, "short_side": int, "multiple": int}
        for attribute, kind in wanted.items():
            if not isinstance(getattr(inner, attribute, None), kind) or not getattr(inner, attribute):
                found = getattr(inner, attribute, "nothing")
                raise ConfigError(f"{self._title}: {attribute} is {found!r}, must be {kind.__name__}, not empty or 0")
        if not callable(getattr(inner, "predict", None)):
            raise ConfigError(f"{self._title} has no method predict(unit_rgb)")
        self.name: str = inner.name
        self.digest: str = f"{parse_name(name).base}:{inner.digest}"  # two packages may both call theirs "1"
        self.short_side: int = inner.short_side
        # the stabiliser halves its input five times
        self.multiple: int = math.lcm(inner.multiple, 32)

    def predict(self, unit_rgb: NDArray[np.float64]) -> NDArray[np.float32]:
        """As `Predictor.predict`; ShapeError or CoreError (reason ``not_finite``) if the result is not usable."""
        disparity = np.asarray(self._inner.predict(unit_rgb))
        if disparity.shape != unit_rgb.shape[:3] or not np.issubdtype(disparity.dtype, np.floating):
            raise ShapeError(
                f"{self._title} returned {disparity.dtype} {disparity.shape} for pictures {unit_rgb.shape}; "
                f"it must return float {unit_rgb.shape[:3]}"
            )
        return finite(disparity.astype(np.float32, copy=False), self._title)


def finite(disparity: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """The disparity itself; CoreError (reason ``not_finite``) if it holds NaN or infinity."""
    if not np.isfinite(disparity).all():
        raise CoreError(f"{name} returned values that are not finite; check its weights", reason="not_finite")
    return disparity
