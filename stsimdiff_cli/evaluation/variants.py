"""What takes part in an evaluation: a method with its parameters, and the form in which it is used."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import RequestError
from ..methods.base import Method
from ..methods.spec import FILE, parse_method, spelled
from ..models.question import ORIGINAL, PACKED, SLOTS

#: The method that others are compared with, and the one without compression.
REFERENCE, BASELINE = "st-simdiff", "vanilla"
#: After a method: importance is measured with the question itself, so that every question gets its own tokens.
QUESTION = "question"
#: After a method: all tokens enter the LLM with every question, and the method prunes between its layers.
INSIDE = "inside"
_FORMS = (QUESTION, INSIDE, FILE, SLOTS, PACKED)


@dataclass(frozen=True)
class Variant:
    """A method with its parameters, and its form.

    "" for one file for all questions, SLOTS or PACKED for one whose tokens are numbered otherwise, QUESTION or INSIDE.
    """

    method: Method
    form: str = ""

    @property
    def name(self) -> str:
        """The shortest text that means this variant, e.g. `st-simdiff:layer=2@question`."""
        return spelled(self.method) + f"@{self.form}" * bool(self.form)

    @property
    def positions(self) -> str:
        """How kept tokens are numbered: see POSITIONS."""
        return self.form if self.form in (SLOTS, PACKED) else ORIGINAL


def parse_variant(spec: str) -> Variant:
    """Read `method:parameter=value,...`, which may end in a form after an @.

    `@question`, `@inside`, `@slots`, `@packed` or, as in tables, `@file`.
    """
    text, at, form = (part.strip() for part in spec.partition("@"))
    if at and form not in _FORMS:
        raise RequestError(f"{spec}: there is no form named {form!r}.", f"Write {text}@{QUESTION} or {text}@{INSIDE}")
    method = parse_method(text)
    if form == QUESTION and "llm" not in method.needs:
        raise RequestError(f"{text} does not look at the prompt.", f"Leave out @{QUESTION}")
    if form == INSIDE and not method.inside:
        raise RequestError(f"{text} does not work inside the LLM.", f"Leave out @{INSIDE}")
    if form == FILE and not method.inside:
        raise RequestError(f"{text} has no other form than that for files.", f"Leave out @{FILE}")
    return Variant(method, "" if form == FILE else form)
