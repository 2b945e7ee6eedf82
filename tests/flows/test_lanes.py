"""Several videos under way at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from flows.lanes import beside, lane, side_by_side
from tasks.streams import Prefetch, check_stop

PATIENCE_S = 20


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("width", [1, 2, 3, 20])
def test_results_come_in_order_whatever_ends_first(width):
    def work(number: int) -> int:
        time.sleep(0.01 if number % 2 else 0.0)
        return number * 10

    assert list(side_by_side(work, range(9), width)) == [number * 10 for number in range(9)]


def test_items_really_run_at_the_same_time_but_never_more_than_asked_for():
    together, running, most = threading.Barrier(3), [], []

    def work(number: int) -> None:
        running.append(number)
        most.append(len(running))
        together.wait(PATIENCE_S)
        running.remove(number)

    list(side_by_side(work, range(6), 3))
    assert max(most) == 3


def test_a_lane_has_one_user_and_of_those_who_wait_the_first_video_goes_first():
    order, inside = [], []

    def work(number: int) -> None:
        with lane("device"):
            inside.append(number)
            time.sleep(0.1 if not order else 0.001)  # time for the others to line up
            order.append(number)
            assert inside == [number]
            inside.clear()

    list(side_by_side(work, range(4), 4))
    assert sorted(order) == [0, 1, 2, 3]
    assert order[1:] == sorted(order[1:])


def test_different_lanes_do_not_wait_for_each_other():
    meet = threading.Barrier(2)

    def work(number: int) -> None:
        with lane(f"lane {number}"):
            meet.wait(PATIENCE_S)

    list(side_by_side(work, range(2), 2))


def test_an_error_is_raised_in_its_turn_and_the_others_are_broken_off():
    seen, broken = [], []

    def work(number: int) -> int:
        if number == 1:
            raise ZeroDivisionError
        try:
            while number > 1:
                check_stop()
                time.sleep(0.001)
        except KeyboardInterrupt:
            broken.append(number)
            raise
        return number

    def run() -> None:
        for result in side_by_side(work, range(6), 3):
            seen.append(result)

    with pytest.raises(ZeroDivisionError):
        run()
    assert seen == [0]
    assert set(broken) <= {2, 3}, "those that had not begun never do"


def test_what_has_ended_is_given_out_before_the_error():
    ended = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert ended.wait(PATIENCE_S)
            raise KeyboardInterrupt
        ended.set()
        return number

    found = []

    def run() -> None:
        for number in side_by_side(work, range(2), 2):
            found.append(number)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert found == [1]


def test_who_waits_for_a_lane_does_not_outlive_an_interruption():
    entered = []

    def work(number: int) -> None:
        with lane("device"):
            entered.append(number)
            if len(entered) == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(side_by_side(work, range(3), 3))
    assert len(entered) <= 3


def test_a_caller_that_goes_away_ends_the_work():
    def work(number: int) -> int:
        while number:
            check_stop()
            time.sleep(0.001)
        return number

    results = side_by_side(work, range(3), 3)
    assert next(results) == 0
    results.close()


def test_work_beside_a_block_is_done_at_its_end_and_its_error_is_raised_there():
    done = []
    with beside(lambda: done.append(threading.get_ident())):
        pass
    assert len(done) == 1
    assert done[0] != threading.get_ident()
    with pytest.raises(ZeroDivisionError), beside(lambda: 1 // 0):
        pass


def test_an_interrupted_block_takes_the_work_beside_it_along():
    def endless() -> None:
        with Prefetch(iter(int, 1)) as zeros:
            for _ in zeros:
                pass

    def interrupted() -> None:
        with beside(endless):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
