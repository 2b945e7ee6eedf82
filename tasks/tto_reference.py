"""Pseudo reference depth: one candidate per directed pair, fused to a depth and a confidence per frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nvds_core.geometry.camera import relative_pose
from nvds_core.tto import FusedReference, fuse, material_status, pseudo_reference
from nvds_core.tto.fusion import TOLERANCE
from nvds_core.tto.reference import SIN2_MIN
from nvds_core.tto.status import FEWEST_VALID
from nvds_core.types import ConfigError
from storage import ArrayReader, ArraySpec, ArtifactRef, artifact_key, open_arrays, write_arrays
from tasks.caching import StepReturn, produce, step
from tasks.frames import FrameArtifact
from tasks.poses import PoseArtifact
from tasks.streams import check_stop
from tasks.tto_pairs import PairRows
from tasks.tto_status import passed_on, status_attributes
from tasks.workspace import Workspace

PAIR_STEP, PAIR_VERSION = "pair_reference", 2
STEP, VERSION = "reference", 1


@dataclass(frozen=True)
class ReferenceConfig:
    """What counts as a candidate, and what agrees; see `pseudo_reference` and `fuse`.

    The released sin2_min (2e-6) suits exact flow; flow from pictures wants 1e-3 and a limit off the epipolar line.
    """

    sin2_min: float = 1e-3
    baseline_min: float = 0.0
    offline_max: float | None = 2.0
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if self.sin2_min < 0 or self.baseline_min < 0 or not self.tolerance > 0 or (self.offline_max or 1.0) <= 0:
            raise ConfigError(f"{self}: thresholds of the reference must not be negative, tolerance above 0")


def pair_references_ref(masks: ArtifactRef, poses: ArtifactRef, config: ReferenceConfig) -> ArtifactRef:
    """The name of the candidates."""
    limits = (config.sin2_min, config.baseline_min, config.offline_max)
    return ArtifactRef(PAIR_STEP, artifact_key(PAIR_STEP, PAIR_VERSION, masks, poses, *limits))


def reference_ref(pair_references: ArtifactRef, config: ReferenceConfig) -> ArtifactRef:
    """The name of the fused reference."""
    return ArtifactRef(STEP, artifact_key(STEP, VERSION, pair_references, config.tolerance))


@step(name="refer-pairs", task_run_name="refer-pairs {masks.key}")
def refer_pairs(
    workspace: Workspace,
    frames: ArtifactRef,
    poses: ArtifactRef,
    pair_flow: ArtifactRef,
    masks: ArtifactRef,
    config: ReferenceConfig,
) -> StepReturn:
    """Write depth [m, h, w] and two masks of the kept pairs in both directions, sorted; on the grid of the first.

    Depth is in the unit of the poses. ``valid`` says where it is a candidate for the reference, ``followed`` where
    points of both frames can be compared: there the angle between the rays may be as small as in the released code,
    which a candidate from real flow may not. Neighbouring frames often have no candidate at all. Neither holds where
    the mask of the flow does not.
    """

    def make(folder: Path) -> int:
        if passed_on(workspace, masks, folder):
            return 0
        pictures, rows = FrameArtifact(workspace.store, frames), PairRows(workspace, pair_flow, masks)
        cameras = PoseArtifact(workspace.store, poses)
        lens_n4, poses_n34 = cameras.matrices((pictures.width, pictures.height))
        lens = torch.from_numpy(lens_n4)
        place = {frame: k for k, frame in enumerate(cameras.positions)}
        directed = rows.directed
        shape = (len(directed), pictures.height, pictures.width)
        dtypes = {"depth": "float32", "valid": "uint8", "followed": "uint8"}
        specs = {name: ArraySpec(shape=shape, dtype=dtype) for name, dtype in dtypes.items()}
        about = {**status_attributes("ok"), "pairs": [list(pair) for pair in directed]}
        with write_arrays(folder / "arrays", specs, about) as arrays:
            for row, (i, j) in enumerate(directed):
                check_stop()
                a, b = place[i], place[j]
                found = pseudo_reference(
                    rows.flow(i, j)[None],
                    lens[a : a + 1],
                    lens[b : b + 1],
                    torch.from_numpy(relative_pose(poses_n34[a], poses_n34[b]))[None],
                    sin2_min=min(SIN2_MIN, config.sin2_min),
                    baseline_min=config.baseline_min,
                    offline_max=config.offline_max,
                )
                followed = found.valid & rows.mask(i, j)
                arrays.write("depth", row, found.depth.float().nan_to_num(0.0).numpy())
                arrays.write("followed", row, followed.numpy().astype(np.uint8))
                arrays.write("valid", row, (followed & (found.sin2 > config.sin2_min)).numpy().astype(np.uint8))
        return len(directed)

    return produce(workspace, pair_references_ref(masks, poses, config), make)


@step(name="fuse-references", task_run_name="fuse-references {pair_references.key}")
def fuse_references(
    workspace: Workspace,
    frames: ArtifactRef,
    poses: ArtifactRef,
    pair_references: ArtifactRef,
    config: ReferenceConfig,
) -> StepReturn:
    """Write `reference` (NaN where none) and `confidence` of all frames, holding the candidates of one at a time.

    Too few valid pixels give the status ``no_parallax``.
    """

    def make(folder: Path) -> int:
        if passed_on(workspace, pair_references, folder):
            return 0
        pictures = FrameArtifact(workspace.store, frames)
        candidates = open_arrays(workspace.store.path(pair_references) / "arrays")
        posed = set(PoseArtifact(workspace.store, poses).positions)
        shape = (pictures.frames, pictures.height, pictures.width)
        dtypes = {"reference": "float32", "confidence": "int16"}
        specs = {name: ArraySpec(shape=shape, dtype=dtype) for name, dtype in dtypes.items()}
        shares: list[float] = []
        votes: list[float] = []
        fused = dict(_slices(candidates))
        with write_arrays(folder / "arrays", specs, {}) as arrays:
            for frame in range(pictures.frames):
                check_stop()
                found = _fused(candidates, fused.get(frame), shape[1:], config.tolerance)
                depth = torch.where(found.valid, found.depth, torch.nan)
                arrays.write("reference", frame, depth.numpy()[None])
                arrays.write("confidence", frame, found.confidence.numpy()[None])
                if frame in posed:
                    shares.append(float(found.valid.float().mean()))
                if found.valid.any():
                    votes.append(float(found.confidence[found.valid].median()))
            arrays.attributes |= _about(candidates, shares, votes)
        return pictures.frames

    return produce(workspace, reference_ref(pair_references, config), make)


def _slices(candidates: ArrayReader) -> Iterator[tuple[int, tuple[int, int]]]:
    """(frame, [start, stop) of its candidates)."""
    rows = enumerate(candidates.attributes["pairs"])
    for frame, group in groupby(rows, key=lambda row: row[1][0]):
        numbers = [number for number, _ in group]
        yield int(frame), (numbers[0], numbers[-1] + 1)


def _fused(
    candidates: ArrayReader, rows: tuple[int, int] | None, shape: tuple[int, ...], tolerance: float
) -> FusedReference:
    if rows is None:
        return fuse(torch.zeros(0, *shape), torch.zeros(0, *shape, dtype=torch.bool), tolerance)
    depth, valid = (torch.from_numpy(candidates.read(name, *rows)) for name in ("depth", "valid"))
    return fuse(depth, valid.bool(), tolerance)


def _about(candidates: ArrayReader, shares: list[float], votes: list[float]) -> dict[str, Any]:
    pairs = [(int(i), int(j)) for i, j in candidates.attributes["pairs"]]
    share = float(np.mean(shares)) if shares else 0.0
    figures = {"valid_share": share, "median_confidence": float(np.median(votes)) if votes else 0.0}
    status = material_status(pairs, shares)
    reason = (
        f"{share:.1%} of the pixels have a reference depth, less than {FEWEST_VALID:.0%}: "
        "the camera hardly changes its place"
    )
    return {**figures, **status_attributes(status, "" if status == "ok" else reason)}
