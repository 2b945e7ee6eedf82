"""Pixels and exact truth from a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvds_core.synthetic.flow import flow_between
from nvds_core.synthetic.geometry import Surfaces, visible_surfaces
from nvds_core.synthetic.imaging import develop
from nvds_core.synthetic.scene import Scene
from nvds_core.synthetic.shading import shade
from nvds_core.types import ConfigError

# Part of the stamp of rendered data sets. Raise it with every change, anywhere in this package, after which a seed
# gives other pixels, depth or cameras: results of the old ones would be taken for those of the new ones.
RENDERER_VERSION = 1


@dataclass(frozen=True, eq=False)
class Frame:
    """One rendered frame: rgb uint8 [h, w, 3], depth float32 [h, w] metres, object_id int16 [h, w] (-1 is the sky)."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    object_id: NDArray[np.int16]

    @property
    def disparity(self) -> NDArray[np.float32]:
        """1 / depth, [h, w] in 1/m."""
        return 1.0 / self.depth


@dataclass(frozen=True, eq=False)
class Clip:
    """A rendered clip with exact truth.

    Attributes:
        rgb: uint8 [t, h, w, 3].
        depth: float32 [t, h, w] metres along the optical axis, finite and > 0 everywhere.
        object_id: int16 [t, h, w], index into the scene's solids, -1 for the sky.
        flow_to_next, flow_to_previous: float32 [t-1, 2, h, w] pixels, x first; entry i leads from frame i to i+1, and
            from frame i+1 to i. Empty where not asked for.
        occluded_next, occluded_previous: bool [t-1, h, w]; true where the pixel of frame i (of frame i+1) is not seen
            in the other frame.
        intrinsics: float64 [t, 4] fx, fy, cx, cy; pixel centres at integers.
        cam_from_world: float64 [t, 3, 4], OpenCV axes.
        times: float64 [t] seconds.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    object_id: NDArray[np.int16]
    flow_to_next: NDArray[np.float32]
    flow_to_previous: NDArray[np.float32]
    occluded_next: NDArray[np.bool_]
    occluded_previous: NDArray[np.bool_]
    intrinsics: NDArray[np.float64]
    cam_from_world: NDArray[np.float64]
    times: NDArray[np.float64]

    @property
    def disparity(self) -> NDArray[np.float32]:
        """1 / depth, [t, h, w] in 1/m."""
        return 1.0 / self.depth


def render_frame(scene: Scene, frame: int) -> Frame:
    """Render one frame of a scene; equal to that frame of `render`.

    Raises:
        ConfigError: the scene has no such frame.
    """
    if not 0 <= frame < scene.frames:
        raise ConfigError(f"frame {frame} of a scene with {scene.frames} frames; ask for 0 to {scene.frames - 1}")
    return _frame(scene, frame, visible_surfaces(scene, frame))


def _frame(scene: Scene, frame: int, surfaces: Surfaces) -> Frame:
    width, height = scene.size
    linear = np.empty((3, height * width), np.float32)
    linear[:, surfaces.pixel] = shade(scene, frame, surfaces)
    rgb = develop(scene, frame, linear.reshape(3, height, width), surfaces.object_map)
    sky = surfaces.object_map == len(scene.solids)
    return Frame(rgb, surfaces.depth_map.astype(np.float32), np.where(sky, np.int16(-1), surfaces.object_map))


def render(scene: Scene, *, flow: bool = True) -> Clip:
    """Render all frames; `flow=False` leaves out flow and occlusion (arrays of length 0)."""
    width, height = scene.size
    pairs = scene.frames - 1 if flow else 0
    flows = np.empty((2, pairs, 2, height, width), np.float32)
    occluded = np.empty((2, pairs, height, width), bool)
    pictures, previous = [], None
    for index in range(scene.frames):
        surfaces = visible_surfaces(scene, index)
        pictures.append(_frame(scene, index, surfaces))
        if flow and previous is not None:
            pair = index - 1
            flows[0, pair], occluded[0, pair] = flow_between(scene, pair, index, previous, surfaces)
            flows[1, pair], occluded[1, pair] = flow_between(scene, index, pair, surfaces, previous)
        previous = surfaces
    return Clip(
        rgb=np.stack([picture.rgb for picture in pictures]),
        depth=np.stack([picture.depth for picture in pictures]),
        object_id=np.stack([picture.object_id for picture in pictures]),
        flow_to_next=flows[0],
        flow_to_previous=flows[1],
        occluded_next=occluded[0],
        occluded_previous=occluded[1],
        intrinsics=scene.intrinsics,
        cam_from_world=scene.cam_from_world,
        times=scene.times,
    )
