"""Colour of visible surface points: textures, light, shadows, haze and sky. All colours are linear RGB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvds_core.synthetic.geometry import Surfaces, invert, object_pose
from nvds_core.synthetic.scene import Floats, Scene
from nvds_core.synthetic.shapes import entry_distance
from nvds_core.synthetic.textures import SIDE, sample_textures

Colours = NDArray[np.float32]
_SHADOW_BIAS = 1e-3
_MAX_CASTERS = 24


def shade(scene: Scene, frame: int, surfaces: Surfaces) -> Colours:
    """Linear RGB [3, n] of the visible points, in the order of `surfaces`."""
    runs = surfaces.runs
    sky_run = slice(runs[-1][1], runs[-1][2]) if runs[-1][0] == len(scene.solids) else None
    solid_points = slice(0, sky_run.start if sky_run else len(surfaces.pixel))
    colour = np.empty((3, len(surfaces.pixel)), np.float32)
    if sky_run:
        colour[:, sky_run] = _sky_colour(scene, frame, surfaces.world[:, sky_run])
    if solid_points.stop:
        colour[:, solid_points] = _solid_colour(scene, frame, surfaces, solid_points)
    return colour


def _solid_colour(scene: Scene, frame: int, surfaces: Surfaces, part: slice) -> Colours:
    eye = invert(scene.cam_from_world[frame])[:, 3]
    world, normal = surfaces.world[:, part].astype(np.float32), surfaces.normal[:, part].astype(np.float32)
    to_eye = eye.astype(np.float32)[:, None] - world
    distance = np.sqrt(np.einsum("cn,cn->n", to_eye, to_eye))
    to_eye /= distance
    facing = np.einsum("cn,cn->n", to_eye, normal)
    # metres one pixel spans on the surface; slanted surfaces get a middle course between blur and aliasing
    footprint = distance / np.float32(scene.intrinsics[frame, 0]) / np.sqrt(np.maximum(facing, 0.02))
    albedo, gloss = _albedo(scene, surfaces, part, footprint)
    light = scene.light
    direction, strength = _light_at(scene, world)
    lambert = np.maximum(np.einsum("cn,cn->n", direction, normal), 0.0)
    lit = strength * _unshadowed(scene, frame, surfaces, part, world, direction, lambert) if light.shadows else strength
    contact = _contact(scene, frame, world, normal, surfaces, part) if light.contact > 0 else 1.0
    upward = (0.5 - 0.5 * normal[1]) * contact
    downward = contact - upward
    direct = lit * lambert
    colour = albedo
    for channel in range(3):
        received = upward * light.ambient_up[channel]
        received += downward * light.ambient_down[channel]
        received += direct * light.colour[channel]
        colour[channel] *= received
    if gloss is not None:
        halfway = direction + to_eye
        halfway /= np.maximum(np.sqrt((halfway * halfway).sum(axis=0)), 1e-6)
        highlight = np.maximum((halfway * normal).sum(axis=0), 0.0) ** 40
        colour += light.colour[:, None] * (gloss * highlight * lit)
    if light.haze > 0:
        colour += (1.0 - np.exp(-light.haze * distance)) * (light.haze_colour[:, None] - colour)
    return colour


def _albedo(scene: Scene, surfaces: Surfaces, part: slice, footprint: Colours) -> tuple[Colours, Colours | None]:
    count = part.stop
    layer_uv = np.empty((2, 2, count), np.float32)
    layer_texels = np.empty((2, count), np.float32)
    layer_texture = np.empty((2, count), np.int32)
    for index, start, stop in surfaces.runs:
        if index == len(scene.solids):
            continue
        m, run = scene.solids[index].material, slice(start, stop)
        cos, sin = np.cos(m.turn), np.sin(m.turn)
        turn = np.array([[cos, -sin], [sin * m.stretch, cos * m.stretch]]) / m.tile
        uv = turn @ surfaces.uv[:, run] + np.array(m.offset)[:, None]
        layer_uv[0, :, run] = uv - np.floor(uv.min(axis=1, keepdims=True))  # small numbers keep float32 exact enough
        grain_uv = surfaces.uv[:, run] / m.grain_tile + np.array(m.offset)[:, None]
        layer_uv[1, :, run] = grain_uv - np.floor(grain_uv.min(axis=1, keepdims=True))
        layer_texels[0, run] = footprint[run] * (SIDE / m.tile)
        layer_texels[1, run] = footprint[run] * (SIDE / m.grain_tile)
        layer_texture[0, run], layer_texture[1, run] = m.texture, m.grain_texture
    structure = sample_textures(layer_texture[0], layer_uv[0, 0], layer_uv[0, 1], layer_texels[0])
    grain = sample_textures(layer_texture[1], layer_uv[1, 0], layer_uv[1, 1], layer_texels[1])
    albedo = np.empty((3, count), np.float32)
    gloss = None
    for index, start, stop in surfaces.runs:
        if index == len(scene.solids):
            continue
        m, run = scene.solids[index].material, slice(start, stop)
        blend = (m.colours[1:] - m.colours[0]).T @ structure[:3, run]
        blend += m.colours[0][:, None]
        blend *= 1.0 + m.shade * (structure[3, run] - 0.5) + m.grain * (grain[0, run] - 0.5) * 2.0
        blend += np.array(m.tint, np.float32)[:, None] * (grain[1, run] - 0.5)
        albedo[:, run] = blend
        if m.gloss > 0:
            gloss = np.zeros(count, np.float32) if gloss is None else gloss
            gloss[run] = m.gloss
    return np.clip(albedo, 0.005, 1.0, out=albedo), gloss


def _light_at(scene: Scene, world: Colours) -> tuple[Colours, Colours | np.float32]:
    """Unit direction to the light [3, n] (or [3, 1]) and how much of it arrives."""
    light = scene.light
    if light.position is None:
        return np.array(light.direction, np.float32)[:, None], np.float32(1.0)
    towards = np.array(light.position, np.float32)[:, None] - world
    squared = np.einsum("cn,cn->n", towards, towards)
    return towards / np.sqrt(squared), 2.0 / (1.0 + squared / np.float32(light.reach**2))


def _casters(scene: Scene, frame: int) -> list[tuple[int, Floats, float]]:
    """Index, centre and bounding radius of solids that throw shadows."""
    found = []
    for index, solid in enumerate(scene.solids):
        if solid.casts_shadow and solid.kind != "plane":
            found.append((index, solid.pose(frame)[:, 3], float(np.linalg.norm(solid.half))))
    return found[:_MAX_CASTERS]


def _unshadowed(
    scene: Scene, frame: int, surfaces: Surfaces, part: slice, world: Colours, direction: Colours, lambert: Colours
) -> Colours:
    """1 where the light is seen, 0 in shadow; only rays that pass a caster's bounding sphere are cast."""
    light = np.ones(part.stop, np.float32)
    candidates = np.flatnonzero(lambert > 0.0)
    points = np.ascontiguousarray(world[:, candidates])
    rays = np.ascontiguousarray(direction[:, candidates]) if direction.shape[1] > 1 else direction
    lamp = None if scene.light.position is None else np.array(scene.light.position, np.float32)[:, None]
    for index, centre, radius in _casters(scene, frame):
        gap = centre.astype(np.float32)[:, None] - points
        along = gap[0] * rays[0] + gap[1] * rays[1] + gap[2] * rays[2]
        squared = gap[0] * gap[0] + gap[1] * gap[1] + gap[2] * gap[2]
        close = np.flatnonzero((squared - along * along < radius * radius) & (along > -radius))
        if not len(close):
            continue
        solid = scene.solids[index]
        object_from_world = invert(object_pose(scene, index, frame))
        origin = object_from_world[:, :3] @ points[:, close] + object_from_world[:, 3:]
        ray = object_from_world[:, :3] @ (rays[:, close] if rays.shape[1] > 1 else rays)
        distance = entry_distance(solid.kind, solid.half, tuple(origin), tuple(ray))
        reach = np.inf if lamp is None else np.linalg.norm(lamp - points[:, close], axis=0)
        light[candidates[close[(distance > _SHADOW_BIAS) & (distance < reach)]]] = 0.0
    return light


def _contact(scene: Scene, frame: int, world: Colours, normal: Colours, surfaces: Surfaces, part: slice) -> Colours:
    """Ambient light left over near solids (each taken as a sphere): darkens where things stand on others."""
    left = np.ones(part.stop, np.float32)
    own = np.empty(part.stop, np.int16)
    for index, start, stop in surfaces.runs:
        own[start : min(stop, part.stop)] = index
    for index, centre, radius in _casters(scene, frame)[:10]:
        gap = centre.astype(np.float32)[:, None] - world
        squared = gap[0] * gap[0] + gap[1] * gap[1] + gap[2] * gap[2]
        close = np.flatnonzero((squared < 6.0 * radius * radius) & (own != index))
        if len(close):
            part_squared = squared[close] + 1e-6
            towards = (gap[:, close] * normal[:, close]).sum(axis=0) / np.sqrt(part_squared)
            hidden = np.maximum(towards, 0.0) * np.minimum(0.35 * radius * radius / part_squared, 1.0)
            left[close] *= 1.0 - np.float32(scene.light.contact) * hidden
    return left


def _sky_colour(scene: Scene, frame: int, world: Floats) -> Colours:
    sky = scene.sky
    up = (-world[1] / sky.radius).astype(np.float32)
    rise = np.sqrt(np.clip(up, 0.0, 1.0))
    colour = sky.horizon[:, None] + rise * (sky.zenith - sky.horizon)[:, None]
    height = np.maximum(up, 0.03) * sky.radius
    # clouds live on a plane overhead; far ones shrink towards the horizon
    u = (world[0] / height * sky.cloud_scale).astype(np.float32)
    v = (world[2] / height * sky.cloud_scale).astype(np.float32)
    texels = (SIDE * sky.cloud_scale / scene.intrinsics[frame, 0] / np.maximum(up, 0.03) ** 1.5).astype(np.float32)
    cloud = sample_textures(np.full(len(u), sky.cloud_texture, np.int32), u, v, texels)
    thickness = np.clip((cloud[0] - 1.0 + sky.cloud_cover) / sky.cloud_softness, 0.0, 1.0)
    thickness *= np.clip(up * 8.0, 0.0, 1.0)
    colour += thickness * (sky.cloud[:, None] * (0.75 + 0.5 * cloud[3]) - colour)
    return colour + np.clip(-up * 10.0, 0.0, 1.0) * (sky.ground[:, None] - colour)
