from __future__ import annotations

import gc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nvds_core.video import VIDEO_SUFFIXES, is_video_name, open_video, probe
from tests.nvds_core.video.makers import (
    CORNERS,
    corner_names,
    corners,
    cut_off,
    grey_steps,
    indices_of,
    panning,
    write_video,
)

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx264", "yuv422p10le"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.mkv", "ffv1", "yuv420p10le"),
        ("a.mkv", "ffv1", "gray"),
        ("a.mkv", "ffv1", "gray16le"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.ts", "libx264", "yuv420p"),
    ],
)
def test_every_container_gives_all_frames_in_order_with_their_times(tmp_path, name, codec, pixel_format):
    options = {"libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"}, "mpeg4": {"qmin": "1", "qmax": "2"}}.get(codec)
    path = write_video(tmp_path / name, grey_steps(30), codec=codec, pixel_format=pixel_format, options=options)
    with open_video(path) as reader:
        frames = list(reader)
    assert indices_of(frame.rgb for frame in frames) == list(range(30)) == [frame.index for frame in frames]
    assert [frame.time_s for frame in frames] == pytest.approx([i / 24 for i in range(30)], abs=0.0011)  # mkv: whole ms
    assert (reader.decoded, reader.warnings, reader.info.variable_frame_rate) == (30, [], False)
    assert (reader.info.width, reader.info.height, reader.info.fps) == (64, 48, pytest.approx(24, abs=0.01))
    assert reader.info.frames in (30, None)


@pytest.mark.parametrize(
    ("codec", "name", "pixel_format", "options"),
    [
        ("libx264", "a.mp4", "yuv444p", {"crf": "1"}),
        ("ffv1", "a.mkv", "yuv444p10le", {}),
        ("mjpeg", "a.avi", "yuvj444p", {"qmin": "1", "qmax": "1"}),
        ("ffv1", "a.mkv", "bgr0", {}),
    ],
)
def test_colours_are_those_of_the_source_picture(tmp_path, codec, name, pixel_format, options):
    source = corners()
    path = write_video(tmp_path / name, [source] * 3, codec=codec, pixel_format=pixel_format, options=options)
    with open_video(path) as reader:
        rgb = next(reader).rgb
    inner = np.s_[4:20, 4:28]
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert np.abs(rgb[inner].astype(int) - source[inner]).max() <= 4
    assert corner_names(rgb) == ("red", "green", "blue", "white")


# Counter-clockwise turns of the corner picture, worked out by hand.
TURNED = {
    0: ("red", "green", "blue", "white"),
    90: ("green", "white", "red", "blue"),
    180: ("white", "blue", "green", "red"),
    270: ("blue", "red", "white", "green"),
}


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_metadata_turns_the_picture(tmp_path, name, turn):
    path = write_video(tmp_path / name, [corners()] * 3, rotation=turn)
    with open_video(path) as reader:
        frames = list(reader)
    assert corner_names(frames[-1].rgb) == TURNED[turn]
    height, width = (48, 64) if turn == 180 else (64, 48)
    assert (reader.info.rotation, reader.info.width, reader.info.height) == ((360 - turn) % 360, width, height)
    assert frames[0].rgb.shape == (height, width, 3)


@pytest.mark.parametrize(
    ("turn", "seen"), [(0, ("green", "red", "white", "blue")), (90, ("white", "green", "blue", "red"))]
)
def test_mirrored_pictures_are_flipped_after_the_turn(tmp_path, turn, seen):
    path = write_video(tmp_path / "a.mp4", [corners()] * 3, rotation=turn, hflip=True)
    with open_video(path) as reader:
        assert corner_names(next(reader).rgb) == seen
    assert reader.info.mirrored


def test_a_slanted_rotation_is_left_as_stored_and_said(tmp_path):
    with open_video(write_video(tmp_path / "a.mp4", [corners()] * 3, rotation=45)) as reader:
        assert corner_names(next(reader).rgb) == TURNED[0]
    assert any("no quarter turn" in warning for warning in reader.warnings)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_timestamps_of_a_variable_frame_rate_are_kept(tmp_path, name):
    stamps = [100, 140, 180, 400, 410, 900, 940, 2000]
    frames = grey_steps(len(stamps))
    path = write_video(tmp_path / name, frames, stamps=stamps, time_base=Fraction(1, 1000), fps=25)
    with open_video(path) as reader:
        assert reader.info.variable_frame_rate is None
        times = [frame.time_s for frame in reader]
    assert times == pytest.approx([(stamp - 100) / 1000 for stamp in stamps], abs=0.0011)
    assert reader.info.variable_frame_rate is True


def test_odd_sizes_are_kept(tmp_path):
    path = write_video(tmp_path / "a.mkv", [corners(67, 45)] * 3, codec="ffv1", pixel_format="yuv444p")
    with open_video(path) as reader:
        frame = next(reader)
    assert frame.rgb.shape == (45, 67, 3)
    assert corner_names(frame.rgb) == TURNED[0]


def test_alpha_is_dropped_and_the_stored_colours_stay(tmp_path):
    rgba = np.dstack([corners(), np.full((48, 64), 7, np.uint8)])
    path = write_video(tmp_path / "a.mkv", [rgba] * 3, codec="ffv1", pixel_format="bgra", source_format="rgba")
    with open_video(path) as reader:
        assert np.array_equal(next(reader).rgb, corners())
    assert reader.warnings == ["alpha channel dropped, colours kept as stored"]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_very_short_clips_are_whole(tmp_path, name, count):
    codec, options = ("mpeg4", {"qmin": "1", "qmax": "2"}) if name == "a.avi" else ("libx264", {})
    path = write_video(tmp_path / name, grey_steps(count), codec=codec, options=options)
    with open_video(path) as reader:
        assert indices_of(frame.rgb for frame in reader) == list(range(count))
    assert reader.warnings == []


def test_a_limit_stops_early_and_does_not_judge_the_end(tmp_path):
    path = write_video(
        tmp_path / "a.mp4",
        panning(40),
        container_options={"movflags": "faststart"},
        options={"bf": "0", "tune": "zerolatency"},
    )
    with open_video(cut_off(path, 0.6), limit=3) as reader:
        assert len(list(reader)) == 3 == reader.decoded


def mux_earlier(container, packets, frames=24):
    for packet in packets:
        packet.pts, packet.dts = packet.pts - frames, packet.dts - frames
        container.mux(packet)


def test_frames_hidden_by_an_edit_list_are_no_truncation(tmp_path):
    path = tmp_path / "trimmed.mp4"
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled", "use_editlist": "1"}) as container:
        stream = container.add_stream("libx264", 24, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index, rgb in enumerate(grey_steps(60)):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            mux_earlier(container, stream.encode(frame))
        mux_earlier(container, stream.encode(None))
    with open_video(path) as reader:
        assert indices_of(frame.rgb for frame in reader) == list(range(24, 60))
    assert reader.info.frames == 60
    assert any("edit list" in warning for warning in reader.warnings)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_sound_longer_than_the_picture_is_no_truncation(tmp_path, name):
    path = write_video(tmp_path / name, grey_steps(12), with_sound=3.0)
    with open_video(path) as reader:
        assert len(list(reader)) == 12


def test_probe_describes_without_decoding_the_rest(tmp_path):
    path = write_video(tmp_path / "a.mp4", panning(40), container_options={"movflags": "faststart"}, fps=30)
    info = probe(cut_off(path, 0.7))
    assert (info.kind, info.frames, info.width, info.height, info.fps) == ("file", 40, 160, 120, 30.0)
    assert (info.codec, info.pixel_format, info.rotation, info.variable_frame_rate) == ("h264", "yuv420p", 0, None)
    assert info.duration_s == pytest.approx(40 / 30)


def test_decoded_pictures_do_not_wait_for_the_garbage_collector(tmp_path):
    path = write_video(tmp_path / "a.mp4", grey_steps(60), rotation=90)
    gc.collect()
    gc.disable()
    try:
        with open_video(path) as reader:
            assert sum(1 for _ in reader) == 60
        alive = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert alive <= 2


def test_a_closed_reader_ends_quietly(tmp_path):
    with open_video(write_video(tmp_path / "a.mp4", grey_steps(5))) as reader:
        next(reader)
    assert list(reader) == []
    reader.close()


def test_names_that_look_like_protocols_or_patterns_are_plain_files(tmp_path):
    for name in ("pipe:0.mp4", "concat:a|b.mp4", "frame_%03d.mp4", "ü ñ.mp4"):
        write_video(tmp_path / "plain.mp4", grey_steps(3)).rename(tmp_path / name)
        with open_video(tmp_path / name) as reader:
            assert len(list(reader)) == 3


def test_names_of_videos_are_known_by_their_suffix():
    assert is_video_name("clip.MP4")
    assert is_video_name("a.b.webm")
    assert not is_video_name("frame_000001.png")
    assert not is_video_name(".hidden.mp4")
    assert not is_video_name("mp4")
    assert {".mp4", ".mov", ".mkv", ".avi", ".webm"} <= VIDEO_SUFFIXES


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [
        ("clips/davis_rollercoaster.mp4", 70, (960, 540)),
        ("vdw_stereo/000001.mp4", 63, (1920, 1080)),
        ("rgbd_scene", 100, (640, 480)),
    ],
)
def test_the_shared_footage_is_read_whole(name, count, size):
    if not (SHARED / name).exists():
        pytest.skip(f"shared footage {name} is not beside the repository")
    with open_video(SHARED / name) as reader:
        decoded = sum(1 for _ in reader)
    assert (decoded, reader.info.width, reader.info.height) == (count, *size)


def test_the_corner_colours_are_far_apart():
    values = np.array(list(CORNERS.values()), int)
    gaps = np.abs(values[:, None] - values[None]).sum(-1) + 1000 * np.eye(4, dtype=int)
    assert gaps.min() > 200
