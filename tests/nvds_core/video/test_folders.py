from __future__ import annotations

import cv2
import numpy as np
import pytest

from nvds_core.types import DecodeError
from nvds_core.video import FOLDER_FPS, content_digest, frame_folder, open_video, probe, resolve_folder
from tests.nvds_core.video.makers import corners, grey_steps, indices_of, write_video


def write_frames(folder, names, pictures=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rgb in zip(names, pictures or grey_steps(len(names)), strict=True):
        (folder / name).write_bytes(cv2.imencode((folder / name).suffix, rgb[:, :, ::-1])[1].tobytes())
    return folder


SEVEN_SCENES = [f"frame-{n:06d}.{kind}" for n in (0, 3, 6) for kind in ("color.jpg", "depth.png", "pose.txt")]


@pytest.mark.parametrize(
    ("names", "frames"),
    [
        (["frame_000002.png", "frame_000000.png", "frame_000001.png"], [f"frame_00000{n}.png" for n in range(3)]),
        (["10.jpg", "9.jpg", "1.jpg"], ["1.jpg", "9.jpg", "10.jpg"]),
        (["img2.png", "img10.png", "img1.png"], ["img1.png", "img2.png", "img10.png"]),
        (SEVEN_SCENES, [f"frame-{n:06d}.color.jpg" for n in (0, 3, 6)]),
        ([name.replace("jpg", "png") for name in SEVEN_SCENES], [f"frame-{n:06d}.color.png" for n in (0, 3, 6)]),
        (["0001.PNG", "0002.PNG", ".0003.png", "notes.txt", "meta.json", "cover.jpg"], ["0001.PNG", "0002.PNG"]),
        (
            [f"{kind}_{n}.png" for n in range(4) for kind in ("depth", "mask", "rgb")],
            [f"rgb_{n}.png" for n in range(4)],
        ),
        ([*(f"shot_{n}.png" for n in range(3)), "misc_1.png"], [f"shot_{n}.png" for n in range(3)]),
        (["frame_1.jpg", "frame_1.png", "frame_2.jpg"], ["frame_1.png", "frame_2.jpg"]),
        (
            ["1305031103.008637.png", "1305031102.975326.png", "1305031102.175304.png", "1305031110.1.png"],
            ["1305031102.175304.png", "1305031102.975326.png", "1305031103.008637.png", "1305031110.1.png"],
        ),
        (["frame_000000.png"], ["frame_000000.png"]),
        (["7.png"], ["7.png"]),
    ],
)
def test_frames_are_found_by_name_and_ordered_by_number(names, frames):
    assert frame_folder(names) == frames
    assert frame_folder(reversed(names)) == frames


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["a.mp4", "000001.png", "000002.png"],
        ["notes.txt", "data.json"],
        ["poster2.jpg"],
        ["cat.png", "dog.png"],
        ["depth_000.png", "depth_001.png"],
        [".frame_000001.png", ".frame_000002.png"],
    ],
)
def test_other_folders_are_no_frame_folders(names):
    assert frame_folder(names) is None


@pytest.mark.parametrize("name", ["cat.jpg", "poster2.jpg"])
def test_a_single_picture_is_told_to_be_no_video_and_how_it_becomes_one(tmp_path, name):
    folder = write_frames(tmp_path / "pictures", [name])
    (folder / "notes.txt").touch()
    with pytest.raises(DecodeError, match=rf"pictures: one picture, {name}, .* frame_000001\.jpg") as caught:
        probe(folder)
    assert caught.value.reason == "not_a_video"
    (folder / name).rename(folder / "frame_000001.jpg")
    assert probe(folder).frames == 1


@pytest.mark.parametrize("names", [["cat.png", "dog.png"], ["a.mp4", "cover.jpg"]])
def test_other_folders_are_not_said_to_hold_one_picture(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DecodeError, match="a folder without numbered frames"):
        probe(tmp_path)


def test_a_vdw_folder_is_the_video_of_its_left_view(tmp_path):
    names = [f"frame_{n:06d}.png" for n in range(4)]
    for part in ("left", "left_gt", "left_mask"):
        write_frames(tmp_path / "000001" / part, names)
    assert resolve_folder(tmp_path / "000001") == (tmp_path / "000001" / "left", names)
    assert resolve_folder(tmp_path) is None
    with open_video(tmp_path / "000001") as reader:
        assert indices_of(frame.rgb for frame in reader) == list(range(4))


def test_a_folder_is_read_like_a_video(tmp_path):
    folder = write_frames(tmp_path / "x.mp4", [f"frame_{n:06d}.png" for n in range(12)])
    info = probe(folder)
    assert (info.kind, info.frames, info.width, info.height, info.fps) == ("folder", 12, 64, 48, FOLDER_FPS)
    with open_video(folder, limit=5) as reader:
        frames = list(reader)
    assert [frame.time_s for frame in frames] == pytest.approx([n / 24 for n in range(5)])
    assert indices_of(frame.rgb for frame in frames) == list(range(5))


def test_strides_and_gaps_are_accepted_and_told(tmp_path):
    folder = write_frames(tmp_path / "a", [f"{n:03d}.png" for n in (0, 3, 6, 12, 15)])
    with open_video(folder) as reader:
        assert len(list(reader)) == 5
    assert reader.warnings == [
        "frames are numbered in steps of 3",
        "1 gap(s) in the numbering, the first after 006.png",
    ]


def test_frames_named_after_times_are_one_video_without_gaps(tmp_path):
    """As in TUM RGB-D, whose poses are matched by these times."""
    names = [f"{1305031102.175304 + n / 3:.6f}.png" for n in range(12)]  # over five full seconds
    folder = write_frames(tmp_path / "rgb", names)
    with open_video(folder) as reader:
        assert indices_of(frame.rgb for frame in reader) == list(range(12))
    assert reader.warnings == []


@pytest.mark.parametrize("kind", ["16 bit", "alpha", "grey", "16 bit grey"])
def test_stored_kinds_of_png_become_8_bit_rgb(tmp_path, kind):
    rgb = corners()
    stored, expected = {
        "16 bit": (rgb.astype(np.uint16)[:, :, ::-1] * 257, rgb),
        "alpha": (np.dstack([rgb[:, :, ::-1], np.zeros((48, 64), np.uint8)]), rgb),
        "grey": (rgb[:, :, 1], np.repeat(rgb[:, :, 1:2], 3, axis=2)),
        "16 bit grey": (rgb[:, :, 1].astype(np.uint16) * 257, np.repeat(rgb[:, :, 1:2], 3, axis=2)),
    }[kind]
    cv2.imwrite(str(tmp_path / "frame_1.png"), stored)
    with open_video(tmp_path) as reader:
        frame = next(reader)
    assert frame.rgb.dtype == np.uint8
    assert np.array_equal(frame.rgb, expected)


def test_a_frame_of_another_size_is_named(tmp_path):
    folder = write_frames(tmp_path / "a", ["1.png", "2.png", "3.png"], [corners(), corners(), corners(80, 48)])
    with (
        pytest.raises(DecodeError, match=r"3\.png: 80x48 where the first frame is 64x48"),
        open_video(folder) as reader,
    ):
        list(reader)


@pytest.mark.parametrize("name", ["2.png", "2.jpg"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 0.99])
def test_a_damaged_frame_is_named(tmp_path, name, share):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    suffix = name[1:]
    folder = write_frames(tmp_path / "a", [f"1{suffix}", name], [noise, noise])
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DecodeError, match=name) as caught, open_video(folder) as reader:
        list(reader)
    assert caught.value.reason == "decode"


def test_huge_frames_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "frame_1.png"), np.zeros((2, 20000), np.uint8))
    with pytest.raises(DecodeError) as caught:
        probe(tmp_path)
    assert caught.value.reason == "too_large"


def test_a_digest_knows_the_content_and_not_the_names(tmp_path):
    pictures = grey_steps(3)
    first = write_frames(tmp_path / "a", ["1.png", "2.png", "3.png"], pictures)
    renamed = write_frames(tmp_path / "b" / "left", ["frame_0007.png", "frame_0008.png", "frame_0009.png"], pictures)
    swapped = write_frames(tmp_path / "c", ["1.png", "2.png", "3.png"], [pictures[i] for i in (1, 0, 2)])
    assert content_digest(first) == content_digest(renamed.parent) == content_digest(renamed)
    assert content_digest(first) != content_digest(swapped)
    (first / "notes.txt").write_text("junk does not count")
    assert content_digest(first) == content_digest(renamed)


def test_the_digest_of_a_file_is_sha256_of_its_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert content_digest(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path = write_video(tmp_path / "a.mp4", grey_steps(3))
    assert content_digest(path) == content_digest(path.rename(tmp_path / "other.mp4"))
