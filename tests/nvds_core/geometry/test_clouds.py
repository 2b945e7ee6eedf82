from __future__ import annotations

import numpy as np
import pytest

from nvds_core.geometry.clouds import encode_ply, world_points
from nvds_core.synthetic import render_frame
from nvds_core.synthetic.still import still_scene
from nvds_core.types import Camera, ShapeError

SIZE = (40, 24)


def camera_of(scene, frame):
    return Camera("f", tuple(scene.intrinsics[frame].tolist()), *SIZE, scene.cam_from_world[frame])


def test_points_of_exact_depth_project_to_their_own_pixels():
    scene = still_scene(900, "diagonal", frames=3, size=SIZE)
    depth = render_frame(scene, 2).depth
    points = world_points(depth, camera_of(scene, 2)).reshape(-1, 3)
    fx, fy, cx, cy = scene.intrinsics[2]
    rotation, shift = scene.cam_from_world[2][:, :3], scene.cam_from_world[2][:, 3]
    for place, point in zip(np.ndindex(*depth.shape), points, strict=True):
        x, y, z = (sum(rotation[row, k] * point[k] for k in range(3)) + shift[row] for row in range(3))
        assert z == pytest.approx(depth[place], rel=1e-9)
        assert (fx * x / z + cx, fy * y / z + cy) == pytest.approx((place[1], place[0]), abs=1e-9)


def test_pixels_without_depth_have_no_point():
    scene = still_scene(900, "sideways", frames=1, size=SIZE)
    depth = np.ones(SIZE[::-1])
    depth[3, 4] = np.nan
    lost = np.isnan(world_points(depth, camera_of(scene, 0))).all(axis=-1)
    assert np.argwhere(lost).tolist() == [[3, 4]]


def test_a_camera_of_another_size_is_refused():
    scene = still_scene(900, "sideways", frames=1, size=SIZE)
    with pytest.raises(ShapeError, match="40x24"):
        world_points(np.ones((24, 41)), camera_of(scene, 0))


@pytest.mark.parametrize("coloured", [True, False])
def test_the_file_is_read_by_another_program(tmp_path, coloured):
    pycolmap = pytest.importorskip("pycolmap")
    generator = np.random.default_rng(0)
    points = generator.normal(size=(50, 3)).astype(np.float32)
    colours = generator.integers(0, 256, (50, 3)).astype(np.uint8)
    path = tmp_path / "cloud.ply"
    path.write_bytes(encode_ply(points, colours if coloured else None))
    if not coloured:  # COLMAP wants colours
        header, body = path.read_bytes().split(b"end_header\n")
        assert b"red" not in header
        np.testing.assert_array_equal(np.frombuffer(body, "<f4").reshape(-1, 3), points)
        return
    model = pycolmap.Reconstruction()
    model.import_PLY(path)
    found = [model.point3D(number) for number in sorted(model.point3D_ids())]
    np.testing.assert_array_equal(np.array([point.xyz for point in found], np.float32), points)
    np.testing.assert_array_equal(np.array([point.color for point in found]), colours)


def test_the_header_says_binary_little_endian_and_the_number_of_points():
    header = encode_ply(np.zeros((7, 3)), np.zeros((7, 3), np.uint8)).split(b"end_header\n")[0].decode().split("\n")
    assert header[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 7"]
    assert header[3:6] == [f"property float {axis}" for axis in "xyz"]
    assert header[6:9] == [f"property uchar {name}" for name in ("red", "green", "blue")]


def test_colours_of_other_points_are_refused():
    with pytest.raises(ShapeError, match=r"\(4, 3\) and \(5, 3\)"):
        encode_ply(np.zeros((4, 3)), np.zeros((5, 3), np.uint8))
    with pytest.raises(ShapeError):
        encode_ply(np.zeros((4, 2)))
