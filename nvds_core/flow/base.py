"""What a flow estimator is, and the registry that makes one from its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nvds_core.types import ConfigError, ShapeError

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
_FACTORIES: dict[str, FlowFactory] = {}


def register_flow(name: str, factory: FlowFactory) -> None:
    """Make `create_flow(name, **options)` call ``factory(**options)``.

    Raises:
        ConfigError: the name is taken by another factory.
    """
    known = _FACTORIES.setdefault(name, factory)
    if known is not factory:
        raise ConfigError(f'flow "{name}" is already registered; choose another name')


def flow_names() -> tuple[str, ...]:
    """Names that `create_flow` accepts, sorted."""
    _register_builtin()
    return tuple(sorted(_FACTORIES))


def create_flow(name: str, **options: object) -> FlowEstimator:
    """Make a flow estimator by name, for example ``create_flow("dis")``.

    Args:
        name: one of `flow_names()`.
        options: passed to the estimator; the built-in DIS presets take none.

    Raises:
        ConfigError: the name is unknown, or the estimator does not take these options.
    """
    _register_builtin()
    if name not in _FACTORIES:
        raise ConfigError(f'no flow called "{name}"; choose one of: {", ".join(sorted(_FACTORIES))}')
    try:
        return _FACTORIES[name](**options)
    except TypeError as error:
        raise ConfigError(f'flow "{name}" does not take these options: {error}') from error


def check_frame_pair(previous_rgb: np.ndarray, current_rgb: np.ndarray) -> None:
    """Raise `ShapeError` unless both frames are ``[h, w, 3]`` of one size, at least one pixel large."""
    if previous_rgb.shape != current_rgb.shape:
        raise ShapeError(
            f"previous frame {previous_rgb.shape} != current frame {current_rgb.shape}; resize one of them"
        )
    if current_rgb.ndim != 3 or current_rgb.shape[2] != 3 or current_rgb.size == 0:
        raise ShapeError(f"a frame is [h, w, 3] RGB with at least one pixel, got {current_rgb.shape}")


def _register_builtin() -> None:
    from nvds_core.flow import dis  # here, because dis needs this module's names

    for name in dis.PRESETS:
        if name not in _FACTORIES:
            register_flow(name, partial(dis.DisFlow, name))
