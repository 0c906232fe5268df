"""Lets a pool of workers do what a schedule says, until nothing is left."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import StsimdiffError
from .failures import LateError, LostError
from .job import Fatal
from .log import Row
from .pool import Done, Event, Gone, Joined, Pool, Stage
from .schedule import Entry, Schedule, Worker

#: Workers that may end without having begun an item, one after another: this many, or twice as many as there are, if
#: that is more (a machine may take many along).
_HOPELESS = 3


class Loop:
    """One run of a schedule over a pool.

    `task` makes a task of an entry and its time limit. `lost` makes the row of an item whose worker is gone, from its
    entry, stage and error. `report` is called with every row, and whether there will be another attempt; `begin` with
    every item that a worker begins.
    """

    def __init__(
        self,
        schedule: Schedule[str],
        pool: Pool,
        task: Callable[[Entry[str], float], object],
        lost: Callable[[Entry[str], str, Exception], Row],
        report: Callable[[Row, bool], None],
        begin: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.schedule, self.pool = schedule, pool
        self._task, self._lost, self._report, self._begin = task, lost, report, begin
        self._hungry: dict[Worker, None] = {}
        self._stages: dict[Worker, str] = {}
        self._late: dict[Worker, tuple[str, Exception]] = {}
        self._proven: set[Worker] = set()  # have begun an item
        self._in_vain = 0

    def run(self) -> None:
        """Until every item is finished or given up. StsimdiffError if nothing else would work either."""
        self._hungry = dict.fromkeys(self.pool.workers())
        while self.schedule.left:
            self._feed()
            for event in self.pool.wait(self.schedule.next_deadline()):
                self._handle(event)
            for worker, entry in self.schedule.overdue(self.pool.now()):
                self._late[worker] = (entry.thing, LateError("It took longer than --timeout allows."))
                self.pool.end(worker)

    def _feed(self) -> None:
        for worker in list(self._hungry):
            while self.schedule.held(worker) < self.pool.depth:
                taken = self.schedule.take(worker)
                if taken is None:
                    return
                self.pool.submit(worker, self._task(*taken))  # type: ignore[arg-type]
            del self._hungry[worker]

    def _handle(self, event: Event) -> None:
        worker = event.worker
        if isinstance(event, Stage):
            self._in_vain = 0
            self._proven.add(worker)
            self._stages[worker] = event.stage
            at = self.schedule.at(worker)
            if at is None or at.thing != event.id:
                self._begin(event.id)
            self.schedule.works(worker, event.id, self.pool.now(), counts=event.stage != "load")
        elif isinstance(event, Joined):
            self._hungry[worker] = None
        elif isinstance(event, Gone):
            self._gone(worker, event.why)
        elif isinstance(event, Done):
            self._hungry[worker] = None
            if isinstance(event.row, Fatal):
                raise StsimdiffError(event.row.message, event.row.hint)
            again = self.schedule.finish(worker, event.id, again=bool(event.row.transient))
            self._report(event.row, again)

    def _gone(self, worker: Worker, why: str) -> None:
        self._hungry.pop(worker, None)
        entry, stage = self.schedule.at(worker), self._stages.pop(worker, "probe")
        late = self._late.pop(worker, None)
        if entry is not None:
            known = late is not None and late[0] == entry.thing
            error = late[1] if known and late else LostError(f"The process that worked on it {why}.")
            row = self._lost(entry, stage, error)
            self._report(row, self.schedule.finish(worker, entry.thing, again=bool(row.transient)))
        elif worker not in self._proven:
            self._in_vain += 1
        self._proven.discard(worker)
        self.schedule.lose(worker)
        if self._in_vain >= max(_HOPELESS, 2 * self.pool.size):
            raise StsimdiffError(
                f"The worker processes end before they do anything: the last one {why}.",
                "See what they wrote above; fewer --workers need less memory.",
            )
