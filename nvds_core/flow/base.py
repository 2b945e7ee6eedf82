"""What a flow estimator is, and the registry that makes one from its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nvds_core.plugins import Foreign, Registry, parse_name
from nvds_core.types import ConfigError, CoreError, ShapeError

FloatArray = NDArray[np.float32]


@runtime_checkable
class FlowEstimator(Protocol):
    """Dense optical flow between two neighbouring frames of one scene.

    Frames are ``[h, w, 3]`` RGB, uint8 or float, in 0..255 (overshoot of a resize is allowed).
    A flow is ``[2, h, w]`` float32, x first, in pixels: ``to_previous`` belongs to the pixels of the current
    frame and points to where they were; ``to_next`` belongs to the pixels of the previous frame.

    Implementations may be called from several threads at once and must give the same flow for the same
    frames.  `digest` goes into cache keys: it changes whenever the flow of a given pair could change.
    """

    @property
    def name(self) -> str:
        """The name under which `create_flow` finds it."""
        ...

    @property
    def digest(self) -> str:
        """Method, settings and version (or weights digest) in one short string."""
        ...

    def estimate(self, previous_rgb: np.ndarray, current_rgb: np.ndarray) -> tuple[FloatArray, FloatArray]:
        """Return ``(to_previous, to_next)``; raise `ShapeError` for frames that are not a pair."""
        ...

    def estimate_to_previous(self, previous_rgb: np.ndarray, current_rgb: np.ndarray) -> FloatArray:
        """Return ``to_previous`` alone, for half the work."""
        ...


FlowFactory = Callable[..., FlowEstimator]

# Built-in flows, one line each: name -> "module:factory", imported when first used and called as factory(device).
FLOWS: dict[str, str] = {
    "dis": "nvds_core.flow.dis:dis",
    "dis-fast": "nvds_core.flow.dis:dis_fast",
    "dis-ultrafast": "nvds_core.flow.dis:dis_ultrafast",
    "gmflow": "nvds_core.flow.network_flow:gmflow",
    "gmflow-refine": "nvds_core.flow.network_flow:gmflow_refine",
    "raft_large": "nvds_core.flow.torchvision_flow:large",
    "raft_small": "nvds_core.flow.torchvision_flow:small",
}
REGISTRY = Registry("flow", "nvds.flows", FLOWS)


def register_flow(name: str, factory: FlowFactory) -> None:
    """Make `create_flow(name, device, **options)` call ``factory(device, **options)`` in this process.

    Raises:
        ConfigError: the name is taken by another factory.
    """
    REGISTRY.register(name, factory)


def flow_names() -> tuple[str, ...]:
    """Names that `create_flow` accepts, sorted."""
    return REGISTRY.names()


def create_flow(name: str, device: Any = "cpu", **options: object) -> FlowEstimator:
    """Make a flow estimator by name, for example ``create_flow("dis")``.

    Args:
        name: one of `flow_names()`, with options behind a question mark: ``raft_small?weights=FILE``.
        device: where its network computes; DIS always takes the CPU.
        options: passed to the estimator, before those in the name; the DIS presets take none.

    Raises:
        ConfigError: unknown or contested name, options it does not take, a plug-in that does not work.
        WeightsError: its weights are missing.
    """
    made = REGISTRY.make(name, device, options)
    flow: FlowEstimator = made.value if made.package is None else CheckedFlow(made.value, name, made.package)
    return flow


class CheckedFlow(Foreign):
    """A flow estimator of another package, held to the contract of `FlowEstimator`."""

    def __init__(self, inner: Any, name: str, package: str) -> None:
        super().__init__(inner, f"flow {name!r} of {package}")
        for attribute in ("name", "digest"):
            found = getattr(inner, attribute, None)
            if not isinstance(found, str) or not found:
                raise ConfigError(f"{self._title}: {attribute} is {found!r}, must be a text that is not empty")
        for method in ("estimate", "estimate_to_previous"):
            if not callable(getattr(inner, method, None)):
                raise ConfigError(f"{self._title} has no method {method}(previous_rgb, current_rgb)")
        self.name: str = inner.name
        self.digest: str = f"{parse_name(name).base}:{inner.digest}"  # two packages may both call theirs "1"

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "estimate_pairs":  # would go past the checks, and the contract does not ask for it
            raise AttributeError(attribute)
        return super().__getattr__(attribute)

    def estimate(self, previous_rgb: np.ndarray, current_rgb: np.ndarray) -> tuple[FloatArray, FloatArray]:
        """As `FlowEstimator.estimate`; ShapeError or CoreError (reason ``not_finite``) if the result is not usable."""
        to_previous, to_next = self._inner.estimate(previous_rgb, current_rgb)
        return self._checked(to_previous, current_rgb), self._checked(to_next, current_rgb)

    def estimate_to_previous(self, previous_rgb: np.ndarray, current_rgb: np.ndarray) -> FloatArray:
        """As `FlowEstimator.estimate_to_previous`, with the same checks."""
        return self._checked(self._inner.estimate_to_previous(previous_rgb, current_rgb), current_rgb)

    def _checked(self, flow: Any, frame: np.ndarray) -> FloatArray:
        values = np.asarray(flow)
        wanted = (2, *frame.shape[:2])
        if values.shape != wanted or not np.issubdtype(values.dtype, np.floating):
            raise ShapeError(f"{self._title} returned {values.dtype} {values.shape}, must be float {wanted}")
        if not np.isfinite(values).all():
            raise CoreError(f"{self._title} returned values that are not finite", reason="not_finite")
        return values.astype(np.float32, copy=False)


def check_frame_pair(previous_rgb: np.ndarray, current_rgb: np.ndarray) -> None:
    """Raise `ShapeError` unless both frames are ``[h, w, 3]`` of one size, at least one pixel large."""
    if previous_rgb.shape != current_rgb.shape:
        raise ShapeError(
            f"previous frame {previous_rgb.shape} != current frame {current_rgb.shape}; resize one of them"
        )
    if current_rgb.ndim != 3 or current_rgb.shape[2] != 3 or current_rgb.size == 0:
        raise ShapeError(f"a frame is [h, w, 3] RGB with at least one pixel, got {current_rgb.shape}")
