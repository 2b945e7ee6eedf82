"""Random colours, materials and illumination."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nvds_core.synthetic.scene import Light, Material, Sky
from nvds_core.synthetic.textures import texture_names

Colour = NDArray[np.float32]
SURFACES = (
    "plain",
    "plain",
    "plain",
    "plain",
    "noise",
    "blotches",
    "stripes",
    "plaid",
    "bricks",
    "dots",
    "wood",
    "cells",
    "checks",
)
PRINTED = ("poster", "page", "books", "facade", "plaid", "stripes", "checks", "dots")
FLOORS = ("wood", "wood", "checks", "bricks", "noise", "plain", "plain", "plain", "cells", "grass")
GROUNDS = ("grass", "grass", "noise", "blotches", "bricks", "cells")
GRAINS = ("noise", "grass", "blotches", "plain")


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Linear RGB of a colour given in HSV (hue in turns), gamma 2.2."""
    sector = (hue * 6.0 + np.array([5.0, 3.0, 1.0])) % 6.0
    srgb = value * (1.0 - saturation * np.clip(np.minimum(sector, 4.0 - sector), 0.0, 1.0))
    return (np.clip(srgb, 0.0, 1.0) ** 2.2).astype(np.float32)


def usual_hue(rng: Generator) -> float:
    """Hues as they are met: mostly wood and brick, greens, blues; at times any."""
    centre, width = ((0.08, 0.04), (0.08, 0.04), (0.28, 0.06), (0.6, 0.05), (0.5, 0.5))[int(rng.integers(0, 5))]
    return float(rng.normal(centre, width) % 1.0)


def palette(rng: Generator, hue: float | None = None, vivid: float = 0.2) -> Colour:
    """[4, 3] colours that go together: mostly pale and of kindred hue, sometimes strong."""
    base = usual_hue(rng) if hue is None else hue + rng.normal(0, 0.04)
    strong = rng.uniform() < vivid
    spread = rng.choice([0.02, 0.05, 0.12, 0.5])
    value, contrast = rng.uniform(0.15, 0.95), rng.uniform(0.1, 0.9) ** 2 * 0.8
    common = rng.uniform(0.4, 1.0) if strong else rng.beta(1.3, 4.0)
    colours = []
    for _ in range(4):
        saturation = float(np.clip(common + rng.normal(0, 0.5 * spread), 0.0, 1.0))
        tone = np.clip(value + rng.uniform(-1, 1) * contrast, 0.03, 0.97)
        colours.append(hsv((base + rng.normal(0, spread)) % 1.0, saturation, tone))
    return np.stack(colours)


def material(
    rng: Generator,
    names: tuple[str, ...] = SURFACES,
    *,
    tile: tuple[float, float] = (0.3, 2.0),
    hue: float | None = None,
    vivid: float = 0.2,
    upright: bool = False,
) -> Material:
    """A random material; `upright` keeps the pattern's vertical, as on shelves, posters and facades."""
    bank = texture_names()
    size = float(np.exp(rng.uniform(*np.log(tile))))
    turn = 0.0 if upright else float(rng.choice([0.0, np.pi / 2, rng.uniform(0, 2 * np.pi)]))
    return Material(
        texture=int(rng.choice(bank[str(rng.choice(names))])),
        tile=size,
        turn=turn,
        stretch=float(np.exp(rng.normal(0, 0.2))),
        offset=(float(rng.uniform()), float(rng.uniform())),
        colours=palette(rng, hue, vivid),
        shade=float(rng.uniform(0.1, 1.0)),
        grain_texture=int(rng.choice(bank[str(rng.choice(GRAINS))])),
        grain_tile=size * float(np.exp(rng.uniform(np.log(0.3), np.log(4.0)))),
        grain=float(rng.uniform(0.05, 0.9) ** 2),
        tint=tuple(rng.normal(0, 0.025, 3).tolist()),
        gloss=float(rng.uniform(0.1, 0.6)) if rng.uniform() < 0.2 else 0.0,
    )


def indoor_light(rng: Generator, height: float, span: float) -> Light:
    """A lamp under the ceiling, or light from a window side."""
    warm = hsv(rng.uniform(0.05, 0.15), rng.uniform(0, 0.3), 1.0) if rng.uniform() < 0.7 else hsv(0.6, 0.12, 1.0)
    position = (float(rng.uniform(-span, span)), float(-height * rng.uniform(0.75, 0.98)), float(rng.uniform(-1, span)))
    fill = rng.uniform(0.15, 0.7)
    return Light(
        direction=(0.0, -1.0, 0.0),
        position=position,
        reach=float(rng.uniform(1.5, 6.0)),
        colour=warm * np.float32(rng.uniform(0.6, 1.6)),
        ambient_up=(hsv(rng.uniform(), 0.08, 1.0) * fill).astype(np.float32),
        ambient_down=(hsv(0.08, 0.2, 0.9) * fill * rng.uniform(0.5, 0.9)).astype(np.float32),
        shadows=bool(rng.uniform() < 0.6),
        contact=float(rng.uniform(0.4, 1.0)) if rng.uniform() < 0.7 else 0.0,
        haze=0.0,
        haze_colour=np.zeros(3, np.float32),
    )


def outdoor_light(rng: Generator, sky: Sky) -> Light:
    """Sun or overcast, with some haze in the colour of the horizon."""
    elevation, azimuth = rng.uniform(0.25, 1.4), rng.uniform(0, 2 * np.pi)
    overcast = rng.uniform() < 0.35
    sun = hsv(rng.uniform(0.06, 0.14), rng.uniform(0, 0.3), 1.0) * (0.25 if overcast else rng.uniform(0.8, 2.0))
    ambient = (sky.zenith + 0.6) * rng.uniform(0.2, 0.5)
    flat = np.cos(elevation)
    return Light(
        direction=(float(flat * np.cos(azimuth)), float(-np.sin(elevation)), float(flat * np.sin(azimuth))),
        position=None,
        reach=1.0,
        colour=sun.astype(np.float32),
        ambient_up=ambient.astype(np.float32),
        ambient_down=(ambient * [0.6, 0.55, 0.45]).astype(np.float32),
        shadows=not overcast,
        contact=float(rng.uniform(0.3, 0.9)) if rng.uniform() < 0.6 else 0.0,
        haze=float(1.0 / np.exp(rng.uniform(np.log(40), np.log(2000)))) if rng.uniform() < 0.7 else 0.0,
        haze_colour=sky.horizon,
    )


def random_sky(rng: Generator) -> Sky:
    """Blue, grey or dusk, with clouds between none and closed."""
    mood = rng.uniform()
    if mood < 0.55:
        zenith, horizon = (
            hsv(rng.uniform(0.56, 0.64), rng.uniform(0.3, 0.8), rng.uniform(0.5, 0.95)),
            hsv(0.57, 0.15, 0.95),
        )
    elif mood < 0.85:
        grey = rng.uniform(0.55, 0.98)
        zenith, horizon = hsv(0.6, rng.uniform(0, 0.15), grey * 0.9), hsv(0.58, rng.uniform(0, 0.1), grey)
    else:
        zenith, horizon = hsv(rng.uniform(0.6, 0.75), 0.5, rng.uniform(0.2, 0.6)), hsv(rng.uniform(0, 0.12), 0.5, 0.95)
    names = texture_names()
    return Sky(
        radius=float(np.exp(rng.uniform(np.log(200), np.log(1000)))),
        zenith=zenith,
        horizon=horizon,
        ground=(horizon * 0.5).astype(np.float32),
        cloud=hsv(0.6, rng.uniform(0, 0.1), rng.uniform(0.75, 1.0)),
        cloud_texture=int(rng.choice(names["noise"])),
        cloud_scale=float(rng.uniform(0.05, 0.3)),
        cloud_cover=float(rng.uniform(0.2, 0.75)),
        cloud_softness=float(rng.uniform(0.05, 0.4)),
    )
