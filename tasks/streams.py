"""Reading ahead and writing behind inside a step: one thread each, bounded queues, the original error, no leftovers.

Order is kept, so a step computes the same numbers as without threads. Standard library only.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

DEPTH = 2  # items that wait in a queue: one being filled, one ready; more only holds memory

_STOP: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


@contextmanager
def stoppable(stop: threading.Event) -> Iterator[None]:
    """Inside the block, streams of this context break off with KeyboardInterrupt once `stop` is set."""
    token = _STOP.set(stop)
    try:
        yield
    finally:
        _STOP.reset(token)


def stop_of() -> threading.Event | None:
    """The event that stops the streams of this context, if there is one."""
    return _STOP.get()


def check_stop() -> None:
    """Break off if the run is being stopped.

    Raises:
        KeyboardInterrupt: as the main thread had it, so that a step in any thread ends the way it would there.
    """
    stop = _STOP.get()
    if stop is not None and stop.is_set():
        raise KeyboardInterrupt


class _Closed(Exception):
    """The other end of a channel is gone."""


class _Channel(Generic[T]):
    """A bounded queue between two threads that either end can close; what waits in it can still be taken."""

    def __init__(self, depth: int) -> None:
        self._items: deque[T] = deque()
        self._depth = depth
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Add an item, waiting for room; `_Closed` if nobody will take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._depth)
            if self._closed:
                raise _Closed
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """Take the oldest item, waiting for one; `_Closed` if none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items))
            if not self._items:
                raise _Closed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self, *, discard: bool = False) -> None:
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()


class Prefetch(Generic[T]):
    """Iterates over `items` in a thread, at most `depth` items ahead; use as a context manager and iterate over it.

    An error of `items` is raised where the item was due. Leaving the block ends the thread, whatever the reason, and
    closes `items` if it is a generator.
    """

    def __init__(self, items: Iterable[T], depth: int = DEPTH) -> None:
        self._source = items
        self._channel: _Channel[T] = _Channel(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=copy_context().run, args=(self._fill,), name="prefetch", daemon=True)

    def __enter__(self) -> Prefetch[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close(discard=True)
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while True:
            check_stop()
            try:
                item = self._channel.get()
            except _Closed:
                break
            yield item
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _fill(self) -> None:
        source = iter(self._source)
        try:
            for item in source:
                self._channel.put(item)
                del item  # or this thread would hold one item more than the queue
        except _Closed:
            pass
        except BaseException as error:  # whatever it is, it belongs to the thread that waits for the items
            self._error = error
        finally:
            self._close(source)
            self._channel.close()

    def _close(self, source: Iterator[T]) -> None:
        """End a generator in the thread that ran it, so that its files are closed."""
        close = getattr(source, "close", None)
        try:
            if close is not None:
                close()
        except BaseException as error:
            self._error = self._error or error


class WriteBehind:
    """Calls ``write(*arguments)`` in a thread, in the order of `put`, at most `depth` calls behind; a context manager.

    An error of `write` is raised by the next `put` or at the end of the block, and nothing more is written after it.
    If the block itself fails, what was not yet written is dropped.
    """

    def __init__(self, write: Callable[..., object], depth: int = DEPTH) -> None:
        self._write = write
        self._channel: _Channel[tuple[Any, ...]] = _Channel(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=copy_context().run, args=(self._drain,), name="write", daemon=True)

    def __enter__(self) -> WriteBehind:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close(discard=kind is not None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def put(self, *arguments: Any) -> None:
        """Hand over one call; waits while the queue is full."""
        check_stop()
        try:
            self._channel.put(arguments)
        except _Closed:
            self._thread.join()
            if self._error is None:
                raise RuntimeError("put after the end of the block") from None
            raise self._error from None

    def _drain(self) -> None:
        try:
            while True:
                self._write(*self._channel.get())
        except _Closed:
            pass
        except BaseException as error:  # handed to the thread that puts
            self._error = error
            self._channel.close(discard=True)
