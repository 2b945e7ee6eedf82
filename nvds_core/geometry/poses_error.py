"""How far one set of camera poses is from another that differs by a similarity of the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nvds_core.geometry.camera import Floats
from nvds_core.types import Camera, PoseError


@dataclass(frozen=True)
class PoseErrors:
    """Differences of the frames two sets of poses have in common.

    Attributes:
        frames: how many.
        scale: size of the given world in units of the other: given = scale * rotation * other + shift.
        position_rmse: root mean square distance of the camera centres after the best similarity (Umeyama 1991), the
            "ATE" of the TUM benchmark, in the unit of the given poses.
        extent: root mean square distance of the given centres from their mean, to judge `position_rmse` by.
        rotation_deg: median angle between the orientations after the rotation of the world that suits them best; the
            rotation that suits the centres is not used, since a straight path leaves it undetermined.
        step_rotation_deg: median angle between the turns from one frame to the next.
    """

    frames: int
    scale: float
    position_rmse: float
    extent: float
    rotation_deg: float
    step_rotation_deg: float


def similarity(source: Floats, target: Floats) -> tuple[float, Floats, Floats]:
    """Scale, rotation [3, 3] and shift [3] that bring [n, 3] points nearest to others (least squares, Umeyama 1991)."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred, wanted = source - source_mean, target - target_mean
    rotation, agreement = _best_rotation(wanted.T @ centred)
    scale = agreement / max(float((centred**2).sum()), np.finfo(float).tiny)
    return scale, rotation, target_mean - scale * rotation @ source_mean


def _best_rotation(correlation: Floats) -> tuple[Floats, float]:
    """The rotation R [3, 3] for which trace(R^T correlation) is largest, and that trace."""
    u, spread, vt = np.linalg.svd(correlation)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return (u * signs) @ vt, float((spread * signs).sum())


def rotation_angles(rotations: Floats) -> Floats:
    """Angles in degrees, [...], of [..., 3, 3] rotations; through the sine as well, so small ones keep their digits."""
    twice_axis = np.stack(
        [
            rotations[..., 2, 1] - rotations[..., 1, 2],
            rotations[..., 0, 2] - rotations[..., 2, 0],
            rotations[..., 1, 0] - rotations[..., 0, 1],
        ],
        axis=-1,
    )
    sine = np.linalg.norm(twice_axis, axis=-1) / 2
    cosine = (np.trace(rotations, axis1=-2, axis2=-1) - 1) / 2
    angles: Floats = np.degrees(np.arctan2(sine, cosine))
    return angles


def pose_errors(estimated: Mapping[str, Camera], given: Mapping[str, Camera]) -> PoseErrors:
    """Compare poses by frame name.

    Raises:
        PoseError: fewer than 3 frames in common.
    """
    names = [name for name in given if name in estimated]
    if len(names) < 3:
        raise PoseError(f"{len(names)} frames have both poses; at least 3 are needed to compare them")
    centres = [np.stack([cameras[name].centre for name in names]) for cameras in (estimated, given)]
    scale, rotation, shift = similarity(*centres)
    gaps = scale * centres[0] @ rotation.T + shift - centres[1]
    world_from_cam = [
        np.stack([cameras[name].cam_from_world[:, :3].T for name in names]) for cameras in (estimated, given)
    ]
    other, wanted = world_from_cam
    world, _ = _best_rotation((wanted @ np.swapaxes(other, 1, 2)).sum(axis=0))
    steps = [np.stack([first.T @ second for first, second in pairwise(turns)]) for turns in world_from_cam]
    return PoseErrors(
        frames=len(names),
        scale=scale,
        position_rmse=float(np.sqrt((gaps**2).sum(axis=1).mean())),
        extent=float(np.sqrt(centres[1].var(axis=0).sum())),
        rotation_deg=float(np.median(rotation_angles(np.swapaxes(wanted, 1, 2) @ world @ other))),
        step_rotation_deg=float(np.median(rotation_angles(np.swapaxes(steps[1], 1, 2) @ steps[0]))),
    )
