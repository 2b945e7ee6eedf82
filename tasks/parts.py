"""Long videos in pieces: parts of an artifact that several workers make, and the whole that they are put together to.

A part holds the same bits as those frames of an artifact made in one go, so it may be taken or left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from storage import ArrayReader, ArraySpec, ArrayWriter, ArtifactRef, ArtifactStore, open_arrays, write_arrays
from storage.locations import read_json, write_json_atomic
from tasks.caching import StepReturn, produce
from tasks.frames import FrameArtifact
from tasks.workspace import StepResult, Workspace

BLOCK = 32  # frames copied at once
ACCOUNT = "part.json"
Make = Callable[[Path, FrameArtifact, "Span"], None]


@dataclass(frozen=True)
class Span:
    """Frames [start, stop) of a video."""

    start: int
    stop: int

    @property
    def frames(self) -> int:
        return self.stop - self.start

    def within(self, start: int, stop: int) -> Span:
        """What it has of frames [start, stop); empty if nothing."""
        low = max(self.start, start)
        return Span(low, max(low, min(self.stop, stop)))


def spans_of(frames: int, length: int) -> list[Span]:
    """All frames of a video in spans of at most ``length`` frames, as equal as can be."""
    count = max(1, -(-frames // length))
    edges = [frames * index // count for index in range(count + 1)]
    return [Span(start, stop) for start, stop in pairwise(edges)]


class RowWriter:
    """Takes rows by frame number, in order, and writes those of one span."""

    def __init__(self, arrays: ArrayWriter, span: Span) -> None:
        self._arrays, self._span = arrays, span

    def write(self, name: str, first: int, rows: NDArray[Any]) -> None:
        """Rows of frames ``first .. first + len(rows)``."""
        wanted = self._span.within(first, first + len(rows))
        if wanted.frames:
            self._arrays.write(name, wanted.start - self._span.start, rows[wanted.start - first : wanted.stop - first])


def produce_rows(
    workspace: Workspace, ref: ArtifactRef, frames: ArtifactRef, make: Make, span: Span | None = None
) -> StepReturn:
    """Make an artifact that has a row for every frame, or with `span` the part of it that holds those frames.

    Where there are parts, the whole is put together from them; frames that are in none of them are computed. They are
    removed once the whole is there.

    Args:
        workspace: where to read and write.
        ref: the whole.
        frames: the frames of the video.
        make: ``make(folder, pictures, span)`` writes the group ``arrays`` with the rows of the span.
        span: None for the whole.
    """
    store = workspace.store
    seconds = 0.0

    def part(span: Span) -> StepReturn:
        def write(folder: Path) -> int:
            started = time.perf_counter()
            make(folder, FrameArtifact(store, frames), span)
            write_json_atomic(folder / ACCOUNT, {"seconds": time.perf_counter() - started})
            return span.frames

        return produce(workspace, store.part(ref, span.start, span.stop), write)

    def whole(folder: Path) -> int:
        nonlocal seconds
        pictures = FrameArtifact(store, frames)
        if not store.parts(ref):
            make(folder, pictures, Span(0, pictures.frames))
            return pictures.frames
        for gap in list(_gaps(store, ref, pictures.frames)):
            part(gap)
        seconds = _join(store, ref, pictures.frames, folder)
        return pictures.frames

    if span is not None and store.find(ref) is None:
        return part(span)
    made = produce(workspace, ref, whole)
    for name, _, _ in store.parts(ref):
        store.discard(name)
    return replace(made, seconds=made.seconds + seconds) if isinstance(made, StepResult) else made


class Rows:
    """Reads rows of an artifact by frame number: of the whole if it is there, else of a part that has them all."""

    def __init__(self, store: ArtifactStore, ref: ArtifactRef, span: Span) -> None:
        holder, self._first = ref, 0
        if store.find(ref) is None:
            parts = store.parts(ref)
            holder, self._first = next(((p, a) for p, a, b in parts if a <= span.start and span.stop <= b), (ref, 0))
        self._arrays = open_arrays(store.path(holder) / "arrays")
        (self._name,) = self._arrays.names

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows of frames [start, stop) of its only array."""
        return self._arrays.read(self._name, start - self._first, stop - self._first)


def _gaps(store: ArtifactStore, ref: ArtifactRef, frames: int) -> Iterator[Span]:
    """What no part has of all frames."""
    reached = 0
    for _, start, stop in store.parts(ref):
        if start > reached:
            yield Span(reached, start)
        reached = max(reached, stop)
    if reached < frames:
        yield Span(reached, frames)


def _join(store: ArtifactStore, ref: ArtifactRef, frames: int, folder: Path) -> float:
    """Write the whole from parts that have all frames, some perhaps twice; returns the seconds that the parts took."""
    sources: list[tuple[Span, int, ArrayReader]] = []
    reached, seconds = 0, 0.0
    for part, start, stop in store.parts(ref):
        if stop > reached:
            sources.append((Span(reached, stop), start, open_arrays(store.path(part) / "arrays")))
            reached = stop
        seconds += float(read_json(store.path(part) / ACCOUNT)["seconds"])
    first = sources[0][2]
    specs = {name: _spec(first, name, frames) for name in first.names}
    with write_arrays(folder / "arrays", specs, first.attributes) as arrays:
        for span, offset, reader in sources:
            for low in range(span.start, span.stop, BLOCK):
                high = min(low + BLOCK, span.stop)
                for name in specs:
                    arrays.write(name, low, reader.read(name, low - offset, high - offset))
    return seconds


def _spec(reader: ArrayReader, name: str, frames: int) -> ArraySpec:
    return ArraySpec(shape=(frames, *reader.shape(name)[1:]), dtype=str(reader.array(name).dtype))
