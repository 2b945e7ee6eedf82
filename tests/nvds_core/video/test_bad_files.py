from __future__ import annotations

import os
import socket

import cv2
import numpy as np
import pytest

from nvds_core.types import DecodeError
from nvds_core.video import content_digest, open_video, probe
from tests.nvds_core.video.makers import (
    cut_off,
    grey_steps,
    overwrite,
    panning,
    write_sound,
    write_two_sizes,
    write_video,
)

FAST_START = {"movflags": "faststart"}


def read_all(path):
    with open_video(path) as reader:
        return list(reader), reader.warnings


def refused(path, action=read_all):
    with pytest.raises(DecodeError) as caught:
        action(path)
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("action", [probe, read_all, content_digest])
def test_missing_files_and_dangling_links_are_named(tmp_path, action):
    assert refused(tmp_path / "none.mp4", action).reason == "not_found"
    link = tmp_path / "link.mp4"
    link.symlink_to(tmp_path / "gone.mp4")
    error = refused(link, action)
    assert (error.reason, "gone.mp4" in str(error)) == ("not_found", True)


@pytest.mark.parametrize("action", [probe, read_all, content_digest])
def test_pipes_sockets_and_devices_are_refused_without_waiting(tmp_path, action, monkeypatch):
    os.mkfifo(tmp_path / "fifo.mp4")
    assert refused(tmp_path / "fifo.mp4", action).reason == "unreadable"
    monkeypatch.chdir(tmp_path)  # the path of a socket may have some hundred bytes only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.mp4")
        assert refused(tmp_path / "socket.mp4", action).reason == "unreadable"
    assert refused("/dev/null", action).reason == "unreadable"


def test_a_file_without_permission_is_unreadable(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", grey_steps(3))
    path.chmod(0)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    assert refused(path).reason == "unreadable"


def test_an_empty_file_is_empty(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert refused(tmp_path / "a.mp4").reason == "empty"


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.txt", "a.webm", "noise", "a.m3u8"])
@pytest.mark.parametrize(
    "content", [b"hello, I am a letter\n" * 50, np.random.default_rng(0).bytes(20000), b"\x00" * 5000]
)
def test_garbage_is_no_video(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert refused(tmp_path / name, probe).reason == "not_a_video"


def test_a_playlist_never_opens_what_it_names(tmp_path):
    target = write_video(tmp_path / "a.ts", grey_steps(30))
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target.name}\n#EXT-X-ENDLIST\n"
    for name in ("list.m3u8", "list.mp4"):
        (tmp_path / name).write_text(text)
        assert refused(tmp_path / name).reason == "not_a_video"
    (tmp_path / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile {target.name}\n")
    assert refused(tmp_path / "list.ffconcat").reason == "not_a_video"


def test_a_single_picture_is_no_video(tmp_path):
    for name in ("a.png", "a.jpg", "picture.mp4"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
        assert refused(tmp_path / name).reason == "not_a_video"


def test_sound_alone_has_no_video_stream(tmp_path):
    error = refused(write_sound(tmp_path / "a.mp4"))
    assert (error.reason, "audio" in str(error)) == ("no_video_stream", True)


def test_directories_are_judged_by_what_they_hold(tmp_path):
    folder = tmp_path / "x.mp4"
    folder.mkdir()
    assert refused(folder).reason == "empty"
    (folder / "notes.txt").write_text("nothing to see")
    assert refused(folder).reason == "not_a_video"


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
        ("a.mkv", "ffv1", {}),
        ("a.avi", "mjpeg", {}),
        ("a.avi", "mpeg4", {}),
    ],
)
def test_a_file_cut_off_in_the_middle_is_truncated_with_both_counts(tmp_path, name, codec, options):
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    container_options = FAST_START if name == "a.mp4" else {}
    path = write_video(
        tmp_path / name,
        panning(60),
        codec=codec,
        pixel_format=pixel_format,
        options=options,
        container_options=container_options,
    )
    assert len(read_all(path)[0]) == 60
    error = refused(cut_off(path, 0.8))
    assert error.reason == "truncated"
    assert "60 frames" in str(error)
    decoded = int(str(error).split("only ")[1].split()[0])
    assert 0 < decoded < 58


def test_a_file_that_ends_before_its_first_frame_is_truncated(tmp_path):
    path = write_video(tmp_path / "a.mp4", panning(60), container_options=FAST_START)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])
    error = refused(path, probe)
    assert (error.reason, "only 0 of 60 frames" in str(error)) == ("truncated", True)


def test_a_truncated_matroska_with_sound_is_seen_too(tmp_path):
    path = write_video(tmp_path / "a.mkv", panning(60), codec="mpeg4", with_sound=2.5)
    assert refused(cut_off(path, 0.5)).reason == "truncated"


def test_a_file_without_its_index_is_damaged_not_garbage(tmp_path):
    path = write_video(tmp_path / "a.mp4", panning(60))  # the index comes last here
    error = refused(cut_off(path, 0.8), probe)
    assert (error.reason, "cut off" in str(error)) == ("decode", True)


def test_damage_names_the_frame_reached(tmp_path):
    path = overwrite(write_video(tmp_path / "a.mp4", panning(60), container_options=FAST_START), 0.8)
    error = refused(path)
    assert error.reason == "decode"
    assert 0 < int(str(error).split("damaged at frame ")[1].split()[0]) < 60


@pytest.mark.parametrize("name", ["a.avi", "a.ts"])
def test_pictures_that_the_decoder_patched_up_are_not_delivered(tmp_path, name):
    path = write_video(tmp_path / name, panning(60), codec="mpeg4" if name == "a.avi" else "libx264")
    assert refused(overwrite(path, 0.5)).reason == "decode"


def test_one_bad_packet_at_the_very_end_is_left_out_with_a_warning(tmp_path):
    path = write_video(
        tmp_path / "a.mp4", panning(120), container_options=FAST_START, options={"bf": "0", "tune": "zerolatency"}
    )
    frames, warnings = read_all(cut_off(path, 0.9995))
    assert len(frames) == 119
    assert any("last part is damaged" in warning for warning in warnings)


def test_a_change_of_size_in_mid_stream_is_an_error_that_names_both_sizes(tmp_path):
    path = write_two_sizes(tmp_path / "a.mkv", panning(12, size=(160, 120)), panning(12, size=(192, 120)))
    error = refused(path)
    assert error.reason == "decode"
    assert "frame 12 is 192x120 after 160x120" in str(error)


def test_absurd_sizes_are_refused_before_decoding(tmp_path):
    wide = [np.zeros((16, 16400, 3), np.uint8)]
    assert refused(write_video(tmp_path / "a.mkv", wide, codec="ffv1"), probe).reason == "too_large"
