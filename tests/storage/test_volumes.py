from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from storage import ArraySpec, DepthVolume, StorageError, VolumeWriter, open_volume, write_arrays
from storage.encoding import decode_uint16, encode_uint16
from storage.locations import publish_tree, remove_tree
from tests.storage.helpers import run_until_killed

RESULTS = ("initial", "mix")

DIE_WHILE_WRITING = """
import sys, time
import numpy as np
from storage import VolumeWriter
with VolumeWriter(sys.argv[1], results=["mix"], frames=100, height=30, width=40) as volume:
    volume.write("mix", 0, np.random.rand(90, 30, 40).astype("float32"))
    print("ready", flush=True)
    time.sleep(60)
"""


def disparity(frames: int = 70, height: int = 30, width: int = 40) -> np.ndarray:
    rng = np.random.default_rng(1)
    video = rng.normal(size=(frames, height, width)).astype(np.float32) * 50 + 100
    video[2, :3] = np.nan
    video[3] = np.inf
    video[4] = 7.25
    return video


def write(folder: Path, video: np.ndarray, **options: object) -> DepthVolume:
    frames, height, width = video.shape
    with VolumeWriter(folder, results=RESULTS, frames=frames, height=height, width=width, **options) as volume:
        for first in range(0, frames, 11):
            for result in RESULTS:
                volume.write(result, first, video[first : first + 11])
    return open_volume(folder)


float32_frames = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True),
)


@settings(max_examples=100, deadline=None)
@given(
    float32_frames,
    st.sampled_from([0.0, 1.0, 1e6, -3e38]),
    st.sampled_from([1.0, 1e-30, 1e-3]),
)
def test_any_frame_comes_back_within_a_ten_thousandth_of_its_range(block: np.ndarray, shift: float, factor: float):
    with np.errstate(over="ignore", invalid="ignore"):
        block = (block * np.float32(factor) + np.float32(shift)).astype(np.float32)
    codes, offset, scale = encode_uint16(block)
    decoded = decode_uint16(codes, offset, scale)
    finite = np.isfinite(block)
    np.testing.assert_array_equal(np.isnan(decoded), ~finite)
    np.testing.assert_array_equal(codes == 0, ~finite)
    for frame, back, valid in zip(block.astype(np.float64), decoded.astype(np.float64), finite, strict=True):
        if valid.any():
            span = frame[valid].max() - frame[valid].min()
            assert np.abs(frame - back)[valid].max() <= 1e-4 * span
            assert back[valid].min() == frame[valid].min()
            assert abs(back[valid].max() - frame[valid].max()) <= 1e-7 * span


def test_codes_follow_the_documented_formula():
    codes, offset, scale = encode_uint16(np.array([[[2.0, 4.0, 3.0, np.nan]]], np.float32))
    assert codes.tolist() == [[[1, 65535, 32768, 0]]]
    assert offset[0] == 2.0
    assert scale[0] * 65534 == pytest.approx(2.0)


@pytest.mark.parametrize(("encoding", "tolerance"), [("uint16", 1e-5), ("float16", 1e-3), ("float32", 0.0)])
def test_a_volume_comes_back_in_every_encoding(tmp_path: Path, encoding: str, tolerance: float):
    video = disparity()
    volume = write(tmp_path / "v", video, encoding=encoding, time=np.arange(70) / 25, attributes={"cuts": [31]})
    assert volume.results == RESULTS
    assert volume.shape == video.shape
    assert volume.frames == 70
    assert volume.attributes["cuts"] == [31]
    assert volume.attributes["quantity"] == "disparity, affine-invariant, near is large"
    assert volume.time is not None
    assert volume.time[25] == 1.0
    back = volume.read("mix")
    assert back.dtype == np.float32
    expected = np.where(np.isfinite(video), video, np.nan)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(expected))
    assert np.nanmax(np.abs(back - expected)) <= tolerance * (np.nanmax(expected) - np.nanmin(expected))
    np.testing.assert_array_equal(volume.frame("mix", 5), back[5])
    np.testing.assert_array_equal(volume.read("mix", 60, 70), back[60:])
    assert np.all(back[4] == 7.25)


def test_digest_is_that_of_the_decoded_values_and_ignores_the_layout(tmp_path: Path):
    video = disparity()
    exact = write(tmp_path / "a", video, encoding="float32")
    values = np.where(np.isfinite(video), video, np.nan).astype("<f4")
    assert exact.digest("mix") == hashlib.sha256(values.tobytes()).hexdigest()
    coded = write(tmp_path / "b", video)
    again = write(tmp_path / "c", coded.read("mix"), encoding="float32")
    assert again.digest("mix") == coded.digest("mix")
    assert coded.digest("mix") != exact.digest("mix")


def test_plain_zarr_sees_named_dimensions_and_the_codes(tmp_path: Path):
    volume = write(tmp_path / "v", disparity())
    group = zarr.open_group(str(tmp_path / "v"), mode="r")
    assert group["mix"].metadata.dimension_names == ("t", "y", "x")
    codes = group["mix"][5].astype(np.float64)
    by_hand = group["mix_offset"][5] + group["mix_scale"][5] * (codes - 1)
    np.testing.assert_array_equal(by_hand.astype(np.float32), volume.frame("mix", 5))


def test_missing_frames_are_reported_at_the_end(tmp_path: Path):
    volume = VolumeWriter(tmp_path / "v", results=["mix"], frames=5, height=30, width=40)
    volume.write("mix", 0, np.ones((4, 30, 40), np.float32))
    with pytest.raises(StorageError, match="4 of 5 frames") as caught:
        volume.close()
    assert caught.value.reason == "incomplete"


def test_a_killed_writer_leaves_no_volume(tmp_path: Path):
    run_until_killed(DIE_WHILE_WRITING, str(tmp_path / "v"))
    with pytest.raises(StorageError) as caught:
        open_volume(tmp_path / "v")
    assert caught.value.reason == "incomplete"


def test_a_value_beyond_float16_is_refused_not_lost(tmp_path: Path):
    volume = VolumeWriter(tmp_path / "v", results=["mix"], frames=1, height=1, width=2, encoding="float16")
    with pytest.raises(StorageError, match="70000 does not fit float16"):
        volume.write("mix", 0, np.array([[[1.0, 7e4]]], np.float32))


def test_wrong_arguments_are_refused(tmp_path: Path):
    shape = {"results": ["mix"], "frames": 1, "height": 1, "width": 2}
    with pytest.raises(StorageError, match="encoding 'int8'"):
        VolumeWriter(tmp_path / "v", **shape, encoding="int8")
    with pytest.raises(StorageError, match="timestamps are an array"):
        VolumeWriter(tmp_path / "v", **shape, attributes={"time": [0.0]})
    volume = VolumeWriter(tmp_path / "v", **shape)
    with pytest.raises(StorageError, match="no result 'mix_scale'"):
        volume.write("mix_scale", 0, np.zeros((1, 1, 2), np.float32))


def test_other_groups_are_not_taken_for_volumes(tmp_path: Path):
    with write_arrays(tmp_path / "g", {"x": ArraySpec((0, 2), "uint8")}, {}):
        pass
    with pytest.raises(StorageError, match="not a nvds-volume"):
        open_volume(tmp_path / "g")


def test_a_volume_reads_from_a_url_with_a_record_beside_it(tmp_path: Path):
    local = write(tmp_path / "v", disparity(), time=np.arange(70.0))
    digest = local.digest("mix")
    (tmp_path / "v" / "record.json").write_text("{}")
    url = f"memory://{uuid.uuid4().hex}/videos/a"
    publish_tree(tmp_path / "v", url)
    remote = open_volume(url)
    assert remote.digest("mix") == digest
    assert remote.time is not None
    remove_tree(url)
