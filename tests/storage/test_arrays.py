from __future__ import annotations

import shutil
import uuid
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import ArraySpec, StorageError, open_arrays, write_arrays
from storage.columns import SHARD_BYTES, layout
from storage.locations import publish_tree, remove_tree
from tests.storage.helpers import run_until_killed

RNG = np.random.default_rng(5)
VIDEO = RNG.normal(size=(70, 40, 50)).astype(np.float32)

DIE_WHILE_WRITING = """
import sys, time
import numpy as np
from storage import ArraySpec, write_arrays
with write_arrays(sys.argv[1], {"x": ArraySpec((70, 40, 50), "float32", shard_frames=16)}, {}) as arrays:
    arrays.write("x", 0, np.ones((50, 40, 50), np.float32))
    print("ready", flush=True)
    time.sleep(60)
"""


def write_video(
    folder: Path, video: np.ndarray = VIDEO, block: int = 7, frames: int | None = None, **spec: int
) -> Path:
    length = len(video) if frames is None else frames
    with write_arrays(folder, {"x": ArraySpec((length, *video.shape[1:]), str(video.dtype), **spec)}, {}) as arrays:
        for first in range(0, len(video), block):
            arrays.write("x", first, video[first : first + block])
    return folder


@settings(max_examples=25, deadline=None)
@given(
    frames=st.integers(0, 23),
    block=st.integers(1, 9),
    chunk=st.integers(1, 3),
    shard=st.integers(1, 9),
    unknown=st.booleans(),
)
def test_any_split_into_blocks_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, frames: int, block: int, chunk: int, shard: int, unknown: bool
):
    folder = tmp_path_factory.mktemp("arrays")
    video = VIDEO[:frames]
    spec = ArraySpec((None if unknown else frames, 40, 50), "float32", chunk_frames=chunk, shard_frames=shard)
    with write_arrays(folder / "g", {"x": spec}, {}) as arrays:
        for first in range(0, frames, block):
            arrays.write("x", first, video[first : first + block])
    reader = open_arrays(folder / "g")
    assert reader.shape("x") == video.shape
    np.testing.assert_array_equal(reader.read("x"), video)
    np.testing.assert_array_equal(reader.read("x", frames // 3, frames // 2), video[frames // 3 : frames // 2])


def test_attributes_may_be_added_until_the_end(tmp_path: Path):
    with write_arrays(tmp_path / "g", {"time": ArraySpec((None,), "float64")}, {"fps": 25}) as arrays:
        arrays.write("time", 0, np.arange(3.0))
        arrays.attributes["cuts"] = [2]
    reader = open_arrays(tmp_path / "g")
    assert reader.attributes == {"fps": 25, "cuts": [2]}
    assert reader.names == ["time"]
    assert reader.read("time").tolist() == [0.0, 1.0, 2.0]


def test_plain_zarr_reads_the_group_and_agrees_on_the_consolidated_metadata(tmp_path: Path):
    write_video(tmp_path / "g")
    group = zarr.open_group(str(tmp_path / "g"), mode="r")
    np.testing.assert_array_equal(group["x"][:], VIDEO)
    ours = group.metadata.consolidated_metadata
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr warns that version 3 does not specify it yet
        theirs = zarr.consolidate_metadata(str(tmp_path / "g")).metadata.consolidated_metadata
    assert ours is not None
    assert ours.to_dict() == theirs.to_dict()


def test_layout_follows_the_length_and_the_frame_size():
    assert layout(ArraySpec((300, 192, 448), "uint16"), 300) == (1, 64)
    assert layout(ArraySpec((5, 192, 448), "uint16"), 5) == (1, 5)
    chunk, shard = layout(ArraySpec((300, 1080, 1920, 3), "uint16"), 300)
    assert shard * 1080 * 1920 * 3 * 2 <= SHARD_BYTES < (shard + 1) * 1080 * 1920 * 3 * 2
    assert chunk == 1
    assert layout(ArraySpec((300, 192, 448), "uint16", chunk_frames=8, shard_frames=63), 300) == (8, 56)
    assert layout(ArraySpec((300,), "float64"), 300) == (300, 300)
    assert layout(ArraySpec((0, 2, 192, 448), "float32"), 0) == (1, 1)


def test_too_few_frames_are_reported_and_the_folder_cannot_be_opened(tmp_path: Path):
    with pytest.raises(StorageError, match="70 of 80 frames") as caught:
        write_video(tmp_path / "g", frames=80)
    assert caught.value.reason == "incomplete"
    with pytest.raises(StorageError, match="never finished") as caught:
        open_arrays(tmp_path / "g")
    assert caught.value.reason == "incomplete"


def test_an_exception_in_the_block_leaves_it_unfinished(tmp_path: Path):
    arrays = write_arrays(tmp_path / "g", {"x": ArraySpec((None, 2, 2), "uint8")}, {})
    with pytest.raises(RuntimeError), arrays:
        raise RuntimeError
    with pytest.raises(StorageError, match="never finished"):
        open_arrays(tmp_path / "g")


def test_a_killed_writer_leaves_nothing_that_opens(tmp_path: Path):
    run_until_killed(DIE_WHILE_WRITING, str(tmp_path / "g"))
    assert any((tmp_path / "g" / "x" / "c").rglob("*"))
    with pytest.raises(StorageError, match="never finished"):
        open_arrays(tmp_path / "g")


def test_a_shard_lost_before_the_end_is_noticed(tmp_path: Path):
    arrays = write_arrays(tmp_path / "g", {"x": ArraySpec((70, 40, 50), "float32", shard_frames=16)}, {})
    arrays.write("x", 0, np.zeros((70, 40, 50), np.float32))
    shutil.rmtree(tmp_path / "g" / "x" / "c" / "1")
    with pytest.raises(StorageError, match="4 of 5 shard files"):
        arrays.close()


def test_frames_equal_to_the_fill_value_are_stored_all_the_same(tmp_path: Path):
    write_video(tmp_path / "g", np.zeros((9, 40, 50), np.float32), shard_frames=4)
    assert sum(path.is_file() for path in (tmp_path / "g" / "x" / "c").rglob("*")) == 3


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_damaged_shards_are_reported_not_decoded(tmp_path: Path, damage: str):
    write_video(tmp_path / "g", shard_frames=64)
    shard = tmp_path / "g" / "x" / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    if damage == "truncate":
        data = data[: len(data) // 2]
    else:
        data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StorageError, match="'x' is damaged") as caught:
        open_arrays(tmp_path / "g").read("x")
    assert caught.value.reason == "format"


@pytest.mark.parametrize(
    ("first", "block", "message"),
    [
        (1, np.zeros((2, 40, 50), np.float32), "starts at frame 1, expected 0"),
        (0, np.zeros((2, 40, 51), np.float32), "does not fit"),
        (0, np.zeros((4, 40, 50), np.float32), "frames up to 4, but the array has 3"),
        (0, np.zeros((2, 40, 50), np.complex64), "complex64 block for float32"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(tmp_path: Path, first: int, block: np.ndarray, message: str):
    arrays = write_arrays(tmp_path / "g", {"x": ArraySpec((3, 40, 50), "float32")}, {})
    with pytest.raises(StorageError, match=message):
        arrays.write("x", first, block)
    with pytest.raises(StorageError, match="no array 'y'"):
        arrays.write("y", 0, block)


def test_reading_outside_the_array_is_refused(tmp_path: Path):
    reader = open_arrays(write_video(tmp_path / "g"))
    for start, stop in ((0, 71), (-1, 3), (5, 4)):
        with pytest.raises(StorageError, match="which has 70"):
            reader.read("x", start, stop)
    with pytest.raises(StorageError, match="no array 'y'"):
        reader.read("y")


def test_a_second_writer_in_the_same_folder_is_refused(tmp_path: Path):
    write_video(tmp_path / "g")
    with pytest.raises(StorageError, match="holds arrays already"):
        write_arrays(tmp_path / "g", {}, {})


def test_what_is_absent_foreign_or_garbled_is_told_apart(tmp_path: Path):
    with pytest.raises(StorageError) as caught:
        open_arrays(tmp_path / "gone")
    assert caught.value.reason == "absent"
    zarr.create_group(str(tmp_path / "foreign"), zarr_format=3)
    (tmp_path / "garbled").mkdir()
    (tmp_path / "garbled" / "zarr.json").write_text('{"consolidated_metadata": 1, "zarr_format": 3}')
    for name in ("foreign", "garbled"):
        with pytest.raises(StorageError) as caught:
            open_arrays(tmp_path / name)
        assert caught.value.reason == "format"


def test_a_published_group_reads_from_a_url(tmp_path: Path):
    url = f"memory://{uuid.uuid4().hex}/g"
    publish_tree(write_video(tmp_path / "g"), url)
    np.testing.assert_array_equal(open_arrays(url).read("x", 3, 66), VIDEO[3:66])
    remove_tree(url)
