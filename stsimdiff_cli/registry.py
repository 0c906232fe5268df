"""Name tables: a public name leads to a class that is imported only when it is needed.

A table lists the classes of this package. Other packages may add to it through an entry-point group: see `Table`.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from .errors import RequestError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def unknown_name(what: str, name: str, known: list[str]) -> RequestError:
    """The error for a name that is not in a list, with the nearest one as a hint."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
    return RequestError(f"There is no {what} named {name!r}.", hint)


def written(value: Any) -> str:
    """A parameter's value as a user would write it: on, off, 0.8, p95."""
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


#: Characters that a terminal obeys instead of showing them, or that change the direction of what follows; halves of
#: characters, which no file name or page can hold; and the ends of lines.
_NOT_SHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, keep: str = "") -> str:
    """Text from a file that somebody else made, for a terminal, a picture or a page: what is not shown as \\u001b.

    A JSON text stays the same JSON. `keep` holds control characters that are left as they are.
    """
    return _NOT_SHOWN.sub(lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text)


@dataclass(frozen=True)
class Entry:
    """One line of a table: where the class is, and what a listing says without importing it."""

    target: str  # "package.module:Class"
    summary: str
    citation: str = ""  # the publication
    install: str = ""  # the command that installs what the class needs besides this package
    checkpoints: tuple[str, ...] = ()  # published models, for a model family
    package: str | None = None  # "name version" of the installed package that offers the class; None if built in


def summary_of(cls: type) -> str:
    """What a class says of itself in one line: its attribute `summary`, or the first line of its docstring."""
    document = cls.__doc__ or ""
    if document.startswith(f"{cls.__name__}("):  # written by @dataclass
        document = ""
    return getattr(cls, "summary", "") or document.strip().partition("\n")[0].rstrip(".")


def load_target(target: str) -> Any:
    """Import what a "package.module:name" stands for."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


Line = TypeVar("Line", bound=Entry)


@dataclass(frozen=True)
class Plugins(Generic[Line]):
    """How other packages add to a table."""

    group: str  # the entry-point group; the name of an entry point is the name in the table
    base: str  # "package.module:Class" of which an offered class must be a subclass
    describe: Callable[[Any], Line]  # the entry of an offered class, without `package`; raises for an unusable one

    def entry(self, name: str, cls: Any, package: str) -> Line:
        """The entry of a class that a package offers under a name; TypeError for a class that does not fit."""
        base = load_target(self.base)
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise TypeError(f"expected a subclass of {self.base}, got {cls!r}")
        if getattr(cls, "name", None) != name:
            raise TypeError(f"expected the class attribute name = {name!r}, got {getattr(cls, 'name', None)!r}")
        return replace(self.describe(cls), package=package)


class Table(Generic[Line]):
    """Maps public names to classes. `what` is the noun used in errors ("method", "model family").

    The built-in names are given. Installed packages may offer more, see `plugins`; they are looked for only when the
    table is listed or a name is not built in. A package that cannot be used leaves the rest of the table alone: it is
    missing from listings, `notes` names it, and asking for it by name is a RequestError.
    """

    def __init__(self, what: str, builtin: Mapping[str, Line], plugins: Plugins[Line] | None = None) -> None:
        self.what, self.builtin, self.plugins = what, dict(builtin), plugins
        self._attempts: dict[str, tuple[Any, Line] | RequestError] = {}

    @property
    def entries(self) -> dict[str, Line]:
        """Every usable name: the built-in ones in their order, then those of installed packages by name."""
        return {**self.builtin, **{name: entry for name, (_, entry) in self.installed.items()}}

    @property
    def installed(self) -> dict[str, tuple[Any, Line]]:
        """Class and entry of every usable name that an installed package offers; imports them."""
        attempts = {name: self._attempt(name) for name in self._offers[0]}
        return {name: found for name, found in attempts.items() if not isinstance(found, RequestError)}

    @property
    def notes(self) -> list[str]:
        """A sentence for every offer of an installed package that the listing leaves out."""
        offers, ignored = self._offers
        failed = [found for name in offers if isinstance(found := self._attempt(name), RequestError)]
        return [*ignored, *map(str, failed)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.builtin or name in self._offers[0]

    def load(self, name: str) -> Any:
        """Import and return the class that `name` stands for.

        RequestError with the nearest name if there is none, or with the reason if an installed package offers one that
        cannot be used.
        """
        if name in self.builtin:
            return load_target(self.builtin[name].target)
        if name not in self._offers[0]:
            raise unknown_name(self.what, name, [*self.builtin, *self._offers[0]])
        found = self._attempt(name)
        if isinstance(found, RequestError):
            raise found
        return found[0]

    @cached_property
    def _offers(self) -> tuple[dict[str, EntryPoint], list[str]]:
        """Entry points by name, and a sentence for each that is ignored. Nothing is imported."""
        if self.plugins is None:
            return {}, []
        from importlib.metadata import entry_points

        offers: dict[str, EntryPoint] = {}
        ignored = []
        for point in sorted(entry_points(group=self.plugins.group), key=lambda point: (point.name, _package(point))):
            if point.name in self.builtin or point.name in offers:
                winner = "built in" if point.name in self.builtin else f"that of {_package(offers[point.name])}"
                ignored.append(
                    f"The {self.what} {point.name!r} of the package {_package(point)} is ignored: the name is taken "
                    f"({winner})."
                )
            else:
                offers[point.name] = point
        return offers, ignored

    def _attempt(self, name: str) -> tuple[Any, Line] | RequestError:
        """Class and entry of an offer, or why there is none; tried once."""
        if name not in self._attempts:
            self._attempts[name] = self._try(name, self._offers[0][name])
        return self._attempts[name]

    def _try(self, name: str, point: EntryPoint) -> tuple[Any, Line] | RequestError:
        package = _package(point)
        try:
            cls = point.load()
            return cls, cast("Plugins[Line]", self.plugins).entry(name, cls, package)
        except (Exception, SystemExit) as error:  # whatever a module does when it is imported
            return RequestError(
                f"The {self.what} {name!r} of the package {package} cannot be used: {type(error).__name__}: {error}",
                f"Update the package, or remove it: pip uninstall {package.partition(' ')[0]}",
            )


def _package(point: EntryPoint) -> str:
    """The package that an entry point belongs to, as "name version"."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
