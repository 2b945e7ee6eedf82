"""A video made in parts has the bits of one made in one go."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nvds_core.stabilization import inference
from storage import ArtifactRef, StorageError, open_arrays
from tasks.caching import result_of
from tasks.flow_fields import FlowConfig, estimate_flow, flow_ref
from tasks.frames import FrameArtifact
from tasks.initial import PredictorConfig, initial_ref, predict_initial
from tasks.parts import Rows, Span, spans_of
from tasks.stabilize import StabilizerConfig, _reach, reach, stabilize, stabilized_ref
from tasks.workspace import Workspace
from tests.tasks.helpers import clip, extracted, read, scenes, workspace_in

LENGTHS = (13, 2, 12)  # of the scenes
FRAMES = sum(LENGTHS)
STABLE = StabilizerConfig()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Workspace, ArtifactRef]:
    """A video of three scenes, every step in one go."""
    workspace = workspace_in(tmp_path_factory.mktemp("whole"))
    frames = extracted(workspace, clip(Path(workspace.out) / "v.mp4", scenes(*LENGTHS)))
    assert [stop - start for start, stop in FrameArtifact(workspace.store, frames).scenes] == list(LENGTHS)
    every_step(workspace, frames)
    return workspace, frames


@pytest.fixture
def fresh(whole, tmp_path) -> tuple[Workspace, ArtifactRef]:
    """The same frames in a workspace without anything else."""
    workspace, frames = whole
    other = workspace_in(tmp_path)
    shutil.copytree(workspace.store.path(frames), other.store.path(frames))
    return other, frames


def every_step(workspace: Workspace, frames: ArtifactRef) -> None:
    predict_initial.fn(workspace, frames, PredictorConfig())
    estimate_flow.fn(workspace, frames, FlowConfig())
    stabilize.fn(workspace, frames, initial_ref(frames, PredictorConfig()), STABLE)


def part_of_every_step(workspace: Workspace, frames: ArtifactRef, span: Span) -> None:
    wide = reach(FrameArtifact(workspace.store, frames), span)
    predict_initial.fn(workspace, frames, PredictorConfig(), span=wide)
    estimate_flow.fn(workspace, frames, FlowConfig(), span=span)
    stabilize.fn(workspace, frames, initial_ref(frames, PredictorConfig()), STABLE, span=span)


def refs(frames: ArtifactRef) -> list[ArtifactRef]:
    initial = initial_ref(frames, PredictorConfig())
    return [initial, flow_ref(frames, FlowConfig()), stabilized_ref(frames, initial, STABLE)]


def contents(workspace: Workspace, ref: ArtifactRef) -> tuple[dict[str, bytes], dict[str, object]]:
    """Values of all arrays with their layout, and the attributes."""
    arrays = open_arrays(workspace.store.path(ref) / "arrays")
    values = {name: arrays.read(name).tobytes() for name in arrays.names}
    layouts = {name: str(arrays.array(name).metadata.to_dict()) for name in arrays.names}
    return values, {**arrays.attributes, **layouts}


def assert_equal(found: Workspace, expected: Workspace, frames: ArtifactRef) -> None:
    for ref in refs(frames):
        assert contents(found, ref) == contents(expected, ref), ref.step
        assert found.store.parts(ref) == [], "the whole needs no parts"


@pytest.mark.parametrize("length", [6, 14])
def test_parts_that_others_made_give_the_files_of_one_go(whole, fresh, length):
    expected, frames = whole
    workspace, _ = fresh
    for span in reversed(spans_of(FRAMES, length)):  # in any order
        part_of_every_step(workspace, frames, span)
    assert all(workspace.store.parts(ref) and not workspace.store.find(ref) for ref in refs(frames))
    every_step(workspace, frames)
    assert_equal(workspace, expected, frames)


def test_what_no_part_has_is_computed(whole, fresh):
    expected, frames = whole
    workspace, _ = fresh
    for span in (Span(5, 14), Span(17, 23)):
        part_of_every_step(workspace, frames, span)
    every_step(workspace, frames)
    assert_equal(workspace, expected, frames)


def test_a_part_that_is_there_is_not_made_again_and_its_seconds_count(fresh):
    workspace, frames = fresh
    first = result_of(predict_initial.fn(workspace, frames, PredictorConfig(), span=Span(0, FRAMES)))
    again = result_of(predict_initial.fn(workspace, frames, PredictorConfig(), span=Span(0, FRAMES)))
    joined = result_of(predict_initial.fn(workspace, frames, PredictorConfig()))
    assert (first.cached, again.cached, joined.cached) == (False, True, False)
    assert (first.frames, joined.frames) == (FRAMES, FRAMES)
    assert joined.seconds > first.seconds * 0.9
    late = result_of(predict_initial.fn(workspace, frames, PredictorConfig(), span=Span(0, 5)))
    assert late.cached, "the whole has it"
    assert workspace.store.parts(late.ref) == []


class Recorder:
    """Stands in for the network: notes which frames are computed together."""

    encoded: list[tuple[int, ...]]
    decoded: list[tuple[int, ...]]

    def __init__(self, model: object) -> None:
        Recorder.encoded, Recorder.decoded = [], []

    def add(self, first: int, frames: torch.Tensor) -> None:
        self.encoded.append(tuple(range(first, first + len(frames))))

    def decode(self, targets: range, passes: object) -> list[torch.Tensor]:
        self.decoded.append(tuple(targets))
        return [torch.zeros(len(targets), 1, 1)] * 2

    def forget(self, before: int) -> None:
        pass


def together(scene: Span, pushed: Span, batch: int) -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]]:
    """By frame, those encoded with it and those stabilised with it, when only some of a scene is pushed."""
    ends = {"scene_start": pushed.start == scene.start, "scene_end": pushed.stop == scene.stop}
    stream = inference.StreamingStabilizer(None, first=pushed.start, batch=batch, **ends)  # type: ignore[arg-type]
    for _ in range(pushed.frames):
        stream.push(torch.zeros(4, 1, 1))
    stream.finish()
    groups = [
        [tuple(i + pushed.start for i in group) for group in kind] for kind in (Recorder.encoded, Recorder.decoded)
    ]
    encoded, decoded = ({frame: group for group in kind for frame in group} for kind in groups)
    return encoded, decoded


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 8])
def test_a_part_computes_the_same_frames_together_as_one_go(monkeypatch, batch):
    monkeypatch.setattr(inference, "WindowDecoder", Recorder)
    scene = Span(5, 70)
    encoded, decoded = together(scene, scene, batch)
    for span in (Span(5, 20), Span(20, 45), Span(23, 24), Span(44, 70), Span(6, 69)):
        part_encoded, part_decoded = together(scene, _reach(scene.start, scene.stop, span, batch), batch)
        for frame in range(span.start, span.stop):
            assert part_decoded[frame] == decoded[frame], (span, frame)
            assert all(part_encoded[i] == encoded[i] for i in decoded[frame]), (span, frame)


def test_rows_are_read_from_whatever_has_them(whole, fresh):
    expected, frames = whole
    workspace, _ = fresh
    ref = refs(frames)[0]
    values = read(expected.store, ref, "initial")
    predict_initial.fn(workspace, frames, PredictorConfig(), span=Span(5, 11))
    assert np.array_equal(Rows(workspace.store, ref, Span(6, 9)).read(6, 9), values[6:9])
    assert np.array_equal(Rows(expected.store, ref, Span(6, 9)).read(6, 9), values[6:9])
    with pytest.raises(StorageError) as error:
        Rows(workspace.store, ref, Span(4, 9))
    assert error.value.reason == "absent"


def test_a_damaged_part_is_named(fresh):
    workspace, frames = fresh
    predict_initial.fn(workspace, frames, PredictorConfig(), span=Span(0, 20))
    ((part, *_),) = workspace.store.parts(refs(frames)[0])
    (workspace.store.path(part) / "arrays" / "zarr.json").unlink()
    with pytest.raises(StorageError) as error:
        predict_initial.fn(workspace, frames, PredictorConfig())
    assert error.value.reason == "incomplete"
    assert part.key in str(error.value)


@pytest.mark.parametrize(("frames", "length"), [(1, 5), (5, 5), (6, 5), (1001, 250), (7, 1)])
def test_spans_share_all_frames_evenly(frames, length):
    spans = spans_of(frames, length)
    assert [frame for span in spans for frame in range(span.start, span.stop)] == list(range(frames))
    sizes = {span.frames for span in spans}
    assert max(sizes) <= length
    assert max(sizes) - min(sizes) <= 1
    assert len(spans) == -(-frames // length)
