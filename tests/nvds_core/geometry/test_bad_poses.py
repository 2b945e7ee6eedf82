"""Malformed pose files: one error of the library's own kind, which says where and what to do."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvds_core.geometry.poses import detect_kind, read_poses
from nvds_core.types import CoreError, PoseError
from tests.nvds_core.geometry import pose_files as files

SEVEN = f"{files.NAMES[2]}.pose.txt"


def edit_line(path, number, line):
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0 0", rf"{SEVEN}:2: 3 numbers where the first row has 4"),
        ("1 0 zero 0", rf"{SEVEN}:2: 'zero' is not a number"),
        ("9 0 0 0", rf"{SEVEN}: not a rotation"),
        ("nan 0 0 0", rf"{SEVEN}: the pose has entries that are not finite"),
    ],
)
def test_a_damaged_matrix(tmp_path, line, message):
    files.write_seven_scenes(tmp_path)
    edit_line(tmp_path / SEVEN, 2, line)
    with pytest.raises(PoseError, match=message):
        read_poses(tmp_path, frame_size=files.SIZE)


def test_mirrored_scaled_and_transposed_matrices(tmp_path):
    files.write_seven_scenes(tmp_path)
    pose = files.world_from_cam(2)
    for wrong, message in [
        (pose @ np.diag([-1.0, 1, 1, 1]), r"determinant -1"),
        (pose @ np.diag([1.1, 1.1, 1.1, 1]), r"determinant 1\.33"),
        (pose.T, "transposed"),
        (pose[:2], r"shape \(2, 4\)"),
    ]:
        np.savetxt(tmp_path / SEVEN, wrong)
        with pytest.raises(PoseError, match=message):
            read_poses(tmp_path, frame_size=files.SIZE)


@pytest.mark.parametrize(
    ("number", "line", "message"),
    [
        (3, "1.0 0 0 0 0 0 0", r"tum\.txt:3: 7 columns"),
        (3, "1.0 0 0 0 0 0 0 0", r"tum\.txt:3: the quaternion has length 0 "),
        (3, "1.0 0 0 0 0 0 nan 1", r"tum\.txt:3: not finite"),
        (3, "0.0 0 0 0 0 0 0 1", r"tum\.txt:3: the time 0\.0 is also in .*tum\.txt:2"),
        (4, "1.0 0 0 0 0 0 x 1", r"tum\.txt:4: 'x' is not a number"),
    ],
)
def test_a_damaged_trajectory(tmp_path, number, line, message):
    path = files.write_tum(tmp_path / "tum.txt", [0.0, 1.0, 2.0])
    edit_line(path, number, line)
    with pytest.raises(PoseError, match=message):
        read_poses(path, frame_size=files.SIZE, intrinsics=files.INTRINSICS)


def test_poses_without_a_camera_need_one(tmp_path):
    path = files.write_tum(tmp_path / "tum.txt", [0.0, 1.0])
    with pytest.raises(PoseError, match="give the frames' width and height"):
        read_poses(path)
    with pytest.raises(PoseError, match=r"give fx,fy,cx,cy .* or put camera-intrinsics\.txt beside"):
        read_poses(path, frame_size=files.SIZE)
    with pytest.raises(PoseError, match="principal point"):
        read_poses(path, frame_size=(64, 48), intrinsics=files.INTRINSICS)
    with pytest.raises(PoseError, match="must be positive"):
        read_poses(path, frame_size=files.SIZE, intrinsics=(0.0, 500.0, 320.0, 240.0))
    (tmp_path / "camera-intrinsics.txt").write_text("1 2\n3 4\n5 6\n")
    with pytest.raises(PoseError, match=r"camera-intrinsics\.txt: 3x2 numbers"):
        read_poses(path, frame_size=files.SIZE)


@pytest.mark.parametrize(
    ("name", "number", "line", "message"),
    [
        ("cameras.txt", 2, "7 PINHOLE 640 480 500", r"cameras\.txt:2: PINHOLE takes 4 parameters"),
        ("cameras.txt", 2, "7 PINHOLE 640", r"cameras\.txt:2: 3 columns"),
        ("cameras.txt", 2, "7 FOV 640 480 1 2 3 4 5", r"cameras\.txt:2: camera model FOV .*undistort"),
        ("cameras.txt", 2, "7 SIMPLE_RADIAL 640 480 520 320 240 -0.05", r"by up to \d+\.\d pixels.*undistort"),
        ("cameras.txt", 2, "7 PINHOLE 640 4.5 1 1 1 1", r"cameras\.txt:2: '4\.5' is not a whole number"),
        ("cameras.txt", 2, "8 PINHOLE 640 480 1 1 1 1", r"images\.txt:3: frame-000000\.color\.jpg has camera 7"),
        ("images.txt", 5, "1 0 0 0", r"images\.txt:5: 4 columns"),
        ("images.txt", 5, "1 1 0 0 0 0 0 nan 7 a.jpg", r"images\.txt:5: the pose of a\.jpg is not finite"),
        ("images.txt", 5, "1 2 0 0 0 0 0 0 7 a.jpg", r"images\.txt:5 \(a\.jpg\): the quaternion has length 2"),
        ("images.txt", 5, "1 1 0 0 0 0 0 0 7 frame-000000.color.jpg", "has 2 poses"),
    ],
)
def test_a_damaged_text_model(tmp_path, name, number, line, message):
    files.write_colmap_text(tmp_path)
    edit_line(tmp_path / name, number, line)
    with pytest.raises(PoseError, match=message):
        read_poses(tmp_path)


def test_half_a_model(tmp_path):
    files.write_colmap_binary(tmp_path)
    (tmp_path / "cameras.bin").unlink()
    with pytest.raises(PoseError, match=r"images\.bin but no cameras\.bin"):
        read_poses(tmp_path)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_a_binary_model_that_is_cut_off_anywhere(tmp_path, name):
    files.write_colmap_binary(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for length in range(len(whole)):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(PoseError, match=rf"{name}: cut off at byte {length}"):
            read_poses(tmp_path)


def test_a_binary_model_of_a_fisheye(tmp_path):
    files.write_colmap_binary(tmp_path, model=5, parameters=(1.0,) * 8)
    with pytest.raises(PoseError, match=r"OPENCV_FISHEYE is not supported.*undistort"):
        read_poses(tmp_path)
    files.write_colmap_binary(tmp_path, model=77, parameters=(1.0,) * 8)
    with pytest.raises(PoseError, match="camera model number 77"):
        read_poses(tmp_path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_bytes_raise_nothing_but_our_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("model")
    kind = data.draw(st.sampled_from(["binary", "text", "json"]))
    if kind == "json":
        paths = [files.write_nerfstudio(folder / "transforms.json")]
    else:
        write = files.write_colmap_binary if kind == "binary" else files.write_colmap_text
        paths = sorted(write(folder).iterdir())
    path = data.draw(st.sampled_from(paths))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        cameras = read_poses(folder)
    except CoreError:
        return
    for camera in cameras.values():
        np.testing.assert_allclose(np.linalg.det(camera.cam_from_world[:, :3]), 1, atol=1e-9)
        assert np.isfinite(camera.cam_from_world).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, r"version 2; 'nvds-poses' version 1"),
        ({"cameras": {}}, r"'cameras' must be a list"),
        ({"cameras": [{}]}, r"cameras\[0\]: 'name' is None"),
        ({"name": 5}, r"'name' is 5"),
        ({"width": 0}, r"\(a\): 'width' is 0"),
        ({"width": "640"}, r"'width' is '640'"),
        ({"intrinsics": [1, 2, 3]}, r"'intrinsics' must be 4 numbers"),
        ({"intrinsics": [1, 2, 3, None]}, r"principal point"),
        ({"cam_from_world": [[1, 0, 0, 0]] * 3}, r"\(a\): not a rotation"),
        ({"cam_from_world": [[1, 0], [0]]}, r"'cam_from_world' must be 3 x 4 numbers"),
        ({"cam_from_world": [[1, 0, 0, "x"], [0, 1, 0, 0], [0, 0, 1, 0]]}, r"must be 3 x 4 numbers"),
        ({"cam_from_world": [[1, 0, 0, float("inf")], [0, 1, 0, 0], [0, 0, 1, 0]]}, r"position is not finite"),
    ],
)
def test_a_damaged_file_of_our_own(tmp_path, change, message):
    entry = {
        "name": "a",
        "width": 64,
        "height": 48,
        "intrinsics": [50, 50, 32, 24],
        "cam_from_world": np.eye(3, 4).tolist(),
    }
    content = {"format": "nvds-poses", "version": 1, "cameras": [entry]}
    for key, value in change.items():
        (entry if key in entry else content)[key] = value
    path = tmp_path / "poses.json"
    path.write_text(json.dumps(content))
    with pytest.raises(PoseError, match=message):
        read_poses(path)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"k1": -0.1}, r"frames\[0\] \(\./images/frame-000000\.png\): OPENCV distorts the frame by up to"),
        ({"is_fisheye": True}, "OPENCV_FISHEYE is not supported"),
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR is not supported"),
        ({"fl_x": None}, "'fl_x' is None"),
        ({"camera_angle_x": 0.0}, "'camera_angle_x' is 0; it must be an angle"),
        ({"camera_angle_x": 4.0}, "'camera_angle_x' is 4; it must be an angle"),
        (
            {"frames": [{"file_path": "a", "transform_matrix": [[1]]}]},
            r"\(a\): 'transform_matrix' must be 4 x 4 numbers",
        ),
    ],
)
def test_a_damaged_transforms_file(tmp_path, extra, message):
    path = files.write_nerfstudio(tmp_path / "transforms.json", **extra)
    if "camera_angle_x" in extra:  # read only where no focal length in pixels is given
        content = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in content.items() if name != "fl_x"}))
    with pytest.raises(PoseError, match=message):
        read_poses(path)


def test_broken_json_is_reported_with_its_line(tmp_path):
    (tmp_path / "poses.json").write_text('{"format": "nvds-poses",\n oops}')
    with pytest.raises(PoseError, match=r"poses\.json:2: no JSON"):
        read_poses(tmp_path / "poses.json")


def test_poses_of_another_video(tmp_path):
    path = files.write_nerfstudio(tmp_path / "transforms.json")
    with pytest.raises(PoseError, match=r"named like \./images/frame-000000\.png, the frames like frame_000001"):
        read_poses(path, frame_names=["frame_000001", "frame_000002"])
    with pytest.raises(PoseError, match="was 640x480, the frames are 480x640: cropped or turned"):
        read_poses(path, frame_size=(480, 640))


def test_nothing_known(tmp_path):
    with pytest.raises(PoseError, match="no such file or folder") as missing:
        detect_kind(tmp_path / "absent")
    assert missing.value.reason == "not_found"
    (tmp_path / "notes.txt").write_text("hello world\n")
    (tmp_path / "raw.dat").write_bytes(b"\xff\xfe\x00")
    for place, message in [
        (tmp_path, "no known poses"),
        (tmp_path / "notes.txt", "no known poses"),
        (tmp_path / "raw.dat", "no text"),
    ]:
        with pytest.raises(PoseError, match=message):
            read_poses(place)
    (tmp_path / "transforms.json").write_text('{"frames": []}')
    with pytest.raises(PoseError, match="no pose for any frame"):
        read_poses(tmp_path)
