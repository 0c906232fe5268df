"""The schedule and its loop, over workers that exist only on paper."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from stsimdiff_cli.archive.pool import Gone
from stsimdiff_cli.archive.schedule import Limit, Schedule
from stsimdiff_cli.errors import StsimdiffError
from tests.support.simulated_pool import BROKEN, BUSY, DIES, HANGS, WELL, SimulatedPool, simulate

SHORT = Limit(times=2, least=5)


def final(reports) -> dict[str, str]:
    """The last status of every item; an item that ends twice is an error."""
    ended = [row for row, again in reports if not again]
    assert len(ended) == len({row.id for row in ended})
    return {row.id: row.status for row in ended}


def test_the_longest_come_first():
    schedule = Schedule([("short", 1.0), ("long", 9.0), ("middle", 5.0)])
    assert [schedule.take(0)[0].thing for _ in range(3)] == ["long", "middle", "short"]
    assert schedule.take(0) is None and schedule.left == 3


def test_what_failed_for_now_comes_after_all_others():
    schedule = Schedule([("a", 3.0), ("b", 2.0), ("c", 1.0)])
    schedule.take(0)
    assert schedule.finish(0, "a", again=True)
    assert [schedule.take(0)[0].thing for _ in range(3)] == ["b", "c", "a"]
    assert not schedule.finish(0, "a", again=True), "two attempts are all"
    assert schedule.left == 2


def test_what_the_program_ended_at_comes_last_and_what_it_ended_at_twice_alone():
    durations = [("once", 9.0), ("twice", 8.0), ("often", 7.0), ("a", 2.0), ("b", 1.0)]
    schedule = Schedule(durations, unended={"once": 1, "twice": 2, "often": 5})
    assert [schedule.take(worker)[0].thing for worker in range(3)] == ["a", "b", "once"]
    assert schedule.take(3) is None, "others are at work"
    for worker, thing in enumerate(("a", "b", "once")):
        schedule.finish(worker, thing)
    assert schedule.take(0)[0].thing == "twice"
    assert schedule.take(1) is None
    schedule.finish(0, "twice")
    assert schedule.take(1)[0].thing == "often"
    schedule.finish(1, "often")
    assert schedule.left == 0


def test_only_the_item_that_a_lost_worker_was_at_is_charged():
    schedule = Schedule([("a", 3.0), ("b", 2.0), ("c", 1.0)])
    for _ in range(3):
        schedule.take(0)
    schedule.works(0, "b", now=1.0)
    assert schedule.at(0).thing == "b"
    schedule.finish(0, "b", again=True)
    schedule.lose(0)
    taken = [schedule.take(1)[0] for _ in range(3)]
    assert [(entry.thing, entry.attempt) for entry in taken] == [("a", 1), ("c", 1), ("b", 2)]


def test_the_time_of_an_item_begins_with_its_work_and_not_with_its_wait():
    schedule = Schedule([("a", 3.0), ("b", 2.0)], limit=SHORT)
    schedule.take(0)
    schedule.take(0)
    schedule.works(0, "a", now=10.0)
    assert schedule.next_deadline() == 16.0
    schedule.finish(0, "a")
    assert schedule.next_deadline() is None
    schedule.works(0, "b", now=14.0)
    assert schedule.overdue(18.0) == []
    assert [entry.thing for _, entry in schedule.overdue(19.5)] == ["b"]


def test_loading_a_model_does_not_count():
    schedule = Schedule([("a", 1.0)], limit=SHORT)
    schedule.take(0)
    schedule.works(0, "a", now=0.0)
    schedule.works(0, "a", now=1.0, counts=False)
    assert schedule.next_deadline() is None
    schedule.works(0, "a", now=100.0)
    assert schedule.next_deadline() == 104.0


def test_a_long_video_may_take_longer():
    assert Limit(10, 600).seconds(30) == 600
    assert Limit(10, 600).seconds(3600) == 36000


def test_every_item_ends_once_whatever_happens():
    dice = random.Random(3)
    durations = {f"{number}": dice.lognormvariate(3, 1) for number in range(500)}
    fates = {
        thing: [dice.choices((WELL, BROKEN, BUSY, DIES, HANGS), (80, 5, 5, 5, 5))[0] for _ in range(3)]
        for thing in durations
    }
    pool = SimulatedPool(7, durations.__getitem__, lambda thing, attempt: fates[thing][attempt - 1], depth=3)
    status = final(simulate(durations, pool, limit=SHORT))
    assert set(status) == set(durations)
    for thing, (first, second, _) in fates.items():
        well = first == WELL or (first != BROKEN and second == WELL)
        assert (status[thing] == "success") == well, (thing, first, second)


def test_nothing_is_tried_more_often_than_it_may_be():
    durations = {f"{number}": 1.0 for number in range(40)}
    pool = SimulatedPool(4, durations.__getitem__, lambda thing, attempt: DIES if thing in "123" else WELL, depth=2)
    reports = simulate(durations, pool, attempts=3)
    tries = Counter(row.id for row, _ in reports)
    assert {thing: tries[thing] for thing in "123"} == {"1": 3, "2": 3, "3": 3}
    assert all(count == 1 for thing, count in tries.items() if thing not in "123")


def test_a_hanging_item_is_late_and_the_others_do_not_wait_for_it():
    durations = {"hangs": 10.0, **{f"{number}": 1.0 for number in range(20)}}
    pool = SimulatedPool(2, durations.__getitem__, lambda thing, attempt: HANGS if thing == "hangs" else WELL)
    reports = simulate(durations, pool, limit=Limit(2, 5))
    late = [row for row, _ in reports if row.id == "hangs"]
    assert [row.error_type for row in late] == ["LateError", "LateError"]
    assert final(reports)["hangs"] == "failed"
    assert pool.clock == pytest.approx(20 + 20), "twice its limit, while the other worker does the rest"


def test_one_straggler_holds_nobody():
    durations = {"long": 100.0, **{f"{number}": 1.0 for number in range(300)}}
    pool = SimulatedPool(4, durations.__getitem__)
    simulate(durations, pool)
    assert pool.clock == pytest.approx(100.0, abs=1.5), "the long one begins first; three workers do the others"


def test_the_end_is_near_the_best_possible():
    dice = random.Random(5)
    durations = {f"{number}": dice.lognormvariate(4, 1.2) for number in range(2000)}
    pool = SimulatedPool(16, durations.__getitem__)
    simulate(durations, pool)
    best = max(sum(durations.values()) / 16, max(durations.values()))
    assert pool.clock <= best * 1.01


def test_workers_that_are_idle_may_all_end_at_once():
    class Shrinking(SimulatedPool):
        def wait(self, until):
            if self.clock > 3 and len(self._queues) > 1:  # all but the one that works: their machine is gone
                idle = [name for name in self._queues if name not in self._busy]
                for name in idle:
                    del self._queues[name]
                return [Gone(name, "died with its machine") for name in idle]
            return super().wait(until)

    durations = {"long": 50.0, "middle": 5.0, **{f"{number}": 1.0 for number in range(30)}}
    pool = Shrinking(20, durations.__getitem__)
    assert set(final(simulate(durations, pool)).values()) == {"success"}
    assert len(pool._queues) == 1


def test_workers_that_end_before_they_begin_end_the_run():
    class Stillborn(SimulatedPool):
        def _begin(self, worker):
            self._queues[worker].pop(0)
            self.end(worker)

    with pytest.raises(StsimdiffError, match="end before they do anything"):
        simulate({"a": 1.0}, Stillborn(1, lambda thing: 1.0))
