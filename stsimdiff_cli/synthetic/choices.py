"""Questions as multiple choice in the layouts of three benchmarks: prompts, wrong options and the right letter.

The answer is the right option in words and then its letter: `red B`. Wrong options are of the same kind as the right
one, mostly things that the clip does show, and never true.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .benchmark_prompts import LAYOUTS, NO_SUBTITLES, WITH_SUBTITLES
from .questions import COLOURS, COUNTS, DIRECTIONS, EVENTS, SHAPES, TIMES, Question, event_sentence
from .shapes import Scene

LETTERS = "ABCDE"
NEVER = "never"  # a wrong answer to "when"
OTHER_COUNTS = ("one", "five")  # counts that no clip has

#: Colour and name of a shape.
Look = tuple[str, str]


@dataclass(frozen=True)
class MultipleChoice:
    """A question with options; `right` is the index of the right one (0 is A)."""

    kind: str
    text: str
    options: tuple[str, ...]
    right: int

    @property
    def letter(self) -> str:
        """The letter of the right option."""
        return LETTERS[self.right]

    def lettered_options(self) -> list[str]:
        """The options with their letters, as `A. red`."""
        return [f"{letter}. {option}" for letter, option in zip(LETTERS, self.options, strict=False)]

    def as_question(self, layout: str) -> Question:
        """The whole prompt in one of LAYOUTS, with the answer that the model learns."""
        prompt = LAYOUTS[layout].prompt(self.text, self.lettered_options())
        return Question(self.kind, prompt, f"{self.options[self.right]} {self.letter}")


def make_choice(
    rng: np.random.Generator, question: Question, looks: tuple[Look, ...], count: int, right: int | None = None
) -> MultipleChoice:
    """A question with up to `count` options in random order, the right one at index `right` if that is given.

    looks are those of the clip (looks_of).
    """
    wrong = distractors(rng, question.kind, question.answer, looks, count - 1)
    place = int(rng.integers(len(wrong) + 1)) if right is None else min(right, len(wrong))
    return MultipleChoice(question.kind, question.text, (*wrong[:place], question.answer, *wrong[place:]), place)


def ask_as_choice(rng: np.random.Generator, question: Question, looks: tuple[Look, ...], layout: str) -> Question:
    """A question as multiple choice in a layout, with a random number of options that the layout allows."""
    limits = LAYOUTS[layout]
    count = int(rng.integers(limits.min_options, limits.max_options + 1))
    return make_choice(rng, question, looks, count).as_question(layout)


def looks_of(scenes: Iterable[Scene]) -> tuple[Look, ...]:
    """Colour and name of every shape of some scenes, each once, in order of appearance."""
    return tuple(dict.fromkeys((shape.colour, shape.name) for scene in scenes for shape in scene))


def distractors(rng: np.random.Generator, kind: str, answer: str, looks: tuple[Look, ...], count: int) -> list[str]:
    """Up to `count` wrong options for a kind of question, mostly plausible ones: those named by the clip come first."""
    near, far = _candidates(rng, kind, answer, looks)
    near = [option for option in dict.fromkeys(near) if option != answer]
    far = [option for option in dict.fromkeys(far) if option != answer and option not in near]
    options = [near[i] for i in rng.permutation(len(near))] + [far[i] for i in rng.permutation(len(far))]
    if rng.random() < 0.3 and kind != "when":
        options = [options[i] for i in rng.permutation(len(options))]
    return options[:count]


def _candidates(
    rng: np.random.Generator, kind: str, answer: str, looks: tuple[Look, ...]
) -> tuple[list[str], list[str]]:
    """Plausible wrong options, then others. The right answer may be among them."""
    if kind in ("colour", "recolour"):
        return [colour for colour, _ in looks], list(COLOURS)
    if kind == "shape":
        return [name for _, name in looks], list(SHAPES)
    if kind == "count":
        return list(COUNTS), list(OTHER_COUNTS)
    if kind == "move":
        return list(DIRECTIONS), ["nothing"]
    if kind == "when":
        return [*TIMES, NEVER], ["nothing"]
    if kind == "what":
        return _other_sentences(answer, looks)
    near = [f"{colour} {name}" for colour, name in looks]  # flash, vanish and nothing
    near += ["nothing"] if rng.random() < 0.5 else []
    return near, [*(f"{colour} {name}" for colour, _ in looks for _, name in looks), "nothing"]


def _other_sentences(answer: str, looks: tuple[Look, ...]) -> tuple[list[str], list[str]]:
    """Sentences about events that do not take place, with shapes of the clip and with others."""
    subject = " ".join(answer.split()[1:3])  # "red circle", or "scene changes"
    cut = answer == event_sentence("cut")
    near = []
    for colour, name in looks:
        near += [event_sentence("move", colour, name, direction) for direction in DIRECTIONS]
        near += [event_sentence("recolour", colour, name, other) for other in COLOURS if other != colour]
        if not cut and f"{colour} {name}" != subject:  # after a cut, whatever was there before has disappeared
            near += [event_sentence(event, colour, name) for event in ("flash", "vanish")] * 4
    colours, names = {colour for colour, _ in looks}, {name for _, name in looks}
    absent = [(c, n) for c in COLOURS for n in SHAPES if c not in colours and n not in names]
    far = [event_sentence(event, colour, name) for colour, name in absent for event in ("flash", "vanish")]
    return near, [*far, event_sentence(EVENTS[-1])] if cut else [*near, event_sentence(EVENTS[-1])]


# --- words ----------------------------------------------------------------------------------------------------------


def split_words(text: str) -> list[str]:
    """A text as the tokenizer splits it: words in lowercase, newlines, punctuation marks, single letters A to E."""
    words = re.findall(r"\n|\w+|[^\w\s]", text)
    return [word if word in LETTERS else word.lower() for word in words]


def choice_words() -> list[str]:
    """Every word of the prompts and of the options that no plain question has (and some of those), sorted."""
    prompts = [text for layout in LAYOUTS.values() for text in (layout.before, layout.after)]
    # Video-MME's prompt with subtitles is known so that none of its words is `<unk>`; the model never trained on it.
    prompts.append(WITH_SUBTITLES.format(subtitles=f"{NO_SUBTITLES}.", question=""))
    words = {word for text in (*prompts, NEVER, *OTHER_COUNTS) for word in split_words(text)}
    return sorted(word for word in words if word not in LETTERS and word != "\n")
