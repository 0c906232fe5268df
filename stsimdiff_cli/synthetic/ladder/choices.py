"""Multiple choice about clips of the ladder: wrong options of the kind of the right one, and every rotation of them."""

from __future__ import annotations

import numpy as np

from ..choices import MultipleChoice
from ..questions import DIRECTIONS, TIMES
from . import questions as q
from .clips import Outline
from .script import Event
from .world import COLOURS, SHAPES, Body


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
