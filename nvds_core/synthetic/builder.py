"""Collects the solids of a scene in groups that move and vanish as one."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from nvds_core.synthetic.geometry import compose, invert
from nvds_core.synthetic.motion import object_motion, pose
from nvds_core.synthetic.scene import Floats, Material, ShapeKind, Solid

CLEARANCE = 0.3
"""Metres kept between the camera and every solid."""


@dataclasses.dataclass
class Builder:
    """Collects groups of solids; a group moves, and is dropped, as one."""

    rng: Generator
    frames: int
    groups: list[list[Solid]] = dataclasses.field(default_factory=list)

    def group(self) -> None:
        self.groups.append([])

    def add(
        self,
        kind: ShapeKind,
        centre: ArrayLike,
        half: ArrayLike,
        skin: Material,
        turn: Floats | None = None,
        shadow: bool = True,
    ) -> Solid:
        """Put a solid into the current group; `turn` is a [3, 3] rotation."""
        place = pose(centre, np.eye(3) if turn is None else turn)[None]
        x, y, z = (float(value) for value in np.asarray(half, np.float64))
        solid = Solid(kind, (x, y, z), place, skin, shadow)
        self.groups[-1].append(solid)
        return solid

    def plane(
        self, point: ArrayLike, turn: Floats, skin: Material, half: tuple[float, float] = (np.inf, np.inf)
    ) -> None:
        self.group()
        self.add("plane", point, (np.inf, np.inf, 0.0), skin, turn, shadow=False)

    def move_group(self, step: float, turn: float, *, ground: bool) -> None:
        """Let the current group drift, sway and spin; metres and radians per frame."""
        solids = self.groups[-1]
        pivot = np.mean([solid.world_from_object[0, :, 3] for solid in solids], axis=0)
        motion = object_motion(self.rng, self.frames, pivot, step, turn, ground)
        self.groups[-1] = [
            dataclasses.replace(s, world_from_object=np.stack([compose(m, s.pose(f)) for f, m in enumerate(motion)]))
            for s in solids
        ]

    def finish(self, cam_from_world: Floats) -> tuple[tuple[Solid, ...], Floats]:
        """All solids that never come too near the camera, and the path, kept off the planes."""
        centres = np.stack([invert(transform)[:, 3] for transform in cam_from_world])
        for group in self.groups:
            for solid in group:
                if solid.kind == "plane" and np.isinf(solid.half[0]):
                    normal, point = solid.pose(0)[:, 2], solid.pose(0)[:, 3]
                    if normal @ (centres[0] - point) < 0:
                        normal = -normal
                    missing = np.maximum(CLEARANCE - (centres - point) @ normal, 0.0)
                    centres = centres + missing[:, None] * normal
        turns = cam_from_world[:, :, :3]
        path = np.concatenate([turns, -turns @ centres[:, :, None]], axis=2)
        kept = [solid for group in self.groups if not any(_too_near(s, centres) for s in group) for solid in group]
        return tuple(kept), path


def _too_near(solid: Solid, centres: Floats) -> bool:
    if solid.kind == "plane" and np.isinf(solid.half[0]):
        return False
    poses = solid.world_from_object
    local = np.einsum("tji,tj->ti", np.broadcast_to(poses[:, :, :3], (len(centres), 3, 3)), centres - poses[:, :, 3])
    gaps = np.maximum(np.abs(local) - np.array(solid.half), 0.0)
    return bool((gaps * gaps).sum(axis=1).min() < CLEARANCE**2)
