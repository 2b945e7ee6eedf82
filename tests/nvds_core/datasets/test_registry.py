from __future__ import annotations

import numpy as np
import pytest

from nvds_core.datasets import open_dataset, synthetic
from nvds_core.synthetic import RENDERER_VERSION, make_scene, render
from nvds_core.types import ConfigError
from tests.nvds_core.datasets import makers


def test_synthetic_scenes_are_a_set(tmp_path):
    dataset = open_dataset("synthetic:900..902?frames=3&size=64x48")
    assert [video.name for video in dataset.videos] == ["scene-0900", "scene-0901", "scene-0902"]
    video = dataset.videos[1]
    clip = render(make_scene(901, frames=3, size=(64, 48)), flow=False)
    for index in range(3):
        np.testing.assert_array_equal(video.rgb(index), clip.rgb[index])
        truth = video.truth(index)
        known = clip.object_id[index] >= 0
        np.testing.assert_array_equal(truth[known], clip.depth[index][known])
        assert np.isnan(truth[~known]).all()
        np.testing.assert_array_equal(video.cameras[index].cam_from_world, clip.cam_from_world[index])


def test_a_scene_is_static_if_no_solid_moves():
    videos = open_dataset("synthetic:0..30?frames=2&size=64x48").videos
    assert {video.static for video in videos} == {True, False}
    for video in videos:
        assert video.static == all(len(solid.world_from_object) == 1 for solid in video.scene.solids)


def test_frames_of_the_command_give_way_to_those_of_the_set():
    assert len(open_dataset("synthetic:1", frames=5).videos[0].frame_names) == 5
    assert len(open_dataset("synthetic:1?frames=4", frames=5).videos[0].frame_names) == 4
    assert len(open_dataset("synthetic:1").videos[0].frame_names) == 32


def test_every_file_set_honours_the_number_of_frames(tmp_path):
    makers.make_vdw(tmp_path / "vdw")
    makers.make_sintel(tmp_path / "sintel")
    makers.make_kitti(tmp_path / "kitti")
    makers.make_tum(tmp_path / "tum" / "rgbd_dataset_freiburg2_desk")
    makers.make_seven_scenes(tmp_path / "7scenes")
    makers.make_davis(tmp_path / "davis")
    for folder in sorted(tmp_path.iterdir()):
        dataset = open_dataset(f"{folder}?frames=2")
        assert dataset.kind == folder.name
        assert {len(video.frame_names) for video in dataset.videos} == {2}, folder.name


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nowhere", "known: synthetic"),
        ("synthetic:", "synthetic:900"),
        ("synthetic:9..3", "from 9 to 3"),
        ("synthetic:1?size=8", "288x192"),
        ("synthetic:1?frames=0", "frames=0"),
        ("synthetic:1?colour=red", "unknown option colour"),
        ("synthetic:1?frames", "name=value"),
    ],
)
def test_what_is_no_set_is_refused_in_one_clear_line(spec, words):
    with pytest.raises(ConfigError, match=words) as error:
        open_dataset(spec)
    assert error.value.reason == "dataset"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["vdw", "sintel", "nyu", "davis", "kitti", "scannet", "tum", "bonn", "7scenes"])
def test_a_folder_of_another_layout_says_what_was_expected(tmp_path, kind):
    (tmp_path / "something").mkdir()
    with pytest.raises(ConfigError, match="expected"):
        open_dataset(f"{kind}:{tmp_path}")
    with pytest.raises(ConfigError, match="like no data set"):
        open_dataset(str(tmp_path))
    with pytest.raises(ConfigError, match="no such folder"):
        open_dataset(f"{kind}:{tmp_path / 'gone'}")


def test_a_video_without_a_single_frame_is_refused_when_the_set_is_opened(tmp_path):
    kitti = makers.make_kitti(tmp_path / "kitti", frames=0)
    drive = kitti / "data_depth_annotated" / "val" / "2011_09_26_drive_0002_sync"
    (drive / "proj_depth" / "groundtruth" / "image_02").mkdir(parents=True)
    makers.make_tum(tmp_path / "tum" / "rgbd_dataset_freiburg2_desk", offset=0.5)  # another clock
    for kind, words in (("kitti", "annotated depth in"), ("tum", "within 0.02 s")):
        with pytest.raises(ConfigError, match=words):
            open_dataset(f"{kind}:{tmp_path / kind}")


def test_the_stamp_follows_the_truth(tmp_path):
    root = makers.make_vdw(tmp_path)
    before = [video.stamp() for video in open_dataset(str(root)).videos]
    assert [video.stamp() for video in open_dataset(str(root)).videos] == before
    makers.write_codes(root / "000424" / "left_gt" / "frame_000001.png", np.ones((40, 64), np.uint16))
    after = [video.stamp() for video in open_dataset(str(root)).videos]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_the_stamp_of_rendered_scenes_follows_the_renderer(monkeypatch):
    def stamp(spec):
        return open_dataset(spec).videos[0].stamp()

    before = stamp("synthetic:900?frames=2&size=64x48")
    assert before == stamp("synthetic:900?frames=2&size=64x48")
    assert before not in {stamp(f"synthetic:{spec}") for spec in ("901?frames=2&size=64x48", "900?size=64x48")}
    monkeypatch.setattr(synthetic, "RENDERER_VERSION", RENDERER_VERSION + 1)
    assert stamp("synthetic:900?frames=2&size=64x48") != before
