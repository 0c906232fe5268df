"""Stages that work at the same time."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import closing

import pytest

from stsimdiff_cli.stages.overlap import After, Ahead


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def items_of(ahead: Ahead) -> list:
    with closing(ahead):
        return list(ahead)


def test_the_items_are_the_same_and_in_order():
    assert items_of(Ahead(range(20))) == list(range(20)) and items_of(Ahead([])) == []
    assert items_of(Ahead(range(4), lambda items: (n * n for n in items))) == [0, 1, 4, 9]


def test_the_next_item_is_made_while_the_last_one_is_used():
    made = [threading.Event() for _ in range(3)]

    def items():
        for number, event in enumerate(made):
            event.set()
            yield number

    with closing(Ahead(items())) as ahead:
        for number in ahead:
            if number < 2:
                assert made[number + 1].wait(timeout=10)


def test_one_item_is_made_beside_the_one_that_is_used():
    made = []

    def items():
        for number in range(50):
            made.append(number)
            yield number

    with closing(Ahead(items())) as ahead:
        next(ahead)
        threading.Event().wait(0.2)
        assert len(made) == 2


def test_an_item_is_not_held_while_the_next_one_is_made():
    class Item:
        pass

    alive: list[weakref.ref] = []
    counts = []

    def make(_):
        counts.append(sum(each() is not None for each in alive))
        item = Item()
        alive.append(weakref.ref(item))
        return item

    with closing(Ahead(range(10), lambda numbers: map(make, numbers))) as ahead:
        for item in ahead:
            del item
    assert max(counts) <= 1  # the one in the making is counted when the next one begins


def test_an_error_of_the_maker_reaches_the_user_after_the_items_before_it():
    def items():
        yield 1
        raise OSError("broken")

    got = []
    with closing(Ahead(items())) as ahead, pytest.raises(OSError, match="broken"):
        got += [next(ahead)]
        next(ahead)
    assert got == [1] and list(ahead) == []


def test_closing_ends_a_chain_at_once_however_slow_its_source():
    class Slow:
        """Items that take a minute, unless they are cancelled."""

        stopped = threading.Event()

        def __iter__(self):
            return self

        def __next__(self):
            self.stopped.wait(60)
            raise StopIteration

        def cancel(self):
            self.stopped.set()

    start = time.perf_counter()
    with closing(Ahead(Slow())) as source, closing(Ahead(source)):
        pass
    assert time.perf_counter() - start < 5


def test_closing_closes_the_source():
    closed = threading.Event()

    def items():
        try:
            yield from range(1000)
        finally:
            closed.set()

    with closing(Ahead(items())) as ahead:
        next(ahead)
    assert closed.is_set() and list(ahead) == []


def test_work_is_done_in_order_while_the_caller_goes_on():
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work(number):
        begun.set()
        assert go_on.wait(10)
        done.append(number)

    with closing(After(work, failed=lambda: None)) as after:
        after.put(0)
        after.put(1)  # waits
        assert begun.wait(10) and done == []
        go_on.set()
        after.put(2)
        after.finish()
    assert done == [0, 1, 2]


def test_at_most_one_item_waits_for_the_work():
    go_on = threading.Event()
    with closing(After(lambda _: go_on.wait(10), failed=lambda: None)) as after:
        after.put(0)
        after.put(1)
        third = threading.Thread(target=after.put, args=(2,))
        third.start()
        third.join(0.2)
        assert third.is_alive()
        go_on.set()
        third.join()
        after.finish()


@pytest.mark.parametrize("then", ["put", "finish"])
def test_an_error_of_the_work_reaches_the_caller_and_those_who_make_items(then):
    told = threading.Event()

    def work(number):
        raise OSError(f"broken {number}")

    with closing(After(work, failed=told.set)) as after:
        after.put(0)
        assert told.wait(10)
        with pytest.raises(OSError, match="broken 0"):
            after.put(1) if then == "put" else after.finish()


def test_what_waits_is_forgotten_when_the_caller_gives_up():
    go_on, done = threading.Event(), []

    def work(number):
        go_on.wait(10)
        done.append(number)

    with closing(After(work, failed=lambda: None)) as after:
        after.put(0)
        after.put(1)
        while after._waiting == []:
            time.sleep(0.01)
        threading.Timer(0.2, go_on.set).start()
    assert done == [0]
    time.sleep(0.05)  # the timer's thread ends
