"""Families of scenes: what stands where, and how the camera moves among it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from nvds_core.synthetic.builder import Builder
from nvds_core.synthetic.motion import rotation
from nvds_core.synthetic.palette import FLOORS, GROUNDS, PRINTED, SURFACES, indoor_light, material, outdoor_light
from nvds_core.synthetic.props import (
    add_chair,
    add_person,
    add_shelf,
    add_table,
    add_things,
    add_track,
    add_tree,
)
from nvds_core.synthetic.scene import Floats, Light, ShapeKind, Sky

UP = rotation(0.0, np.pi / 2)  # a plane's z turned to point upwards


@dataclass(frozen=True)
class Outline:
    """What a family decides besides the solids: light, where the camera stands, what it looks at."""

    light: Light
    start: tuple[float, float, float]
    pitch: float
    roll: float
    focus: float
    styles: tuple[str, ...]


def _in_view(rng: Generator, fov: float, near: float, far: float, height: float = 0.0) -> Floats:
    """A point at floor level (or a height) that the first camera, looking along +z, has in front of it."""
    distance = np.exp(rng.uniform(np.log(near), np.log(far)))
    angle = rng.uniform(-0.55, 0.55) * fov
    return np.array([distance * np.sin(angle), -height, distance * np.cos(angle)])


def _tilt(rng: Generator, low: float, high: float, roll: float) -> tuple[float, float]:
    return float(np.radians(rng.uniform(low, high))), float(np.radians(np.clip(rng.normal(0, roll / 2), -roll, roll)))


def _walls(build: Builder, sky: Sky) -> tuple[float, float]:
    """Floor, ceiling and four walls around the camera; returns the ceiling's height and the far wall's distance."""
    rng = build.rng
    height, yaw = rng.uniform(2.3, 3.4), rng.uniform(-np.pi, np.pi) if rng.uniform() < 0.6 else rng.normal(0, 0.15)
    room = rotation(yaw)
    build.plane([0, 0, 0], UP, material(rng, FLOORS, tile=(0.4, 3.0)))
    build.plane([0, -height, 0], UP, material(rng, ("plain", "plain", "checks", "noise"), tile=(0.6, 2.0), vivid=0.0))
    distances = np.exp(rng.uniform(np.log(1.4), np.log(5.0), 4))
    ahead = int(np.argmax([(room @ rotation(side * np.pi / 2))[2, 2] for side in range(4)]))
    distances[ahead] = rng.uniform(2.0, 7.0)
    paint = material(rng, ("plain", "plain", "stripes", "bricks", "noise", "wood"), tile=(0.5, 3.0), vivid=0.1)
    for side, distance in enumerate(distances):
        turn = room @ rotation(side * np.pi / 2)
        skin = paint if rng.uniform() < 0.7 else material(rng, SURFACES, tile=(0.5, 3.0))
        build.plane(turn @ [0, 0, distance], turn, skin)
        for _ in range(int(rng.integers(0, 4))):
            half = rng.uniform(0.15, 0.8, 2)
            spot = turn @ [rng.uniform(-2, 2), -rng.uniform(0.9, height - 0.4), distance - 0.02]
            print_skin = material(rng, PRINTED, tile=(2 * half.min(), 3 * half.max()), upright=True, vivid=0.4)
            build.group()
            build.add("box", spot, (half[0], half[1], 0.015), print_skin, turn, shadow=False)
        if rng.uniform() < 0.45:
            _counter(build, turn, distance)
    return float(height), float(distances[ahead])


def _counter(build: Builder, turn: Floats, distance: float) -> None:
    """Cupboards or a worktop along a wall, with things on it."""
    rng = build.rng
    half = np.array([rng.uniform(0.5, 2.0), rng.uniform(0.3, 0.5), rng.uniform(0.2, 0.4)])
    spot = turn @ [rng.uniform(-1.5, 1.5), 0.0, distance - half[2]]
    build.group()
    skin = material(rng, ("plain", "plain", "wood", "checks"), tile=(0.5, 1.5), upright=True)
    build.add("box", spot - [0, half[1], 0], half, skin, turn)
    top_skin = material(rng, ("plain", "wood", "noise"), tile=(0.5, 2.0))
    build.add("box", spot - [0, 2 * half[1], 0], (half[0] + 0.02, 0.02, half[2] + 0.02), top_skin, turn, shadow=False)
    top = spot - [0, 2 * half[1] + 0.02, 0]
    yaw = float(np.arctan2(turn[0, 2], turn[2, 2]))
    add_things(build, top, yaw, (half[0] * 0.95, half[2] * 0.6), int(rng.integers(1, 7)))


def _furnish(build: Builder, fov: float, far: float) -> None:
    rng = build.rng
    for _ in range(int(rng.integers(1, 6))):
        foot, yaw = _in_view(rng, fov, 0.9, max(0.8 * far, 1.5)), float(rng.uniform(-np.pi, np.pi))
        skin = material(rng, ("wood", "plain", "plain", "noise"), tile=(0.3, 1.5))
        pick = rng.uniform()
        if pick < 0.5:
            size = (rng.uniform(0.7, 2.0), rng.uniform(0.4, 1.0), rng.uniform(0.5, 1.0))
            top = add_table(build, foot, yaw, size, skin)
            add_things(build, foot - [0, top, 0], yaw, (size[0] * 0.42, size[2] * 0.42), int(rng.integers(1, 7)))
        elif pick < 0.65:
            for _ in range(int(rng.integers(1, 4))):
                spot = foot + np.array([rng.uniform(-0.8, 0.8), 0.0, rng.uniform(-0.8, 0.8)])
                add_chair(build, spot, float(rng.uniform(-np.pi, np.pi)), skin)
        elif pick < 0.8:
            add_shelf(build, foot, yaw, (rng.uniform(0.6, 1.6), rng.uniform(0.8, 2.2), rng.uniform(0.25, 0.45)), skin)
        else:
            half = np.array([rng.uniform(0.15, 0.7), rng.uniform(0.15, 0.9), rng.uniform(0.15, 0.5)])
            build.group()
            build.add("box", foot - [0, half[1], 0], half, material(rng), rotation(yaw))
            add_things(build, foot - [0, 2 * half[1], 0], yaw, (half[0], half[2]), int(rng.integers(0, 4)))


def room(build: Builder, sky: Sky, fov: float) -> Outline:
    rng = build.rng
    height, far = _walls(build, sky)
    _furnish(build, fov, far)
    if rng.uniform() < 0.3:
        add_things(build, _in_view(rng, fov, 1.0, 3.0, rng.uniform(0.3, 1.5)), 0.0, (0.5, 0.5), 1)
        build.move_group(rng.uniform(0.002, 0.04), rng.uniform(0, 0.05), ground=False)
    eye = rng.uniform(0.8, min(2.0, height - 0.35))
    pitch, roll = _tilt(rng, -40, 15, 8)
    return Outline(
        indoor_light(rng, height, 2.0), (0, -float(eye), 0), pitch, roll, float(rng.uniform(1.2, 3.0)),
        ("handheld", "handheld", "handheld", "smooth", "rotation", "orbit", "static", "forward"),
    )  # fmt: skip


def _landscape(build: Builder, fov: float) -> None:
    rng = build.rng
    slope = rotation(rng.uniform(-3, 3), np.pi / 2 + rng.normal(0, 0.03))
    hue = rng.uniform(0.2, 0.35) if rng.uniform() < 0.6 else rng.uniform(0.05, 0.15)
    build.plane([0, 0, 0], slope, material(rng, GROUNDS, tile=(1.0, 8.0), hue=hue, vivid=0.3))
    if rng.uniform() < 0.4:  # a road or path: a thin slab, a little above the ground
        turn = rotation(rng.normal(0, 0.3))
        build.group()
        half = np.array([rng.uniform(0.8, 5.0), 0.02, rng.uniform(30, 150)])
        road = material(rng, ("plain", "noise", "bricks", "stripes"), tile=(1.0, 5.0), vivid=0.0)
        build.add("box", turn @ [rng.normal(0, 2), 0.0, half[2] * 0.8], half, road, turn, shadow=False)
    for _ in range(int(rng.integers(0, 4))):
        spot = _in_view(rng, fov * 1.2, 60, 180)
        half = np.array([rng.uniform(15, 80), rng.uniform(4, 30), rng.uniform(10, 40)])
        hill = material(rng, ("grass", "blotches", "noise"), tile=(8.0, 40.0), hue=hue, vivid=0.3)
        build.group()
        build.add("ellipsoid", spot, half, hill, rotation(rng.uniform(-3, 3)), shadow=False)


def _roadside(build: Builder, fov: float) -> None:
    """Poles and rails; cars, crates and stones, some of which drive away."""
    rng = build.rng
    for _ in range(int(rng.integers(0, 5))):
        build.group()
        spot, tall, thin = _in_view(rng, fov, 2, 25), rng.uniform(0.5, 3), rng.uniform(0.03, 0.15)
        skin = material(rng, ("plain", "wood", "stripes"), tile=(0.3, 2.0))
        if rng.uniform() < 0.6:
            build.add("cylinder", spot - [0, tall, 0], (thin, tall, thin), skin)
        else:
            lean = rotation(rng.uniform(-np.pi, np.pi), rng.normal(0, 0.3), rng.normal(0, 0.2))
            build.add("box", spot - [0, 0.4 * tall, 0], (thin, thin, rng.uniform(1, 8)), skin, lean)
    for _ in range(int(rng.integers(0, 5))):
        half = rng.uniform(0.2, 1.0, 3) * [1, 0.8, 2]
        build.group()
        kind: ShapeKind = "box" if rng.uniform() < 0.65 else "ellipsoid"
        spot = _in_view(rng, fov, 2.5, 20) - [0, half[1] * 0.95, 0]
        build.add(kind, spot, half, material(rng, tile=(0.5, 3.0), vivid=0.4), rotation(rng.uniform(-np.pi, np.pi)))
        if rng.uniform() < 0.35:
            build.move_group(rng.uniform(0.02, 0.3), rng.uniform(0, 0.02), ground=True)


def outdoor(build: Builder, sky: Sky, fov: float) -> Outline:
    rng = build.rng
    _landscape(build, fov)
    town, wood = rng.uniform(0, 1, 2) < 0.6
    for _ in range(int(rng.integers(1, 6)) if town else 0):
        half = np.array([rng.uniform(2, 10), rng.uniform(1.5, 15), rng.uniform(2, 10)])
        spot = _in_view(rng, fov * 1.2, 9, 80) - [0, half[1] - 0.5, 0]
        skin = material(rng, ("facade", "facade", "bricks", "plain"), tile=(4.0, 12.0), upright=True)
        build.group()
        build.add("box", spot, half, skin, rotation(rng.uniform(-np.pi, np.pi)))
    for _ in range(int(rng.integers(2, 8)) if wood or not town else int(rng.integers(0, 3))):
        add_tree(build, _in_view(rng, fov, 3, 50), float(rng.uniform(2, 12)))
    if rng.uniform() < 0.3:
        add_track(build, _in_view(rng, fov, 2, 12), float(rng.uniform(-1.8, 1.8)))
    _roadside(build, fov)
    pitch, roll = _tilt(rng, -20, 20, 8)
    return Outline(
        outdoor_light(rng, sky), (0, -float(rng.uniform(1.0, 3.0)), 0), pitch, roll, float(rng.uniform(4, 12)),
        ("forward", "forward", "forward", "handheld", "smooth", "rotation", "static", "orbit"),
    )  # fmt: skip


def tabletop(build: Builder, sky: Sky, fov: float) -> Outline:
    rng = build.rng
    focus, pitch = rng.uniform(0.6, 1.3), -np.radians(rng.uniform(20, 65))
    eye, ahead = focus * np.sin(-pitch), focus * np.cos(pitch)
    back = rng.uniform(0.8, 4.0)
    build.plane([0, 0, 0], UP, material(rng, (*FLOORS, "poster", "page"), tile=(0.15, 1.5)))
    wall = rotation(rng.normal(0, 0.4))
    build.plane(
        [0, 0, ahead + back], wall, material(rng, (*SURFACES, "books", "facade"), tile=(0.3, 2.0), upright=True)
    )
    add_things(build, np.array([0.0, 0.0, ahead]), 0.0, (0.45, 0.4), int(rng.integers(3, 13)))
    for _ in range(int(rng.integers(0, 3))):
        add_things(build, np.array([rng.uniform(-0.3, 0.3), 0.0, ahead]), 0.0, (0.3, 0.3), 1)
        build.move_group(rng.uniform(0.001, 0.02), rng.uniform(0, 0.04), ground=rng.uniform() < 0.7)
    return Outline(
        indoor_light(rng, 1.8, 1.0), (0, -float(max(eye, 0.35)), 0), float(pitch), float(rng.normal(0, 0.08)), focus,
        ("handheld", "handheld", "orbit", "orbit", "smooth", "static", "rotation"),
    )  # fmt: skip


_FLOATING: tuple[ShapeKind, ...] = ("box", "box", "ellipsoid", "cylinder", "plane")


def clutter(build: Builder, sky: Sky, fov: float) -> Outline:
    rng = build.rng
    scale = np.exp(rng.uniform(np.log(1.0), np.log(5.0)))
    far = scale * rng.uniform(2, 8)
    if rng.uniform() < 0.8:
        turn = rotation(rng.normal(0, 0.35), rng.normal(0, 0.35))
        build.plane([0, 0, far], turn, material(rng, (*SURFACES, *PRINTED), tile=(0.3 * far, 2 * far), vivid=0.4))
    if rng.uniform() < 0.4:
        build.plane([0, scale * rng.uniform(0.4, 1.0), 0], UP, material(rng, FLOORS, tile=(0.3 * scale, 2 * scale)))
    tumbling = rng.uniform(0, 1)
    for _ in range(int(rng.integers(4, 16))):
        build.group()
        distance = np.exp(rng.uniform(np.log(0.6 * scale), np.log(far)))
        spread = np.tan(fov / 2) * distance
        centre = np.array([rng.uniform(-1, 1) * spread, rng.uniform(-0.7, 0.7) * spread, distance])
        half = distance * np.exp(rng.uniform(np.log(0.04), np.log(0.3))) * rng.uniform(0.25, 1.3, 3)
        kind = _FLOATING[int(rng.integers(0, 5))]
        if kind == "ellipsoid" and rng.uniform() < 0.5:
            half[:] = half.mean()
        if kind == "cylinder":
            half[2] = half[0]
        skin = material(rng, (*SURFACES, *PRINTED, "grass"), tile=(half.max(), 5 * half.max()), vivid=0.4)
        build.add(kind, centre, half, skin, rotation(*rng.uniform(-np.pi, np.pi, 3)))
        if rng.uniform() < tumbling:
            flow = np.exp(rng.uniform(np.log(0.0005), np.log(0.04)))
            build.move_group(distance * flow, rng.uniform(0, 0.08), ground=False)
    pitch, roll = _tilt(rng, -15, 15, 15)
    light = indoor_light(rng, 2 * scale, scale) if rng.uniform() < 0.5 else outdoor_light(rng, sky)
    styles = ("handheld", "smooth", "rotation", "forward", "orbit", "static")
    return Outline(light, (0.0, 0.0, 0.0), pitch, roll, float(scale * 1.5), styles)


def people(build: Builder, sky: Sky, fov: float) -> Outline:
    rng = build.rng
    inside = rng.uniform() < 0.5
    base = room(build, sky, fov) if inside else outdoor(build, sky, fov)
    near = rng.uniform(0.9, 2.5)
    for _ in range(int(rng.integers(1, 6))):
        foot = _in_view(rng, 0.7 * fov, near, 5.0 if inside else 12.0)
        add_person(build, foot, float(rng.uniform(-np.pi, np.pi)), float(rng.uniform(1.2, 1.95)))
        if rng.uniform() < 0.75:
            build.move_group(np.exp(rng.uniform(np.log(0.002), np.log(0.08))), rng.uniform(0, 0.04), ground=True)
    eye = rng.uniform(1.1, 1.8)
    pitch, roll = _tilt(rng, -15, 8, 5)
    styles = ("static", "handheld", "handheld", "smooth", "rotation", "orbit")
    return Outline(base.light, (0, -float(eye), 0), pitch, roll, float(near * 1.3), styles)


FAMILIES: dict[str, Callable[[Builder, Sky, float], Outline]] = {
    "room": room, "outdoor": outdoor, "tabletop": tabletop, "clutter": clutter, "people": people,
}  # fmt: skip
FAMILY_ODDS = {"room": 0.34, "outdoor": 0.22, "tabletop": 0.12, "clutter": 0.16, "people": 0.16}
