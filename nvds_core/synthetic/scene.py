"""What a synthetic scene is made of: solids, materials, light, camera path and the imaging chain.

World axes follow OpenCV: x right, y down, z ahead; heights above the floor are negative y. Lengths are metres.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ShapeKind = Literal["plane", "box", "ellipsoid", "cylinder"]
Floats = NDArray[np.float64]

NEAREST_SURFACE = 0.2
"""Metres; a solid that begins nearer than this along a ray is not seen by that ray."""


@dataclass(frozen=True, eq=False)
class Material:
    """Two texture layers in surface coordinates: a structure with four colours, and a grain over it.

    `colours` is [4, 3] linear RGB: a ground colour and three that the structure's channels blend in.
    `tile` and `grain_tile` are the metres one repetition covers.
    """

    texture: int
    tile: float
    turn: float
    stretch: float
    offset: tuple[float, float]
    colours: NDArray[np.float32]
    shade: float
    grain_texture: int
    grain_tile: float
    grain: float
    tint: tuple[float, float, float]
    gloss: float = 0.0


@dataclass(frozen=True, eq=False)
class Solid:
    """One convex primitive.

    `half` are its half extents along its own axes: a plane lies in its x-y (infinite extents are allowed, z is
    ignored), a cylinder stands along y. `world_from_object` is [t, 3, 4], or [1, 3, 4] where it never moves.
    """

    kind: ShapeKind
    half: tuple[float, float, float]
    world_from_object: Floats
    material: Material
    casts_shadow: bool = True

    def pose(self, frame: int) -> Floats:
        """The [3, 4] transform from object to world coordinates in a frame."""
        return self.world_from_object[min(frame, len(self.world_from_object) - 1)]


@dataclass(frozen=True, eq=False)
class Sky:
    """The sphere around everything: far background, its gradient and clouds. Colours are linear RGB."""

    radius: float
    zenith: NDArray[np.float32]
    horizon: NDArray[np.float32]
    ground: NDArray[np.float32]
    cloud: NDArray[np.float32]
    cloud_texture: int
    cloud_scale: float
    cloud_cover: float
    cloud_softness: float


@dataclass(frozen=True, eq=False)
class Light:
    """One lamp (`position` set) or one distant light (`direction`, pointing to it), ambient light and haze."""

    direction: tuple[float, float, float]
    position: tuple[float, float, float] | None
    reach: float
    colour: NDArray[np.float32]
    ambient_up: NDArray[np.float32]
    ambient_down: NDArray[np.float32]
    shadows: bool
    contact: float
    haze: float
    haze_colour: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Imaging:
    """From linear light to 8-bit pixels: everything that changes the picture but not the geometry.

    `gain` is [t] and `white_balance` [t, 3]. `noise` and `shot_noise` are standard deviations in units of full scale
    (the second grows with the square root of the signal), `blur` is a sigma in pixels at width 192, `jpeg` a quality
    or 0 for none, `soft_edges` blends the pixels at object borders as a finite pixel would.
    """

    gain: Floats
    white_balance: Floats
    gamma: float
    contrast: float
    blur: float
    vignette: float
    noise: float
    shot_noise: float
    jpeg: int
    soft_edges: bool = True


@dataclass(frozen=True, eq=False)
class Scene:
    """A complete description; `render` turns it into pixels and truth.

    Attributes:
        size: (width, height) in pixels.
        intrinsics: [t, 4] fx, fy, cx, cy; pixel centres are integers.
        cam_from_world: [t, 3, 4].
        times: [t] seconds.
    """

    seed: int
    kind: str
    size: tuple[int, int]
    frames: int
    times: Floats
    solids: tuple[Solid, ...]
    sky: Sky
    light: Light
    imaging: Imaging
    intrinsics: Floats
    cam_from_world: Floats

    def without_imaging(self) -> Scene:
        """The same scene through a perfect camera: constant exposure, no noise, blur, vignette or compression."""
        steady = np.full(self.frames, float(np.median(self.imaging.gain)))
        neutral = dataclasses.replace(
            self.imaging,
            gain=steady,
            white_balance=np.ones((self.frames, 3)),
            blur=0.0,
            vignette=0.0,
            noise=0.0,
            shot_noise=0.0,
            jpeg=0,
            soft_edges=False,
        )
        return dataclasses.replace(self, imaging=neutral)
