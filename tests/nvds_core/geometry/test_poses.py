"""Given poses: every format gives the same cameras, matched by name and at the size of the frames."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from nvds_core.geometry.poses import (
    detect_kind,
    frame_key,
    read_poses,
    resize_camera,
    too_few,
    usable_frames,
    write_poses,
)
from nvds_core.types import Camera, PoseError
from tests.nvds_core.geometry import pose_files as files

FRAMES = [f"{name}.color.jpg" for name in files.NAMES]


def read(path, **options):
    return read_poses(path, frame_names=FRAMES, frame_size=files.SIZE, **options)


def make(tmp_path, kind):
    if kind == "7scenes":
        return files.write_seven_scenes(tmp_path)
    if kind == "nerfstudio":
        return files.write_nerfstudio(tmp_path / "transforms.json")
    if kind == "colmap text":
        return files.write_colmap_text(tmp_path / "sparse" / "0")
    if kind == "colmap binary":
        return files.write_colmap_binary(tmp_path / "sparse")
    if kind == "tum":
        return files.write_tum(tmp_path / "trajectory.txt", [10.0, 10.1, 10.2, 10.3])
    write_poses(tmp_path / "poses.json", read_poses(files.write_nerfstudio(tmp_path / "other.json")).values())
    return tmp_path / "poses.json"


@pytest.mark.parametrize("kind", ["7scenes", "nerfstudio", "colmap text", "colmap binary", "tum", "json"])
def test_every_format_gives_the_same_cameras(tmp_path, kind):
    path = make(tmp_path, kind)
    assert detect_kind(path) == kind.split()[0]
    extra = {"frame_times": [10.001, 10.099, 10.205, 10.3], "intrinsics": files.INTRINSICS} if kind == "tum" else {}
    cameras = read(path, **extra)
    assert list(cameras) == FRAMES
    for index, name in enumerate(FRAMES):
        camera = cameras[name]
        assert camera.name == name
        assert (camera.width, camera.height) == files.SIZE
        np.testing.assert_allclose(camera.intrinsics, files.INTRINSICS, rtol=1e-12)
        np.testing.assert_allclose(camera.cam_from_world, files.cam_from_world(index), atol=1e-12)
        np.testing.assert_allclose(camera.centre, files.world_from_cam(index)[:3, 3], atol=1e-12)


def test_a_model_written_by_colmap_itself_is_read(tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    fx, fy, cx, cy = files.INTRINSICS
    model = pycolmap.Reconstruction()
    params = [fx, fy, cx + 0.5, cy + 0.5]
    width, height = files.SIZE
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(camera_id=3, model="PINHOLE", width=width, height=height, params=params)
    )
    for index, name in enumerate(FRAMES):
        pose = files.cam_from_world(index)
        rigid = pycolmap.Rigid3d(pycolmap.Rotation3d(pose[:, :3]), pose[:, 3])
        model.add_image_with_trivial_frame(pycolmap.Image(name=name, camera_id=3, image_id=index + 1), rigid)
    for write in (model.write_text, model.write_binary):
        folder = tmp_path / write.__name__
        folder.mkdir()
        write(folder)
        cameras = read(folder)
        assert list(cameras) == FRAMES
        for index, camera in enumerate(cameras.values()):
            np.testing.assert_allclose(camera.intrinsics, files.INTRINSICS, rtol=1e-12)
            np.testing.assert_allclose(camera.cam_from_world, files.cam_from_world(index), atol=1e-12)


def test_the_real_scene_has_a_rotation_for_every_frame(shared):
    folder = shared / "data" / "rgbd_scene"
    names = [f"frame-{number:06d}.color.jpg" for number in range(0, 300, 3)]
    cameras = read_poses(folder, frame_names=names, frame_size=(640, 480))
    assert list(cameras) == names
    assert cameras[names[0]].intrinsics == (585.0, 585.0, 320.0, 240.0)
    for name in names:
        rotation = cameras[name].cam_from_world[:, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        given = np.linalg.inv(np.loadtxt(folder / name.replace(".color.jpg", ".pose.txt")))
        np.testing.assert_allclose(cameras[name].cam_from_world, given[:3], atol=3e-4)


def test_a_frame_without_a_pose_shifts_no_other(tmp_path):
    folder = files.write_seven_scenes(tmp_path, [0, 2, 3])
    (folder / f"{files.NAMES[1]}.pose.txt").write_text("-inf -inf -inf -inf\n" * 3 + "0 0 0 1\n")
    cameras = read(folder)
    assert list(cameras) == [FRAMES[0], FRAMES[2], FRAMES[3]]
    np.testing.assert_allclose(cameras[FRAMES[2]].cam_from_world, files.cam_from_world(2), atol=1e-12)


def test_the_order_in_the_file_does_not_matter(tmp_path):
    path = make(tmp_path, "json")
    content = json.loads(path.read_text())
    content["cameras"].reverse()
    path.write_text(json.dumps(content))
    cameras = read(path)
    assert list(cameras) == FRAMES
    np.testing.assert_allclose(cameras[FRAMES[3]].cam_from_world, files.cam_from_world(3), atol=1e-12)


def test_our_file_returns_every_bit(tmp_path):
    rng = np.random.default_rng(0)
    pose = np.concatenate([np.linalg.qr(rng.standard_normal((3, 3)))[0], rng.standard_normal((3, 1))], axis=1)
    pose[:, :3] *= np.linalg.det(pose[:, :3])
    written = Camera("a.png", (500.1, 499.9, 1 / 3, 2 / 3), 64, 48, pose)
    write_poses(tmp_path / "poses.json", [written])
    camera = read_poses(tmp_path / "poses.json")["a.png"]
    assert camera.intrinsics == written.intrinsics
    np.testing.assert_allclose(camera.cam_from_world, pose, atol=1e-15)
    assert [path.name for path in tmp_path.iterdir()] == ["poses.json"]


def test_points_keep_their_relative_place_when_a_camera_is_resized(tmp_path):
    """Pixel edges, not pixel centres, are what stays: u -> (u + 0.5) ratio - 0.5."""
    camera = read(make(tmp_path, "colmap text"))[FRAMES[1]]
    smaller = resize_camera(camera, (384, 288))
    point = camera.cam_from_world @ np.array([0.7, 0.1, 4.0, 1.0])
    pixels = [np.array(c.intrinsics[:2]) * point[:2] / point[2] + np.array(c.intrinsics[2:]) for c in (camera, smaller)]
    np.testing.assert_allclose((pixels[0] + 0.5) * 0.6 - 0.5, pixels[1], atol=1e-10)
    assert (smaller.width, smaller.height) == (384, 288)
    larger = read_poses(make(tmp_path, "nerfstudio"), frame_size=(1280, 960))["./images/frame-000000.png"]
    np.testing.assert_allclose(larger.intrinsics, (1040, 1020, 637.5, 483), rtol=1e-12)


def test_rounded_rotations_become_rotations(tmp_path):
    folder = files.write_seven_scenes(tmp_path)
    path = folder / f"{files.NAMES[0]}.pose.txt"
    np.savetxt(path, files.world_from_cam(0), fmt="%.3f")
    rotation = read(folder)[FRAMES[0]].cam_from_world[:, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(rotation, files.cam_from_world(0)[:, :3], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("seq/frame-000003.color.jpg", "frame-000003"),
        ("frame-000003", "frame-000003"),
        ("images\\0001.png", "0001"),
        ("1305031102.175304.png", "1305031102.175304"),
        ("film.v2.000001.png", "film.v2.000001"),
    ],
)
def test_names_of_one_frame_have_one_key(name, key):
    assert frame_key(name) == key


def test_equal_file_names_in_two_folders_are_told_apart_by_the_whole_name_or_refused(tmp_path):
    path = make(tmp_path, "json")
    content = json.loads(path.read_text())
    for entry, name in zip(content["cameras"], ["left/1.png", "right/1.png", "left/2.png", "3.png"], strict=True):
        entry["name"] = name
    path.write_text(json.dumps(content))
    assert list(read_poses(path, frame_names=["right/1.png", "2.jpg"])) == ["right/1.png", "2.jpg"]
    with pytest.raises(PoseError, match=r"1\.png could be any of left/1\.png, right/1\.png"):
        read_poses(path, frame_names=["1.png"])
    with pytest.raises(PoseError, match=r"3\.png fits both"):
        read_poses(path, frame_names=["3.png", "3.jpg"])


def test_a_trajectory_is_matched_by_time(tmp_path):
    path = files.write_tum(tmp_path / "trajectory.txt", [100.0, 100.1, 100.2, 100.3])
    options = {"frame_size": files.SIZE, "intrinsics": files.INTRINSICS}
    # Named after times as in TUM; the second has none near, the last two compete for one pose: the closest wins.
    names = ["rgb/100.015.png", "rgb/100.05.png", "rgb/100.195.png", "rgb/100.201.png"]
    cameras = read_poses(path, frame_names=names, **options)
    assert list(cameras) == [names[0], names[3]]
    np.testing.assert_allclose(cameras[names[3]].cam_from_world, files.cam_from_world(2), atol=1e-12)
    assert list(read_poses(path, frame_names=names, time_gap=0.051, **options)) == [names[0], names[1], names[3]]
    assert list(read_poses(path, **options)) == ["100.0", "100.1", "100.2", "100.3"]
    with pytest.raises(PoseError, match=r"100\.000 to 100\.300 s, but the frames have 0\.000 to 0\.120 s"):
        read_poses(path, frame_names=FRAMES, frame_times=[0.0, 0.04, 0.08, 0.12], **options)
    with pytest.raises(PoseError, match="4 frames with 0 times"):
        read_poses(path, frame_names=FRAMES, **options)
    (tmp_path / "intrinsics.txt").write_text("500 501 319 239\n")
    shutil.move(path, tmp_path / "groundtruth.txt")
    from_folder = read_poses(tmp_path, frame_names=names, frame_size=files.SIZE)
    assert from_folder[names[0]].intrinsics == (500.0, 501.0, 319.0, 239.0)


def test_data_sets_that_state_the_field_of_view_only_are_read(tmp_path):
    path = files.write_nerfstudio(tmp_path / "transforms_train.json")
    content = json.loads(path.read_text())
    for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
        del content[key]
    path.write_text(json.dumps({**content, "camera_angle_x": 2 * np.arctan(0.5)}))
    camera = read(path)[FRAMES[0]]
    np.testing.assert_allclose(camera.intrinsics, (640, 640, 319.5, 239.5), rtol=1e-12)
    with pytest.raises(PoseError, match="size is not stated"):
        read_poses(path)


@pytest.mark.parametrize(
    ("model", "number", "parameters"),
    [
        ("SIMPLE_PINHOLE", 0, (515, 320, 240)),
        ("SIMPLE_RADIAL", 2, (515, 320, 240, 1e-4)),
        ("RADIAL", 3, (515, 320, 240, 1e-4, -1e-4)),
        ("OPENCV", 4, (515, 515, 320, 240, 1e-4, 0, 1e-5, 1e-5)),
    ],
)
def test_lenses_that_are_nearly_pinholes_are_taken_as_such(tmp_path, model, number, parameters):
    for path in (
        files.write_colmap_text(tmp_path / "text", model, parameters),
        files.write_colmap_binary(tmp_path / "binary", number, parameters),
    ):
        assert read(path)[FRAMES[0]].intrinsics == (515.0, 515.0, 319.5, 239.5)


@pytest.mark.parametrize(("frames", "posed", "used"), [
    ("abcdefghijklmnopqrst", "abcdefghijklmnopqrst", "abcdefghijklmnopqrst"),
    ("abcdefghijklmnopqrst", "abcdfghijklmnopqrst", "abcdfghijklmnopqrst"),
    ("abcdefghij", "abcefghj", "efgh"),
    ("abcdefghij", "abchij", "abc"),
    ("abcdefghij", "abij", ""),
    ("", "", ""),
])  # fmt: skip
def test_what_is_used_when_frames_have_no_pose(frames, posed, used):
    assert usable_frames(list(frames), set(posed)) == list(used)


@pytest.mark.parametrize(("frames", "posed", "needed", "words"), [
    ("abcdefghij", "abij", 2, "less than 50%"),
    ("abcdef", "abde", 3, "but never 3 in a row"),
    ("a", "a", 2, "but never 2 in a row"),
])  # fmt: skip
def test_the_reason_for_using_no_frame_is_true(frames, posed, needed, words):
    assert len(usable_frames(list(frames), set(posed))) < needed
    assert too_few(len(posed), len(frames), needed) == words
