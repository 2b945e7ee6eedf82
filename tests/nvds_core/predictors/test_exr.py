"""Files in tests/data/exr were written by the OpenEXR library 3.5.3: 19 lines of 23 pixels, infinite at the corner."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from nvds_core.predictors.exr import read_exr
from nvds_core.types import DecodeError

FILES = Path(__file__).parents[2] / "data" / "exr"


def written() -> np.ndarray:
    y, x = np.mgrid[:19, :23]
    depth = (2 + 0.25 * x + 0.0625 * y * y).astype(np.float32)
    depth[0, 0] = np.inf
    return depth


@pytest.mark.parametrize("name", ["none_float", "zip_float_rgb", "zips_half"])
def test_float_and_half_channels_come_back_exactly_whatever_the_compression(name):
    found = read_exr((FILES / f"{name}.exr").read_bytes(), name)
    assert found.dtype == np.float32
    kind = np.float16 if name.endswith("half") else np.float32
    np.testing.assert_array_equal(found, written().astype(kind).astype(np.float32))


def test_integer_samples_and_chunks_that_would_not_shrink_are_read():
    y, x = np.mgrid[:19, :23]
    np.testing.assert_array_equal(read_exr((FILES / "zip_uint.exr").read_bytes(), "uint"), x * 1000 + y)
    noise = np.random.default_rng(0).random((17, 5)).astype(np.float32)
    np.testing.assert_array_equal(read_exr((FILES / "zip_noise.exr").read_bytes(), "noise"), noise)


def test_what_is_not_read_says_how_to_write_it_instead():
    with pytest.raises(DecodeError, match=r"a\.exr: EXR compression PIZ is not read; write it with ZIP"):
        read_exr((FILES / "piz.exr").read_bytes(), "a.exr")
    tiled = bytearray((FILES / "none_float.exr").read_bytes())
    tiled[5] |= 2
    with pytest.raises(DecodeError, match=r"a\.exr: tiled"):
        read_exr(bytes(tiled), "a.exr")
    with pytest.raises(DecodeError, match=r"a\.exr: not an EXR file"):
        read_exr(b"\x89PNG" + bytes(50), "a.exr")


def test_of_several_channels_one_must_be_called_like_depth():
    data = (FILES / "zip_float_rgb.exr").read_bytes()
    assert np.isfinite(read_exr(data, "rgbz")[1:]).all(), "Z, not the others"
    renamed = data.replace(b"Z\0\2\0", b"W\0\2\0", 1).replace(b"R\0\2\0", b"Q\0\2\0", 1)
    with pytest.raises(DecodeError, match="none of the channels B, G, Q, W is called Z"):
        read_exr(renamed, "rgbw")


@pytest.mark.parametrize("name", ["none_float", "zip_float_rgb", "zips_half"])
def test_a_file_cut_anywhere_is_a_clear_error(name):
    data = (FILES / f"{name}.exr").read_bytes()
    for length in range(0, len(data), 13):
        with pytest.raises(DecodeError, match=r"cut\.exr"):
            read_exr(data[:length], "cut.exr")


def test_an_absurd_size_is_refused_before_memory_is_asked_for():
    data = bytearray((FILES / "none_float.exr").read_bytes())
    place = data.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    data[place : place + 16] = struct.pack("<4i", 0, 0, 2**30, 2**30)
    with pytest.raises(DecodeError, match=r"huge\.exr"):
        read_exr(bytes(data), "huge.exr")
