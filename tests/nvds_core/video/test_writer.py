from __future__ import annotations

import av
import cv2
import numpy as np
import pytest

from nvds_core.types import ConfigError, ShapeError
from nvds_core.video import open_video, write_h264, write_png16
from tests.nvds_core.video.makers import corner_names, corners, grey_steps, indices_of


def test_what_was_written_is_read_back(tmp_path):
    assert write_h264(tmp_path / "a.mp4", iter(grey_steps(40)), fps=30) == 40
    with open_video(tmp_path / "a.mp4") as reader:
        frames = list(reader)
    assert indices_of(frame.rgb for frame in frames) == list(range(40))
    assert (reader.info.codec, reader.info.pixel_format, reader.info.fps) == ("h264", "yuv420p", 30.0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_broken_frame_rate_of_film_is_kept(tmp_path):
    write_h264(tmp_path / "a.mp4", grey_steps(30), fps=24000 / 1001)
    with open_video(tmp_path / "a.mp4") as reader:
        assert list(reader)[-1].time_s == pytest.approx(29 * 1001 / 24000, abs=1e-4)


def test_the_index_comes_first_so_that_browsers_start_at_once(tmp_path):
    write_h264(tmp_path / "a.mp4", grey_steps(10), fps=24)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(("keyframes", "found"), [(5, [0, 5, 10, 15]), (250, [0])])
def test_keyframes_are_as_close_as_asked(tmp_path, keyframes, found):
    write_h264(tmp_path / "a.mp4", grey_steps(20), fps=10, keyframes=keyframes)
    with av.open(str(tmp_path / "a.mp4")) as container:
        times = sorted(packet.pts * packet.time_base for packet in container.demux(video=0) if packet.is_keyframe)
    assert [round(float(time) * 10) for time in times] == found


def test_odd_sizes_gain_one_row_and_column(tmp_path):
    write_h264(tmp_path / "a.mp4", [corners(67, 45)] * 3, fps=24)
    with open_video(tmp_path / "a.mp4") as reader:
        rgb = next(reader).rgb
    assert rgb.shape == (46, 68, 3)
    assert corner_names(rgb) == ("red", "green", "blue", "white")


def test_a_failed_video_leaves_the_old_one_and_no_rest(tmp_path):
    write_h264(tmp_path / "a.mp4", grey_steps(5), fps=24)
    before = (tmp_path / "a.mp4").read_bytes()
    with pytest.raises(ShapeError, match="frame 2"):
        write_h264(tmp_path / "a.mp4", [*grey_steps(2), corners(32, 32)], fps=24)
    with pytest.raises(ShapeError, match="no frame"):
        write_h264(tmp_path / "a.mp4", [], fps=24)
    with pytest.raises(ConfigError, match="0 frames per second"):
        write_h264(tmp_path / "a.mp4", grey_steps(2), fps=0)
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_16_bit_pictures_keep_every_value(tmp_path):
    values = np.arange(256 * 256, dtype=np.uint16).reshape(256, 256)
    write_png16(tmp_path / "a.png", values)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED), values)
    colour = np.dstack([values, values // 2, values // 3]).astype(np.uint16)
    write_png16(tmp_path / "b.png", colour)
    assert np.array_equal(cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED)[:, :, ::-1], colour)
    with pytest.raises(ShapeError, match="float64"):
        write_png16(tmp_path / "c.png", np.zeros((4, 4)))  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
