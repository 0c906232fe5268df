"""Multiple choice in the layouts of three benchmarks: prompts, wrong options and the letter. Imports nothing heavy.

The answer to a choice names the right option in words and then its letter: `red B`. Three layouts are known, those
in which lmms-eval asks Video-MME, LongVideoBench and EgoSchema. Wrong options are of the kind of the right one and
prefer what the clip shows; no wrong option is true.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .questions import COLOURS, COUNTS, DIRECTIONS, EVENTS, SHAPES, TIMES, Question, sentence

LETTERS = "ABCDE"
NEVER = "never"
FEW_MANY = ("one", "five")  # counts that no clip has
_DIRECTLY = "Answer with the option's letter from the given choices directly."


class Layout(NamedTuple):
    """What stands before the question and behind the options, and how many options there are."""

    before: str
    after: str
    fewest: int
    most: int


LAYOUTS = {
    "videomme": Layout(
        "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
        "Respond with only the letter (A, B, C, or D) of the correct option.\n",
        f"\n\n{_DIRECTLY}",
        4,
        4,
    ),
    "longvideobench": Layout("", f"\n{_DIRECTLY}\n", 2, 5),
    "egoschema": Layout("", f"\n{_DIRECTLY}", 5, 5),
}
# Words of Video-MME's prompts with subtitles, known so that they are not `<unk>`; never trained on.
_SUBTITLES = "This video's subtitles are listed below: No subtitles available. The best answer is:"


@dataclass(frozen=True)
class Choice:
    """A question with options, and which of them is right (0 is A)."""

    kind: str
    text: str
    options: tuple[str, ...]
    right: int

    @property
    def letter(self) -> str:
        """The letter of the right option."""
        return LETTERS[self.right]

    def lines(self) -> list[str]:
        """The options as `A. red`."""
        return [f"{letter}. {option}" for letter, option in zip(LETTERS, self.options, strict=False)]

    def asked(self, layout: str) -> Question:
        """The whole prompt in one of LAYOUTS with the answer that the model learns."""
        frame = LAYOUTS[layout]
        text = frame.before + "\n".join([self.text, *self.lines()]) + frame.after
        return Question(self.kind, text, f"{self.options[self.right]} {self.letter}")


def pieces(text: str) -> list[str]:
    """A text in the units of the tokenizer: lowercase words, newlines, punctuation apart, letters A to E alone kept."""
    found = re.findall(r"\n|\w+|[^\w\s]", text)
    return [piece if piece in LETTERS else piece.lower() for piece in found]


def more_words() -> list[str]:
    """Every word that choices add to those of the plain questions (and perhaps some of those), sorted."""
    texts = [text for frame in LAYOUTS.values() for text in frame[:2]] + [_SUBTITLES, NEVER, *FEW_MANY]
    return sorted({piece for text in texts for piece in pieces(text) if piece not in LETTERS and piece != "\n"})


def names(scenes: Iterable[tuple]) -> tuple[tuple[str, str], ...]:
    """Colour and shape of every object of some scenes, each once, in the order in which they come."""
    return tuple(dict.fromkeys((thing.colour, thing.shape) for scene in scenes for thing in scene))


def rivals(
    rng: np.random.Generator, kind: str, answer: str, seen: tuple[tuple[str, str], ...], count: int
) -> list[str]:
    """`count` wrong options of a kind of question, mostly those that the clip makes likely.

    seen are the `names` of the clip.
    """
    near: list[str]
    far: list[str]
    if kind in ("colour", "recolour"):
        near, far = [c for c, _ in seen], list(COLOURS)
    elif kind == "shape":
        near, far = [s for _, s in seen], list(SHAPES)
    elif kind == "count":
        near, far = list(COUNTS), list(FEW_MANY)
    elif kind == "move":
        near, far = list(DIRECTIONS), ["nothing"]
    elif kind == "when":
        near, far = [*TIMES, NEVER], ["nothing"]
    elif kind == "what":
        near, far = _other_sentences(answer, seen)
    else:  # flash, vanish and nothing
        near = [f"{c} {s}" for c, s in seen]
        near += ["nothing"] if rng.random() < 0.5 else []
        far = [*(f"{c} {s}" for c, _ in seen for _, s in seen), "nothing"]
    near = [option for option in dict.fromkeys(near) if option != answer]
    far = [option for option in dict.fromkeys(far) if option != answer and option not in near]
    order = [near[i] for i in rng.permutation(len(near))] + [far[i] for i in rng.permutation(len(far))]
    if rng.random() < 0.3 and kind != "when":
        order = [order[i] for i in rng.permutation(len(order))]
    return order[:count]


def _other_sentences(answer: str, seen: tuple[tuple[str, str], ...]) -> tuple[list[str], list[str]]:
    """Sentences about events that do not take place, with objects of the clip and with others."""
    subject = " ".join(answer.split()[1:3])  # "red circle", or "scene changes"
    cut = answer == sentence("cut")
    near = []
    for c, s in seen:
        near += [sentence("move", c, s, way) for way in DIRECTIONS]
        near += [sentence("recolour", c, s, colour) for colour in COLOURS if colour != c]
        if not cut and f"{c} {s}" != subject:  # what a cut takes away has disappeared, in a way
            near += [sentence(event, c, s) for event in ("flash", "vanish")] * 4
    mixed = [(c, s) for c in COLOURS for s in SHAPES if c not in {a for a, _ in seen} and s not in {b for _, b in seen}]
    far = [sentence(event, c, s) for c, s in mixed for event in ("flash", "vanish")]
    return near, [*far, sentence(EVENTS[-1])] if cut else [*near, sentence(EVENTS[-1])]


def choose(
    rng: np.random.Generator,
    question: Question,
    seen: tuple[tuple[str, str], ...],
    count: int,
    right: int | None = None,
) -> Choice:
    """A question with up to `count` options in random order, the right one at place `right` if that is given."""
    wrong = rivals(rng, question.kind, question.answer, seen, count - 1)
    place = int(rng.integers(len(wrong) + 1)) if right is None else min(right, len(wrong))
    return Choice(question.kind, question.text, (*wrong[:place], question.answer, *wrong[place:]), place)


def ask_in(rng: np.random.Generator, question: Question, seen: tuple[tuple[str, str], ...], layout: str) -> Question:
    """A question as a choice in a layout, with a random number of options that the layout allows."""
    frame = LAYOUTS[layout]
    return choose(rng, question, seen, int(rng.integers(frame.fewest, frame.most + 1))).asked(layout)
