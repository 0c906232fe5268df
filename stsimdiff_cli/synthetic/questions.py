"""What can be asked about a clip, and the true answers, which come from the script alone.

- colour, shape: of a body that keeps both; no other asked-for body of a clip shares them.
- count: how many copies there are of the group (one to four).
- where: on which side of another body a body is at the end.
- flash, vanish, appear: which body; recolour: to which colour; move: which way.
- when: the third of the clip (start, middle, end) in which a kind of event lies, or never; moment: that of the only
  event, which the question does not name.
- what: one sentence about the only event, or nothing.
- order: what happens (or flashes) first, second or last; times: how often something flashes.
- nothing: an event question about an event that does not take place.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .plots import APART
from .script import Event, Script
from .world import COLOURS, DIRECTIONS, SHAPES, TIMES, Body

KINDS = (
    *("colour", "shape", "count", "where", "flash", "vanish", "appear", "recolour", "move"),
    *("when", "moment", "what", "order", "times", "nothing"),
)
GROUPS = {
    "static": ("colour", "shape", "count", "where"),
    "event": ("flash", "vanish", "appear", "recolour", "move", "what", "nothing"),
    "time": ("when", "moment", "order", "times"),
}
NUMBERS = ("zero", "one", "two", "three", "four")
PLACES = ("first", "second", "last")
SIDES = ("left", "right")
NEVER, NOTHING = "never", "nothing"
PLURALS = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}
HAPPENS = {  # what is asked about time: kind of event -> words
    "flash": "something flash",
    "vanish": "something disappear",
    "appear": "something appear and stay",
    "recolour": "something change colour",
    "move": "something move",
    "cut": "the scene change",
}
# Wordings by key; {c} is a colour, {s} a shape, {ss} its plural, {o} another shape, {e} of HAPPENS, {n} of PLACES.
WORDINGS: dict[str, tuple[str, ...]] = {
    "colour": ("What colour is the {s}?", "What color is the {s}?", "Which colour does the {s} have?"),
    "shape": ("What shape is {c}?", "Which shape is the {c} object?", "What is the shape of the {c} object?"),
    "count": ("How many {c} {ss} are there?", "How many {ss} are there?"),
    "where": ("Is the {s} left or right of the {o} at the end?", "On which side of the {o} is the {s} at the end?"),
    "flash": ("What appears for a moment?", "Which object flashes?", "What flashes?"),
    "vanish": ("Which object disappears?", "What disappears?"),
    "appear": ("Which object appears and stays?", "What appears and stays?"),
    "recolour": ("What colour does the {s} turn?", "What color does the {s} turn?", "What colour does the {s} become?"),
    "move": (
        "Which way does the {s} move?",
        "Which way does the {c} {s} move?",
        "In which direction does the {s} move?",
    ),
    "what": ("What happens in this video?", "What happens in the video?", "What happens?"),
    "when": ("When does {e}?",),
    "moment": ("When does it happen?", "When does this happen?"),
    "when one": ("When does the {c} {s} flash?",),
    "order": ("What happens {n}?", "What happens {n} in the video?"),
    "order flash": ("What flashes {n}?", "Which object flashes {n}?"),
    "times": ("How many times does something flash?", "How often does something flash?"),
}
# One example of most kinds, in an order that reads well in a help text.
EXAMPLES: tuple[str, ...] = (
    "What happens in this video?",
    "When does it happen?",
    "How many stars are there?",
    "What colour is the circle?",
    "What shape is red?",
    "What appears for a moment?",
    "Which object disappears?",
    "What colour does the square turn?",
    "Which way does the moon move?",
    "Is the ring left or right of the heart at the end?",
    "How many times does something flash?",
)


@dataclass(frozen=True)
class Question:
    """A question, its kind (one of KINDS), its only right answer and the depth of what it is about (0 to 1)."""

    kind: str
    text: str
    answer: str
    depth: float | None = None


class Fact(NamedTuple):
    """A question without its wording: key is one of WORDINGS, fields what is filled in."""

    kind: str
    key: str
    fields: tuple[tuple[str, str], ...]
    answer: str
    depth: float | None = None

    def texts(self) -> list[str]:
        """Every wording."""
        return [w.format(**dict(self.fields)) for w in WORDINGS[self.key]]

    def ask(self, rng: np.random.Generator) -> Question:
        """The question in one of its wordings."""
        texts = self.texts()
        return Question(self.kind, texts[int(rng.integers(len(texts)))], self.answer, self.depth)


def fact(kind: str, answer: str, key: str = "", depth: float | None = None, **fields: str) -> Fact:
    """A fact whose key is its kind unless given."""
    return Fact(kind, key or kind, tuple(sorted(fields.items())), answer, depth)


def sentence(event: Event) -> str:
    """What happens, in words."""
    if event.body is None:
        return "the scene changes"
    name = event.body.name
    return {
        "flash": f"a {name} flashes",
        "vanish": f"the {name} disappears",
        "appear": f"a {name} appears",
        "recolour": f"the {name} turns {event.detail}",
        "move": f"the {name} moves {event.detail}",
    }[event.kind]


def facts_of(script: Script, rng: np.random.Generator) -> list[Fact]:
    """All that can be asked about a script without ambiguity; the generator picks who is compared with whom."""
    shown = [e for e in script.events if e.kind != "carry"]
    facts = [*_static(script, shown), *_where(script, rng)]
    kinds = Counter(e.kind for e in shown)
    for event in shown:
        if kinds[event.kind] == 1:
            facts += _about(event, event.middle / script.frames)
    facts += _absent(script, kinds)
    if script.frames >= 12:
        facts += _time(script, shown, kinds)
    if script.frames > 1 and len(kinds) < 2 and sum(kinds.values()) < 2:
        depth = shown[0].middle / script.frames if shown else None
        facts.append(fact("what", sentence(shown[0]) if shown else NOTHING, depth=depth))
    return facts


def _static(script: Script, shown: list[Event]) -> list[Fact]:
    """Colours, shapes and the number of copies."""
    first, last = script.scenes[0], script.scenes[-1]
    cut = any(e.kind == "cut" for e in shown)
    turned = {e.body for e in shown if e.kind == "recolour"}
    facts = []
    if script.group:
        one = script.group[0]
        answer = NUMBERS[len(script.group)]
        facts.append(fact("count", answer, c=one.colour, s=one.shape, ss=PLURALS[one.shape]))
    for body in first:
        if body in turned or body in script.group:
            continue
        others = last if cut else ()
        if body.shape not in {o.shape for o in others}:
            facts.append(fact("colour", body.colour, s=body.shape))
        if body.colour not in {o.colour for o in others}:
            facts.append(fact("shape", body.shape, c=body.colour))
    return facts


def _where(script: Script, rng: np.random.Generator) -> list[Fact]:
    """Which of two bodies is left of the other at the end; those that came to where they are before others."""
    last = [b for b in script.scenes[-1] if b not in script.group]
    came = {e.to for e in script.events if e.kind in ("move", "carry")}
    pairs = [(a, b) for a in last for b in last if a != b and abs(a.x - b.x) > 14]
    pairs = [pairs[i] for i in rng.permutation(len(pairs))]
    pairs.sort(key=lambda pair: not came & set(pair))
    if not pairs:
        return []
    a, b = pairs[0]
    return [fact("where", SIDES[int(a.x > b.x)], s=a.shape, o=b.shape)]


def _about(event: Event, depth: float) -> list[Fact]:
    """Who, which way, to which colour."""
    body = event.body
    if body is None:
        return []
    if event.kind in ("flash", "vanish", "appear"):
        return [fact(event.kind, body.name, depth=depth)]
    return [fact(event.kind, event.detail, depth=depth, c=body.colour, s=body.shape)]


def _absent(script: Script, kinds: Counter[str]) -> list[Fact]:
    """Event questions about what does not take place; a scene change takes things away and brings others."""
    if "cut" in kinds:
        return []
    busy = {b for e in script.events for b in (e.body, e.to)}
    idle = [b for b in script.scenes[0] if b not in busy and b not in script.group]
    # What flashes has disappeared as well, what appears might be said to flash.
    asked = [k for k in ("flash", "vanish", "appear") if k not in kinds and ("flash" not in kinds or k == "flash")]
    facts = [fact("nothing", NOTHING, key) for key in asked]
    return facts + [fact("nothing", NOTHING, k, c=b.colour, s=b.shape) for b in idle for k in ("recolour", "move")]


def _time(script: Script, shown: list[Event], kinds: Counter[str]) -> list[Fact]:
    """When, in which order, how often."""
    frames = script.frames
    carried = len(script.events) > len(shown)  # then something else moves, too, out of sight
    facts = []
    for event in shown:
        depth, when = event.middle / frames, event.when(frames)
        clear = min(abs(depth - edge) for edge in (1 / 3, 2 / 3)) > 0.04
        if kinds[event.kind] == 1 and clear and not (carried and event.kind == "move"):
            facts.append(fact("when", when, depth=depth, e=HAPPENS[event.kind]))
        if len(shown) == 1 and clear and not carried:
            facts.append(fact("moment", when, depth=depth))
        if event.kind == "flash" and clear and len({e.body for e in shown}) == len(shown) and event.body is not None:
            facts.append(fact("when", when, "when one", depth, c=event.body.colour, s=event.body.shape))
    if "cut" not in kinds:
        hidden = ("vanish", "appear") * ("flash" in kinds) + ("move",) * carried
        facts += [fact("when", NEVER, e=HAPPENS[k]) for k in HAPPENS if k not in kinds and k not in hidden]
        still = [b for b in script.scenes[0] if b in script.scenes[-1] and b not in script.group]
        facts += [fact("when", NEVER, "when one", c=b.colour, s=b.shape) for b in still]
        facts.append(fact("times", NUMBERS[kinds["flash"]]))
    apart = all(b.first - a.last >= APART for a, b in itertools.pairwise(shown))
    if len({e.body for e in shown}) == len(shown) > 1 and apart:
        flashes = set(kinds) == {"flash"}
        for place, event in zip((*PLACES[: len(shown) - 1], PLACES[-1]), shown, strict=True):
            answer = event.body.name if flashes and event.body is not None else sentence(event)
            facts.append(fact("order", answer, "order flash" if flashes else "order", event.middle / frames, n=place))
    return facts


def words() -> list[str]:
    """Every word and punctuation mark of every question and answer, sorted, lowercase."""
    fill = {"c": "", "s": "", "ss": "", "o": "", "e": "", "n": ""}
    texts = [w.format(**fill) for many in WORDINGS.values() for w in many]
    bodies = [Body(c, s, 0.0, 0.0, 1.0) for c, s in zip(COLOURS, SHAPES * 2, strict=False)]
    texts += [sentence(Event(k, 1, 1, b, b.at(1, 0))) for k in HAPPENS if k != "cut" for b in bodies[:1]]
    texts += [sentence(Event("cut", 1, 1)), *HAPPENS.values(), *PLURALS.values(), NEVER, NOTHING]
    texts += [*COLOURS, *SHAPES, *NUMBERS, *PLACES, *SIDES, *DIRECTIONS, *TIMES]
    return sorted({w for text in texts for w in text.lower().replace("?", " ? ").split()})
