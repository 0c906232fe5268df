"""Name tables: a name leads to a class that is imported only when somebody asks for it."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .errors import RequestError


def unknown_name(what: str, name: str, known: list[str]) -> RequestError:
    """The error for a name that is not in a list, with the nearest one as a hint."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
    return RequestError(f"There is no {what} named {name!r}.", hint)


def written(value: Any) -> str:
    """A parameter's value as one writes it: on, off, 0.8, p95."""
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Entry:
    """One line of a table: where the class is, and what a listing says without importing it."""

    target: str  # "package.module:Class"
    summary: str
    source: str = ""  # citation, or where to get it


Line = TypeVar("Line", bound=Entry)


class Table(Generic[Line]):
    """Maps public names to classes. `what` is the noun used in errors ("method", "model family")."""

    def __init__(self, what: str, entries: Mapping[str, Line]) -> None:
        self.what = what
        self.entries = dict(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def load(self, name: str) -> Any:
        """Import and return the class behind `name`; RequestError with the nearest name if there is none."""
        if name not in self.entries:
            raise unknown_name(self.what, name, list(self.entries))
        module, _, attribute = self.entries[name].target.partition(":")
        return getattr(importlib.import_module(module), attribute)
