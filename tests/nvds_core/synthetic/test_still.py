from __future__ import annotations

import numpy as np
import pytest

from nvds_core.synthetic import render
from nvds_core.synthetic.still import MOTIONS, ExactVideo, still_scene
from nvds_core.types import ConfigError

SIZE = (48, 36)


@pytest.mark.parametrize("motion", MOTIONS)
def test_flow_between_any_two_frames_is_what_depth_and_poses_say(motion):
    video = ExactVideo(still_scene(5, motion, frames=4, size=SIZE))
    for i, j in ((0, 3), (2, 1)):
        flow, _ = video.flow(i, j)
        fx, fy, cx, cy = video.scene.intrinsics[i]
        y, x = np.mgrid[: SIZE[1], : SIZE[0]]
        points = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)]) * video.depth[i]
        pose = video.relative_pose(i, j)
        moved = np.einsum("ab,bhw->ahw", pose[:, :3], points) + pose[:, 3, None, None]
        front = moved[2] > 0.1
        np.testing.assert_allclose((fx * moved[0] / moved[2] + cx - x)[front], flow[0][front], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose((fy * moved[1] / moved[2] + cy - y)[front], flow[1][front], rtol=1e-4, atol=1e-4)


def test_the_camera_moves_as_it_is_told_in_its_first_axes():
    for motion, step in MOTIONS.items():
        video = ExactVideo(still_scene(5, motion, frames=3, size=SIZE, speed=0.5))
        pose = video.relative_pose(0, 2)
        np.testing.assert_allclose(-pose[:, :3].T @ pose[:, 3], np.array(step), atol=1e-12)
        assert (abs(pose[0, 2]) < 1e-12) == (motion in ("forward", "still"))


def test_nothing_moves_under_a_still_camera():
    for kind in ("people", "tabletop"):
        clip = render(still_scene(4, "still", frames=3, size=SIZE, kind=kind))
        assert np.array_equal(clip.rgb[0], clip.rgb[2])
        assert np.abs(clip.flow_to_next).max() < 1e-9


def test_unknown_motions_are_refused():
    with pytest.raises(ConfigError, match="spiral"):
        still_scene(1, "spiral", frames=2, size=SIZE)
