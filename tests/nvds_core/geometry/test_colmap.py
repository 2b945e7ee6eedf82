"""COLMAP on made videos: good poses where there are any, otherwise a status, a reason and COLMAP's own words."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from nvds_core.geometry import colmap, colmap_job
from nvds_core.geometry.colmap import ColmapConfig, estimate_poses, write_pictures
from nvds_core.geometry.poses_error import pose_errors
from nvds_core.synthetic import render_frame
from nvds_core.types import Camera, ConfigError, PoseError
from tests.nvds_core.geometry.made_videos import SIZE, moving_scene, write_video

QUICK = {"features": 500, "guided": False, "matching": "sequential", "overlap": 3, "time_limit": 300.0}


@pytest.fixture(scope="module", autouse=True)
def _pycolmap():
    pytest.importorskip("pycolmap")


def truth(scene, names):
    return {
        name: Camera(name, tuple(scene.intrinsics[0]), *SIZE, pose)
        for name, pose in zip(names, scene.cam_from_world, strict=True)
    }


def test_a_moving_camera_is_found_with_its_focal_length_and_points(tmp_path):
    scene = moving_scene(10, turn=0.075)
    paths = write_video(tmp_path, scene)
    result = estimate_poses(tmp_path, config=ColmapConfig(**QUICK))
    names = [path.name for path in paths]  # frame_10 comes after frame_9, not after frame_1
    assert (result.status, result.registered, result.total, result.reason) == ("ok", 10, 10, "")
    assert list(result.cameras) == names
    errors = pose_errors(result.cameras, truth(scene, names))
    assert errors.position_rmse < 0.02 * errors.extent
    assert errors.rotation_deg < 0.5
    fx, fy, cx, cy = result.cameras[names[0]].intrinsics
    assert fx == fy == pytest.approx(scene.intrinsics[0, 0], rel=0.05)
    assert (cx, cy) == (159.5, 119.5)


def test_known_intrinsics_are_kept_the_points_have_true_depths_and_the_result_repeats(tmp_path):
    scene = moving_scene(8, turn=0.075)
    paths = write_video(tmp_path, scene)
    names = [path.name for path in paths]
    known = tuple(scene.intrinsics[0])
    result, again = (estimate_poses(paths, config=ColmapConfig(**QUICK, intrinsics=known)) for _ in range(2))
    assert list(result.cameras) == list(again.cameras) == names
    scale = pose_errors(result.cameras, truth(scene, names)).scale
    for index, name in enumerate(names):
        np.testing.assert_array_equal(result.cameras[name].cam_from_world, again.cameras[name].cam_from_world)
        assert result.cameras[name].intrinsics == pytest.approx(known, abs=1e-9)
        u, v, depth = result.points[name].T
        assert len(u) >= 20
        true_depth = render_frame(scene, index).depth[np.rint(v).astype(int), np.rint(u).astype(int)]
        assert np.median(np.abs(depth * scale / true_depth - 1)) < 0.02


@pytest.mark.parametrize(
    ("motion", "picture"),
    [({"step": 0.0}, {}), ({"step": 0.0, "turn": 0.03}, {}), ({"turn": 0.075}, {"blank": range(10)})],
    ids=["static", "pure rotation", "textureless"],
)
def test_a_video_without_parallax_has_no_poses(tmp_path, motion, picture):
    paths = write_video(tmp_path, moving_scene(10, **motion), **picture)
    result = estimate_poses(paths, config=ColmapConfig(**QUICK))
    assert (result.status, result.registered, result.total) == ("no_poses", 0, 10)
    assert result.cameras == result.points == {}
    assert "COLMAP found no model" in result.reason
    assert 1 <= len(result.log_tail.splitlines()) <= colmap_job.LOG_LINES
    assert "cc:" in result.log_tail


@pytest.mark.parametrize("count", [0, 1, 2])
def test_two_frames_are_not_tried(tmp_path, count):
    paths = write_video(tmp_path, moving_scene(2, turn=0.075))[:count]
    result = estimate_poses(paths)
    assert (result.status, result.registered, result.total) == ("no_poses", 0, count)
    assert "at least 3" in result.reason


def test_unregistered_frames_in_the_middle_leave_the_longest_stretch_and_shift_no_name(tmp_path):
    scene = moving_scene(16, step=0.04, turn=0.05)
    paths = write_video(tmp_path, scene, blank=range(11, 14))
    result = estimate_poses(tmp_path, config=ColmapConfig(**{**QUICK, "overlap": 5}))
    names = [path.name for path in paths]
    assert result.status == "ok"
    assert list(result.cameras) == names[:11]
    assert 11 <= result.registered <= 13
    assert f"5 of 16 frames are left out ({result.registered} registered)" in result.reason
    errors = pose_errors(result.cameras, truth(scene, names))
    assert errors.position_rmse < 0.03 * errors.extent


def test_masked_places_give_no_points(tmp_path):
    paths = write_video(tmp_path / "frames", moving_scene(8, turn=0.075))
    mask = np.full(SIZE[::-1], 255, np.uint8)
    mask[:, : SIZE[0] // 2] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    masks = {path.name: tmp_path / "mask.png" for path in paths}
    intrinsics = tuple(moving_scene(1).intrinsics[0])
    result = estimate_poses(paths, config=ColmapConfig(**QUICK, intrinsics=intrinsics), masks=masks)
    assert result.status == "ok"
    assert min(points[:, 0].min() for points in result.points.values()) > SIZE[0] // 2 - 2
    with pytest.raises(PoseError, match=r"mask for other\.png, which is not among the 8 frames"):
        estimate_poses(paths, masks={"other.png": tmp_path / "mask.png"})


def fake_worker(tmp_path, monkeypatch, body):
    script = tmp_path / "worker.py"
    script.write_text("import json, os, signal, subprocess, sys, time\n" + textwrap.dedent(body))
    monkeypatch.setattr(colmap_job, "WORKER", script)
    picture = np.zeros((48, 64, 3), np.uint8)
    return write_pictures(tmp_path / "frames", ((f"f{index}", picture) for index in range(4)))


def test_a_crash_of_native_code_is_a_status(tmp_path, monkeypatch):
    body = """
        print("I20261125 02:26:46.799834 140186256144064 sfm.cc:310] => Registering image", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    """
    result = estimate_poses(fake_worker(tmp_path, monkeypatch, body))
    assert result.status == "no_poses"
    assert result.reason == "COLMAP crashed (SIGSEGV)"
    assert result.log_tail == "sfm.cc:310] => Registering image"


def test_an_error_inside_colmap_is_a_status(tmp_path, monkeypatch):
    result = estimate_poses(fake_worker(tmp_path, monkeypatch, "raise ValueError('database is locked')"))
    assert (result.status, result.reason) == (
        "no_poses",
        "COLMAP stopped with an error: ValueError: database is locked",
    )


def test_colmap_is_stopped_at_its_time_limit_with_all_its_processes(tmp_path, monkeypatch):
    body = """
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open(os.path.join(os.path.dirname(__file__), "child"), "w").write(str(child.pid))
        time.sleep(600)
    """
    paths = fake_worker(tmp_path, monkeypatch, body)
    result = estimate_poses(paths, config=ColmapConfig(time_limit=2.0), scratch=tmp_path)
    assert (result.status, result.reason) == ("no_poses", "COLMAP was stopped after 2 s; allow more time")
    child = int((tmp_path / "child").read_text())
    for _ in range(200):
        if not alive(child):
            break
        time.sleep(0.05)
    assert not alive(child)
    assert list(tmp_path.glob("nvds-colmap-*")) == []


def alive(process):
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_the_worker_ends_with_the_process_that_started_it(tmp_path):
    os.mkfifo(tmp_path / "job.json")  # nothing ever comes out of it, so the worker waits for its settings
    command = [sys.executable, "-P", str(colmap_job.WORKER), str(tmp_path / "job.json")]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE)
    worker.stdin.close()  # what the death of this process would do
    assert worker.wait(120) == 3


def test_what_makes_no_sense_is_refused(tmp_path, monkeypatch):
    for wrong in ({"matching": "random"}, {"threads": 0}, {"time_limit": float("nan")}):
        with pytest.raises(ConfigError):
            ColmapConfig(**wrong)
    paths = fake_worker(tmp_path, monkeypatch, "")
    with pytest.raises(PoseError, match=r"two frames are named f0\.png"):
        estimate_poses([paths[0], *paths])
    monkeypatch.setattr(colmap.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'nvds\[tto\]'"):
        estimate_poses(paths)
