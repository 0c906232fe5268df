"""What a benchmark is: questions read from its published files, and the rule that finds a letter in an answer.

Prompts and rules are those of lmms-eval 0.7, so that results can be compared with it question by question.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True)
class Item:
    """One question about one video."""

    id: str  # unique in the benchmark
    video: str  # id of the video: questions about one video are not independent
    path: Path  # the video; where it was looked for first if it is not there
    prompt: str  # the whole text that goes with the video
    options: tuple[str, ...]  # without the letters in front
    answer: str | None  # the right letter; None where it is not public
    groups: dict[str, str] = field(default_factory=dict)  # what the question belongs to, e.g. {"duration": "short"}

    @property
    def letters(self) -> str:
        """The letters of the options: "ABCD" for four."""
        return letters(len(self.options))


def letters(count: int) -> str:
    """The first `count` letters, at most 26."""
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]


class Task(ABC):
    """One benchmark."""

    name: ClassVar[str]  # in TASKS
    title: ClassVar[str]  # as its authors write it
    citation: ClassVar[str]
    lmms_task: ClassVar[str]  # lmms-eval's task with the same prompts and the same rule
    max_new_tokens: ClassVar[int]
    #: Columns of the paper's tables, in their order: the group and its value, None for all questions.
    columns: ClassVar[dict[str, tuple[str, str] | None]]
    #: True if lmms-eval draws a random letter where `extract` finds none; otherwise such an answer is wrong.
    guesses: ClassVar[bool]

    @abstractmethod
    def read(self, data: Path, subtitles: bool = False) -> list[Item]:
        """All questions under the folder `data`, in the order of the file; with subtitles in the prompt if asked for.

        Videos need not be there. RequestError if there are no questions, if a row of them is not as published, or if
        the benchmark has no subtitles that a prompt could hold.
        """

    @abstractmethod
    def extract(self, text: str, item: Item) -> str:
        """The letter that an answer gives, "" if none is found. It may be one that the item does not offer."""

    def submission(self, letters: Mapping[str, str]) -> dict[str, Any]:
        """What is sent to the benchmark's server: from the letter of every item's id to the form that it takes."""
        return dict(letters)
