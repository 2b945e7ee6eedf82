"""Exports of an optimised video, checked against the files the video was made of."""

from __future__ import annotations

import dataclasses
import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from flows.exports import open_export
from flows.exports_tto import export_poses
from nvds_core.geometry.poses import read_poses
from tasks.poses import described_cameras
from tasks.tto_results import TUNING
from tests.flows.finished import finished_run, nvds
from tests.flows.optimized import FRAMES, SIZE, optimized, posed_video, volume_of

POSED = FRAMES - 1  # the last frame has no pose


@pytest.fixture(scope="module")
def made(prefect_api, tmp_path_factory):
    """A video optimised for one epoch; its last frame is without a camera."""
    folder = tmp_path_factory.mktemp("exports")
    clip, poses = posed_video(folder)
    given = json.loads(poses.read_text())
    poses.write_text(json.dumps({**given, "cameras": given["cameras"][:POSED]}))
    summary, _ = optimized(clip, folder / "out", poses, epochs=1)
    assert summary["tto"] == {"ok": 1}
    pictures = [cv2.imread(str(path))[..., ::-1] for path in sorted(clip.iterdir())]
    return SimpleNamespace(
        out=folder / "out", clip=clip, poses=poses, cameras=given["cameras"][:POSED], pictures=pictures,
        volume=volume_of(folder / "out"),
    )  # fmt: skip


def read_ply(path):
    """Points and colours, by the header."""
    header, body = path.read_bytes().split(b"end_header\n", 1)
    kinds = {"float": "<f4", "uchar": "u1"}
    fields = [line.split() for line in header.decode().split("\n") if line.startswith("property")]
    vertices = np.frombuffer(body, np.dtype([(name, kinds[kind]) for _, kind, name in fields]))
    points = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float64)
    return points, np.stack([vertices[name] for name in vertices.dtype.names[3:]] or [[]], axis=1)


def projected(points, entry):
    """Pixels and depth of points by an entry of the given pose file."""
    pose = np.array(entry["cam_from_world"])
    fx, fy, cx, cy = entry["intrinsics"]
    x, y, z = pose[:, :3] @ points.T + pose[:, 3:]
    return fx * x / z + cx, fy * y / z + cy, z


def read_raw(path):
    height, width = np.fromfile(path, "<i4", 2)
    return np.fromfile(path, "<f4", offset=20).reshape(height, width)


def depth_of(made, result, index):
    account = made.volume.attributes["tto"]["alignment"]
    inverse = account["scale"] * made.volume.frame(result, index).astype(np.float64) + account["shift"]
    return account["unit"] / np.maximum(inverse, 1 / account["furthest"])


def test_each_frame_with_a_camera_becomes_a_cloud_that_projects_onto_its_pixels(made, tmp_path):
    target = tmp_path / "clouds"
    assert nvds("export", made.out, "clip", "--to", "ply", "--output", target).exit_code == 0
    assert sorted(path.name for path in target.iterdir()) == [f"frame_{k:06d}.ply" for k in range(POSED)]
    for index, entry in enumerate(made.cameras):
        points, colours = read_ply(target / f"frame_{index:06d}.ply")
        assert len(points) > 0.9 * SIZE[0] * SIZE[1]
        u, v, z = projected(points, entry)
        columns, rows = np.rint(u).astype(int), np.rint(v).astype(int)
        assert np.abs([u - columns, v - rows]).max() < 1e-3, "float32 coordinates"
        np.testing.assert_array_equal(colours, made.pictures[index][rows, columns])
        np.testing.assert_allclose(z, depth_of(made, "optimized", index)[rows, columns], rtol=1e-5)


@pytest.mark.parametrize("unit", [1.0, 1.1])  # 1.1 / (1 / 50) is not 50 * 1.1 in floating point
def test_pixels_beyond_the_furthest_depth_give_no_point(made, tmp_path, unit):
    alignment = {"scale": 1.0, "unit": unit, "spread": 0.0, "furthest": 50.0}
    first = made.volume.frame("optimized", 0).astype(np.float64)
    alignment["shift"] = 1 / 50 - float(np.median(first))

    moved = copied(made, tmp_path, lambda record: record["tto"].update(alignment=alignment))
    assert nvds("export", moved, "clip", "--to", "ply", "--output", tmp_path / "clouds").exit_code == 0
    points, _ = read_ply(tmp_path / "clouds" / "frame_000000.ply")
    near = first + alignment["shift"] > 1 / 50
    assert len(points) == near.sum() < 0.6 * first.size
    *_, depth = projected(points, made.cameras[0])
    np.testing.assert_allclose(np.sort(depth), np.sort(unit / (first + alignment["shift"])[near]), rtol=1e-4)


def test_other_results_are_brought_to_the_unit_of_the_cameras_by_the_reference(made, tmp_path):
    target = tmp_path / "clouds"
    nvds("export", made.out, "clip", "--to", "ply", "--result", "initial", "--output", target)
    points, _ = read_ply(target / "frame_000002.ply")
    u, v, z = projected(points, made.cameras[2])
    reference = made.volume.read_further("reference", 2, 3)[0][np.rint(v).astype(int), np.rint(u).astype(int)]
    assert np.nanmedian(z / reference) == pytest.approx(1, abs=0.2)


def test_without_its_source_a_cloud_has_no_colours_and_the_log_says_so(made, tmp_path, caplog):
    moved = copied(made, tmp_path, lambda record: record["source"].update(uri=str(tmp_path / "gone")))
    target = tmp_path / "clouds"
    assert nvds("export", moved, "clip", "--to", "ply", "--output", target).exit_code == 0
    points, colours = read_ply(target / "frame_000001.ply")
    assert (len(points) > 0, colours.size) == (True, 0)
    assert "points without colours" in caplog.text
    assert "gone is no longer there" in caplog.text


def copied(made, folder, change):
    """The output again, its record changed."""
    shutil.copytree(made.out / "videos", folder / "out" / "videos")
    (path,) = (folder / "out" / "videos").glob("*/record.json")
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return folder / "out"


def test_exported_poses_are_read_as_the_given_ones(made, tmp_path):
    target = tmp_path / "new" / "poses.json"
    assert nvds("export", made.out, "clip", "--to", "poses", "--output", target).exit_code == 0
    names = [path.name for path in sorted(made.clip.iterdir())]
    given, found = (read_poses(path, frame_names=names, frame_size=SIZE) for path in (made.poses, target))
    assert list(found) == names[:POSED] == list(given)
    for name, camera in found.items():
        assert camera.intrinsics == pytest.approx(given[name].intrinsics, rel=1e-12)
        np.testing.assert_allclose(camera.cam_from_world, given[name].cam_from_world, atol=1e-12)


def test_poses_of_a_small_volume_are_those_of_the_large_source(made, tmp_path):
    source = open_export(str(made.out), "clip")
    entries = described_cameras(list(read_poses(made.poses, frame_size=(48, 32)).values()), list(range(POSED)))
    small = dataclasses.replace(source, volume=SimpleNamespace(attributes={"cameras": entries}))
    for name, camera in read_poses(export_poses(small, tmp_path / "poses.json")).items():
        (given,) = (entry for entry in made.cameras if entry["name"] == name)
        assert (camera.width, camera.height) == SIZE
        assert camera.intrinsics == pytest.approx(given["intrinsics"], rel=1e-12)


def test_the_released_folders_hold_what_the_volume_holds(made, tmp_path):
    target = tmp_path / "tto"
    assert nvds("export", made.out, "clip", "--to", "tto", "--output", target).exit_code == 0
    limits = "_eps2_2e-06_gdt_10.0_dmm_0.0"
    tuned = target / "R_hierarchical2_tiny" / "B0.1_R1.0_PL1-0_LR0.001_BS3_Oadam" / "depth"
    lines = (target / "frames.txt").read_text().split()
    assert lines[:3] == [str(FRAMES), str(SIZE[0]), str(SIZE[1])]
    np.testing.assert_allclose(np.array(lines[3:], float), made.volume.time)
    for index in range(FRAMES):
        frame = f"{index:06d}"
        final = read_raw(tuned / f"frame_{frame}.raw")
        initial = read_raw(target / f"depth_tiny/depth/frame_{frame}.raw")
        np.testing.assert_allclose(1 / final, depth_of(made, "optimized", index), rtol=1e-5)
        assert initial.shape == final.shape
        reference = made.volume.read_further("reference", index, index + 1)[0]
        stored = read_raw(target / f"depth_gt_predicted{limits}_prepro1/depth_{frame}_gt_predicted_median.raw")
        np.testing.assert_array_equal(stored, np.nan_to_num(reference))
        mask = cv2.imread(str(target / f"mask_rectified_median{limits}/mask_{frame}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, np.where(np.isnan(reference), 0, 255))
        with np.load(target / f"depth_median_confidence_map{limits}_ctm0.1/frame_{frame}.npz") as votes:
            assert votes["points"].dtype == np.int64
            np.testing.assert_array_equal(votes["points"], made.volume.read_further("confidence", index, index + 1)[0])


def test_released_cameras_are_opengl_camera_to_world_by_frame_number(made, tmp_path):
    nvds("export", made.out, "clip", "--to", "tto", "--output", tmp_path / "tto")
    with np.load(tmp_path / "tto" / "R_hierarchical2_tiny" / "metadata_scaled.npz") as archive:
        intrinsics, extrinsics, scales = (archive[name] for name in ("intrinsics", "extrinsics", "scales"))
    assert np.isnan(intrinsics[POSED]).all()
    assert np.isnan(extrinsics[POSED]).all()
    np.testing.assert_array_equal(scales, [(k, 1) for k in range(POSED)])
    for index, entry in enumerate(made.cameras):
        fx, fy, cx, cy = intrinsics[index]
        u, v, depth = 11.0, 47.0, 2.5
        ray = np.array([(u - cx) / fx, -(v - cy) / fy, -1.0])
        x, y, z = extrinsics[index][:, :3] @ (depth * ray) + extrinsics[index][:, 3]
        assert np.ravel(projected(np.array([[x, -y, -z]]), entry)) == pytest.approx((u, v, depth), rel=1e-9)


def test_a_comparison_video_shows_the_optimised_disparity(made, tmp_path):
    target = tmp_path / "clip.mp4"
    assert nvds("export", made.out, "clip", "--to", "mp4", "--output", target).exit_code == 0
    assert target.stat().st_size > 0


@pytest.mark.parametrize("to", ["ply", "poses", "tto"])
def test_a_video_that_was_never_optimised_is_told_how(to, tmp_path):
    result = nvds("export", finished_run().out, "clip", "--to", to, "--output", tmp_path / "x")
    assert result.exit_code == 2
    assert "run 'nvds tto' on it first" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_could_not_be_optimised_says_why_and_still_gives_its_poses(made, tmp_path):
    def change(record):
        unknown = dict.fromkeys(TUNING)  # nothing was tuned
        record["tto"] |= {"status": "no_parallax", "reason": "the camera hardly changes its place", **unknown}

    moved = copied(made, tmp_path, change)
    for to in ("ply", "tto"):
        result = nvds("export", moved, "clip", "--to", to, "--output", tmp_path / "x")
        assert result.exit_code == 2
        assert "no_parallax, the camera hardly changes its place" in result.stderr
    assert nvds("export", moved, "clip", "--to", "poses", "--output", tmp_path / "x.json").exit_code == 0
