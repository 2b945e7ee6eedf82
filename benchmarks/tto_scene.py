"""How good COLMAP's poses and the references are on real footage: part `poses` of `python -m benchmarks.tto`."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.poses import FRAMES, SCENE, measure_scene, table
from benchmarks.tto_footage import Footage, Material, PairFlow, rgbd_footage
from nvds_core.types import Camera

SIZE = (384, 288)
ANGLES = (2e-6, 1e-3)
GROSS = 0.25
GROUPS = ("pair", "median", "sure")
Row = dict[str, Any]


@dataclass(frozen=True)
class Errors:
    """Relative errors against the depth sensor: median, and share above 25 %."""

    median: float
    gross: float

    @classmethod
    def of(cls, ratio: NDArray[np.floating], scale: float) -> Errors:
        error = np.abs(ratio / scale - 1)
        return cls(float(np.median(error)), float((error > GROSS).mean()))


def measure(colmap: dict[str, dict[str, Camera]]) -> list[Row]:
    """A row per set of poses and least angle; the flow and its masks are the same for all that have every frame."""
    sources: dict[str, dict[str, Camera] | None] = {"data set": None, **colmap}
    flows: dict[bytes, PairFlow] = {}
    rows = []
    for name, cameras in sources.items():
        footage = rgbd_footage(FRAMES, SIZE, cameras)
        frames = hashlib.sha256(footage.rgb.tobytes()).digest()
        if frames not in flows:
            flows[frames] = PairFlow(footage.rgb, "dis")
        for sin2_min in ANGLES:
            rows.append(
                {"poses": name, "sin2_min": sin2_min, **errors(footage, flows[frames], sin2_min, fit=bool(cameras))}
            )
    return rows


def errors(footage: Footage, flow: PairFlow, sin2_min: float, *, fit: bool) -> Row:
    """Of the candidates, their medians, and those medians that 3 candidates or more, and at least half, agree with.

    Args:
        fit: divide by the median ratio to the truth first, for poses whose unit is arbitrary.
    """
    material = Material(footage, flow, sin2_min=sin2_min)
    single, fused, sure = [], [], []
    number: dict[int, Any] = dict.fromkeys(material.references, 0)
    for i, j in flow.kept:
        depth, valid = (values.numpy() for values in material.candidate(i, j))
        known = valid & (footage.depth[i] > 0)
        single.append(depth[known] / footage.depth[i][known])
        number[i] = number[i] + valid
    for frame, reference in material.references.items():
        known = reference.valid.numpy() & (footage.depth[frame] > 0)
        ratio = reference.depth.numpy()[known] / footage.depth[frame][known]
        votes = reference.confidence.numpy()[known]
        fused.append(ratio)
        sure.append(ratio[(votes >= 3) & (2 * votes >= np.asarray(number[frame])[known])])
    groups = [np.concatenate(group) for group in (single, fused, sure)]
    scale = float(np.median(groups[0])) if fit else 1.0
    found = [dataclasses.asdict(Errors.of(group, scale)) for group in groups]
    return {**dict(zip(GROUPS, found, strict=True)), "pairs": len(flow.kept), "scale": scale}


def run() -> Row | None:
    """Register the scene, then compare; None without the data."""
    if not SCENE.is_dir():
        return None
    poses, results = measure_scene()
    colmap = {f"COLMAP, {name}": result.cameras for name, result in results.items() if result.cameras}
    registered = [dataclasses.asdict(row) for row in poses]
    return {"registration": registered, "table": table(poses), "references": measure(colmap)}


def show(found: Row | None) -> None:
    if found is None:
        print("\nrgbd_scene: ../shared/data is not beside this checkout, left out")
        return
    print(f"\n{found['table']}")
    print(f"\nReferences of the same frames at {SIZE[0]}x{SIZE[1]}, flow dis: median relative error / share above 25 %")
    print("| poses | least sin2 | per pair | per-frame median | 3 or more, and half, agree |")
    print("|---|---|---|---|---|")
    for row in found["references"]:
        cells = [f"{row[name]['median']:.3f} / {row[name]['gross']:.2f}" for name in GROUPS]
        print(f"| {row['poses']} | {row['sin2_min']:g} | {' | '.join(cells)} |")
