from __future__ import annotations

import json
import shutil

import av
import cv2
import numpy as np
import pytest

from flows.exports import PNG16_FORMULA, gray16, result_text
from flows.preview import longest_scene
from flows.results import find_video
from nvds_core.video import content_digest, write_h264
from nvds_core.viz import inferno
from storage import StorageError, open_volume
from tests.flows.finished import FPS, FRAMES, SIZE, FinishedRun, finished_run, nvds


@pytest.fixture(scope="module")
def finished() -> FinishedRun:
    return finished_run()


@pytest.fixture(scope="module")
def volume(finished):
    return open_volume(finished.out / "videos" / finished.video_id)


def read(path):
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None, path
    return picture


def test_the_gray_rule_is_the_published_one(golden):
    metrics, video = golden("nvds/golden_metrics.npz"), golden("nvds/golden_video.npz")
    assert np.abs(gray16(metrics["gray_a_x"]).astype(int) - metrics["gray_a_u16"]).max() <= 1
    for case in "ab":
        for disparity, expected in zip(video[f"{case}_mix"], video[f"{case}_mix_gray16"], strict=True):
            assert np.abs(gray16(disparity).astype(int) - expected).max() <= 1


def test_invalid_pixels_are_black_in_gray_pictures():
    assert gray16(np.array([[1.0, np.nan], [2.0, 3.0]])).tolist() == [[0, 0], [32767, 65535]]
    assert gray16(np.full((2, 2), np.nan)).tolist() == [[0, 0], [0, 0]]


def test_the_published_layout_has_every_folder_and_name(finished, volume, tmp_path):
    target = tmp_path / "nvds"
    assert nvds("export", finished.out, "clip", "--to", "nvds", "--output", target).exit_code == 0
    assert sorted(path.name for path in target.iterdir()) == ["1", "2", "initial", "mix", "result.txt"]
    for folder, result in {"initial": "initial", "1": "forward", "2": "backward", "mix": "mix"}.items():
        grays = sorted(path.name for path in (target / folder / "gray").iterdir())
        assert grays == [f"frame_{index:06d}.png" for index in range(FRAMES)]
        assert {path.name for path in (target / folder / "color").iterdir()} == {f"{i}.png" for i in range(FRAMES)}
        disparity = volume.frame(result, 2).astype(np.float64)
        gray, colour = read(target / folder / "gray" / "frame_000002.png"), read(target / folder / "color" / "2.png")
        assert gray.dtype == np.uint16
        low, high = disparity.min(), disparity.max()
        assert np.abs(gray - np.floor(65535 * (disparity - low) / ((high - low) or 1))).max() <= 1
        unit = (disparity - low) / ((high - low) or 1)
        assert np.abs(colour[..., ::-1].astype(int) - inferno(unit)).max() <= 12
    size = (target / "mix" / "gray" / "frame_000000.png").stat().st_size
    assert size >= 2 * SIZE[0] * SIZE[1], "gray pictures are not compressed"


def test_the_result_file_has_the_published_lines(finished):
    record = json.loads((finished.out / "videos" / finished.video_id / "record.json").read_text())
    lines = result_text(record).split("\n")
    assert [line.strip("*") for line in lines[::2]] == ["initial", "forward", "backward", "Mixing"]
    assert all(line.startswith("*" * 10) and line.endswith("*" * 10) for line in lines[::2])
    for line, result in zip(lines[1::2], ("initial", "forward", "backward", "mix"), strict=True):
        fields = dict(part.split(":") for part in line.split(","))
        assert list(fields) == ["all", "mean", "frames"]
        scores = record["opw"][result]
        if result == "backward":  # published in its own order of time
            assert float(fields["all"]) == scores["reversed_total"] != scores["total"]
        else:
            assert float(fields["mean"]) == pytest.approx(finished.summary["opw"][result])
        assert float(fields["all"]) == pytest.approx(float(fields["mean"]) * FRAMES)
        assert fields["frames"] == str(FRAMES)


def test_16_bit_pictures_decode_to_the_disparity_by_their_formula(finished, volume, tmp_path):
    target = tmp_path / "png16"
    nvds("export", finished.out, finished.video_id[:7], "--to", "png16", "--result", "initial", "--output", target)
    about = json.loads((target / "range.json").read_text())
    assert about["formula"] == PNG16_FORMULA
    assert "disparity" in about["quantity"]
    whole = volume.read("initial")
    for index in range(FRAMES):
        code = read(target / f"frame_{index:06d}.png").astype(np.float64)
        assert np.abs(about["offset"] + about["scale"] * (code - 1) - whole[index]).max() <= about["scale"] * 0.51


def test_the_archive_holds_the_exact_values(finished, volume, tmp_path):
    target = tmp_path / "clip.npz"
    nvds("export", finished.out, finished.video_id, "--to", "npz", "--result", "forward", "--output", target)
    with np.load(target) as archive:
        assert archive["disparity"].dtype == np.float32
        np.testing.assert_array_equal(archive["disparity"], volume.read("forward"))
        np.testing.assert_allclose(archive["time"], np.arange(FRAMES) / FPS, atol=1e-6)
        about = json.loads(str(archive["about"]))
    assert about["result"] == "forward"
    assert about["cuts"] == [4]


def test_the_comparison_is_h264_that_browsers_play(finished, tmp_path):
    target = tmp_path / "clip.mp4"
    assert nvds("export", finished.out, "clip.mp4", "--to", "mp4", "--output", target).exit_code == 0
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == FPS
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == FRAMES
    height, width = frames[0].shape[:2]
    assert width >= 3 * SIZE[0]
    assert height >= SIZE[1]
    # the first panel is the source itself
    with av.open(str(finished.clip)) as container:
        source = next(container.decode(video=0)).to_ndarray(format="rgb24")
    panel = frames[0][height - SIZE[1] :, : SIZE[0]].astype(int)
    expected = cv2.resize(source, SIZE, interpolation=cv2.INTER_AREA)
    assert np.abs(panel - expected).mean() < 12


def test_a_source_that_changed_or_went_is_named(finished, tmp_path):
    moved = tmp_path / "out"
    shutil.copytree(finished.out / "videos", moved / "videos")
    path = moved / "videos" / finished.video_id / "record.json"
    record = json.loads(path.read_text())
    for uri, words in ((finished.broken, "has changed"), (tmp_path / "gone.mp4", "is no longer there")):
        record["source"]["uri"] = str(uri)
        path.write_text(json.dumps(record))
        result = nvds("export", moved, "clip", "--to", "mp4", "--output", tmp_path / "x.mp4")
        assert result.exit_code == 2
        assert words in result.stderr
        assert str(uri) in result.stderr
    assert not (tmp_path / "x.mp4").exists()


def test_a_video_or_result_that_is_not_there_is_named_with_the_choice(finished, tmp_path):
    absent = nvds("export", finished.out, "other", "--to", "npz", "--output", tmp_path / "x.npz")
    assert absent.exit_code == 2
    assert finished.video_id in absent.stderr
    wrong = nvds("export", finished.out, "clip", "--to", "npz", "--result", "best", "--output", tmp_path / "x.npz")
    assert wrong.exit_code == 2
    assert "initial, forward, backward, mix" in wrong.stderr


@pytest.mark.parametrize("to", ["nvds", "png16", "npz", "ply", "poses", "tto"])
def test_an_option_that_a_format_has_no_use_for_is_refused(finished, tmp_path, to):
    of_one_result = ("png16", "npz", "mp4", "ply")
    for option, value, formats in (("--result", "initial", of_one_result), ("--fps", 30, ("mp4",))):
        if to in formats:
            continue
        refused = nvds("export", finished.out, "clip", "--to", to, option, value, "--output", tmp_path / "x")
        assert refused.exit_code == 2
        [line] = refused.stderr.splitlines()
        assert line == f"nvds: {option} does not apply to --to {to}, only to {', '.join(formats)}; leave it out"
    assert not (tmp_path / "x").exists()


def test_the_frame_rate_of_the_comparison_can_be_chosen(finished, tmp_path):
    target = tmp_path / "clip.mp4"
    nvds("export", finished.out, "clip", "--to", "mp4", "--result", "forward", "--fps", 30, "--output", target)
    with av.open(str(target)) as container:
        assert container.streams.video[0].average_rate == 30


def test_a_source_with_fewer_frames_than_the_volume_is_told(finished, tmp_path):
    folder = tmp_path / "videos" / finished.video_id
    shutil.copytree(finished.out / "videos" / finished.video_id, folder)
    short = tmp_path / "short.mp4"
    write_h264(short, [np.zeros((64, 96, 3), np.uint8)] * (FRAMES - 2), fps=FPS)
    record = json.loads((folder / "record.json").read_text())
    record["source"] |= {"uri": str(short), "digest": content_digest(short)}
    (folder / "record.json").write_text(json.dumps(record))
    result = nvds("export", tmp_path, "clip", "--to", "mp4", "--output", tmp_path / "x.mp4")
    assert result.exit_code == 2
    assert f"ended before frame {FRAMES - 2}" in result.stderr
    assert not (tmp_path / "x.mp4").exists()


def test_a_folder_that_is_being_replaced_is_no_video(finished, tmp_path):
    shutil.copytree(finished.out / "videos", tmp_path / "videos")
    shutil.copytree(tmp_path / "videos" / finished.video_id, tmp_path / "videos" / ".old-1-2")
    with pytest.raises(StorageError, match=f"choose one of: {finished.video_id}$"):
        find_video(str(tmp_path), "gone")


def test_an_ambiguous_name_is_refused(finished, tmp_path):
    shutil.copytree(finished.out / "videos" / finished.video_id, tmp_path / "videos" / "clip-0000000000")
    shutil.copytree(finished.out / "videos" / finished.video_id, tmp_path / "videos" / finished.video_id)
    result = nvds("export", tmp_path, "clip", "--to", "npz", "--output", tmp_path / "x.npz")
    assert result.exit_code == 2
    assert "several" in result.stderr


def test_a_folder_with_something_in_it_is_left_alone(finished, tmp_path):
    (tmp_path / "mine").touch()
    result = nvds("export", finished.out, "clip", "--to", "nvds", "--output", tmp_path)
    assert result.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_longest_scene_lies_between_its_cuts():
    assert longest_scene([], 9) == (0, 9)
    assert longest_scene([3, 4], 9) == (4, 9)
