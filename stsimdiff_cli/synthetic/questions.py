"""The questions and answers that the embedded models know, with all their words.

A question belongs to one of the KINDS. Every question is about what the pixels show and has exactly one right answer:

- colour, shape: of an object that keeps its colour; no two objects of a clip share a colour or a shape.
- count: how many objects the first frame shows.
- flash: the object that is visible for a frame or two only.
- vanish: the object that disappears for good.
- recolour: the colour that an object changes to.
- move: the direction in which an object moves.
- when: the third of the clip in which the event takes place (start, middle or end).
- what: one sentence about the event.
- nothing: a question about an event that does not take place; the answer is `nothing`.

An "object" of a question is a Shape of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COUNTS = ("two", "three", "four")  # of 2, 3 and 4 objects
DIRECTIONS = ("left", "right", "up", "down")
TIMES = ("start", "middle", "end")
EVENTS = ("flash", "vanish", "recolour", "move", "cut")
KINDS = ("colour", "shape", "count", "flash", "vanish", "recolour", "move", "when", "what", "nothing")
# What a question is about. `nothing` belongs to no group: a model that always answers "nothing" would be right.
GROUPS = {
    "static": ("colour", "shape", "count"),
    "event": ("flash", "vanish", "recolour", "move", "what"),
    "when": ("when",),
}

# The wordings of each kind ("count first": where objects come and go later); {c} is a colour and {s} a shape.
WORDINGS: dict[str, tuple[str, ...]] = {
    "colour": ("What colour is the {s}?", "What color is the {s}?", "Which colour does the {s} have?"),
    "shape": ("What shape is {c}?", "Which shape is the {c} object?", "What is the shape of the {c} object?"),
    "count": ("How many objects are there?", "How many objects are there at the start?"),
    "count first": ("How many objects are there at the start?",),
    "flash": ("What appears for a moment?", "Which object flashes?", "What flashes?"),
    "vanish": ("Which object disappears?", "What disappears?"),
    "recolour": ("What colour does the {s} turn?", "What color does the {s} turn?", "What colour does the {s} become?"),
    "move": (
        "Which way does the {s} move?",
        "Which way does the {c} {s} move?",
        "In which direction does the {s} move?",
    ),
    "when": ("When does it happen?", "When does this happen?"),
    "what": ("What happens in this video?", "What happens in the video?", "What happens?"),
}

# One example of each kind except `nothing`, in an order that reads well in a help text.
EXAMPLES: tuple[str, ...] = (
    "What happens in this video?",
    "When does it happen?",
    "How many objects are there?",
    "What colour is the circle?",
    "What shape is red?",
    "What appears for a moment?",
    "Which object disappears?",
    "What colour does the square turn?",
    "Which way does the star move?",
)


@dataclass(frozen=True)
class Question:
    """A question, its kind (one of KINDS) and its only right answer."""

    kind: str
    text: str
    answer: str


def wordings(kind: str, colour: str = "", shape: str = "") -> tuple[str, ...]:
    """All wordings of a kind with the colour and the shape filled in."""
    return tuple(w.format(c=colour, s=shape) for w in WORDINGS[kind])


def event_sentence(event: str, colour: str = "", shape: str = "", detail: str = "") -> str:
    """The answer to "What happens in this video?"; detail is the new colour or the direction."""
    return {
        "flash": f"a {colour} {shape} flashes",
        "vanish": f"the {colour} {shape} disappears",
        "recolour": f"the {colour} {shape} turns {detail}",
        "move": f"the {colour} {shape} moves {detail}",
        "cut": "the scene changes",
    }[event]


def question_words() -> list[str]:
    """Every word and punctuation mark of every question and answer, sorted, in lowercase."""
    texts = [w.format(c="", s="") for many in WORDINGS.values() for w in many]
    texts += [event_sentence(e) for e in EVENTS] + ["nothing", *COLOURS, *SHAPES, *COUNTS, *DIRECTIONS, *TIMES]
    return sorted({w for text in texts for w in text.lower().replace("?", " ? ").replace(".", " . ").split()})
