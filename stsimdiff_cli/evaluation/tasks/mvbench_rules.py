"""How MVBench asks and reads answers, which its questions share with TVQA's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from ...synthetic.benchmark_prompts import MVBENCH
from .base import Benchmark, Sample, letters

#: Frames a second of videos that are published as folders of frames: they are those of TVQA.
FRAME_RATE = 3.0
MOST_OPTIONS = 5  # letters from A to E are read
#: A letter, a full stop and, in the same line, more: nothing else counts.
_OPTION = re.compile(r"([a-e])\.\s*.+", re.IGNORECASE)
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_STOPS = 32  # full stops that are taken out; later ones stay


class AskedAsMVBench(Benchmark):
    """Questions in the prompt of MVBench, with its rule for letters."""

    max_new_tokens: ClassVar[int] = 16
    guesses: ClassVar[bool] = False

    def extract(self, text: str, sample: Sample) -> str:  # noqa: ARG002
        """The letter of an answer like "B. a cat", or else the first A to E, of either case, that is a word.

        Words are what is left once marks are taken out. A mark becomes a blank, or nothing if it stands next to a blank
        anywhere in the answer (or if there is a number like 1,000), which may join what it parted.
        """
        text = text.strip()
        option = _OPTION.fullmatch(text)
        if option:
            return option[1].upper()
        text = text.replace("\n", " ").replace("\t", " ").strip()
        joins = re.search(r"\d,\d", text) is not None
        words = text
        for mark in _MARKS:
            words = words.replace(mark, "" if joins or f"{mark} " in text or f" {mark}" in text else " ")
        words = re.sub(r"\.(?!\d)", "", words, count=_STOPS)
        word = re.search(r"\b[a-e]\b", words.lower())
        return word[0].upper() if word else ""


def prompt(question: str, options: Sequence[str]) -> str:
    """The whole prompt; options are without letters."""
    lines = (f"({letter}) {option}" for letter, option in zip(letters(len(options)), options, strict=True))
    return MVBENCH.format(question=question, options="\n".join(lines))


def part(start: float | None, end: float | None) -> tuple[float, float] | None:
    """A part of a video from its bounds in seconds; None, the whole, for bounds that hold nothing or are not given."""
    if start is None or end is None or not 0 <= start < end < float("inf"):  # not a number: no bound
        return None
    return start, end
