"""The camera's electronics: exposure, lens, sensor noise, tone curve, compression."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nvds_core.synthetic.motion import wander
from nvds_core.synthetic.scene import Imaging, Scene


def random_imaging(rng: Generator, frames: int, base_gain: float) -> Imaging:
    """An imaging chain; `base_gain` brings the scene to a usable brightness."""
    stops = np.full(frames, rng.normal(0.0, 0.35))
    if rng.uniform() < 0.5:
        stops += wander(rng, frames, 0.003, 0.04) * rng.uniform(0.005, 0.06)
    if rng.uniform() < 0.15 and frames > 1:
        stops[int(rng.integers(1, frames)) :] += rng.normal(0.0, 0.4)
    if rng.uniform() < 0.1:
        stops += rng.normal(0.0, 0.06, frames)
    cast = rng.normal(0.0, 0.1, 3) * [1.0, 0.4, 1.0]
    drift = np.stack([wander(rng, frames, 0.003, 0.03) * rng.uniform(0, 0.004) for _ in range(3)], axis=1)
    noisy = rng.uniform() < 0.7
    return Imaging(
        gain=base_gain * np.exp2(stops),
        white_balance=np.exp(cast + drift),
        gamma=float(rng.uniform(1.8, 2.5)),
        contrast=float(rng.uniform(-0.3, 0.6)),
        blur=float(rng.uniform(0.2, 0.9)) if rng.uniform() < 0.5 else 0.0,
        vignette=float(rng.uniform(0.1, 0.6)) if rng.uniform() < 0.3 else 0.0,
        noise=float(np.exp(rng.uniform(np.log(0.002), np.log(0.025)))) if noisy else 0.0,
        shot_noise=float(np.exp(rng.uniform(np.log(0.002), np.log(0.03)))) if noisy else 0.0,
        jpeg=int(rng.integers(40, 91)) if rng.uniform() < 0.35 else 0,
    )


def develop(scene: Scene, frame: int, linear: NDArray[np.float32], object_map: NDArray[np.int16]) -> NDArray[np.uint8]:
    """8-bit RGB [h, w, 3] from linear RGB [3, h, w]."""
    chain = scene.imaging
    width, height = scene.size
    planes = linear * (chain.gain[frame] * chain.white_balance[frame]).astype(np.float32)[:, None, None]
    if chain.vignette > 0:
        y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
        planes *= 1.0 - chain.vignette * 0.5 * (y[:, None] ** 2 + x[None] ** 2)
    picture = np.ascontiguousarray(np.clip(planes, 0.0, 1.5).transpose(1, 2, 0))
    if chain.soft_edges:
        picture = _soften_edges(picture, object_map)
    if chain.blur > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), chain.blur * max(width / 192.0, 0.5), borderType=cv2.BORDER_REFLECT)
    picture = np.power(np.minimum(picture, 1.0), np.float32(1.0 / chain.gamma))
    picture += np.float32(chain.contrast) * (picture * picture * (3.0 - 2.0 * picture) - picture)
    if chain.noise > 0 or chain.shot_noise > 0:
        rng = np.random.Generator(np.random.PCG64([scene.seed, frame, 77]))
        spread = chain.noise + chain.shot_noise * np.sqrt(np.maximum(picture, 0.0))
        picture += rng.standard_normal(picture.shape, dtype=np.float32) * spread
    codes = (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return _compress(codes, chain.jpeg) if chain.jpeg else codes


def _soften_edges(picture: NDArray[np.float32], object_map: NDArray[np.int16]) -> NDArray[np.float32]:
    """Average over 3x3 at object borders, where a pixel sees two surfaces."""
    border = np.zeros(object_map.shape, bool)
    across, down = object_map[:, 1:] != object_map[:, :-1], object_map[1:] != object_map[:-1]
    border[:, 1:], border[1:] = across, border[1:] | down
    border[:, :-1] |= across
    border[:-1] |= down
    mixed = cv2.GaussianBlur(picture, (3, 3), 0.7, borderType=cv2.BORDER_REFLECT)
    picture[border] = mixed[border]
    return picture


def _compress(codes: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    _, stream = cv2.imencode(".jpg", codes[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(stream, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[:, :, ::-1])
