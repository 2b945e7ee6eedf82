"""Several videos under way at once in one worker, each in a thread, all in order.

A lane is what only one step uses at a time: the device, the decoder. While one video is on the device, the next one is
decoded and the one before is scored and written; the video that came first goes first in every lane.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import TypeVar

from tasks.streams import check_stop, stop_of, stoppable

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Lanes:
    """Who is in which lane and who waits. `stop` lets all who wait, and all streams, break off."""

    stop: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _taken: set[str] = field(default_factory=set)
    _waiting: dict[str, list[int]] = field(default_factory=dict)

    def enter(self, name: str, turn: int) -> None:
        """Wait until the lane is free and nobody of a smaller turn waits for it.

        Raises:
            KeyboardInterrupt: the run is being stopped.
        """
        with self._changed:
            queue = self._waiting.setdefault(name, [])
            queue.append(turn)
            try:
                self._changed.wait_for(
                    lambda: self.stop.is_set() or (name not in self._taken and min(queue) == turn),
                )
                if self.stop.is_set():
                    raise KeyboardInterrupt
                self._taken.add(name)
            finally:
                queue.remove(turn)
                self._changed.notify_all()

    def leave(self, name: str) -> None:
        with self._changed:
            self._taken.discard(name)
            self._changed.notify_all()

    def break_off(self) -> None:
        """Stop everything of this run as soon as its current block of frames is done."""
        self.stop.set()
        with self._changed:
            self._changed.notify_all()


_PLACE: ContextVar[tuple[Lanes, int] | None] = ContextVar("place", default=None)


@contextmanager
def lane(name: str) -> Iterator[None]:
    """Hold a lane of this worker; without `side_by_side` around it there is nobody to wait for."""
    place = _PLACE.get()
    if place is None:
        check_stop()
        yield
        return
    lanes, turn = place
    lanes.enter(name, turn)
    try:
        yield
    finally:
        lanes.leave(name)


def side_by_side(work: Callable[[T], R], items: Sequence[T], width: int) -> Iterator[R]:
    """``work(item)`` of up to `width` items at a time, results in the order of `items`.

    An error of an item is raised when its turn comes. Then, and when the caller is interrupted or goes away, the other
    items are broken off and waited for; what has come to its end by then is given out before the error.
    """
    if width == 1 or len(items) == 1:
        yield from map(work, items)
        return
    lanes = Lanes()
    running: deque[Future[R]] = deque()
    with ThreadPoolExecutor(width, thread_name_prefix="video") as pool:
        try:
            for turn, item in enumerate(items):
                running.append(pool.submit(copy_context().run, _at_place, lanes, turn, work, item))
                if len(running) == width:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except GeneratorExit:
            lanes.break_off()
            raise
        except BaseException:
            lanes.break_off()
            for future in running:
                if future.exception() is None:
                    yield future.result()
            raise


def _at_place(lanes: Lanes, turn: int, work: Callable[[T], R], item: T) -> R:
    _PLACE.set((lanes, turn))
    with stoppable(lanes.stop):
        check_stop()
        return work(item)


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Do `work` in a thread while the block runs, and wait for it.

    If the block is interrupted, so is the thread. An error of `work` is raised at the end of the block.
    """
    stop = stop_of() or threading.Event()
    with stoppable(stop), ThreadPoolExecutor(1, thread_name_prefix="beside") as pool:
        future = pool.submit(copy_context().run, work)
        try:
            yield
        except Exception:
            raise
        except BaseException:
            place = _PLACE.get()
            stop.set()
            if place is not None:
                place[0].break_off()  # wakes a thread that waits for a lane
            raise
        future.result()
