"""Flow between the frame pairs of test-time optimisation, and where it can be trusted.

A row belongs to a pair (i, j) of frames, i before j: ``forward`` leads from i to j on the grid of i, ``back``
from j to i on the grid of j.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nvds_core.tto import consistency_mask, keep_pairs, overlap, pair_indices, unordered
from nvds_core.tto.masks import FLOW_THRESHOLD, OVERLAP_RATIO
from nvds_core.tto.pairs import PairMode
from storage import ArraySpec, ArtifactRef, artifact_key, open_arrays, write_arrays
from tasks import workers
from tasks.caching import StepReturn, produce, step
from tasks.flow_fields import FlowConfig
from tasks.frames import BLOCK_BYTES, FrameArtifact
from tasks.poses import PoseArtifact
from tasks.precision import computing
from tasks.streams import WriteBehind, check_stop
from tasks.tto_status import passed_on, status_attributes
from tasks.workspace import Workspace

FLOW_STEP, FLOW_VERSION = "pair_flow", 1
MASK_STEP, MASK_VERSION = "pair_masks", 1
WAYS = ("forward", "back")
ROWS = 4  # pairs at once

Pair = tuple[int, int]


@dataclass(frozen=True)
class PairsConfig:
    """Which pairs, and how much of their flow must agree; see `pair_indices`, `consistency_mask`, `keep_pairs`."""

    mode: PairMode = "hierarchical2"
    flow_threshold: float = FLOW_THRESHOLD
    overlap_ratio: float = OVERLAP_RATIO


def pair_flow_ref(frames: ArtifactRef, poses: ArtifactRef, mode: PairMode, config: FlowConfig) -> ArtifactRef:
    """The name of the flow of all pairs; the poses say which frames take part."""
    digest = workers.flow(config.name).digest
    return ArtifactRef(FLOW_STEP, artifact_key(FLOW_STEP, FLOW_VERSION, frames, poses, mode, config.precision, digest))


def masks_ref(pair_flow: ArtifactRef, config: PairsConfig) -> ArtifactRef:
    """The name of the masks."""
    key = artifact_key(MASK_STEP, MASK_VERSION, pair_flow, config.flow_threshold, config.overlap_ratio)
    return ArtifactRef(MASK_STEP, key)


@step(name="estimate-pair-flow", task_run_name="estimate-pair-flow {frames.key}")
def estimate_pair_flow(
    workspace: Workspace, frames: ArtifactRef, poses: ArtifactRef, mode: PairMode, config: FlowConfig
) -> StepReturn:
    """Write both flows of every pair of frames with poses; no pair crosses a cut. One pair is in memory at a time."""

    def make(folder: Path) -> int:
        if passed_on(workspace, poses, folder):
            return 0
        pictures = FrameArtifact(workspace.store, frames)
        pairs = _pairs(pictures, PoseArtifact(workspace.store, poses).positions, mode)
        estimator = workers.flow(config.name)
        picture_bytes = pictures.height * pictures.width * 3 * 8

        @lru_cache(maxsize=max(4, BLOCK_BYTES // picture_bytes))
        def picture(index: int) -> NDArray[np.float64]:
            return pictures.read(index, index + 1)[0] * 255.0

        spec = ArraySpec(shape=(len(pairs), 2, pictures.height, pictures.width), dtype="float32")
        about = {**status_attributes("ok"), "pairs": [list(pair) for pair in pairs], "flow": estimator.digest}
        with (
            write_arrays(folder / "arrays", dict.fromkeys(WAYS, spec), about) as arrays,
            WriteBehind(arrays.write, 2 * ROWS) as output,
            computing(config.precision, workers.device(), estimator),
        ):
            for row, (i, j) in enumerate(pairs):
                back, forward = estimator.estimate(picture(i), picture(j))
                output.put("forward", row, forward[None])
                output.put("back", row, back[None])
        return pictures.frames

    return produce(workspace, pair_flow_ref(frames, poses, mode, config), make)


@step(name="mask-pairs", task_run_name="mask-pairs {pair_flow.key}")
def mask_pairs(workspace: Workspace, pair_flow: ArtifactRef, config: PairsConfig) -> StepReturn:
    """Write where both flows of a pair agree, and which pairs overlap enough: none gives the status ``no_pairs``."""

    def make(folder: Path) -> int:
        if passed_on(workspace, pair_flow, folder):
            return 0
        flow = open_arrays(workspace.store.path(pair_flow) / "arrays")
        pairs = [(int(i), int(j)) for i, j in flow.attributes["pairs"]]
        shape = flow.shape("forward")
        spec = ArraySpec(shape=(shape[0], *shape[2:]), dtype="uint8")
        shares: dict[Pair, float] = {}
        with write_arrays(folder / "arrays", dict.fromkeys(WAYS, spec), {}) as arrays:
            for first in range(0, len(pairs), ROWS):
                check_stop()
                rows = pairs[first : first + ROWS]
                there, back = (torch.from_numpy(flow.read(way, first, first + len(rows))) for way in WAYS)
                for way, mask in zip(WAYS, _masks(there, back, config.flow_threshold), strict=True):
                    arrays.write(way, first, mask.numpy().astype(np.uint8))
                    for (i, j), share in zip(rows, overlap(mask).tolist(), strict=True):
                        shares[(i, j) if way == "forward" else (j, i)] = share
            kept = unordered(keep_pairs(shares, overlap_ratio=config.overlap_ratio))
            arrays.attributes |= {"pairs": [list(pair) for pair in pairs], "kept": [list(pair) for pair in kept]}
            arrays.attributes |= _status(pairs, shares, kept, config)
        return len(pairs)

    return produce(workspace, masks_ref(pair_flow, config), make)


class PairRows:
    """Reads flow and masks by directed pair of frames."""

    def __init__(self, workspace: Workspace, pair_flow: ArtifactRef, masks: ArtifactRef) -> None:
        self._flow = open_arrays(workspace.store.path(pair_flow) / "arrays")
        self._masks = open_arrays(workspace.store.path(masks) / "arrays")
        attributes = self._masks.attributes
        self._row = {(int(i), int(j)): row for row, (i, j) in enumerate(attributes["pairs"])}
        self.kept: list[Pair] = [(int(i), int(j)) for i, j in attributes["kept"]]

    @property
    def directed(self) -> list[Pair]:
        """Kept pairs in both directions, sorted."""
        return sorted([*self.kept, *((j, i) for i, j in self.kept)])

    def flow(self, i: int, j: int) -> torch.Tensor:
        """Flow [2, h, w] from i to j on the grid of i."""
        return torch.from_numpy(self._read(self._flow, i, j))

    def mask(self, i: int, j: int) -> torch.Tensor:
        """bool [h, w] where it can be trusted."""
        return torch.from_numpy(self._read(self._masks, i, j)).bool()

    def _read(self, arrays: Any, i: int, j: int) -> NDArray[Any]:
        way, row = (WAYS[0], self._row[i, j]) if i < j else (WAYS[1], self._row[j, i])
        values: NDArray[Any] = arrays.read(way, row, row + 1)[0]
        return values


def _pairs(pictures: FrameArtifact, positions: list[int], mode: PairMode) -> list[Pair]:
    """Pairs of frames (earlier, later): positions in the list of frames with poses, as in the released code."""
    scene = np.searchsorted(np.asarray(pictures.cuts, np.int64), np.arange(pictures.frames), side="right")
    frames = ((positions[i], positions[j]) for i, j in unordered(pair_indices(len(positions), mode)))
    return [(i, j) for i, j in frames if scene[i] == scene[j]]


def _masks(there: torch.Tensor, back: torch.Tensor, threshold: float) -> Iterator[torch.Tensor]:
    yield consistency_mask(there, back, threshold)
    yield consistency_mask(back, there, threshold)


def _status(pairs: list[Pair], shares: dict[Pair, float], kept: list[Pair], config: PairsConfig) -> dict[str, Any]:
    if kept:
        return status_attributes("ok")
    best = max((min(shares[i, j], shares[j, i]) for i, j in pairs), default=0.0)
    reason = f"none of {len(pairs)} pairs has {config.overlap_ratio:.0%} of consistent flow (best: {best:.1%})"
    return status_attributes("no_pairs", reason)
