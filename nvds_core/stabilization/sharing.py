"""What the windows of a scene share: every part of the network is computed once per frame it depends on.

| computed once per | part |
|---|---|
| frame | encoder and fusion |
| target | edge convolutions, ``ftb1`` of the head, the first block's queries, keys and values of the target |
| frame and role | keys and values of a reference frame in all blocks; the role is its distance, on either side |
| target and direction | the rest |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nvds_core.stabilization.network import REFERENCES, NvdsNetwork


class WindowDecoder:
    """Keeps the frames of one scene and decodes windows of them; the caller says which frames it still needs."""

    def __init__(self, model: NvdsNetwork) -> None:
        self._model = model
        self._fused: dict[int, Tensor] = {}
        self._rgb: dict[int, Tensor] = {}
        self._keys: dict[tuple[int, int], list[Tensor]] = {}  # of (frame, role), per block

    def add(self, first: int, frames: Tensor) -> None:
        """Encode frames [n,4,H,W], numbered from ``first``."""
        for i, fused in enumerate(self._model.encode(frames).split(1), start=first):
            self._fused[i] = fused
            self._rgb[i] = frames[i - first : i - first + 1, :3]

    def decode(self, targets: Sequence[int], passes: Sequence[Sequence[tuple[int, ...]]]) -> Iterator[Tensor]:
        """Disparity [n,H,W] of the targets, once per pass.

        Args:
            targets: numbers of n frames.
            passes: for each pass and target the numbers of its reference frames, farthest first.
        """
        fused = torch.cat([self._fused[i] for i in targets])
        detail = self._model.detail(fused, torch.cat([self._rgb[i] for i in targets]))
        own = self._model.own_tokens(fused)
        # One pass after the other: on a CPU twice the batch is slower, on a GPU more targets at once do the same.
        known: dict[tuple[tuple[int, ...], ...], Tensor] = {}
        for windows in map(tuple, passes):
            if windows not in known:  # near the ends of a scene both directions can be the same
                attended = self._model.attend(fused, self._reference_keys(windows), own)
                known[windows] = self._model.finish(attended, detail).relu_()[:, 0]
            yield known[windows]

    def _reference_keys(self, windows: Sequence[tuple[int, ...]]) -> Iterator[list[Tensor]]:
        """For each block the keys of the three roles, for all windows."""
        roles = [[self._keys_of(window[role], role) for window in windows] for role in range(REFERENCES)]
        for block in zip(*(zip(*role, strict=True) for role in roles), strict=True):
            yield [frames[0] if len(frames) == 1 else torch.cat(frames) for frames in block]

    def _keys_of(self, frame: int, role: int) -> list[Tensor]:
        if (frame, role) not in self._keys:
            self._keys[frame, role] = self._model.reference_keys(self._fused[frame], role)
        return self._keys[frame, role]

    def forget(self, target: int) -> None:
        """Drop what only targets before ``target`` need."""
        self._rgb = {i: rgb for i, rgb in self._rgb.items() if i >= target}
        self._fused = {i: fused for i, fused in self._fused.items() if i >= target - REFERENCES}
        self._keys = {at: keys for at, keys in self._keys.items() if at[0] + REFERENCES - at[1] >= target}
