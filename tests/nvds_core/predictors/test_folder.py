from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from nvds_core.predictors.base import create_predictor, predictor_names
from nvds_core.predictors.depth_files import open_files
from nvds_core.predictors.folder import check_count
from nvds_core.predictors.quantity import resize_map, to_disparity
from nvds_core.types import ConfigError, CoreError, DecodeError
from nvds_core.video import write_png16

EXR = Path(__file__).parents[2] / "data" / "exr"
FRAMES = 12  # so that natural order differs from that of plain text


@pytest.fixture
def depth() -> np.ndarray:
    """[t,h,w] above 0, every frame on another level."""
    noise = np.random.default_rng(0).random((FRAMES, 6, 8))
    return (1 + noise + np.arange(FRAMES)[:, None, None]).astype(np.float32)


def write_series(folder: Path, maps: np.ndarray, suffix: str) -> Path:
    folder.mkdir(parents=True)
    for index, values in enumerate(maps):
        path = folder / f"frame_{index}{suffix}"
        if suffix == ".png":
            write_png16(path, values.astype(np.uint16))
        elif suffix == ".npy":
            np.save(path, values)
        else:
            np.savez_compressed(path, depth=values, unit="m")
    return folder


def read(path: Path, quantity: str | None = None) -> np.ndarray:
    source = open_files(path, quantity)
    maps = list(source.maps())
    assert len(maps) == source.count
    return np.stack(maps)


@pytest.mark.parametrize("suffix", [".png", ".npy", ".npz"])
def test_a_file_per_frame_is_read_in_natural_order(tmp_path, depth, suffix):
    maps = np.rint(depth * 1000) if suffix == ".png" else depth
    folder = write_series(tmp_path / "maps", maps, suffix)
    (folder / "notes.txt").write_text("no map")
    (folder / ".hidden.exr").touch()
    found = read(folder, "depth")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 1 / maps, rtol=1e-6)


@pytest.mark.parametrize("compressed", [False, True])
def test_one_array_file_holds_all_frames_and_its_name_tells_the_quantity(tmp_path, depth, compressed):
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "metric.npz", depth=depth, time=np.arange(FRAMES), about="text")
    np.testing.assert_allclose(read(tmp_path / "metric.npz"), 1 / depth, rtol=1e-6)
    save(tmp_path / "both.npz", depth=depth, disparity=2 / depth)
    np.testing.assert_array_equal(read(tmp_path / "both.npz"), 2 / depth)
    np.testing.assert_allclose(read(tmp_path / "both.npz", "depth"), 1 / depth, rtol=1e-6)
    np.save(tmp_path / "plain.npy", depth.astype(np.float64))
    np.testing.assert_array_equal(read(tmp_path / "plain.npy"), depth)
    np.testing.assert_allclose(read(tmp_path / "plain.npy", "depth"), 1 / depth, rtol=1e-6)


def test_exr_files_are_read(tmp_path):
    (tmp_path / "frame_1.exr").write_bytes((EXR / "none_float.exr").read_bytes())
    y, x = np.mgrid[:19, :23]
    expected = 1 / (2 + 0.25 * x + 0.0625 * y * y)
    expected[0, 0] = expected[-1, -1]  # infinite depth: as far as the farthest
    np.testing.assert_allclose(read(tmp_path, "depth")[0], expected, rtol=1e-6)


def test_our_own_16_bit_pictures_are_decoded_by_their_range_file(tmp_path):
    codes = np.arange(1, 49, dtype=np.uint16).reshape(1, 6, 8)
    codes[0, 0, 0] = 0
    folder = write_series(tmp_path / "maps", codes, ".png")
    before = open_files(folder).digest
    (folder / "range.json").write_text(json.dumps({"offset": -3.0, "scale": 0.5}))
    expected = -3 + 0.5 * (codes[0].astype(float) - 1)
    expected[0, 0] = expected[0, 1]  # invalid: the least of the others
    np.testing.assert_allclose(read(folder)[0], expected, rtol=1e-6)
    assert open_files(folder).digest != before
    with pytest.raises(ConfigError, match=r"range.json says .* leave \?quantity=depth out"):
        open_files(folder, "depth")
    (folder / "range.json").write_text("{}")
    with pytest.raises(DecodeError, match=r"range\.json"):
        open_files(folder)


def test_holes_become_as_far_as_the_farthest_and_a_map_of_holes_is_refused():
    values = np.array([[1.0, 4.0, 0.0], [-2.0, np.nan, np.inf]])
    np.testing.assert_array_equal(to_disparity(values, "depth", "m"), [[1, 0.25, 0.25], [0.25, 0.25, 0.25]])
    np.testing.assert_array_equal(to_disparity(values, "disparity", "m"), [[1, 4, 0], [-2, -2, -2]])
    with pytest.raises(DecodeError, match="m7: no valid pixel"):
        to_disparity(np.zeros((2, 2)), "depth", "m7")


def test_maps_are_resized_without_loss_of_their_mean():
    disparity = np.random.default_rng(0).random((64, 96)).astype(np.float32)
    small = resize_map(disparity, (32, 16))
    np.testing.assert_allclose(small, disparity.reshape(16, 4, 32, 3).mean(axis=(1, 3)), rtol=1e-5)
    assert resize_map(small, (96, 64)).shape == (64, 96)
    assert resize_map(disparity, (96, 64)) is disparity


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_the_digest_names_contents_and_their_order_but_no_place(tmp_path, depth, suffix):
    digest = open_files(write_series(tmp_path / "a", depth * 1000, suffix)).digest
    assert open_files(write_series(tmp_path / "b" / "c", depth * 1000, suffix)).digest == digest
    assert open_files(write_series(tmp_path / "d", depth[::-1] * 1000, suffix)).digest != digest
    again = write_series(tmp_path / "e", depth * 1000, suffix)
    assert open_files(again).digest == digest
    (again / f"frame_3{suffix}").write_bytes((again / f"frame_4{suffix}").read_bytes())
    assert open_files(again).digest != digest


def damaged_maps(folder: Path, how: str) -> Path:
    folder.mkdir()
    if how == "empty":
        return folder
    if how == "mixed":
        np.save(folder / "a1.npy", np.ones((2, 2)))
        write_png16(folder / "a2.png", np.ones((2, 2), np.uint16))
    elif how == "8 bits":
        cv2.imwrite(str(folder / "a.png"), np.ones((2, 2), np.uint8))
    elif how == "colour":
        write_png16(folder / "a.png", np.ones((2, 2, 3), np.uint16))
    elif how == "cut png":
        write_png16(folder / "a.png", np.ones((2, 2), np.uint16))
        (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:20])
    elif how == "pickle":
        np.save(folder / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    elif how == "whole video":
        np.save(folder / "clip.npy", np.ones((5, 2, 2)))
    elif how == "text":
        np.save(folder / "a.npy", np.array([["x"]]))
    elif how == "names":
        np.savez(folder / "a.npz", x=np.ones((2, 2)), y=np.ones((2, 2)))
    elif how == "no archive":
        (folder / "a.npz").write_bytes(b"nonsense")
    return folder


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("empty", "no map files; PNG, NPY, NPZ, EXR are read"),
        ("mixed", r"maps in several formats \(.npy, .png\)"),
        ("8 bits", r"a\.png: uint8 .* write grey pictures of 16 bits"),
        ("colour", r"a\.png: uint16 \(2, 2, 3\)"),
        ("cut png", r"a\.png: damaged"),
        ("pickle", r"a\.npy: damaged .*allow_pickle"),
        ("whole video", r"clip\.npy: float64 \(5, 2, 2\) is no map of one frame"),
        ("text", r"a\.npy: <U1"),
        ("names", r"a\.npz: no array is called disparity or depth \(there are: x, y\)"),
        ("no archive", r"a\.npz: damaged"),
    ],
)
def test_what_is_no_map_is_refused_by_the_name_of_the_file(tmp_path, how, words):
    with pytest.raises(DecodeError, match=words):
        read(damaged_maps(tmp_path / "maps", how))


def test_an_array_file_that_is_cut_off_or_of_another_shape_is_refused(tmp_path, depth):
    np.save(tmp_path / "a.npy", depth)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-10])
    with pytest.raises(DecodeError, match=r"a\.npy: damaged or cut off"):
        read(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", depth[0])
    with pytest.raises(DecodeError, match=r"b\.npy: float32 \(6, 8\) is no video of maps"):
        open_files(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.asfortranarray(depth))
    with pytest.raises(DecodeError, match=r"c\.npy: .*by columns"):
        open_files(tmp_path / "c.npy")
    np.savez(tmp_path / "d.npz", depth=depth)
    data = bytearray((tmp_path / "d.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "d.npz").write_bytes(data)
    with pytest.raises(DecodeError, match=r"d\.npz: damaged .*CRC"):
        read(tmp_path / "d.npz")
    assert not zipfile.is_zipfile(tmp_path / "a.npy")


def entries(root: Path, *names: str) -> Path:
    root.mkdir()
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            np.savez(path, np.ones((2, 4, 4)))
        elif path.suffix == ".npy":
            np.save(path, np.ones((2, 4, 4)))
        else:
            path.mkdir()
            np.save(path / "f1.npy", np.ones((4, 4)))
    return root


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["clip", "other"], "clip"),
        (["clip.npz", "clip2.npz"], "clip.npz"),
        (["clip.npy"], "clip.npy"),
        (["clip.zarr"], "clip.zarr"),
        (["clip", "clip-0123456789"], "clip-0123456789"),
        (["videos/clip-0123456789"], "videos/clip-0123456789"),
    ],
)
def test_a_video_is_looked_up_by_its_id_then_by_its_name(tmp_path, names, expected):
    folder = create_predictor(f"folder:{entries(tmp_path / 'maps', *names)}")
    assert folder.locate("clip", "clip-0123456789") == tmp_path / "maps" / expected


def test_the_path_itself_may_be_the_maps_of_one_video(tmp_path):
    root = entries(tmp_path / "maps", "one", "two.npy")
    for own in ("one", "two.npy"):
        folder = create_predictor(f"folder:{root / own}")
        assert folder.locate("clip", "clip-0123456789") == root / own


@pytest.mark.parametrize("name", ["absent", "..", "."])
@pytest.mark.parametrize("other", ["clip", "clip.npz", "clip.npy"])
def test_a_video_without_maps_is_refused_with_what_was_expected(tmp_path, name, other):
    folder = create_predictor(f"folder:{entries(tmp_path / 'maps', other)}")
    with pytest.raises(DecodeError, match=r'no maps for the video ".*"; expected one of .*\.npz') as error:
        folder.locate(name, f"{name}-0123456789")
    assert error.value.reason == "no_maps"


def test_two_entries_for_one_video_are_refused(tmp_path):
    folder = create_predictor(f"folder:{entries(tmp_path / 'maps', 'clip', 'clip.npz')}")
    with pytest.raises(DecodeError, match="several maps") as error:
        folder.locate("clip", "clip-0123456789")
    assert error.value.reason == "maps"


def test_settings_that_make_no_sense_are_refused_at_once(tmp_path):
    assert "folder:PATH" in predictor_names()
    with pytest.raises(ConfigError, match="no such local file or folder"):
        create_predictor(f"folder:{tmp_path / 'absent'}")
    with pytest.raises(ConfigError, match="quantity is 'metres', must be disparity or depth"):
        create_predictor(f"folder:{tmp_path}?quantity=metres")
    with pytest.raises(ConfigError, match="does not take these options"):
        create_predictor(f"folder:{tmp_path}?unit=m")
    with pytest.raises(CoreError, match="not for pictures"):
        create_predictor(f"folder:{tmp_path}").predict(np.zeros((1, 4, 4, 3)))


def test_the_settings_are_part_of_the_digest_and_the_path_is_not(tmp_path):
    one, two = entries(tmp_path / "a", "x"), entries(tmp_path / "b", "x")
    assert create_predictor(f"folder:{one}").digest == create_predictor(f"folder:{two}").digest
    assert create_predictor(f"folder:{one}?quantity=depth").digest != create_predictor(f"folder:{one}").digest


@pytest.mark.parametrize(("found", "frames", "claimed"), [(5, 5, None), (5, 5, 7), (9, 4, 9)])
def test_one_map_per_frame_is_right_also_if_the_run_takes_only_the_first(found, frames, claimed):
    check_count(found, frames, claimed, "maps")


@pytest.mark.parametrize(("found", "frames", "claimed"), [(4, 5, 5), (6, 5, 5), (6, 5, None), (3, 5, 3)])
def test_another_number_of_maps_is_refused(found, frames, claimed):
    with pytest.raises(DecodeError, match=f"maps: {found} maps for a video of {frames} frames") as error:
        check_count(found, frames, claimed, "maps")
    assert error.value.reason == "maps"
