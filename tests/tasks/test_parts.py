"""A video made in parts has the bits of one made in one go."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from storage import ArtifactRef, StorageError, open_arrays
from storage.locations import read_json
from tasks.caching import result_of
from tasks.flow_fields import FlowConfig, estimate_flow, flow_ref
from tasks.frames import FrameArtifact
from tasks.initial import PredictorConfig, initial_ref, predict_initial
from tasks.parts import ACCOUNT, Rows, Span, spans_of
from tasks.stabilize import StabilizerConfig, reach, stabilize, stabilized_ref
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
    spent = read_json(workspace.store.path(first.ref) / ACCOUNT)["seconds"]
    joined = result_of(predict_initial.fn(workspace, frames, PredictorConfig()))
    assert (first.cached, again.cached, joined.cached) == (False, True, False)
    assert (first.frames, joined.frames) == (FRAMES, FRAMES)
    assert joined.seconds >= spent
    late = result_of(predict_initial.fn(workspace, frames, PredictorConfig(), span=Span(0, 5)))
    assert late.cached, "the whole has it"
    assert workspace.store.parts(late.ref) == []


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
