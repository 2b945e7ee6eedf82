"""OPW of the passes of a bidirectional stabiliser, each in its own order of time, from one flow computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nvds_core.metrics.opw import Array, OpwAccumulator, OpwResult


class PassOpw:
    """Scores several results of one scene frame by frame.

    The published protocol walks through the backward pass in its own, reversed order: there the "current" frame is
    the earlier one and the flow is that of the earlier frame. Results named in ``reversed_names`` are scored so, under
    the name ``<name>`` + `REVERSED`; results in ``names`` are scored in forward time.
    """

    REVERSED = ":reversed"

    def __init__(self, names: Sequence[str], reversed_names: Sequence[str] = ()) -> None:
        self._forward = OpwAccumulator(names)
        self._reversed_names = tuple(reversed_names)
        self._reversed: list[NDArray[np.float64]] = []
        self._previous: tuple[Array, dict[str, Array]] | None = None
        self._frames = 0

    def push(
        self,
        rgb: Array,
        maps: Mapping[str, Array],
        to_previous: Array | None = None,
        to_next: Array | None = None,
    ) -> None:
        """Take the next frame.

        Args:
            rgb: [h,w,3] in 0..255.
            maps: disparity [h,w] by result name.
            to_previous: flow of this frame to the one before, None for the first.
            to_next: flow of the one before to this frame, None for the first.
        """
        names = self._forward.names
        self._forward.push(rgb, {name: maps[name] for name in names}, to_previous)
        if self._reversed_names:
            later = {name: maps[name] for name in self._reversed_names}
            if to_next is not None and self._previous is not None:
                pair = OpwAccumulator(self._reversed_names)
                pair.push(rgb, later)
                errors = pair.push(*self._previous, to_next)
                assert errors is not None
                self._reversed.append(errors)
            self._previous = (rgb, later)
        self._frames += 1

    def results(self) -> dict[str, OpwResult]:
        """OPW by name; pairs in forward time order."""
        results = self._forward.results()
        stacked = np.stack(self._reversed) if self._reversed else np.zeros((0, len(self._reversed_names)))
        for column, name in enumerate(self._reversed_names):
            results[name + self.REVERSED] = OpwResult(stacked[:, column].copy(), self._frames)
        return results
