"""Makes the next item in a thread while the last one is used."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from queue import Full, Queue
from typing import Any, Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")
_END = object()


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


def prefetched(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The same items, each made in a thread while the one before it is used; at most one is waiting.

    An exception raised while an item is made is raised in its place. If the consumer stops early, so does the thread:
    at once if the items have a method `cancel` that may be called from another thread, else after its current item. The
    items are then closed.
    """
    ready: Queue[Any] = Queue(maxsize=1)
    stopped = threading.Event()

    def offer(item: Any) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not offer((item, None)):
                    return
            offer((_END, None))
        except BaseException as error:  # whatever it is, the consumer gets it
            offer((None, error))
        finally:
            if stopped.is_set() and isinstance(items, Closable):
                items.close()

    thread = threading.Thread(target=make, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        if isinstance(items, Cancellable):
            items.cancel()
        thread.join()
