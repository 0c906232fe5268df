"""What a task is: questions about videos, how a video becomes tokens, and what counts as the right answer.

Prompts and rules of the benchmarks are those of lmms-eval 0.7, so that results can be compared with it question by
question. (TVQA, which lmms-eval does not have, is asked as MVBench asks its questions.)
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ... import pipeline
from ...errors import RequestError, VideoError
from ...records import VideoTokens
from ...storage.image_files import is_images
from ...video import NoSuchPartError, Sampling
from ..answering import Settings
from ..plan import Cell

#: A part of the questions: the values of some groups, e.g. {"duration": ("short",)}; {} for all questions.
Part = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Sample:
    """One question about one video."""

    id: str  # unique in the task
    video: str  # id of the video: questions about one video are not independent
    path: Path | None  # the video; where it was looked for first if it is not there; None if it is rendered
    prompt: str  # the whole text that goes with the video
    options: tuple[str, ...]  # without the letters in front; () if the answer is open
    answer: str | None  # the right letter or words; None where they are not public
    groups: dict[str, str] = field(default_factory=dict)  # what the question belongs to, e.g. {"duration": "short"}
    source: str = ""  # what several videos were made from, if they are not independent
    start: float | None = None  # seconds from the first frame; None: from the beginning
    end: float | None = None  # None: to the end
    image_fps: float | None = None  # images a second, if the video is a folder of them

    @property
    def cluster(self) -> str:
        """What the bootstrap draws as a whole: all that was made from one source, by default the video."""
        return self.source or self.video

    @property
    def letters(self) -> str:
        """The letters of the options: "ABCD" for four."""
        return letters(len(self.options))


@dataclass(frozen=True)
class Bundle:
    """Questions that count as one: right if every one of them is answered rightly. Most hold a single question."""

    samples: tuple[Sample, ...]
    groups: dict[str, str]

    @property
    def cluster(self) -> str:
        """What the bootstrap draws as a whole."""
        return self.samples[0].cluster


def letters(count: int) -> str:
    """The first `count` letters, at most 26."""
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]


def by_video(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """The questions of each video, in the order in which videos come first."""
    videos: dict[str, list[Sample]] = {}
    for sample in samples:
        videos.setdefault(sample.video, []).append(sample)
    return videos


class Task:
    """Questions about videos."""

    #: The columns of tables, in their order.
    columns: ClassVar[dict[str, Part]] = {"all": {}}
    #: True if the kept tokens are compared with all tokens too: see fidelity.py. Equal tokens are then asked once.
    fidelity: ClassVar[bool] = False
    #: What the questions are also asked about: see controls.py.
    controls: ClassVar[tuple[Cell, ...]] = ()

    def encode(
        self, sample: Sample, settings: Settings, evidence: Iterable[str], context: pipeline.Context
    ) -> VideoTokens:
        """All tokens of a sample's video; VideoError for a file that is missing, broken or ends before the part."""
        assert sample.path is not None
        if not sample.path.is_file() and not is_images(sample.path):
            raise VideoError(f"{sample.path} does not exist.")
        sampling = Sampling(
            frames=settings.frames,
            start=sample.start,
            end=sample.end,
            workers=settings.workers,
            size=settings.size,
            image_fps=sample.image_fps,
        )
        try:
            return pipeline.encode_video(
                sample.path,
                settings.model,
                sampling,
                settings.runtime,
                revision=settings.revision,
                evidence=evidence,
                context=context,
            )
        except NoSuchPartError as error:  # nobody asked for it but the benchmark
            raise VideoError(str(error), error.hint) from error

    def encode_control(
        self, control: Cell, sample: Sample, settings: Settings, context: pipeline.Context
    ) -> VideoTokens:
        """All tokens of what a control shows of a sample's video; for tasks that have such controls."""
        raise NotImplementedError(f"{type(self).__name__} has no control {control[0]!r}")

    def bundles(self, samples: Iterable[Sample]) -> list[Bundle]:
        """What is counted, of questions whose answer is known. Default: every question by itself."""
        return [Bundle((sample,), sample.groups) for sample in samples if sample.answer is not None]

    def extract(self, text: str, sample: Sample) -> str:  # noqa: ARG002
        """What the model's answer says; "" if nothing is found in it. Default: its words."""
        return text

    def parse(self, text: str, sample: Sample) -> str:
        """What an answer is scored by. Default: what `extract` finds."""
        return self.extract(text, sample)

    def same(self, given: str, expected: str) -> bool:
        """Whether two parsed answers are equal. Default: letter by letter."""
        return given == expected


class OpenQuestions(Task):
    """Questions that are answered in words. What is kept is compared with all tokens too."""

    fidelity: ClassVar[bool] = True

    def same(self, given: str, expected: str) -> bool:
        """Whether two answers are equal except for case, blanks and a full stop."""
        first, second = (" ".join(text.lower().rstrip(". ").split()) for text in (given, expected))
        return first == second


class Benchmark(Task, ABC):
    """A published set of multiple-choice questions, read from files on disk and scored by letters."""

    name: ClassVar[str]  # in TASKS
    title: ClassVar[str]  # as its authors write it
    citation: ClassVar[str]
    lmms_task: ClassVar[str]  # lmms-eval's task with the same prompts and the same rule
    max_new_tokens: ClassVar[int]
    #: True if lmms-eval draws a random letter where `extract` finds none; otherwise such an answer is wrong.
    guesses: ClassVar[bool]
    no_subtitles: ClassVar[str]  # why a prompt holds no subtitles, for benchmarks of which none does

    @abstractmethod
    def load_samples(self, data: Path) -> list[Sample]:
        """All questions under the folder `data`, in the order of the file.

        Videos need not be there. RequestError if there are no questions, or if a row of them is not as published.
        """

    def load_with_subtitles(self, data: Path) -> list[Sample]:  # noqa: ARG002
        """The same with subtitles in the prompts. RequestError where no prompt holds them, which is the default."""
        raise RequestError(self.no_subtitles, "Leave out --subtitles.")

    @abstractmethod
    def extract(self, text: str, sample: Sample) -> str:
        """The letter that an answer gives, "" if none is found. It may be one that the question does not offer."""

    def parse(self, text: str, sample: Sample) -> str:
        """The letter, or a guess where the benchmark draws one. The guess for a question is the same in every run.

        lmms-eval draws from one stream for the whole run, so that its guesses depend on what was asked before.
        """
        letter = self.extract(text, sample)
        if letter or not self.guesses:
            return letter
        return random.Random(f"{self.name} {sample.id}").choice(sample.letters)

    def submission(self, letters: Mapping[str, str]) -> dict[str, Any]:
        """What is sent to the benchmark's server: from the letter of every question's id to the form that it takes."""
        return dict(letters)
