"""Small rendered videos in which the motion of the camera is chosen: what COLMAP can and cannot solve."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nvds_core.geometry.colmap import write_pictures
from nvds_core.synthetic import Scene, make_scene, render_frame

SIZE = (320, 240)


def moving_scene(frames: int, *, step: float = 0.06, turn: float = 0.0, seed: int = 2) -> Scene:
    """A still table top; the camera goes `step` metres to the right and turns by `turn` radians per frame."""
    scene = make_scene(seed, frames=1, size=SIZE, kind="tabletop").without_imaging()
    start = scene.cam_from_world[0]
    places = np.arange(frames) - (frames - 1) / 2
    moved = np.repeat(start[None], frames, axis=0)
    for index, place in enumerate(places):
        rotation = cv2.Rodrigues(np.array([0.2 * turn * place, turn * place, 0.1 * turn * place]))[0]
        moved[index, :, 3] -= (step * place, 0.2 * step * place, 0.1 * step * abs(place))
        moved[index] = rotation @ moved[index]
    gain = np.full(frames, scene.imaging.gain[0])
    imaging = dataclasses.replace(scene.imaging, gain=gain, white_balance=np.ones((frames, 3)))
    intrinsics = np.repeat(scene.intrinsics[:1], frames, axis=0)
    return dataclasses.replace(
        scene, frames=frames, times=np.arange(frames) / 25, intrinsics=intrinsics, cam_from_world=moved, imaging=imaging
    )


def write_video(folder: Path, scene: Scene, *, noise: float = 2.0, blank: range = range(0)) -> list[Path]:
    """Render a scene with a little noise in every frame; the frames in `blank` are grey."""
    rng = np.random.default_rng(0)

    def picture(index: int) -> NDArray[np.uint8]:
        clean = np.full((*SIZE[::-1], 3), 128.0) if index in blank else render_frame(scene, index).rgb.astype(float)
        return np.clip(clean + noise * rng.standard_normal(clean.shape) + 0.5, 0, 255).astype(np.uint8)

    # Numbers without leading zeros: their alphabetical order is not their order in time.
    return write_pictures(folder, ((f"frame_{index}", picture(index)) for index in range(scene.frames)))
