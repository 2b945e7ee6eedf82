"""Scenes in which nothing but the camera moves: exact flow and poses between any two frames."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nvds_core.synthetic.flow import flow_between
from nvds_core.synthetic.geometry import Surfaces, compose, visible_surfaces
from nvds_core.synthetic.make import make_scene
from nvds_core.synthetic.motion import pose, rotation
from nvds_core.synthetic.scene import Floats, Scene
from nvds_core.types import ConfigError

MOTIONS: Final[dict[str, tuple[float, float, float]]] = {  # metres per frame, in axes of the first camera
    "sideways": (0.08, 0.0, 0.0),
    "diagonal": (0.05, 0.03, 0.05),
    "forward": (0.0, 0.0, 0.09),
    "still": (0.0, 0.0, 0.0),
    "turning": (0.0, 0.0, 0.0),
}
TURN: Final = 0.01  # radians per frame about the vertical, in all but forward and still


def still_scene(
    seed: int, motion: str, *, frames: int, size: tuple[int, int], kind: str = "room", speed: float = 1.0
) -> Scene:
    """A scene of `make_scene` whose objects stand still and whose camera goes straight, seen by a perfect camera.

    Args:
        motion: one of `MOTIONS`; ``turning`` only turns and ``still`` does not move at all.
        speed: factor on distances.

    Raises:
        ConfigError: unknown motion or kind.
    """
    if motion not in MOTIONS:
        raise ConfigError(f"motion {motion!r} is unknown; take one of {', '.join(MOTIONS)}")
    scene = make_scene(seed, frames=frames, size=size, kind=kind).without_imaging()
    time = np.arange(frames)
    turn = TURN * time if motion not in ("forward", "still") else 0.0 * time
    centres = speed * time[:, None] * np.array(MOTIONS[motion])
    turns = np.swapaxes(rotation(turn), -1, -2)
    moves = pose(-(turns @ centres[..., None])[..., 0], turns)
    return dataclasses.replace(
        scene,
        solids=tuple(dataclasses.replace(solid, world_from_object=solid.pose(0)[None]) for solid in scene.solids),
        cam_from_world=compose(moves, scene.cam_from_world[0]),
        intrinsics=np.repeat(scene.intrinsics[:1], frames, axis=0),
    )


class ExactVideo:
    """Depth of each frame, and flow between any two, of a scene.

    Attributes:
        depth: float64 ``[t, h, w]`` metres.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._surfaces: list[Surfaces] = [visible_surfaces(scene, frame) for frame in range(scene.frames)]
        self.depth: Floats = np.stack([surfaces.depth_map for surfaces in self._surfaces])

    def flow(self, source: int, target: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Flow ``[2, h, w]`` in pixels and ``[h, w]`` what of the source is not seen in the target."""
        return flow_between(self.scene, source, target, self._surfaces[source], self._surfaces[target])

    def relative_pose(self, source: int, target: int) -> Floats:
        """``cam_target_from_cam_source``, ``[3, 4]``."""
        first, second = self.scene.cam_from_world[source], self.scene.cam_from_world[target]
        turn = second[:, :3] @ first[:, :3].T
        return np.concatenate([turn, second[:, 3:] - turn @ first[:, 3:]], axis=1)
