from __future__ import annotations

import cv2
import numpy as np
import torch

from nvds_core.stabilization import prepare_frame, prepare_rgb, quantize_disparity
from nvds_core.stabilization.network import normalize_rgb


def test_the_lowest_code_is_0_and_the_highest_fills_16_bits() -> None:
    codes = quantize_disparity(np.array([[2.0, 3.0], [4.0, 6.0]], np.float32))
    assert codes.dtype == np.uint16
    assert codes.tolist() == [[0, 16383], [32767, 65535]]  # truncated, not rounded: 65535/4 = 16383.75


def test_a_constant_frame_becomes_zeros_in_both_forms() -> None:
    constant = np.full((4, 8), 3.5, np.float32)
    assert not quantize_disparity(constant).any()
    assert not prepare_frame(np.zeros((4, 8, 3)), constant)[3].any()


def test_overshoot_of_the_cubic_resize_is_kept() -> None:
    step = np.zeros((8, 8, 3), np.uint8)
    step[:, 4:] = 255
    unit = prepare_rgb(step, (32, 32))
    assert unit.dtype == np.float64
    assert unit.max() > 1.01
    assert unit.min() < -0.01


def test_a_frame_of_the_wanted_size_is_only_divided() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    np.testing.assert_array_equal(prepare_rgb(rgb, (10, 6)), rgb / 255.0)


def test_disparity_of_another_size_is_taken_from_the_nearest_pixel_before_it_is_scaled() -> None:
    disparity = np.arange(15, dtype=np.float32).reshape(3, 5) ** 2
    frame = prepare_frame(np.zeros((8, 12, 3)), disparity)
    picked = disparity[np.arange(8) * 3 // 8][:, np.arange(12) * 5 // 12]
    np.testing.assert_array_equal(picked, cv2.resize(disparity, (12, 8), interpolation=cv2.INTER_NEAREST))
    np.testing.assert_allclose(frame[3].numpy(), picked / 196, rtol=0, atol=1e-6)


def test_rgb_is_normalised_alike_for_a_single_frame_and_for_a_batch() -> None:
    unit = np.random.default_rng(1).random((8, 12, 3))
    expected = (unit - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    frame = prepare_frame(unit, np.zeros((8, 12)))
    np.testing.assert_allclose(frame[:3].permute(1, 2, 0).numpy(), expected, rtol=0, atol=1e-6)
    batch = normalize_rgb(torch.from_numpy(unit).permute(2, 0, 1)[None])
    np.testing.assert_allclose(batch[0].permute(1, 2, 0).numpy(), expected, rtol=0, atol=1e-12)
