"""The streaming order against the published one: every window through the whole network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nvds_core import ConfigError, ShapeError, stabilize_video
from nvds_core.stabilization import (
    NvdsNetwork,
    StableFrame,
    StreamingStabilizer,
    block_reach,
    inference,
    prepare_frame,
    prepare_rgb,
    stabilize_blocks,
    stabilize_stream,
)
from nvds_core.stabilization.inference import Direction
from tests.nvds_core.stabilization.reference import filled, plain_backward, plain_pass, random_frames

LENGTHS = [1, 2, 3, 4, 5, 9]
SAME = 1e-5  # encoding frames one by one rounds differently from encoding four at once


@pytest.fixture
def model() -> NvdsNetwork:
    return filled("nvds-tiny")


def streamed(model: NvdsNetwork, frames: Iterable[Tensor], direction: Direction = "both") -> list[StableFrame]:
    return list(stabilize_stream(model, frames, direction=direction))


def backward_of(results: list[StableFrame]) -> np.ndarray:
    return np.stack([r.backward for r in results if r.backward is not None])


@pytest.mark.parametrize("count", LENGTHS)
def test_streaming_equals_the_windows_of_the_published_protocol(model: NvdsNetwork, count: int) -> None:
    frames = random_frames(count)
    results = streamed(model, frames)
    assert [r.index for r in results] == list(range(count))
    forward, backward = np.stack([r.forward for r in results]), backward_of(results)
    np.testing.assert_allclose(forward, plain_pass(model, frames), rtol=0, atol=SAME)
    np.testing.assert_allclose(backward, plain_backward(model, frames), rtol=0, atol=SAME)
    assert forward.max() > 0.1  # the comparison is not one of zeros


def test_fused_features_do_not_depend_on_the_frames_encoded_together(model: NvdsNetwork) -> None:
    frames = random_frames(4)
    with torch.inference_mode():
        together, alone = model.encode(frames), torch.cat([model.encode(f[None]) for f in frames])
    assert together.shape == (4, 10, 12, 64)
    assert float((together - alone).abs().max()) < SAME


@pytest.mark.parametrize("count", [1, 2, 3])
def test_up_to_three_frames_both_passes_are_the_same(model: NvdsNetwork, count: int) -> None:
    results = streamed(model, random_frames(count))
    np.testing.assert_array_equal([r.forward for r in results], backward_of(results))


def test_from_four_frames_on_the_passes_differ_where_a_window_has_references(model: NvdsNetwork) -> None:
    results = streamed(model, random_frames(4))
    gaps = [float(np.abs(r.forward - r.backward).max()) for r in results if r.backward is not None]
    assert gaps[0] > 1e-3
    assert gaps[3] > 1e-3
    assert gaps[1] == gaps[2] == 0


@pytest.mark.parametrize("direction", ["both", "forward"])
@pytest.mark.parametrize("block", [1, 2, 4, 7])
def test_blocks_with_a_halo_give_the_bits_of_one_pass(model: NvdsNetwork, block: int, direction: Direction) -> None:
    frames = random_frames(9)
    whole = streamed(model, frames, direction)
    reads: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> Iterable[Tensor]:
        reads.append((start, stop))
        return frames[start:stop]

    parts = list(stabilize_blocks(model, read, len(frames), block=block, direction=direction))
    assert [r.index for r in parts] == list(range(9))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one.forward, other.forward)
        np.testing.assert_array_equal(one.backward, other.backward)
    starts = range(0, 9, block)
    assert reads == [(max(0, s - 3), min(9, min(s + block, 9) + 3)) for s in starts]


@pytest.mark.parametrize(("direction", "reference_keys"), [("both", 27), ("forward", 21)])
def test_what_a_frame_gives_to_its_windows_is_computed_once(
    model: NvdsNetwork, monkeypatch: pytest.MonkeyPatch, direction: Direction, reference_keys: int
) -> None:
    counts: Counter[str] = Counter()

    def count(name: str, call: Callable[..., object]) -> None:
        def counted(frames: Tensor, *rest: object) -> object:
            counts[name] += len(frames)
            return call(frames, *rest)

        monkeypatch.setattr(model, name, counted)

    for name in ("encode", "detail", "own_tokens", "reference_keys", "finish"):
        count(name, getattr(model, name))
    streamed(model, random_frames(9), direction)
    assert counts["encode"] == counts["detail"] == counts["own_tokens"] == 9
    # all 9 frames in all 3 roles; the past alone never sees the last frames from afar
    assert counts["reference_keys"] == reference_keys
    assert counts["finish"] == (18 if direction == "both" else 9)


@pytest.mark.parametrize(("direction", "fused", "keys"), [("both", 7, 15), ("forward", 4, 6)])
def test_memory_does_not_grow_with_the_scene(model: NvdsNetwork, direction: Direction, fused: int, keys: int) -> None:
    stream = StreamingStabilizer(model, direction=direction)
    held = stream._windows
    sizes = []
    for frame in random_frames(20):
        stream.push(frame)
        sizes.append((len(held._fused), len(held._rgb), len(held._keys)))
    assert max(size[0] for size in sizes) <= fused
    assert max(size[1] for size in sizes) <= 4
    assert max(size[2] for size in sizes) <= keys


def test_results_of_both_passes_come_three_frames_late_and_forward_ones_at_once(model: NvdsNetwork) -> None:
    both, forward = StreamingStabilizer(model, first=10), StreamingStabilizer(model, direction="forward", first=10)
    frames = random_frames(5)
    assert [[r.index for r in both.push(f)] for f in frames] == [[], [], [], [10], [11]]
    assert [r.index for r in both.finish()] == [12, 13, 14]
    assert [[r.index for r in forward.push(f)] for f in frames] == [[10], [11], [12], [13], [14]]
    assert forward.finish() == []


@pytest.mark.parametrize("direction", ["both", "forward"])
def test_halo_frames_give_no_result(model: NvdsNetwork, direction: Direction) -> None:
    stream = StreamingStabilizer(model, direction=direction, first=20, scene_start=False, scene_end=False)
    indices = [r.index for frame in random_frames(9) for r in stream.push(frame)]
    indices += [r.index for r in stream.finish()]
    assert indices == [23, 24, 25]


def test_forward_only_gives_the_forward_pass_of_both(model: NvdsNetwork) -> None:
    frames = random_frames(6)
    both, forward = streamed(model, frames), streamed(model, frames, "forward")
    np.testing.assert_array_equal([r.forward for r in both], [r.forward for r in forward])
    assert all(r.backward is None for r in forward)


@pytest.mark.parametrize("direction", ["both", "forward"])
@pytest.mark.parametrize("batch", [2, 4, 16])
def test_frames_computed_together_give_the_same_results(model: NvdsNetwork, batch: int, direction: Direction) -> None:
    frames = random_frames(9)
    together = list(stabilize_stream(model, frames, direction=direction, batch=batch))
    for one, other in zip(streamed(model, frames, direction), together, strict=True):
        assert one.index == other.index
        np.testing.assert_allclose(other.forward, one.forward, rtol=0, atol=SAME)
        if one.backward is not None and other.backward is not None:
            np.testing.assert_allclose(other.backward, one.backward, rtol=0, atol=SAME)
        assert (one.backward is None) == (other.backward is None)


@pytest.mark.parametrize("block", [1, 4])
def test_blocks_of_frames_computed_together_give_the_same_results(model: NvdsNetwork, block: int) -> None:
    frames = random_frames(9)
    parts = list(stabilize_blocks(model, lambda start, stop: frames[start:stop], 9, block=block, batch=3))
    assert [r.index for r in parts] == list(range(9))
    for one, other in zip(stabilize_stream(model, frames, batch=3), parts, strict=True):
        np.testing.assert_array_equal(other.forward, one.forward)


class Recorder:
    """Stands in for the network: notes which frames are computed together."""

    encoded: list[tuple[int, ...]]
    decoded: list[tuple[int, ...]]

    def __init__(self, model: object) -> None:
        Recorder.encoded, Recorder.decoded = [], []

    def add(self, first: int, frames: Tensor) -> None:
        self.encoded.append(tuple(range(first, first + len(frames))))

    def decode(self, targets: range, passes: object) -> list[Tensor]:
        self.decoded.append(tuple(targets))
        return [torch.zeros(len(targets), 1, 1)] * 2

    def forget(self, before: int) -> None:
        pass


def computed_together(
    scene: tuple[int, int], pushed: tuple[int, int], batch: int
) -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]]:
    """By frame, those encoded with it and those stabilised with it, when only some of a scene is pushed."""
    ends = {"scene_start": pushed[0] == scene[0], "scene_end": pushed[1] == scene[1]}
    stream = StreamingStabilizer(None, first=pushed[0], batch=batch, **ends)  # type: ignore[arg-type]
    for _ in range(*pushed):
        stream.push(torch.zeros(4, 1, 1))
    stream.finish()
    encoded, decoded = (
        {i + pushed[0]: tuple(j + pushed[0] for j in group) for group in kind for i in group}
        for kind in (Recorder.encoded, Recorder.decoded)
    )
    return encoded, decoded


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 8])
def test_a_block_computes_the_same_frames_together_as_one_pass(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(inference, "WindowDecoder", Recorder)
    scene = (5, 70)
    encoded, decoded = computed_together(scene, scene, batch)
    for wanted in ((5, 20), (20, 45), (23, 24), (44, 70), (6, 69)):
        part_encoded, part_decoded = computed_together(scene, block_reach(wanted, scene, batch), batch)
        for frame in range(*wanted):
            assert part_decoded[frame] == decoded[frame], (wanted, frame)
            assert all(part_encoded[i] == encoded[i] for i in decoded[frame]), (wanted, frame)


def test_bfloat16_stays_near_float32_and_gives_float32_maps(model: NvdsNetwork) -> None:
    frames = random_frames(5)
    exact = np.stack([r.forward for r in streamed(model, frames)])
    rounded = np.stack([r.forward for r in stabilize_stream(model, frames, precision="bf16")])
    assert rounded.dtype == np.float32
    gap = np.abs(rounded - exact)
    assert 0 < gap.max() < 0.15 * exact.max()
    assert gap.mean() < 0.01 * exact.max()
    seen = rounded[rounded > 0]
    assert len(np.unique(seen)) > 0.9 * len(seen)  # the last layer is not rounded to 8 bits


def test_an_autocast_of_the_caller_is_the_option_bf16(model: NvdsNetwork) -> None:
    frames = random_frames(4)
    expected = list(stabilize_stream(model, frames, precision="bf16"))
    with torch.autocast("cpu", torch.bfloat16):
        found = streamed(model, frames)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.forward, other.forward)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"precision": "fp16"}, "'fp16' is not one of fp32, bf16"), ({"batch": 0}, "batches of 0 frames; at least 1")],
)
def test_options_that_do_not_exist_are_refused(model: NvdsNetwork, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stabilize_video(model, *make_video(2), size=(48, 40), **options)


def make_video(count: int, height: int = 30, width: int = 44) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    rgb = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return rgb, rng.random((count, height, width)) * 7 + 3


def test_a_video_in_memory_goes_through_the_same_windows(model: NvdsNetwork) -> None:
    rgb, disparity = make_video(6)
    size = (48, 40)
    frames = torch.stack([prepare_frame(prepare_rgb(r, size), d) for r, d in zip(rgb, disparity, strict=True)])
    result = stabilize_video(model, rgb, disparity, size)
    assert result.mix.shape == (6, 40, 48)
    np.testing.assert_allclose(result.forward, plain_pass(model, frames), rtol=0, atol=SAME)
    np.testing.assert_allclose(result.backward, plain_backward(model, frames), rtol=0, atol=SAME)
    np.testing.assert_array_equal(result.mix, (result.forward + result.backward) / 2)


def test_a_forward_only_video_has_the_forward_pass_in_all_three_places(model: NvdsNetwork) -> None:
    result = stabilize_video(model, *make_video(4), size=(48, 40), direction="forward")
    np.testing.assert_array_equal(result.forward, result.backward)
    np.testing.assert_array_equal(result.forward, result.mix)


def test_a_video_without_frames_has_results_without_frames(model: NvdsNetwork) -> None:
    result = stabilize_video(model, *make_video(0), size=(48, 40))
    assert result.forward.shape == result.backward.shape == result.mix.shape == (0, 40, 48)


def test_constant_frames_give_finite_results(model: NvdsNetwork) -> None:
    rgb = np.full((5, 40, 48, 3), 128, np.uint8)
    result = stabilize_video(model, rgb, np.full((5, 40, 48), 0.25, np.float32), size=(48, 40))
    assert np.isfinite(result.forward).all()
    assert np.isfinite(result.backward).all()


def test_results_do_not_depend_on_the_affine_unit_of_each_frame(model: NvdsNetwork) -> None:
    rgb, disparity = make_video(5)
    scale, shift = np.arange(1, 6).reshape(5, 1, 1) * 10.0, np.arange(5).reshape(5, 1, 1) * 3.0
    one = stabilize_video(model, rgb, disparity, size=(48, 40))
    other = stabilize_video(model, rgb, disparity * scale + shift, size=(48, 40))
    np.testing.assert_allclose(one.mix, other.mix, rtol=0, atol=1e-4)


def test_an_unknown_direction_is_refused(model: NvdsNetwork) -> None:
    with pytest.raises(ConfigError, match="'sideways' is not one of both, forward"):
        stabilize_video(model, *make_video(2), size=(48, 40), direction="sideways")  # type: ignore[arg-type]


def test_arrays_of_different_length_are_refused_with_both_shapes(model: NvdsNetwork) -> None:
    rgb, disparity = make_video(3)
    with pytest.raises(ShapeError, match=r"\(3, 30, 44, 3\) and \(2, 30, 44\)"):
        stabilize_video(model, rgb, disparity[:2], size=(48, 40))
    with pytest.raises(ShapeError, match=r"\(3, 30, 44\) and \(3, 30, 44\)"):
        stabilize_video(model, rgb[..., 0], disparity, size=(48, 40))


def test_frames_of_a_size_the_network_cannot_take_are_refused(model: NvdsNetwork) -> None:
    with pytest.raises(ShapeError, match="multiples of 4 and at least 32, got 42x48"):
        stabilize_video(model, *make_video(2), size=(48, 42))
    with pytest.raises(ShapeError, match="at least 32, got 28x48"):
        model.encode(torch.zeros(1, 4, 28, 48))
    with pytest.raises(ShapeError, match=r"\[n,4,h,w\].*got \(1, 3, 40, 48\)"):
        StreamingStabilizer(model).push(torch.zeros(3, 40, 48))


@pytest.mark.parametrize("shape", [(1, 3, 4, 40, 48), (1, 4, 3, 40, 48), (4, 4, 40, 48)])
def test_windows_of_another_shape_are_refused(model: NvdsNetwork, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\[n,4,4,h,w\]") as error:
        model(torch.zeros(shape))
    assert str(shape) in str(error.value)
