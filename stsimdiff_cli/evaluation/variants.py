"""What takes part in an evaluation: a method with its parameters, and the form in which it is used."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import RequestError
from ..methods import INSIDE as RUNS_INSIDE
from ..methods import METHODS
from ..methods.base import Method
from ..methods.spec import parse_method, spelled

#: The method that others are compared with, and the one without compression.
REFERENCE, BASELINE = "st-simdiff", "vanilla"
#: After a method: importance is measured with the question itself, so that every question gets its own tokens.
QUESTION = "question"
#: After a method: all tokens enter the LLM with every question, and the method prunes between its layers.
INSIDE = "inside"
#: After a method that also works inside the LLM: one file for all questions. Tables write it; a name leaves it out.
FILE = "file"


@dataclass(frozen=True)
class Variant:
    """A method with its parameters, and its form: "" for one file for all questions, or QUESTION, or INSIDE."""

    method: Method
    form: str = ""

    @property
    def name(self) -> str:
        """The shortest text that means this variant, e.g. `st-simdiff:layer=2@question`."""
        return spelled(self.method) + f"@{self.form}" * bool(self.form)


def parse_variant(spec: str) -> Variant:
    """Read `method:parameter=value,...`, which may end in `@question`, `@inside` or, as in tables, `@file`."""
    text, at, form = (part.strip() for part in spec.partition("@"))
    if at and form not in (QUESTION, INSIDE, FILE):
        raise RequestError(f"{spec}: there is no form named {form!r}.", f"Write {text}@{QUESTION} or {text}@{INSIDE}")
    method = parse_method(text)
    if form == QUESTION and "llm" not in method.needs:
        raise RequestError(f"{text} does not look at the prompt.", f"Leave out @{QUESTION}")
    if form == INSIDE and not method.inside:
        raise RequestError(f"{text} does not work inside the LLM.", f"Leave out @{INSIDE}")
    if form == FILE and not method.inside:
        raise RequestError(f"{text} has no other form than that for files.", f"Leave out @{FILE}")
    return Variant(method, "" if form == FILE else form)


def shown(name: str) -> str:
    """A variant's name as tables write it: with its form where the method has several, so that `fastv` is `fastv@file`.

    `parse_variant` reads it as the same variant.
    """
    method, at, _ = name.partition("@")
    entry = METHODS.entries.get(method.partition(":")[0])
    return name if at or entry is None or entry.runs != RUNS_INSIDE else f"{name}@{FILE}"
