from __future__ import annotations

import numpy as np
import pytest

from nvds_core.datasets import open_dataset
from nvds_core.datasets.rgbd import BONN_FIRST
from nvds_core.datasets.sintel import read_flo
from nvds_core.metrics import nyu_errors, vdw_errors
from nvds_core.stabilization import quantize_disparity
from nvds_core.types import DecodeError
from nvds_core.video.folders import read_picture
from tests.nvds_core.datasets import makers


def test_vdw_gives_disparity_with_masked_pixels_unknown(tmp_path):
    dataset = open_dataset(str(makers.make_vdw(tmp_path)))
    assert (dataset.kind, dataset.quantity, dataset.published) == ("vdw", "disparity", "vdw")
    assert [video.name for video in dataset.videos] == ["000423", "000424"]
    video = dataset.videos[0]
    assert video.frame_names == ("frame_000000", "frame_000001", "frame_000002")
    truth = video.truth(1)
    codes = makers.depth_codes(1, 40, 64, 9000, 60000)
    assert np.isnan(truth[:3, :5]).all()
    assert np.isnan(truth[-4:]).all()
    np.testing.assert_array_equal(truth[3:-4], codes[3:-4].astype(np.float32) / 65535)
    np.testing.assert_array_equal(video.rgb(1), makers.picture(1, 40, 64))


def test_codes_and_mask_of_vdw_come_back_from_its_truth(tmp_path):
    truth = open_dataset(str(makers.make_vdw(tmp_path))).videos[0].truth(0)
    guess = quantize_disparity(np.random.default_rng(0).random((20, 32), np.float32))
    mask = np.zeros((40, 64), np.uint8)
    mask[-4:] = 255
    expected = vdw_errors(guess, makers.depth_codes(0, 40, 64, 9000, 60000), mask)
    codes = np.rint(np.nan_to_num(truth) * 65535).astype(np.uint16)
    assert vdw_errors(guess, codes, np.where(np.isnan(truth), 255, 0).astype(np.uint8)) == expected


@pytest.mark.parametrize("rendering", ["final", "clean"])
def test_sintel_gives_depth_and_cameras(tmp_path, rendering):
    dataset = open_dataset(f"sintel:{makers.make_sintel(tmp_path)}?pass={rendering}")
    assert (dataset.name, dataset.cap) == (f"sintel-{rendering}", 70.0)
    video = dataset.videos[1]
    assert video.name == "market_5"
    np.testing.assert_array_equal(video.truth(2).ravel(), np.linspace(1, 90, 32 * 72, dtype=np.float32) + 2)
    camera = video.cameras[2]
    assert (camera.intrinsics, camera.width, camera.height) == ((90.0, 91.0, 35.5, 15.5), 72, 32)
    np.testing.assert_allclose(camera.cam_from_world, np.linalg.inv(makers.pose(0.2))[:3], atol=1e-12)
    np.testing.assert_allclose(camera.centre, makers.pose(0.2)[:3, 3], atol=1e-12)


def test_sintel_flow_is_x_first(tmp_path):
    flow = read_flo(makers.make_sintel(tmp_path) / "training" / "flow" / "alley_1" / "frame_0001.flo")
    assert flow.shape == (2, 32, 72)
    assert (flow[0] == 2.5).all()
    np.testing.assert_array_equal(flow[1][:, 7], np.arange(32))


@pytest.mark.parametrize(
    ("damage", "words"),
    [(lambda data: data[:-4], "cut off"), (lambda data: b"XXXX" + data[4:], "tag"), (lambda data: b"", "tag")],
)
def test_a_damaged_file_of_sintel_is_named(tmp_path, damage, words):
    path = makers.make_sintel(tmp_path) / "training" / "depth" / "alley_1" / "frame_0002.dpt"
    dataset = open_dataset(str(tmp_path))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DecodeError, match=words) as error:
        dataset.videos[0].truth(1)
    assert str(path) in str(error.value)


def test_nyu_knows_the_last_frame_of_each_clip(tmp_path):
    dataset = open_dataset(str(makers.make_nyu(tmp_path, clips=11)))
    assert [video.name for video in dataset.videos[:3]] == ["1", "2", "3"]
    assert dataset.published == "nyu"
    video = dataset.videos[0]
    assert [video.truth(index) is None for index in range(4)] == [True, True, True, False]
    truth = video.truth(3)
    codes = makers.depth_codes(1, 480, 640)
    np.testing.assert_array_equal(np.rint(np.nan_to_num(truth) * 1000), codes)
    scored = dataset.scored(truth)
    assert np.isnan(scored[:45]).all()
    assert np.isnan(scored[:, 601:]).all()
    np.testing.assert_array_equal(scored[45:471, 41:601], truth[45:471, 41:601])
    assert nyu_errors(quantize_disparity(1 / np.nan_to_num(truth, nan=1)), codes).delta1 > 0.9


def test_davis_has_the_videos_of_its_split_and_no_truth(tmp_path):
    dataset = open_dataset(str(makers.make_davis(tmp_path)))
    assert [video.name for video in dataset.videos] == ["bear", "dog"]
    assert dataset.quantity == "none"
    assert dataset.videos[0].truth(0) is None
    assert [v.name for v in open_dataset(f"davis:{tmp_path}?split=all").videos] == ["bear", "camel", "dog"]


def test_kitti_pairs_sparse_depth_with_raw_pictures_of_even_size(tmp_path):
    dataset = open_dataset(str(makers.make_kitti(tmp_path)))
    assert (dataset.kind, dataset.cap) == ("kitti", 80.0)
    [video] = dataset.videos
    assert video.frame_names == ("0000000005", "0000000006", "0000000007")
    truth = video.truth(1)
    assert truth.shape == (74, 248)
    assert np.isnan(truth[:10]).all()
    assert (truth[10::4, ::3] == 11.0).all()
    np.testing.assert_array_equal(video.rgb(1), makers.picture(6, 75, 249)[:74, :248])


def test_scannet_is_resized_cropped_and_taken_every_third_frame(tmp_path):
    dataset = open_dataset(str(makers.make_scannet(tmp_path)))
    assert dataset.cap == 10.0
    video = dataset.videos[0]
    assert video.frame_names == ("0", "3", "6")
    assert video.rgb(1).shape == (32, 42, 3)
    truth = video.truth(2)
    np.testing.assert_allclose(truth, makers.depth_codes(6, 48, 64)[8:-8, 11:-11] / 1000, rtol=1e-6)
    assert video.cameras[1] is None, "a lost pose"
    camera = video.cameras[2]
    assert (camera.intrinsics, camera.width, camera.height) == ((57.0, 58.0, 20.5, 15.5), 42, 32)
    np.testing.assert_allclose(camera.centre, makers.pose(0.3)[:3, 3], atol=1e-6)
    assert video.static


def test_seven_scenes_takes_the_sequences_of_the_test_split(tmp_path):
    scene = makers.make_seven_scenes(tmp_path / "chess")
    dataset = open_dataset(str(scene))
    assert [video.name for video in dataset.videos] == ["chess-seq-03", "chess-seq-05"]
    assert len(open_dataset(f"7scenes:{tmp_path}?split=all").videos) == 3
    (scene / "TestSplit.txt").write_text("sequence 5\n\n")
    assert [video.name for video in open_dataset(str(scene)).videos] == ["chess-seq-05"]
    video = open_dataset(str(scene / "seq-01")).videos[0]
    assert video.name == "seq-01"
    truth = video.truth(2)
    assert np.isnan(truth[:3, :5]).all()
    assert np.isnan(truth[-1]).all()
    assert truth[10, 10] == np.float32(makers.depth_codes(2, 48, 64)[10, 10] / np.float32(1000))
    assert video.cameras[2].intrinsics == pytest.approx((58.5, 58.5, 31.55, 23.55)), "585 and (320, 240) at 640x480"
    np.testing.assert_allclose(video.cameras[2].centre, makers.pose(0.2)[:3, 3], atol=1e-8)


def test_tum_associates_colour_depth_and_poses_by_time(tmp_path):
    folder = makers.make_tum(tmp_path / "rgbd_dataset_freiburg1_xyz")
    dataset = open_dataset(str(tmp_path))
    assert dataset.kind == "tum"
    [video] = dataset.videos
    assert len(video.frame_names) == 4, "the colour frame without depth is left out"
    assert video.frame_names[2] == "1305031102.275304"
    np.testing.assert_allclose(
        np.nan_to_num(video.truth(2)), makers.depth_codes(3, 48, 64, 5000, 20000) / 5000, rtol=1e-6
    )
    np.testing.assert_array_equal(video.rgb(2), read_picture(folder / "rgb" / "1305031102.275304.png"))
    assert video.cameras[2].centre[0] == pytest.approx(0.1, abs=0.005)
    assert video.static
    makers.make_tum(tmp_path / "rgbd_dataset_freiburg3_walking_xyz")
    assert not open_dataset(str(tmp_path)).videos[1].static


def test_frames_without_poses_are_read_all_the_same(tmp_path):
    folder = makers.make_tum(tmp_path / "tum" / "rgbd_dataset_freiburg1_xyz")
    rows = (folder / "groundtruth.txt").read_text().splitlines()
    (folder / "groundtruth.txt").write_text("\n".join(rows[-3:]))  # the tracker was switched on late
    [late] = open_dataset(f"tum:{folder}?frames=2").videos
    assert late.cameras is None
    assert [camera is None for camera in open_dataset(f"tum:{folder}").videos[0].cameras] == [True, True, True, False]
    scene = makers.make_seven_scenes(tmp_path / "chess")
    for index in range(2):
        (scene / "seq-03" / f"frame-{index:06d}.pose.txt").write_text("inf inf inf inf\n" * 4)
    assert open_dataset(f"7scenes:{scene / 'seq-03'}?frames=2").videos[0].cameras == (None, None)


def test_bonn_starts_at_frame_30_and_has_no_cameras(tmp_path):
    makers.make_tum(tmp_path / "rgbd_bonn_crowd2", frames=36)
    dataset = open_dataset(str(tmp_path))
    assert dataset.kind == "bonn"
    [video] = dataset.videos
    assert len(video.frame_names) == 36 - 1 - BONN_FIRST
    assert video.cameras is None
    assert np.nanmax(video.truth(0)) < 10
    assert open_dataset(str(tmp_path / "rgbd_bonn_crowd2")).kind == "bonn"


def test_the_real_scene_of_seven_scenes_is_read(shared):
    dataset = open_dataset(str(shared / "data" / "rgbd_scene"))
    [video] = dataset.videos
    assert (dataset.kind, video.name, len(video.frame_names)) == ("7scenes", "rgbd_scene", 100)
    truth = video.truth(50)
    assert truth.shape == (480, 640)
    assert 0.5 < np.nanmedian(truth) < 5
    assert 0.5 < np.isfinite(truth).mean() < 1
    assert all(camera is not None and camera.intrinsics == (585.0, 585.0, 320.0, 240.0) for camera in video.cameras)
    assert video.picture_file(0).name == "frame-000000.color.jpg"
