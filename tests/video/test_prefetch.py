"""Making the next item while the last one is used."""

from __future__ import annotations

import threading

import pytest

from stsimdiff_cli.video.prefetch import prefetched


def test_the_items_are_the_same():
    assert list(prefetched(range(20))) == list(range(20)) and list(prefetched([])) == []


def test_the_next_item_is_made_while_the_last_one_is_used():
    made = [threading.Event() for _ in range(3)]

    def items():
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in prefetched(items()):
        if number < 2:
            assert made[number + 1].wait(timeout=10)


def test_at_most_one_item_waits_beside_the_one_in_the_making():
    made = []

    def items():
        for number in range(50):
            made.append(number)
            yield number

    used = prefetched(items())
    next(used)
    threading.Event().wait(0.3)
    assert len(made) <= 3


def test_an_error_of_the_maker_reaches_the_user_behind_the_items_before_it():
    def items():
        yield 1
        raise OSError("broken")

    got = []
    with pytest.raises(OSError, match="broken"):
        for item in prefetched(items()):
            got.append(item)
    assert got == [1]


def test_the_maker_stops_when_the_user_does():
    closed = threading.Event()

    def items():
        try:
            yield from range(1000)
        finally:
            closed.set()

    source = items()
    used = prefetched(source)
    next(used)
    used.close()
    assert not any(thread.name == "ahead" for thread in threading.enumerate())
    source.close()
    assert closed.is_set()
