"""Threads of a step: order, bounds, errors, and that nothing is left running."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator

import pytest

from nvds_core.types import DecodeError
from tasks.streams import Prefetch, WriteBehind, stoppable


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def drain(items, seen: list[int], depth: int = 2) -> None:
    """Read ahead and note every item."""
    with Prefetch(items, depth) as ahead:
        for item in ahead:
            seen.append(item)


def test_items_come_in_order_and_are_made_in_another_thread():
    makers = []

    def items() -> Iterator[int]:
        for number in range(100):
            makers.append(threading.get_ident())
            yield number

    with Prefetch(items(), 3) as ahead:
        assert list(ahead) == list(range(100))
    assert threading.get_ident() not in makers


def test_no_more_items_are_made_ahead_than_asked_for():
    made = []

    def items() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    with Prefetch(items(), 4) as ahead:
        wait_until(lambda: len(made) == 5)  # four wait, the fifth is in the hand of the thread
        time.sleep(0.05)
        assert len(made) == 5
        iterator = iter(ahead)
        assert [next(iterator), next(iterator)] == [0, 1]
        wait_until(lambda: len(made) == 7)


@pytest.mark.parametrize("error", [DecodeError("cut off", reason="truncated"), MemoryError(), KeyboardInterrupt()])
def test_an_error_comes_where_its_item_was_due_as_the_very_same_object(error):
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    seen = []
    with pytest.raises(type(error)) as caught:
        drain(items(), seen)
    assert seen == [1, 2]
    assert caught.value is error
    assert "items" in [frame.name for frame in traceback.extract_tb(error.__traceback__)], "it says where it arose"


def test_a_consumer_that_fails_ends_the_thread_and_closes_the_source():
    closed = []

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread().name)

    def consume() -> None:
        with Prefetch(items()) as ahead:
            next(iter(ahead))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()
    assert closed == ["prefetch"]


def test_prefetches_can_be_chained_and_an_error_of_the_first_passes_through():
    def items() -> Iterator[int]:
        yield from range(10)
        raise DecodeError("end")

    seen = []
    with pytest.raises(DecodeError), Prefetch(items()) as first:
        drain((number * number for number in first), seen)
    assert seen == [number * number for number in range(10)]


def test_writes_happen_in_order_in_one_other_thread_and_are_all_done_at_the_end():
    written, threads = [], set()

    def write(name: str, number: int) -> None:
        time.sleep(0.001)
        written.append((name, number))
        threads.add(threading.get_ident())

    with WriteBehind(write, 3) as output:
        for number in range(30):
            output.put("a", number)
    assert written == [("a", number) for number in range(30)]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_writer_that_falls_behind_holds_the_caller_back():
    gate = threading.Event()
    put = []

    def producer() -> None:
        with WriteBehind(lambda number: gate.wait(20), 2) as output:
            for number in range(6):
                output.put(number)
                put.append(number)

    thread = threading.Thread(target=producer)
    thread.start()
    wait_until(lambda: len(put) == 3)  # one in the hand of the writer, two wait
    time.sleep(0.05)
    assert len(put) == 3
    gate.set()
    thread.join()
    assert len(put) == 6


def test_an_error_of_the_writer_stops_the_caller_and_nothing_is_written_after_it():
    error, written = OSError(28, "no space left"), []

    def write(number: int) -> None:
        if number == 3:
            raise error
        written.append(number)

    def write_many() -> None:
        with WriteBehind(write) as output:
            for number in range(10_000):
                output.put(number)

    with pytest.raises(OSError, match="no space left") as caught:
        write_many()
    assert caught.value is error
    assert written == [0, 1, 2]


def test_an_error_of_the_last_write_is_not_lost():
    def write() -> None:
        raise OSError("late")

    with pytest.raises(OSError, match="late"), WriteBehind(write) as output:
        output.put()


def test_when_the_block_fails_its_own_error_is_the_one_and_waiting_writes_are_dropped():
    gate, written = threading.Event(), []

    def write(number: int) -> None:
        gate.wait(20)
        written.append(number)

    def fail() -> None:
        with WriteBehind(write, 8) as output:
            for number in range(8):
                output.put(number)
            threading.Timer(0.05, gate.set).start()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(written) <= 1
    wait_until(lambda: not any(isinstance(thread, threading.Timer) for thread in threading.enumerate()))


def test_a_stopped_run_breaks_off_streams_in_every_thread_of_its_context():
    stop, seen = threading.Event(), []

    def counted() -> Iterator[int]:
        for number in range(10**9):
            if number == 5:
                stop.set()
            yield number

    with stoppable(stop), pytest.raises(KeyboardInterrupt), Prefetch(counted()) as first:
        drain(first, seen)
    assert len(seen) <= 5
    with stoppable(stop), pytest.raises(KeyboardInterrupt), WriteBehind(seen.append) as output:
        output.put(1)
