"""Export rules against golden files of the published scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import pytest

from nvds_core import DecodeError, ShapeError
from nvds_core.exports import (
    KITTI_FACTOR,
    NYU_FACTOR,
    decode_pfm,
    encode_pfm,
    encode_png,
    gray16,
    inferno_bgr,
    metric_gray16,
)

Golden = Callable[[str], Mapping[str, np.ndarray]]


@pytest.fixture
def arrays(golden: Golden) -> Mapping[str, np.ndarray]:
    return golden("midas/golden_export.npz")


def case_ids(arrays: Mapping[str, np.ndarray]) -> list[str]:
    ids = [case["id"] for case in json.loads(str(arrays["meta"]))]
    assert ids
    return ids


def test_16_bit_pictures_equal_the_golden_ones(arrays: Mapping[str, np.ndarray]) -> None:
    for case in case_ids(arrays):
        found, expected = gray16(arrays[f"{case}__upsampled"]), arrays[f"{case}__png16"]
        assert found.dtype == np.uint16
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1, case


def test_colour_pictures_equal_the_golden_ones(arrays: Mapping[str, np.ndarray]) -> None:
    for case in case_ids(arrays):
        np.testing.assert_array_equal(inferno_bgr(arrays[f"{case}__upsampled"]), arrays[f"{case}__inferno_bgr"])


def test_pfm_files_equal_the_golden_ones_byte_by_byte(arrays: Mapping[str, np.ndarray]) -> None:
    for case in case_ids(arrays):
        assert encode_pfm(arrays[f"{case}__upsampled"]) == arrays[f"{case}__pfm_bytes"].tobytes(), case


def test_the_range_of_a_map_fills_the_codes_and_fractions_are_cut_off() -> None:
    values = np.array([[10.0, 11.0], [12.0, 14.0]])
    np.testing.assert_array_equal(gray16(values), [[0, 65535 // 4], [65535 // 2, 65535]])


@pytest.mark.parametrize("value", [0.0, 3.5, np.nan, -np.inf])
def test_a_constant_map_becomes_zeros(value: float) -> None:
    assert not gray16(np.full((4, 5), value, np.float32)).any()
    assert (inferno_bgr(np.full((4, 5), value, np.float32)) == inferno_bgr(np.zeros((1, 1)))[0, 0]).all()


def test_values_that_are_not_finite_count_as_0() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, -1.0, 1.0]], np.float32)
    np.testing.assert_array_equal(gray16(values), [[32767, 32767, 32767, 0, 65535]])


def test_metric_depth_keeps_its_unit() -> None:
    metres = np.array([[0.0, 1.5, 200.0, 300.0, np.nan, -1.0]])
    np.testing.assert_array_equal(metric_gray16(metres, KITTI_FACTOR), [[0, 384, 51200, 65535, 0, 0]])
    np.testing.assert_array_equal(metric_gray16(metres[:, :2], NYU_FACTOR), [[0, 1500]])


@pytest.mark.parametrize("make", [gray16, inferno_bgr])
def test_pictures_survive_the_png_file(make: Callable[[np.ndarray], np.ndarray]) -> None:
    picture = make(np.random.default_rng(0).random((12, 17)))
    read = cv2.imdecode(np.frombuffer(encode_png(picture), np.uint8), cv2.IMREAD_UNCHANGED)
    assert read.dtype == picture.dtype
    np.testing.assert_array_equal(read, picture)


def test_a_map_survives_the_pfm_file() -> None:
    values = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)
    values[2, 3] = np.nan
    found = decode_pfm(encode_pfm(values))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)
    big_endian = b"Pf\n5 7\n1.0\n" + values[::-1].astype(">f4").tobytes()
    np.testing.assert_array_equal(decode_pfm(big_endian), values)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a grey PFM file"),
        (b"PF\n1 1\n-1.0\n" + bytes(12), "not a grey PFM file: it begins with b'PF"),
        (b"Pf\n2 2\n-1.0\n" + bytes(15), "PFM of 2x2 has 15 bytes of values instead of 16"),
        (b"Pf\n2 2\n-1.0\n" + bytes(17), "PFM of 2x2 has 17 bytes"),
    ],
)
def test_damaged_pfm_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decode_pfm(data)


@pytest.mark.parametrize("shape", [(4,), (2, 4, 4), (0, 4)])
def test_what_is_not_one_map_is_refused(shape: tuple[int, ...]) -> None:
    for make in (gray16, inferno_bgr, encode_pfm, lambda values: metric_gray16(values, 256.0)):
        with pytest.raises(ShapeError, match=r"expected one map \[h,w\]"):
            make(np.zeros(shape))


def test_a_picture_that_opencv_cannot_encode_is_refused() -> None:
    with pytest.raises(ShapeError, match="no pixels"):
        encode_png(np.zeros((0, 4), np.uint8))
