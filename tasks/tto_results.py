"""What test-time optimisation adds to a published volume: arrays, cameras, and how it went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage import ArraySpec, ArtifactRef, open_arrays
from tasks.frames import FrameArtifact
from tasks.poses import PoseArtifact, described_cameras
from tasks.score import ScoreInputs
from tasks.workspace import Workspace

BLOCK = 16
REFERENCE_QUANTITY = "depth in the unit of the camera positions; NaN where there is no reference"
TUNING = ("method", "epochs", "learning_rate", "best_epoch", "loss_before", "loss_after", "alignment")
CONFIDENCE_QUANTITY = "number of frame pairs whose depth agrees with the reference"


@dataclass(frozen=True)
class OptimizedInputs(ScoreInputs):
    """What a published volume of an optimised video is made of; what is stabilised is then the optimised disparity."""

    optimized: ArtifactRef
    poses: ArtifactRef
    masks: ArtifactRef
    reference: ArtifactRef

    @property
    def plain(self) -> tuple[str, ...]:
        return ("initial", "optimized")

    @property
    def artifacts(self) -> dict[str, ArtifactRef | None]:
        added = {"optimized": self.optimized, "poses": self.poses, "reference": self.reference}
        return {**super().artifacts, **added}


class FurtherArrays:
    """Reference depth and confidence beside the results, cameras and the account of the optimisation."""

    def __init__(self, workspace: Workspace, inputs: OptimizedInputs) -> None:
        store = workspace.store
        pictures = FrameArtifact(store, inputs.frames)
        self._shape = (pictures.frames, pictures.height, pictures.width)
        self._poses = PoseArtifact(store, inputs.poses)
        self._reference = open_arrays(store.path(inputs.reference) / "arrays")
        self._masks = open_arrays(store.path(inputs.masks) / "arrays").attributes
        self._tuning = open_arrays(store.path(inputs.optimized) / "arrays").attributes["tuning"]

    @property
    def specs(self) -> dict[str, ArraySpec]:
        """The arrays, by name."""
        dimensions = ("t", "y", "x")
        return {
            "reference": ArraySpec(self._shape, "float32", fill_value=float("nan"), dimensions=dimensions),
            "confidence": ArraySpec(self._shape, "int16", dimensions=dimensions),
        }

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the volume: cameras of the frames with poses, at its resolution."""
        _, height, width = self._shape
        cameras = described_cameras(self._poses.cameras((width, height)), self._poses.positions)
        quantities = {"reference": REFERENCE_QUANTITY, "confidence": CONFIDENCE_QUANTITY}
        return {"cameras": cameras, "further": quantities}

    @property
    def account(self) -> dict[str, Any]:
        """How the optimisation went: `tto` in record and volume."""
        tuning, poses = self._tuning, self._poses.attributes
        text = poses["log_tail"] if tuning["status"] == "no_poses" else ""
        return {
            "status": tuning["status"],
            "reason": tuning["reason"],
            "log_tail": text,
            **{key: tuning.get(key) for key in TUNING},
            "poses": poses["origin"],
            "registered": poses["registered"],
            "left_out": poses["reason"] if poses["status"] == "ok" else "",
            "pairs": len(self._masks.get("pairs", ())),
            "kept_pairs": len(self._masks.get("kept", ())),
            **{key: self._reference.attributes.get(key) for key in ("valid_share", "median_confidence")},
        }

    def blocks(self) -> Iterator[tuple[str, int, NDArray[Any]]]:
        """(array, first frame, values) of all frames; nothing but holes where it did not come to references."""
        for first in range(0, self._shape[0], BLOCK):
            last = min(first + BLOCK, self._shape[0])
            if "reference" in self._reference.names:
                for name in self.specs:
                    yield name, first, self._reference.read(name, first, last)
            else:
                shape = (last - first, *self._shape[1:])
                yield "reference", first, np.full(shape, np.nan, np.float32)
                yield "confidence", first, np.zeros(shape, np.int16)


def further_of(workspace: Workspace, inputs: ScoreInputs) -> FurtherArrays | None:
    """What is to be published beside the results; None for a video that is not optimised."""
    return FurtherArrays(workspace, inputs) if isinstance(inputs, OptimizedInputs) else None
