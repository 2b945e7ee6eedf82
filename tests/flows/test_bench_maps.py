from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from flows.bench_maps import BLOCK, AlignedDepth, Box, Constant, Resized, blocks

FRAMES = 2 * BLOCK + 5


@dataclass(frozen=True)
class InMemory:
    maps: np.ndarray

    @property
    def shape(self):
        return self.maps.shape

    def read(self, start, stop):
        return self.maps[start:stop]


@pytest.fixture
def source():
    return InMemory(np.random.default_rng(0).random((FRAMES, 6, 8)).astype(np.float32))


def test_blocks_cover_every_frame_once():
    covered = [index for start, stop in blocks(FRAMES) for index in range(start, stop)]
    assert covered == list(range(FRAMES))


def test_the_box_filter_does_not_see_the_edges_of_blocks(source):
    whole = np.concatenate([Box(source).read(start, stop) for start, stop in blocks(FRAMES)])
    for index in range(FRAMES):
        window = source.maps[max(0, index - 3) : index + 4].astype(np.float64)
        np.testing.assert_allclose(whole[index], window.mean(axis=0), rtol=1e-6)


def test_the_constant_has_the_shape_of_the_video(source):
    constant = Constant(source.shape)
    assert constant.read(3, 9).shape == (6, 6, 8)
    assert not constant.read(0, FRAMES).any()


def test_frames_are_resized_in_any_order(source):
    maps = Resized(source, (12, 20))
    assert maps.shape == (FRAMES, 12, 20)
    for index in (0, FRAMES - 1, 5, BLOCK, BLOCK - 1, 5):
        np.testing.assert_array_equal(maps[index], cv2.resize(source.maps[index], (20, 12)))


def test_aligned_depth_is_the_reciprocal_of_the_fit_up_to_the_cap(source):
    depth = AlignedDepth(Resized(source, (6, 8)), (2.0, 0.1), 5.0)
    expected = np.minimum(1 / (2.0 * np.maximum(source.maps[7].astype(np.float64), 1e-3) + 0.1), 5.0)
    np.testing.assert_allclose(depth[7].numpy(), expected, rtol=1e-9)
    assert len(depth) == FRAMES
