"""The published rule that joins the forward and the backward pass."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Choice = Literal["mean", "forward", "backward"]


def choose_mix(initial: float, forward: float, backward: float) -> Choice:
    """Which result becomes the mix, from the OPW of one scene's initial disparity and both passes.

    The mean if both passes are steadier than the initial disparity; else the steadier pass, forward only if strictly
    so. The initial disparity is never chosen (NVDS, released inference).
    """
    if forward < initial and backward < initial:
        return "mean"
    return "forward" if forward < backward else "backward"


def mix_passes(choice: Choice, forward: NDArray[np.float32], backward: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply a choice to maps of both passes."""
    if choice == "mean":
        return (forward + backward) * np.float32(0.5)
    return forward if choice == "forward" else backward
