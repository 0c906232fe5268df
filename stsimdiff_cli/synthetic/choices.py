"""Questions as multiple choice in the layouts of three benchmarks: prompts, wrong options and the right letter.

The answer is the right option in words and then its letter: `red B`. Wrong options are of the kind of the right one,
those that the clip suggests first, and never true.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from . import questions as q
from .benchmark_prompts import LAYOUTS, NARRATION, NO_SUBTITLES, WITH_SUBTITLES
from .clips import Outline
from .script import Event
from .world import COLOURS, DIRECTIONS, SHAPES, TIMES, Body

LETTERS = "ABCDE"


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

    def as_question(self, layout: str) -> q.Question:
        """The whole prompt in one of LAYOUTS, with the answer that the model learns."""
        prompt = LAYOUTS[layout].prompt(self.text, self.lettered_options())
        return q.Question(self.kind, prompt, f"{self.options[self.right]} {self.letter}")


def bodies_of(clip: Outline) -> list[Body]:
    """The asked-for bodies of a clip by name, each once: those of its scenes and events."""
    events = [b for e in clip.script.events for b in (e.body, e.to) if b is not None]
    return list({b.name: b for b in (*clip.script.scenes[0], *events, *clip.script.scenes[-1])}.values())


def rivals(rng: np.random.Generator, fact: q.Fact, bodies: list[Body], happened: list[str], count: int) -> list[str]:
    """`count` wrong options (or fewer): likely ones first, `nothing` and `never` among them.

    bodies are those of the clip, happened the sentences about its events.
    """
    key = fact.key if fact.kind == "nothing" else fact.kind
    near: list[str]
    far: list[str] = []
    if key in ("colour", "recolour"):
        near, far = [b.colour for b in bodies], [*COLOURS]
        near += [q.NOTHING] if key == "recolour" else []
    elif key == "shape":
        near, far = [b.shape for b in bodies], [*SHAPES]
    elif key in ("count", "times"):
        near = list(q.NUMBERS[key == "count" :])
    elif key == "where":
        near, far = list(q.SIDES), ["up", "down"]
    elif key == "move":
        near, far = list(DIRECTIONS), [q.NOTHING]
    elif key in ("when", "moment"):
        near, far = [*TIMES, q.NEVER], [q.NOTHING]
    elif key in ("what", "order") and fact.key != "order flash":
        near, far = [*happened, q.NOTHING], _sentences(bodies)
    else:  # flash, vanish, appear, and the order of flashes
        near = [b.name for b in bodies] + [q.NOTHING]
        far = [f"{a.colour} {b.shape}" for a in bodies for b in bodies]
    near = [option for option in dict.fromkeys(near) if option != fact.answer]
    far = [option for option in dict.fromkeys(far) if option != fact.answer and option not in near]
    order = [near[i] for i in rng.permutation(len(near))] + [far[i] for i in rng.permutation(len(far))]
    return order[:count]


def _sentences(bodies: list[Body]) -> list[str]:
    """What could have happened to some bodies."""
    texts = [q.sentence(Event("cut", 1, 1))]
    for body in bodies:
        texts += [q.sentence(Event(kind, 1, 1, body)) for kind in ("flash", "vanish", "appear")]
        texts += [q.sentence(Event("move", 1, 1, body, body.at(body.x + x, body.y + y))) for x, y in ((1, 0), (0, 1))]
    return texts


def choose(rng: np.random.Generator, fact: q.Fact, clip: Outline, count: int = 4) -> MultipleChoice:
    """A fact as a question with up to `count` options, the right one at a random place."""
    happened = [q.sentence(e) for e in clip.script.events if e.kind != "carry"]
    return choose_among(rng, fact, bodies_of(clip), happened, count)


def choose_among(
    rng: np.random.Generator, fact: q.Fact, bodies: list[Body], happened: list[str], count: int
) -> MultipleChoice:
    """The same from what `rivals` needs."""
    wrong = rivals(rng, fact, bodies, happened, count - 1)
    place = int(rng.integers(len(wrong) + 1))
    return MultipleChoice(fact.kind, fact.ask(rng).text, (*wrong[:place], fact.answer, *wrong[place:]), place)


def rotations(choice: MultipleChoice) -> list[MultipleChoice]:
    """The choice with its options turned round, so that the right one stands at every place once."""
    turned = []
    for i in range(len(choice.options)):
        options = choice.options[i:] + choice.options[:i]
        turned.append(MultipleChoice(choice.kind, choice.text, options, options.index(choice.options[choice.right])))
    return turned


# --- words ----------------------------------------------------------------------------------------------------------


def split_words(text: str) -> list[str]:
    """A text as the tokenizer splits it: words in lowercase, newlines, punctuation marks, single letters A to E."""
    words = re.findall(r"\n|\w+|[^\w\s]", text)
    return [word if word in LETTERS else word.lower() for word in words]


def choice_words() -> list[str]:
    """Every word of the prompts of multiple choice and of NARRATION, sorted."""
    prompts = [text for layout in LAYOUTS.values() for text in (layout.before, layout.after)]
    # Video-MME's prompt with subtitles is known so that none of its words is `<unk>`; the model never trained on it.
    prompts.append(WITH_SUBTITLES.format(subtitles=f"{NO_SUBTITLES}.", question=""))
    words = {word for text in (*prompts, *NARRATION) for word in split_words(text)}
    return sorted(word for word in words if word not in LETTERS and word != "\n")
