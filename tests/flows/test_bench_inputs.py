from __future__ import annotations

import numpy as np
import pytest

from flows.bench_inputs import open_sets, write_inputs
from nvds_core.datasets import open_dataset
from nvds_core.geometry.poses import read_poses
from nvds_core.types import ConfigError
from nvds_core.video.folders import read_picture, resolve_folder
from tests.nvds_core.datasets import makers


def test_frames_are_numbered_and_linked_where_a_file_holds_the_picture(tmp_path):
    makers.make_tum(tmp_path / "rgbd_dataset_freiburg1_xyz")
    [video] = write_inputs(tmp_path / "out", open_dataset(str(tmp_path)))
    folder, names = resolve_folder(video.folder)
    assert names == [f"frame_{index:06d}.png" for index in range(4)]
    assert all((folder / name).is_symlink() for name in names)
    np.testing.assert_array_equal(read_picture(folder / names[3]), video.video.rgb(3))


def test_cropped_frames_are_written_without_loss(tmp_path):
    makers.make_kitti(tmp_path / "kitti")
    [video] = write_inputs(tmp_path / "out", open_dataset(str(tmp_path / "kitti")))
    assert not (video.folder / "frame_000001.png").is_symlink()
    np.testing.assert_array_equal(read_picture(video.folder / "frame_000001.png"), video.video.rgb(1))
    assert video.poses is None


def test_poses_lie_beside_under_the_names_of_the_frames(tmp_path):
    makers.make_scannet(tmp_path / "scannet")
    video = write_inputs(tmp_path / "out", open_dataset(str(tmp_path / "scannet")))[0]
    names = ["frame_000000.png", "frame_000001.png", "frame_000002.png"]
    found = read_poses(video.poses, frame_names=names, frame_size=(42, 32))
    assert list(found) == [names[0], names[2]], "the pose of the second frame is lost"
    np.testing.assert_allclose(found[names[2]].centre, makers.pose(0.3)[:3, 3], atol=1e-6)


def test_what_is_written_is_written_anew_only_when_the_set_changes(tmp_path):
    root = makers.make_kitti(tmp_path / "kitti")
    [video] = write_inputs(tmp_path / "out", open_dataset(str(root)))
    stamp = (video.folder / "frame_000000.png").stat().st_mtime_ns
    write_inputs(tmp_path / "out", open_dataset(str(root)))
    assert (video.folder / "frame_000000.png").stat().st_mtime_ns == stamp
    raw = root / "2011_09_26" / "2011_09_26_drive_0002_sync" / "image_02" / "data" / "0000000005.png"
    makers.write_rgb(raw, makers.picture(77, 75, 249))
    write_inputs(tmp_path / "out", open_dataset(str(root)))
    np.testing.assert_array_equal(read_picture(video.folder / "frame_000000.png"), video.video.rgb(0))
    assert len(list((tmp_path / "out" / "inputs" / "kitti").iterdir())) == 2, "the frames and what they were made of"


def test_a_set_that_was_moved_is_linked_anew(tmp_path):
    for place in (tmp_path / "here", tmp_path / "there"):
        if place.name == "here":
            makers.make_tum(place / "rgbd_dataset_freiburg1_xyz")
        else:
            (tmp_path / "here").rename(place)
        [video] = write_inputs(tmp_path / "out", open_dataset(str(place)))
        np.testing.assert_array_equal(read_picture(video.folder / "frame_000001.png"), video.video.rgb(1))


def test_an_unreadable_picture_is_the_problem_of_its_video(tmp_path):
    root = makers.make_scannet(tmp_path / "scannet")
    (root / "scene0708_00" / "color" / "3.jpg").write_bytes(b"nonsense")
    good, bad = write_inputs(tmp_path / "out", open_dataset(str(root)))
    assert good.problem is None
    assert "3.jpg" in str(bad.problem)
    assert not bad.folder.exists()


def test_sets_of_one_kind_are_told_apart_by_their_folder(tmp_path):
    for name in ("a", "b"):
        makers.make_vdw(tmp_path / name)
    sets = open_sets([str(tmp_path / "a"), str(tmp_path / "b")], frames=2, places={})
    assert [dataset.name for dataset in sets] == ["vdw", "vdw-b"]
    assert len(sets[0].videos[0].frame_names) == 2
    with pytest.raises(ConfigError, match="twice"):
        open_sets([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "b")], frames=None, places={})


def test_sets_keep_the_names_that_they_had_in_the_same_output_before():
    ranges = ["synthetic:900..901", "synthetic:902..903"]

    def names(specs, places):
        return [dataset.name for dataset in open_sets(specs, frames=2, places=places)]

    assert names(ranges[:1], {}) == ["synthetic"]
    known = {"synthetic": "900-901"}
    assert names(ranges[1:], known) == ["synthetic-902-903"]
    known["synthetic-902-903"] = "902-903"
    assert names(ranges, known) == ["synthetic", "synthetic-902-903"]
    assert names(ranges[::-1], known) == ["synthetic-902-903", "synthetic"]
    assert names(["synthetic:900..901?size=64x48"], known) == ["synthetic"], "the same scenes"
    assert names(ranges[1:], {"synthetic": None}) == ["synthetic"], "of a version that did not note the place"


def test_the_digest_of_the_frame_list_follows_the_names_alone(tmp_path):
    makers.make_vdw(tmp_path / "a")
    makers.make_vdw(tmp_path / "b")
    makers.write_codes(tmp_path / "b" / "000423" / "left_gt" / "frame_000000.png", np.ones((40, 64), np.uint16))
    digests = []
    for name in ("a", "b"):
        videos = write_inputs(tmp_path / f"out-{name}", open_dataset(str(tmp_path / name)))
        digests.append([video.frame_digest for video in videos])
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[0][1]
    shorter = write_inputs(tmp_path / "out-c", open_dataset(str(tmp_path / "a"), frames=2))
    assert shorter[0].frame_digest != digests[0][0]
