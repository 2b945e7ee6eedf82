"""Rigid paths: of the camera, and of objects that move by themselves. Rotations are [t, 3, 3], poses [t, 3, 4]."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from nvds_core.synthetic.scene import Floats

CAMERA_STYLES = ("static", "handheld", "smooth", "rotation", "forward", "orbit")


def rotation(yaw: ArrayLike, pitch: ArrayLike = 0.0, roll: ArrayLike = 0.0) -> Floats:
    """[..., 3, 3]: roll about z, then pitch about x (positive lifts +z), then yaw about y (positive turns +z to +x)."""
    yaw, pitch, roll = np.broadcast_arrays(*(np.asarray(angle, np.float64) for angle in (yaw, pitch, roll)))
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)

    def matrix(rows: list[list[Floats]]) -> Floats:
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

    about_y = matrix([[np.cos(yaw), zero, np.sin(yaw)], [zero, one, zero], [-np.sin(yaw), zero, np.cos(yaw)]])
    about_x = matrix([[one, zero, zero], [zero, np.cos(pitch), -np.sin(pitch)], [zero, np.sin(pitch), np.cos(pitch)]])
    about_z = matrix([[np.cos(roll), -np.sin(roll), zero], [np.sin(roll), np.cos(roll), zero], [zero, zero, one]])
    # the camera's y points down, hence a positive angle about x turns +z towards -y: upwards
    return about_y @ about_x @ about_z


def pose(centre: ArrayLike, turn: Floats) -> Floats:
    """[..., 3, 4] from a position and a rotation."""
    return np.concatenate([turn, np.asarray(centre, np.float64)[..., None]], axis=-1)


def wander(rng: Generator, frames: int, slowest: float, fastest: float) -> Floats:
    """Band-limited noise [t] that starts at 0 and moves by about one unit per frame at its quickest.

    The band is in cycles per frame.
    """
    time = np.arange(frames)
    frequencies = np.exp(rng.uniform(np.log(slowest), np.log(fastest), 5)) * 2 * np.pi
    phases, weights = rng.uniform(0, 2 * np.pi, 5), rng.uniform(0.3, 1.0, 5)
    waves = weights / weights.sum() / frequencies * np.sin(time[:, None] * frequencies + phases)
    path = waves.sum(axis=1)
    return 2.0 * (path - path[0])


def glide(rng: Generator, frames: int, speed: float, reach: float) -> Floats:
    """[t] that begins at 0 with about `speed` per frame and swings back before it is `2 * reach` away."""
    rate = speed / max(reach, 1e-9)
    phase = rng.uniform(-0.6, 0.6)
    return reach * (np.sin(rate * np.arange(frames) + phase) - np.sin(phase))


def unit_vector(rng: Generator, flatness: float = 1.0) -> Floats:
    vector = rng.standard_normal(3) * [1.0, flatness, 1.0]
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def camera_path(
    rng: Generator,
    frames: int,
    *,
    style: str,
    start: tuple[float, float, float],
    pitch: float,
    roll: float,
    focus: float,
    focal: float,
    flow: float,
) -> Floats:
    """cam_from_world [t, 3, 4] of a camera that first looks along +z, tilted by pitch and roll (radians).

    Args:
        style: one of `CAMERA_STYLES`.
        focus: metres to what is looked at; translation is scaled by it.
        focal: focal length in pixels at width 192.
        flow: pixels per frame at width 192 the motion shall cause, roughly.
    """
    step, turn = flow * focus / focal, flow / focal
    position = np.zeros((frames, 3))
    angles = np.zeros((frames, 3))
    share = rng.uniform(0.2, 0.9)
    if style == "handheld":
        move = np.stack([wander(rng, frames, 0.008, 0.15) for _ in range(6)], axis=1)
        position, angles = move[:, :3] * step * share, move[:, 3:] * turn * (1 - share) * [1.0, 1.0, 0.6]
    elif style == "smooth":
        position = glide(rng, frames, step * share, 0.4 * focus)[:, None] * unit_vector(rng, 0.4)
        angles[:, 0] = glide(rng, frames, turn * (1 - share) * rng.choice([-1, 1]), 0.5)
        angles[:, 1] = glide(rng, frames, 0.3 * turn * (1 - share), 0.15)
    elif style == "rotation":
        position = glide(rng, frames, 0.15 * step, 0.2 * focus)[:, None] * unit_vector(rng, 0.4)
        angles[:, 0] = glide(rng, frames, turn * rng.choice([-1, 1]), 0.9)
        angles[:, 1] = glide(rng, frames, turn * rng.uniform(-0.4, 0.4), 0.25)
        angles[:, 2] = glide(rng, frames, turn * rng.uniform(-1, 1), 0.3)
    elif style == "forward":
        position[:, 2] = np.arange(frames) * 2.0 * step * rng.choice([1, 1, 1, -1])
        angles[:, 0] = glide(rng, frames, rng.uniform(-0.4, 0.4) * turn, 0.3)
        angles[:, 2] = glide(rng, frames, rng.uniform(-0.6, 0.6) * turn, 0.15)
        position[:, 0] = np.cumsum(np.sin(angles[:, 0])) * 2.0 * step
    elif style == "orbit":
        angles[:, 0] = glide(rng, frames, rng.uniform(0.3, 1.0) * turn * rng.choice([-1, 1]), 0.5)
        position[:, 0], position[:, 2] = -focus * np.sin(angles[:, 0]), focus * (1 - np.cos(angles[:, 0]))
    if style not in ("static", "handheld") and rng.uniform() < 0.6:
        shake = np.stack([wander(rng, frames, 0.02, 0.2) for _ in range(6)], axis=1) * rng.uniform(0.05, 0.4)
        position, angles = position + shake[:, :3] * step * 0.4, angles + shake[:, 3:] * turn * 0.5
    turns = rotation(angles[:, 0], pitch + angles[:, 1], roll + angles[:, 2])
    turns_inverse = np.swapaxes(turns, 1, 2)
    centres = np.asarray(start) + position
    return np.concatenate([turns_inverse, -turns_inverse @ centres[:, :, None]], axis=2)


def object_motion(rng: Generator, frames: int, pivot: ArrayLike, step: float, turn: float, ground: bool) -> Floats:
    """World-to-world motion [t, 3, 4] about a pivot: a drift, a swing and a spin.

    Args:
        step, turn: metres and radians per frame, roughly.
        ground: keep to the horizontal plane and turn about the vertical only.
    """
    heading = unit_vector(rng, 0.0 if ground else 1.0)
    drift = np.arange(frames)[:, None] * step * heading if rng.uniform() < 0.5 else np.zeros((frames, 3))
    sway = np.stack([wander(rng, frames, 0.01, 0.08) for _ in range(3)], axis=1) * step * [1, 0 if ground else 1, 1]
    spin = wander(rng, frames, 0.005, 0.05) if rng.uniform() < 0.6 else np.arange(frames) * 1.0
    angles = [spin * turn * rng.uniform(-1, 1) for _ in range(3)]
    turns = rotation(angles[0], 0.0 if ground else angles[1], 0.0 if ground else angles[2])
    pivot = np.asarray(pivot, np.float64)
    return pose(pivot - turns @ pivot + drift + sway, turns)
