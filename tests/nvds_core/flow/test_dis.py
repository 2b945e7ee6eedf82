from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest

from nvds_core.flow import FlowEstimator, base, create_flow, flow_names, register_flow
from nvds_core.types import ConfigError, ShapeError

PRESETS = ["dis", "dis-fast", "dis-ultrafast"]


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth random colours: something to match everywhere, at several scales."""
    noise = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    layers = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.0, 2.0, 4.0))
    low, high = layers.min(), layers.max()
    return (255 * (layers - low) / (high - low)).astype(np.uint8)


@pytest.fixture(scope="module")
def moved_by_3_and_minus_2():
    """(previous, current): what is at (x, y) in previous is at (x + 3, y - 2) in current."""
    scene = texture(120, 160)
    return scene[10:106, 20:148], scene[12:108, 17:145]


@pytest.mark.parametrize("name", PRESETS)
def test_a_known_shift_is_found_in_both_directions(name, moved_by_3_and_minus_2):
    to_previous, to_next = create_flow(name).estimate(*moved_by_3_and_minus_2)
    assert to_previous.shape == to_next.shape == (2, 96, 128)
    assert to_previous.dtype == to_next.dtype == np.float32
    inner = (slice(None), slice(12, -12), slice(12, -12))
    np.testing.assert_allclose(np.median(to_previous[inner], axis=(1, 2)), [-3, 2], atol=0.15)
    np.testing.assert_allclose(np.median(to_next[inner], axis=(1, 2)), [3, -2], atol=0.15)


def test_forward_only_gives_the_same_numbers(moved_by_3_and_minus_2):
    flow = create_flow("dis-fast")
    alone = flow.estimate_to_previous(*moved_by_3_and_minus_2)
    assert np.array_equal(alone, flow.estimate(*moved_by_3_and_minus_2)[0])


def test_float_frames_with_overshoot_give_the_flow_of_their_rounded_values(moved_by_3_and_minus_2):
    previous, current = moved_by_3_and_minus_2
    as_float = [frame.astype(np.float32) + 0.2 for frame in (previous, current)]
    as_float[0][previous == 255], as_float[0][previous == 0] = 290.0, -31.0
    flow = create_flow("dis-fast")
    assert np.array_equal(flow.estimate_to_previous(*as_float), flow.estimate_to_previous(previous, current))


def test_threads_and_opencv_thread_counts_do_not_change_the_flow(moved_by_3_and_minus_2):
    flow, before = create_flow("dis"), cv2.getNumThreads()
    expected = flow.estimate_to_previous(*moved_by_3_and_minus_2)
    try:
        for count in (1, 3):
            cv2.setNumThreads(count)
            with ThreadPoolExecutor(4) as pool:
                futures = [pool.submit(flow.estimate_to_previous, *moved_by_3_and_minus_2) for _ in range(12)]
                assert all(np.array_equal(future.result(), expected) for future in futures)
    finally:
        cv2.setNumThreads(before)


# 8x200 gave NaN and 12x300 ended the process when passed to OpenCV as they are.
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8), (8, 200), (12, 300), (200, 8), (31, 33)])
@pytest.mark.parametrize("name", PRESETS)
def test_tiny_and_narrow_frames_get_a_finite_flow_of_their_size(name, size):
    frame = texture(*size)
    to_previous, to_next = create_flow(name).estimate(frame, np.roll(frame, 1, axis=1))
    assert to_previous.shape == to_next.shape == (2, *size)
    assert np.isfinite(to_previous).all()
    assert np.isfinite(to_next).all()


def test_the_digest_tells_presets_and_versions_apart():
    digests = {create_flow(name).digest for name in PRESETS}
    assert len(digests) == 3
    assert all(cv2.__version__ in digest for digest in digests)
    assert create_flow("dis").digest == create_flow("dis").digest


def test_an_estimator_fits_the_protocol_and_travels_to_a_worker():
    flow = create_flow("dis-fast")
    assert isinstance(flow, FlowEstimator)
    assert pickle.loads(pickle.dumps(flow)) == flow


def test_unknown_names_and_options_are_refused_with_the_choices():
    with pytest.raises(ConfigError, match=r"unknown flow 'horn'; known: .*dis, dis-fast, dis-ultrafast"):
        create_flow("horn")
    with pytest.raises(ConfigError, match="does not take these options"):
        create_flow("dis", iterations=3)


def test_another_estimator_can_join_but_not_replace(monkeypatch):
    monkeypatch.setattr(base, "REGISTRY", replace(base.REGISTRY, registered={}))
    register_flow("still", lambda device: create_flow("dis"))
    assert "still" in flow_names()
    assert create_flow("still").name == "dis"
    with pytest.raises(ConfigError, match="already registered"):
        register_flow("still", lambda device: create_flow("dis-fast"))
    with pytest.raises(ConfigError, match="already registered"):
        register_flow("dis", lambda device: create_flow("dis-fast"))


def test_frames_that_are_no_pair_are_refused():
    flow = create_flow("dis")
    with pytest.raises(ShapeError, match=r"\(40, 50, 3\) != current frame \(40, 51, 3\)"):
        flow.estimate(np.zeros((40, 50, 3), np.uint8), np.zeros((40, 51, 3), np.uint8))
    with pytest.raises(ShapeError, match="RGB"):
        flow.estimate_to_previous(np.zeros((40, 50), np.uint8), np.zeros((40, 50), np.uint8))
