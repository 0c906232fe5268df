"""Stages that work at the same time: one makes items ahead of their use, one uses them after they were made.

for item in Ahead(items):      # the next item is made in a thread while this one is used
    after.put(item)            # After(work): it is worked on in a thread while the next one is used
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")


@runtime_checkable
class Closable(Protocol):
    """Items that can be closed, like those of a generator."""

    def close(self) -> None:
        """End them."""


@runtime_checkable
class Cancellable(Protocol):
    """Items of which the one in work can be ended from another thread."""

    def cancel(self) -> None:
        """End them soon."""


class Ahead(Iterator[Any]):
    """The items that `through` makes of `source`, each made in a thread while the one before it is used.

    Besides the one that is used, at most one item is made or waits. The thread, named `name`, begins at once. What is
    raised while an item is made is raised in its place. `cancel` and `close` end the thread: at once if the source has
    a method `cancel` that may be called from another thread, else after its current item. `close` then closes the
    source, and waits until the thread has ended.
    """

    def __init__(
        self,
        source: Iterable[Any],
        through: Callable[[Iterable[Any]], Iterable[Any]] = lambda items: items,
        name: str = "ahead",
    ) -> None:
        self._source, self._through = source, through
        self._change = threading.Condition()
        self._ready: list[Any] = []  # at most one
        self._error: BaseException | None = None
        self._ended = self._stopped = False
        self._thread = threading.Thread(target=self._make, name=name, daemon=True)
        self._thread.start()

    def __next__(self) -> Any:
        with self._change:
            self._change.wait_for(lambda: self._ready or self._ended or self._stopped)
            if self._stopped:
                raise StopIteration
            if self._ready:
                item = self._ready.pop()
                self._change.notify_all()
                return item
            self._stopped = True
            if self._error is not None:
                raise self._error
            raise StopIteration

    def cancel(self) -> None:
        """End soon: a call of `next` in another thread raises StopIteration. May be called from any thread."""
        with self._change:
            self._stopped = True
            self._change.notify_all()
        if isinstance(self._source, Cancellable):
            self._source.cancel()

    def close(self) -> None:
        """End. No thread is left, and the source is closed."""
        self.cancel()
        self._thread.join()
        self._ready.clear()
        if isinstance(self._source, Closable):
            self._source.close()

    def _make(self) -> None:
        try:
            items = iter(self._through(self._source))
            while self._offer(next(items)):
                pass
        except StopIteration:
            pass
        except BaseException as error:  # whatever it is, the user gets it
            self._error = error
        with self._change:
            self._ended = True
            self._change.notify_all()

    def _offer(self, item: Any) -> bool:
        """Hand an item over, and wait until it is taken; False if nobody wants another one."""
        with self._change:
            self._ready.append(item)
            del item  # not held while the next one is made
            self._change.notify_all()
            self._change.wait_for(lambda: not self._ready or self._stopped)
            return not self._stopped


class After(Generic[Item]):
    """Works on items in a thread named `name`, in the order in which they are put; at most one waits.

    When `work` raises, `failed` is called, in the thread, so that nobody goes on making items; the exception is raised
    by the next `put` and by `finish`.
    """

    def __init__(self, work: Callable[[Item], None], failed: Callable[[], None], name: str = "after") -> None:
        self._work, self._failed = work, failed
        self._change = threading.Condition()
        self._waiting: list[Item] = []  # at most one
        self._error: BaseException | None = None
        self._over = self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand an item over, as soon as none is waiting. Raises what the work on an earlier one raised."""
        with self._change:
            self._change.wait_for(lambda: not self._waiting or self._error)
            if self._error is not None:
                raise self._error
            self._waiting.append(item)
            self._change.notify_all()

    def finish(self) -> None:
        """Wait until all items are done. Raises what the work raised."""
        with self._change:
            self._over = True
            self._change.notify_all()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End after the item in work, and forget the one that waits. No thread is left."""
        with self._change:
            self._over = self._stopped = True
            self._change.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._over)
                if self._stopped or not self._waiting:
                    return
                item = self._waiting.pop()
                self._change.notify_all()
            try:
                self._work(item)
            except BaseException as error:  # whatever it is, the caller gets it
                with self._change:
                    self._error = error
                    self._change.notify_all()
                self._failed()
                return
            del item  # not held while this waits
