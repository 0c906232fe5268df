"""Clips of the ladder: each rung changes one thing of rung `still`, for the same seeds, events and questions.

Besides plain questions, scored by exact words, there are two kinds of bundles, which count only as a whole:

- pairs: a question about a clip, and in the same words about the same frames backwards or about the clip without its
  event, where the answers differ;
- choices: a question with options in the prompt of a benchmark, once for every rotation of the options.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ...registry import unknown_name
from ...synthetic.benchmark_prompts import LAYOUTS
from ...synthetic.choices import choose, rotations
from ...synthetic.clips import LEAST_FRAMES, ORDERS, Clip, Outline, make_clip, outline_clip
from ...synthetic.plots import kinds_of
from ...synthetic.questions import GROUPS, KINDS, NOTHING, Fact, Question
from ...synthetic.rungs import RUNGS
from ...synthetic.world import TIMES
from ..controls import CONTROLS
from ..plan import Cell
from . import TASKS
from .base import Benchmark, Bundle, Part, Sample
from .rendered import LEAST, RenderedTask, check_frames, first_seed, pick_questions

#: What is counted: plain questions, pairs, choices. The values of the group "form" of bundles.
QUESTIONS, PAIRS, CHOICES = "question", "pair", "choice"
#: Lengths of the clips of rung `long`: minutes up to which, and the label.
LENGTHS = {10.0: "5 to 10 min", 20.0: "10 to 20 min", 30.0: "20 to 30 min"}


class Key(NamedTuple):
    """What a clip is made from."""

    seed: int
    rung: str
    kind: str  # of its event
    order: str = ORDERS[0]

    @property
    def name(self) -> str:
        """The name of the clip, unique in a bench."""
        return f"{self.rung} {self.seed}: {self.kind}" + f", {self.order}" * (self.order != ORDERS[0])


@dataclass(frozen=True)
class LadderClips(RenderedTask):
    """Held-out clips of some rungs, `count` of each, with the kinds of events in turn.

    The questions about a clip are all that can be asked, but of those with the answer "nothing", and of those with the
    answer "never", one each, or else most answers would be these two. `choices` names one of LAYOUTS.
    """

    rungs: tuple[str, ...]
    count: int
    frames: int
    seed: int
    pairs: bool = False
    choices: str | None = None

    controls: ClassVar[tuple[Cell, ...]] = CONTROLS

    def __post_init__(self) -> None:
        for rung in self.rungs:
            check_frames(self.frames, max(LEAST, LEAST_FRAMES.get(rung, 0)), f"a clip of rung {rung}")
        if self.choices is not None and self.choices not in LAYOUTS:
            raise unknown_name("layout of choices", self.choices, list(LAYOUTS))

    @property
    def request(self) -> dict[str, Any]:
        """What a report says of the questions."""
        return {"rungs": list(self.rungs), "pairs": self.pairs, "choices": self.choices}

    def render(self, name: str) -> Clip:
        """The clip of that name."""
        key = self._asked.keys[name]
        return make_clip(key.seed, key.rung, "heldout", self.frames, key.kind, key.order)

    def load_samples(self) -> list[Sample]:
        """All questions, clip by clip."""
        return self._asked.samples

    def bundles(self, samples: Iterable[Sample]) -> list[Bundle]:
        """The questions by themselves, the pairs and the choices, as far as all of their questions are given."""
        given = {sample.id for sample in samples}
        return [bundle for bundle in self._asked.bundles if all(sample.id in given for sample in bundle.samples)]

    def extract(self, text: str, sample: Sample) -> str:
        """The words of the answer, or the letter that it gives by the rule of the benchmark that has the layout."""
        return self._benchmark.extract(text, sample) if sample.options else text

    def parts(self, rung: str | None = None) -> dict[str, Part]:
        """What is counted of a rung, or of all: groups and kinds of questions, pairs, choices, depths and lengths."""
        plain: dict[str, Part] = {
            "all": {},
            **{group: {"group": (group,)} for group in GROUPS},
            **{f"kind {kind}": {"kind": (kind,)} for kind in KINDS},
        }
        if rung == "long":
            plain |= {f"depth {depth}": {"depth": (depth,)} for depth in TIMES}
            plain |= {length: {"length": (length,)} for length in LENGTHS.values()}
        parts: dict[str, Part] = {label: {"form": (QUESTIONS,), **part} for label, part in plain.items()}
        if self.pairs:
            parts["pairs"] = {"form": (PAIRS,)}
            parts |= {f"pairs {order}": {"form": (PAIRS,), "order": (order,)} for order in ORDERS[1:]}
        if self.choices:
            parts["choices"] = {"form": (CHOICES,)}
        return parts if rung is None else {label: {"rung": (rung,), **part} for label, part in parts.items()}

    @cached_property
    def _benchmark(self) -> Benchmark:
        benchmark: Benchmark = TASKS.load(str(self.choices))
        return benchmark

    @cached_property
    def _asked(self) -> _Asked:
        asked = _Asked({}, [], [])
        first = first_seed(self.seed)
        for rung in self.rungs:
            kinds = kinds_of(rung, self.frames)
            for i in range(self.count):
                self._ask_about(Key(first + i, rung, kinds[i % len(kinds)]), asked)
        return asked

    def _outline(self, key: Key) -> Outline:
        return outline_clip(key.seed, key.rung, "heldout", self.frames, key.kind, key.order)

    def _ask_about(self, key: Key, asked: _Asked) -> None:
        """Add the questions about a clip and, if wanted, about the clips that it makes pairs with."""
        outline = self._outline(key)
        plain = pick_questions(key.seed, outline)
        alone = [asked.add(key, question.kind, question.text, question.answer) for _, question in plain]
        for sample, (fact, question) in zip(alone, plain, strict=True):
            asked.count(QUESTIONS, key, fact, [sample], **self._needle(outline, question))
        for order in ORDERS[1:] if self.pairs else ():
            twin = key._replace(order=order)
            known = {text: fact for fact in self._outline(twin).facts for text in fact.texts()}
            for sample, (fact, question) in zip(alone, plain, strict=True):
                other = known.get(question.text)
                if other is not None and other.answer != fact.answer:
                    again = asked.add(twin, other.kind, question.text, other.answer)
                    asked.count(PAIRS, key, other if fact.kind == NOTHING else fact, [sample, again], order=order)
        if self.choices is None:
            return
        rng, layout = np.random.default_rng([key.seed, len(outline.facts)]), LAYOUTS[self.choices]
        for fact, _ in plain:
            turned = rotations(choose(rng, fact, outline, layout.max_options))
            prompts = [(layout.prompt(each.text, each.lettered_options()), each) for each in turned]
            together = [asked.add(key, fact.kind, text, each.letter, each.options) for text, each in prompts]
            asked.count(CHOICES, key, fact, together)

    def _needle(self, outline: Outline, question: Question) -> dict[str, str]:
        """Where in a long clip the event lies that a question is about, and how long the clip is."""
        if outline.rung != "long" or question.depth is None:
            return {}
        minutes = self.frames / outline.fps / 60
        length = next((label for most, label in LENGTHS.items() if minutes < most), LENGTHS[30.0])
        return {"depth": TIMES[min(int(3 * question.depth), 2)], "length": length}


@dataclass
class _Asked:
    """Clips by name, all questions, and what counts together."""

    keys: dict[str, Key]
    samples: list[Sample]
    bundles: list[Bundle]
    numbers: Counter[str] = field(default_factory=Counter)  # of questions about each clip

    def add(self, key: Key, kind: str, prompt: str, answer: str, options: tuple[str, ...] = ()) -> Sample:
        """Ask a question about a clip."""
        self.keys[key.name] = key
        self.numbers[key.name] += 1
        groups = {"kind": kind, "rung": key.rung}
        source = f"seed {key.seed}"
        name = f"{key.name}, question {self.numbers[key.name]}"
        sample = Sample(name, key.name, None, prompt, options, answer, groups, source)
        self.samples.append(sample)
        return sample

    def count(self, form: str, key: Key, fact: Fact, samples: list[Sample], **groups: str) -> None:
        """Count some questions as one."""
        group = next(group for group, kinds in GROUPS.items() if fact.kind in kinds)
        belongs = {"form": form, "rung": key.rung, "kind": fact.kind, "group": group, **groups}
        self.bundles.append(Bundle(tuple(samples), belongs))


def parse_rungs(text: str) -> tuple[str, ...]:
    """The rungs that `still,pan` or `all` means, in the order of the ladder."""
    names = {name.strip() for name in text.split(",")}
    for name in sorted(names - {*RUNGS, "all"}):
        raise unknown_name("rung", name, ["all", *RUNGS])
    return tuple(rung for rung in RUNGS if rung in names or "all" in names)
