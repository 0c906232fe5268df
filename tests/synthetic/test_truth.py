"""Answers agree with a reading of the scenes alone, frame by frame, that knows nothing of events."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from stsimdiff_cli.synthetic.clips import ORDERS, make_clip
from stsimdiff_cli.synthetic.draw import coverage
from stsimdiff_cli.synthetic.plots import write_script
from stsimdiff_cli.synthetic.questions import HAPPENS, Fact, facts_of
from stsimdiff_cli.synthetic.rungs import RUNGS
from stsimdiff_cli.synthetic.script import Script
from stsimdiff_cli.synthetic.world import RGB

TIMES = ("start", "middle", "end")
NUMBERS = ("zero", "one", "two", "three", "four")


def script_of(seed: int, rung: str, order: str, frames: int = 32) -> Script:
    script, _ = write_script(seed, rung, "train", frames, None)
    return {"forward": script, "reversed": script.reversed(), "without": script.without_events()}[order]


class Reading:
    """What a viewer could note down: which names are on the stage in which frames, and where they are."""

    def __init__(self, script: Script) -> None:
        self.scenes = script.scenes
        self.last = len(script.scenes) - 1
        self.shown = [Counter((b.colour, b.shape) for b in scene) for scene in script.scenes]
        self.names = {name for counter in self.shown for name in counter}

    def runs(self, name: tuple[str, str]) -> list[tuple[int, int]]:
        """First and last frames of the stretches in which a name is there."""
        there = np.array([0, *(name in c for c in self.shown), 0])
        edges = np.flatnonzero(np.diff(there))
        return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]

    def cut(self) -> bool:
        return not set(self.shown[0]) & set(self.shown[-1])

    def flashed(self) -> list[tuple[tuple[str, str], int, int]]:
        stretches = [(n, a, b) for n in self.names for a, b in self.runs(n) if a > 0 and b < self.last]
        return sorted(stretches, key=lambda s: s[1])

    def turned(self) -> list[tuple[tuple[str, str], str, int]]:
        """Names whose shape goes on in another colour without a gap."""
        pairs = []
        for c, s in self.names:
            for first, end in self.runs((c, s)):
                after = [
                    (d, a) for d, t in self.names if t == s and d != c for a, _ in self.runs((d, t)) if a == end + 1
                ]
                if first == 0 and after and not self.cut():
                    pairs.append(((c, s), after[0][0], end + 1))
        return pairs

    def travelled(self) -> list[tuple[tuple[str, str], str, int, int]]:
        """Names of single bodies that change their place, the way, and the first and last frame of the move."""
        moves = []
        for name in self.names:
            places = [[(b.x, b.y) for b in scene if (b.colour, b.shape) == name] for scene in self.scenes]
            single = all(len(p) == 1 for p in places)
            if not single or self.cut() or places[0] == places[-1]:
                continue
            (x0, y0), (x1, y1) = places[0][0], places[-1][0]
            way = ("left", "right")[x1 > x0] if abs(x1 - x0) > abs(y1 - y0) else ("up", "down")[y1 > y0]
            changes = [i for i in range(1, len(places)) if places[i] != places[i - 1]]
            moves.append((name, way, changes[0], changes[-1]))
        return moves

    def gone(self) -> list[tuple[tuple[str, str], int]]:
        kept = {s for (_, s), _, _ in self.turned()}
        return [(n, self.runs(n)[0][1] + 1) for n in self.shown[0] if n not in self.shown[-1] and n[1] not in kept]

    def came(self) -> list[tuple[tuple[str, str], int]]:
        kept = {s for (_, s), _, _ in self.turned()}
        return [(n, self.runs(n)[-1][0]) for n in self.shown[-1] if n not in self.shown[0] and n[1] not in kept]

    def times(self, asked: str) -> list[float]:
        """Middles of what is asked for, in frames; carried bodies move too and are filtered by the caller."""
        if asked == HAPPENS["flash"]:
            return [(a + b + 1) / 2 for _, a, b in self.flashed()]
        if asked == HAPPENS["recolour"]:
            return [float(t) for _, _, t in self.turned()]
        if asked == HAPPENS["move"]:
            return [(a + b + 1) / 2 for _, _, a, b in self.travelled()]
        if asked == HAPPENS["vanish"]:
            return [float(t) for _, t in self.gone()] if not self.cut() else []
        if asked == HAPPENS["appear"]:
            return [float(t) for _, t in self.came()] if not self.cut() else []
        changed = [i for i in range(1, self.last + 1) if not set(self.shown[i]) & set(self.shown[i - 1])]
        return [float(i) for i in changed]


def one(names: list[tuple[str, str]]) -> str:
    assert len(names) == 1
    return " ".join(names[0])


def check(fact: Fact, reading: Reading, carried: set[str | None], slow: bool) -> None:
    fields = dict(fact.fields)
    first, last = reading.shown[0], reading.shown[-1]
    key = fact.key if fact.kind == "nothing" else fact.kind
    moves = [m for m in reading.travelled() if m[0][1] not in carried]
    if key == "colour":
        assert {c for c, s in (*first, *last) if s == fields["s"]} == {fact.answer}
    elif key == "shape":
        assert {s for c, s in (*first, *last) if c == fields["c"]} == {fact.answer}
    elif key == "count":
        name = (fields["c"], fields["s"])
        assert NUMBERS[max(first[name], last[name])] == fact.answer
        assert sum(n for (c, s), n in (first | last).items() if s == fields["s"]) == NUMBERS.index(fact.answer)
    elif key == "where":
        xs = {b.shape: b.x for b in reading.scenes[-1]}
        assert ("left" if xs[fields["s"]] < xs[fields["o"]] else "right") == fact.answer
        assert abs(xs[fields["s"]] - xs[fields["o"]]) > 10
    elif key == "flash":
        names = [n for n, _, _ in reading.flashed()]
        assert (one(names) if names else "nothing") == fact.answer
    elif key == "vanish":
        assert (one([n for n, _ in reading.gone()]) if reading.gone() else "nothing") == fact.answer
    elif key == "appear":
        assert (one([n for n, _ in reading.came()]) if reading.came() else "nothing") == fact.answer
    elif key == "recolour":
        turns = [new for (_, s), new, _ in reading.turned() if s == fields["s"]]
        assert (turns or ["nothing"]) == [fact.answer]
    elif key == "move":
        ways = [way for (_, s), way, _, _ in moves if s == fields["s"]]
        assert (ways or ["nothing"]) == [fact.answer]
    elif key == "times":
        assert NUMBERS[len(reading.flashed())] == fact.answer
    elif key == "moment":
        (middle,) = [m for e in HAPPENS.values() for m in reading.times(e)]
        assert slow or TIMES[int(3 * middle / (reading.last + 1))] == fact.answer
    elif key == "when":
        middles = reading.times(fields["e"]) if "e" in fields else []
        if "e" not in fields:
            middles = [(a + b + 1) / 2 for n, a, b in reading.flashed() if n == (fields["c"], fields["s"])]
        if fields.get("e") == HAPPENS["move"]:
            middles = [(a + b + 1) / 2 for _, _, a, b in moves]
        if slow and middles:  # a fade has no single frame; its true middle is within half its length
            return
        assert [TIMES[int(3 * m / (reading.last + 1))] for m in middles] == (
            [fact.answer] if fact.answer != "never" else []
        )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rung", RUNGS)
def test_answers_are_what_the_scenes_show(rung: str, order: str) -> None:
    kinds = Counter[str]()
    for seed in range(40):
        script = script_of(seed, rung, order)
        reading = Reading(script)
        carried = {e.body.shape for e in script.events if e.kind == "carry" and e.body}
        for fact in facts_of(script, np.random.default_rng(seed)):
            kinds[fact.kind] += 1
            check(fact, reading, carried, rung == "slow")
    assert kinds["colour"] and kinds["count"] and kinds["where"]
    assert order == "without" or kinds["flash"]


@pytest.mark.parametrize("order", ["forward", "reversed"])
@pytest.mark.parametrize("rung", ["several", "long"])
def test_what_happens_first_second_and_last_is_in_order_of_the_scenes(rung: str, order: str) -> None:
    asked = 0
    for seed in range(40):
        script = script_of(seed, rung, order)
        reading = Reading(script)
        begins: dict[str, float] = {}
        for (c, s), a, _ in reading.flashed():
            begins[f"a {c} {s} flashes" if rung == "several" else f"{c} {s}"] = a
        if rung == "several":
            begins |= {f"the {c} {s} turns {new}": t for (c, s), new, t in reading.turned()}
            begins |= {f"the {c} {s} moves {way}": t for (c, s), way, t, _ in reading.travelled()}
            begins |= {f"the {c} {s} disappears": t for (c, s), t in reading.gone()}
            begins |= {f"a {c} {s} appears": t for (c, s), t in reading.came()}
        ranked = sorted(begins, key=begins.__getitem__)
        facts = [f for f in facts_of(script, np.random.default_rng(0)) if f.kind == "order"]
        for fact in facts:
            asked += 1
            place = dict(fact.fields)["n"]
            assert fact.answer == ranked[{"first": 0, "second": 1, "last": -1}[place]]
    assert asked > 40


def test_what_happens_is_said_of_the_only_event() -> None:
    answers = Counter[str]()
    for seed in range(200):
        script = script_of(seed, "still", ORDERS[seed % 3])
        reading = Reading(script)
        (what,) = [f.answer for f in facts_of(script, np.random.default_rng(0)) if f.kind == "what"]
        answers[what.split()[-1] if what in ("nothing", "the scene changes") else what.split()[3]] += 1
        texts = [f"a {c} {s} flashes" for (c, s), _, _ in reading.flashed()]
        if reading.cut():
            texts = ["the scene changes"]
        else:
            texts += [f"the {c} {s} turns {new}" for (c, s), new, _ in reading.turned()]
            texts += [f"the {c} {s} moves {way}" for (c, s), way, _, _ in reading.travelled()]
            texts += [f"the {c} {s} disappears" for (c, s), _ in reading.gone()]
            texts += [f"a {c} {s} appears" for (c, s), _ in reading.came()]
        assert (texts or ["nothing"]) == [what]
    assert set(answers) == {"flashes", "disappears", "appears", "turns", "moves", "changes", "nothing"}


@pytest.mark.parametrize("seed", range(8))
def test_pixels_show_the_colours_that_answers_name(seed: int) -> None:
    clip = make_clip(seed, "still", "heldout", 3, "none")
    shades = {c: np.array(v) for c, v in RGB.items() if c != "grey"}
    for body in clip.script.scenes[0]:
        shown = clip.frames[0][coverage(body) > 0.95].mean(0)
        assert min(shades, key=lambda c: float(np.abs(shades[c] - shown).sum())) == body.colour
