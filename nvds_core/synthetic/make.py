"""From a seed to a scene."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.random import Generator

from nvds_core.synthetic.builder import Builder
from nvds_core.synthetic.families import FAMILIES, FAMILY_ODDS
from nvds_core.synthetic.geometry import visible_surfaces
from nvds_core.synthetic.imaging import random_imaging
from nvds_core.synthetic.motion import camera_path
from nvds_core.synthetic.palette import random_sky
from nvds_core.synthetic.scene import Imaging, Scene
from nvds_core.synthetic.shading import shade
from nvds_core.types import ConfigError

REFERENCE_WIDTH = 192
_METERING_SIZE = (32, 24)
_ATTEMPTS = 6


def make_scene(seed: int, *, frames: int, size: tuple[int, int] = (192, 128), kind: str | None = None) -> Scene:
    """Draw a scene.

    Args:
        seed: any non-negative integer; the same seed, frame count and kind give the same scene.
        frames: length of the camera path, at least 1.
        size: (width, height) in pixels.
        kind: a family of `SCENE_KINDS`, or None to draw one from the seed.

    Raises:
        ConfigError: unknown kind, or no frames or pixels.
    """
    if kind is not None and kind not in FAMILIES:
        raise ConfigError(f"scene kind {kind!r} is unknown; take one of {', '.join(FAMILIES)}")
    if frames < 1 or min(size) < 2 or seed < 0:
        raise ConfigError(f"cannot make a scene of {frames} frames, size {size}, seed {seed}; give 1+, 2x2+ and 0+")
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = str(rng.choice(list(FAMILY_ODDS), p=list(FAMILY_ODDS.values())))
    for attempt in range(_ATTEMPTS):
        scene = _draw(rng, seed, kind or drawn, frames, size)
        middle = _metered(scene, 0), _metered(scene, frames - 1)
        if attempt == _ATTEMPTS - 1 or all(worth_seeing for _, worth_seeing in middle):
            break
    return dataclasses.replace(scene, imaging=random_imaging(rng, frames, middle[0][0]))


def _draw(rng: Generator, seed: int, kind: str, frames: int, size: tuple[int, int]) -> Scene:
    fov = np.radians(rng.uniform(35, 90))
    focal = REFERENCE_WIDTH / 2 / np.tan(fov / 2)
    sky, build = random_sky(rng), Builder(rng, frames)
    outline = FAMILIES[kind](build, sky, fov)
    path = camera_path(
        rng,
        frames,
        style=str(rng.choice(outline.styles)),
        start=outline.start,
        pitch=outline.pitch,
        roll=outline.roll,
        focus=outline.focus,
        focal=focal,
        flow=float(np.exp(rng.uniform(np.log(0.25), np.log(14.0)))),
    )
    solids, path = build.finish(path)
    rate = float(rng.choice([24.0, 25.0, 30.0]))
    zoom = 1.0 + (rng.uniform(-0.004, 0.004) if rng.uniform() < 0.06 else 0.0)
    lens = focal * size[0] / REFERENCE_WIDTH * zoom ** np.minimum(np.arange(frames), 60)
    centre = (np.array(size) - 1) / 2
    intrinsics = np.stack([lens, lens, np.full(frames, centre[0]), np.full(frames, centre[1])], axis=1)
    times = np.arange(frames) / rate
    return Scene(seed, kind, size, frames, times, solids, sky, outline.light, _NO_IMAGING, intrinsics, path)


_NO_IMAGING = Imaging(np.ones(1), np.ones((1, 3)), 2.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0)


def _metered(scene: Scene, frame: int) -> tuple[float, bool]:
    """The gain a camera would choose, and whether the view shows more than one near surface: from a tiny picture."""
    lens = scene.intrinsics[frame, 0] * _METERING_SIZE[0] / scene.size[0]
    intrinsics = np.array([[lens, lens, (_METERING_SIZE[0] - 1) / 2, (_METERING_SIZE[1] - 1) / 2]])
    tiny = dataclasses.replace(
        scene, size=_METERING_SIZE, intrinsics=np.repeat(intrinsics, frame + 1, axis=0), frames=frame + 1
    )
    surfaces = visible_surfaces(tiny, frame)
    largest = max(stop - start for _, start, stop in surfaces.runs) / len(surfaces.pixel)
    near, far = np.quantile(surfaces.depth, [0.1, 0.9])
    worth_seeing = bool(largest < 0.8 and far > 1.35 * near)
    luminance = np.array([0.25, 0.6, 0.15], np.float32) @ shade(tiny, frame, surfaces)
    middle, bright = float(np.median(luminance)), float(np.quantile(luminance, 0.92))
    return float(0.5 * (0.2 / max(middle, 0.01) + 0.8 / max(bright, 0.02))), worth_seeing
