"""Things that stand about in scenes, put together from solids: furniture, tracks, trees, people."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from nvds_core.synthetic.builder import Builder
from nvds_core.synthetic.motion import rotation
from nvds_core.synthetic.palette import SURFACES, hsv, material
from nvds_core.synthetic.scene import Floats, Material


def add_table(build: Builder, foot: Floats, yaw: float, size: tuple[float, float, float], skin: Material) -> float:
    """A slab on four legs or two side boards; returns the height of its top."""
    build.group()
    width, height, depth = size
    turn = rotation(yaw)
    thick = 0.02 + 0.02 * build.rng.uniform()
    build.add("box", foot + turn @ [0, -height, 0], (width / 2, thick, depth / 2), skin, turn)
    middle = -height / 2
    if build.rng.uniform() < 0.4:
        for side in (-1, 1):
            spot = foot + turn @ [side * (width / 2 - 0.05), middle, 0]
            build.add("box", spot, (0.02, height / 2 - thick, depth * 0.45), skin, turn)
    else:
        for x, z in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            spot = foot + turn @ [x * (width / 2 - 0.06), middle, z * (depth / 2 - 0.06)]
            build.add("box", spot, (0.03, height / 2 - thick, 0.03), skin, turn)
    return height + thick


def add_shelf(build: Builder, foot: Floats, yaw: float, size: tuple[float, float, float], skin: Material) -> None:
    """Two sides, a back and boards, with book rows as boxes on them."""
    build.group()
    rng, turn = build.rng, rotation(yaw)
    width, height, depth = size
    build.add("box", foot + turn @ [0, -height / 2, depth / 2], (width / 2, height / 2, 0.015), skin, turn)
    for side in (-1, 1):
        build.add("box", foot + turn @ [side * width / 2, -height / 2, 0], (0.02, height / 2, depth / 2), skin, turn)
    boards = int(rng.integers(2, 5))
    for board in range(boards + 1):
        level = height * board / boards
        build.add(
            "box", foot + turn @ [0, -max(level, 0.03), 0], (width / 2, 0.015, depth / 2), skin, turn, shadow=False
        )
        if board < boards and rng.uniform() < 0.75:
            tall, long = height / boards * rng.uniform(0.5, 0.85), width * rng.uniform(0.3, 0.95)
            books = material(
                rng, ("books", "books", "stripes", "plain"), tile=(tall, 2 * tall), upright=True, vivid=0.4
            )
            spot = [rng.uniform(-0.5, 0.5) * (width - long), -level - tall / 2 - 0.015, 0.03]
            build.add("box", foot + turn @ spot, (long / 2, tall / 2, depth * 0.4), books, turn, shadow=False)


def add_chair(build: Builder, foot: Floats, yaw: float, skin: Material) -> None:
    """A seat, a slatted or closed back, four legs."""
    build.group()
    rng, turn = build.rng, rotation(yaw)
    seat, back, half = rng.uniform(0.4, 0.5), rng.uniform(0.35, 0.55), rng.uniform(0.18, 0.25)
    build.add("box", foot + turn @ [0, -seat, 0], (half, 0.02, half), skin, turn)
    for x, z in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        tall = (seat + back) / 2 if z > 0 else seat / 2
        build.add("box", foot + turn @ [x * half * 0.9, -tall, z * half * 0.9], (0.02, tall, 0.02), skin, turn)
    if rng.uniform() < 0.5:
        build.add("box", foot + turn @ [0, -seat - 0.6 * back, half * 0.9], (half, 0.4 * back, 0.012), skin, turn)
    else:
        for slat in range(3):
            spot = [0, -seat - back * (0.4 + 0.25 * slat), half * 0.9]
            build.add("box", foot + turn @ spot, (half, 0.06 * back, 0.012), skin, turn, shadow=False)


def add_track(build: Builder, near: Floats, yaw: float) -> None:
    """Two rails on ties and posts along a gentle curve, level or rising: a railway, a bridge, a ride."""
    rng = build.rng
    height, rise, bend = rng.uniform(0.1, 5.0), rng.normal(0, 0.08), rng.normal(0, 0.06)
    length, gauge, thick = rng.uniform(1.5, 4.0), rng.uniform(0.3, 1.0), rng.uniform(0.04, 0.15)
    rail_skin = material(rng, ("plain", "stripes"), tile=(0.5, 3.0), vivid=0.5)
    post_skin = material(rng, ("plain", "wood"), tile=(0.5, 3.0), vivid=0.3)
    spot = near - [0.0, height, 0.0]
    for _ in range(int(rng.integers(4, 10))):
        build.group()
        turn = rotation(yaw, rise)
        spot = spot + turn @ [0, 0, length]
        for side in (-1, 1):
            build.add("box", spot + turn @ [side * gauge, 0, 0], (thick, thick, length * 1.03), rail_skin, turn)
        for tie in (-0.5, 0.5):
            place = spot + turn @ [0, thick, tie * length]
            build.add("box", place, (gauge * 1.2, 0.6 * thick, 0.1), post_skin, turn, shadow=False)
        if -spot[1] > 0.3:
            lean = rotation(yaw, 0.0, rng.normal(0, 0.2))
            build.add("box", spot * [1, 0.5, 1], (thick, -spot[1] / 2, thick), post_skin, lean)
        spot = spot + turn @ [0, 0, length]
        yaw, rise = yaw + bend * length, rise + rng.normal(0, 0.03)


def add_things(build: Builder, top: Floats, yaw: float, reach: tuple[float, float], count: int) -> None:
    """Small objects standing on a surface: boxes, balls, cylinders, screens. `reach` is half its width and depth."""
    rng, turn = build.rng, rotation(yaw)
    for _ in range(count):
        build.group()
        spot = top + turn @ [rng.uniform(-1, 1) * reach[0], 0.0, rng.uniform(-1, 1) * reach[1]]
        own = rotation(rng.uniform(-np.pi, np.pi) if rng.uniform() < 0.5 else yaw + rng.normal(0, 0.15))
        size = 0.3 * min(reach[0], 1.0) * np.exp(rng.uniform(np.log(0.25), np.log(1.0)))
        pick = rng.uniform()
        skin = material(rng, (*SURFACES, "poster", "poster", "page"), tile=(size, 4 * size), vivid=0.35)
        if pick < 0.25:
            screen = material(rng, ("poster", "page", "plain"), tile=(size, 3 * size), upright=True)
            build.add("box", spot - [0, 1.3 * size, 0], (1.3 * size, 0.8 * size, 0.02), screen, own)
            build.add("box", spot - [0, 0.25 * size, 0], (0.15 * size, 0.25 * size, 0.02), skin, own, shadow=False)
        elif pick < 0.55:
            half = size * rng.uniform(0.25, 1.2, 3)
            build.add("box", spot - [0, half[1], 0], half, skin, own)
        elif pick < 0.75:
            half = size * rng.uniform(0.3, 1.0, 2)
            build.add("cylinder", spot - [0, half[1], 0], (half[0] * 0.6, half[1], half[0] * 0.6), skin, own)
        elif pick < 0.9:
            half = size * rng.uniform(0.3, 0.8, 3)
            half[:] = half[1] if rng.uniform() < 0.6 else half
            build.add("ellipsoid", spot - [0, half[1], 0], half, skin, own)
        else:
            half = size * rng.uniform(0.5, 1.6, 3) * [1.0, 0.06, 1.0]
            build.add("box", spot - [0, half[1], 0], half, skin, own, shadow=False)


def add_person(build: Builder, foot: Floats, yaw: float, height: float) -> None:
    """Torso, head with hair, arms and legs of ellipsoids, in a random posture."""
    build.group()
    rng, scale = build.rng, height / 1.75
    hue = rng.uniform(0.03, 0.1)
    plain = material(rng, ("plain",), tile=(0.3, 1.0))
    skin_tone = hsv(hue, rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.95))
    skin = dataclasses.replace(plain, colours=np.stack([skin_tone * c for c in (1.0, 0.85, 0.9, 0.8)]), grain=0.1)
    hair_tone = hsv(rng.uniform(0.03, 0.12), rng.uniform(0.1, 0.7), rng.uniform(0.05, 0.7))
    hair = dataclasses.replace(plain, colours=np.stack([hair_tone * c for c in (1.0, 0.7, 0.8, 0.9)]), grain=0.4)
    shirt = material(rng, ("plain", "plain", "stripes", "plaid", "noise"), tile=(0.2, 0.8), vivid=0.35)
    trousers = material(rng, ("plain", "noise"), tile=(0.3, 1.0), vivid=0.1)
    body = rotation(yaw)

    def part(kind_half: ArrayLike, spot: ArrayLike, dress: Material, turn: Floats | None = None) -> None:
        place = foot + scale * (body @ np.asarray(spot, np.float64))
        build.add("ellipsoid", place, scale * np.asarray(kind_half), dress, body if turn is None else body @ turn)

    part((0.21, 0.33, 0.13), (0, -1.17, 0), shirt)
    part((0.18, 0.17, 0.13), (0, -0.90, 0), trousers)
    part((0.06, 0.09, 0.06), (0, -1.48, 0), skin)
    part((0.085, 0.125, 0.105), (0, -1.62, -0.01), skin)
    part((0.095, 0.105, 0.11), (0, -1.67, 0.025), hair)
    for side in (-1, 1):
        stride, swing, spread = rng.normal(0, 0.25), rng.normal(0, 0.5), rng.uniform(0.05, 0.5)
        leg = rotation(0.0, stride, 0.05 * side)
        part((0.085, 0.45, 0.095), np.array([0.1 * side, -0.88, 0]) + leg @ [0, 0.42, 0], trousers, leg)
        arm = rotation(0.0, swing, -spread * side)
        part((0.055, 0.33, 0.06), np.array([0.23 * side, -1.4, 0]) + arm @ [0, 0.3, 0], shirt, arm)
        part((0.045, 0.08, 0.05), np.array([0.23 * side, -1.4, 0]) + arm @ [0, 0.66, 0], skin, arm)


def add_tree(build: Builder, foot: Floats, height: float) -> None:
    """A trunk and a few leafy ellipsoids."""
    build.group()
    rng = build.rng
    bark = material(rng, ("wood", "noise", "blotches"), tile=(0.3, 1.0), hue=0.08, vivid=0.0)
    thick = height * rng.uniform(0.01, 0.025)
    build.add("cylinder", foot - [0, height * 0.3, 0], (thick, height * 0.3, thick), bark)
    leaf_hue = rng.uniform(0.12, 0.4) if rng.uniform() < 0.85 else rng.uniform(0.0, 0.12)
    leaves = material(rng, ("grass", "blotches", "cells"), tile=(0.1 * height, 0.4 * height), hue=leaf_hue, vivid=0.6)
    spread = height * rng.uniform(0.12, 0.3)
    for _ in range(int(rng.integers(2, 9))):
        half = spread * rng.uniform(0.25, 0.9, 3)
        spot = [rng.normal(0, 0.6) * spread, -height * rng.uniform(0.45, 0.95), rng.normal(0, 0.6) * spread]
        build.add("ellipsoid", foot + spot, half, leaves, rotation(rng.uniform(-3, 3), *rng.normal(0, 0.3, 2)))
