"""Clips are functions of their arguments; train and held-out clips are apart; questions give nothing away."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest

from stsimdiff_cli.synthetic import rungs as r
from stsimdiff_cli.synthetic import world as w
from stsimdiff_cli.synthetic.benchmark_prompts import LAYOUTS
from stsimdiff_cli.synthetic.choices import choose, rotations
from stsimdiff_cli.synthetic.clips import ORDERS, make_clip, outline_clip
from stsimdiff_cli.synthetic.plots import write_script
from stsimdiff_cli.synthetic.questions import KINDS, facts_of, words
from stsimdiff_cli.synthetic.rungs import RUNGS

IMPORT_ALL = """
import pkgutil, sys
import stsimdiff_cli.synthetic as package
for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
    __import__(module.name)
loaded = {name.split(".")[0] for name in sys.modules}
print(sorted(name for name in sys.modules if name.startswith("stsimdiff_cli.") and "synthetic" not in name))
print(sorted(loaded & {"av", "torch", "transformers", "scipy", "PIL", "rich", "typer"}))
"""


def test_the_generator_imports_numpy_and_nothing_else_of_the_package() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


@pytest.mark.parametrize("rung", RUNGS)
def test_a_seed_gives_the_same_clip_again(rung: str) -> None:
    a, b = (make_clip(5, rung, "train", 24) for _ in range(2))
    assert np.array_equal(a.frames, b.frames)
    assert a.frames.shape == (24, 112, 112, 3) and a.frames.dtype == np.uint8
    assert a.questions == b.questions and a.script == b.script
    assert not np.array_equal(a.frames, make_clip(6, rung, "train", 24).frames)
    assert not np.array_equal(a.frames, make_clip(5, rung, "heldout", 24).frames)


def test_bands_and_textures_of_train_and_heldout_do_not_meet() -> None:
    for bands in (w.RADII, w.SPEEDS, r.PANS, r.ZOOMS, r.SWAYS, r.DRIFTS, r.SIGMAS, r.STEPS):
        for low, high in bands["heldout"]:
            assert all(high < a or b < low for a, b in bands["train"])
    assert not set(w.GROUNDS["train"]) & set(w.GROUNDS["heldout"])
    assert not set(w.SURFACES["train"]) & set(w.SURFACES["heldout"])


@pytest.mark.parametrize("split", w.SPLITS)
def test_bodies_have_the_sizes_and_surfaces_of_their_split(split: str) -> None:
    for seed in range(30):
        script, _ = write_script(seed, "still", split, 16, None)
        for body in script.bodies():
            assert any(a <= body.r <= b for a, b in w.RADII[split])
            assert body.surface in w.SURFACES[split]


@pytest.mark.parametrize("rung", ["still", "noise", "occluders", "several"])
def test_a_reversed_clip_shows_the_same_frames_backwards(rung: str) -> None:
    forward, backward = (make_clip(4, rung, frames=24, order=o) for o in ("forward", "reversed"))
    assert np.array_equal(forward.frames[::-1], backward.frames)
    assert backward.script.scenes == forward.script.scenes[::-1]
    assert backward.script.reversed() == forward.script


@pytest.mark.parametrize("kind", ["flash", "vanish", "appear", "recolour", "move"])
def test_an_event_and_its_absence_have_other_answers(kind: str) -> None:
    event, absent = (make_clip(4, "still", frames=16, kind=kind, order=o) for o in ("forward", "without"))
    answers = {f.texts()[0]: f.answer for f in event.facts}
    differing = {f.texts()[0] for f in absent.facts if answers.get(f.texts()[0], f.answer) != f.answer}
    assert any("happens" in text for text in differing)
    assert len(differing) >= 2
    assert event.script.scenes[0] == absent.script.scenes[0] == absent.script.scenes[-1]


def _facts(rung: str, seeds: range) -> list:
    facts = []
    for seed in seeds:
        script, _ = write_script(seed, rung, "train", 32, None)
        script = {"forward": script, "reversed": script.reversed(), "without": script.without_events()}[
            ORDERS[seed % 3]
        ]
        facts += facts_of(script, np.random.default_rng(seed))
    return facts


@pytest.mark.parametrize("rung", ["still", "occluders", "several", "long"])
def test_questions_alone_give_nothing_away(rung: str) -> None:
    seen: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    constant: dict[str, Counter[str]] = defaultdict(Counter)
    for fact in _facts(rung, range(500)):
        seen[fact.kind, fact.texts()[0]][fact.answer] += 1
    asked, right = Counter[str](), Counter[str]()
    for fact in _facts(rung, range(500, 900)):
        guesses = seen[fact.kind, fact.texts()[0]]
        asked[fact.kind] += 1
        right[fact.kind] += bool(guesses) and guesses.most_common(1)[0][0] == fact.answer
        constant[fact.kind][fact.answer] += 1
    for kind, n in asked.items():
        best = constant[kind].most_common(1)[0][1]
        assert right[kind] <= best + 4 * np.sqrt(n * 0.25) * 0.5 + 3, kind


def test_every_kind_of_question_is_asked_and_every_word_is_known() -> None:
    kinds = Counter[str]()
    known = set(words())
    for rung in ("still", "several", "long"):
        for fact in _facts(rung, range(60)):
            kinds[fact.kind] += 1
            for text in (*fact.texts(), fact.answer):
                assert set(text.lower().replace("?", " ?").split()) <= known
    assert set(kinds) == set(KINDS)


@pytest.mark.parametrize("rung", ["still", "several", "long"])
def test_choices_hold_the_right_option_once_and_rotate_it_to_every_place(rung: str) -> None:
    clip = make_clip(7, rung, "heldout", 24)
    for fact in clip.facts:
        choice = choose(np.random.default_rng(0), fact, clip)
        assert len(choice.options) == len(set(choice.options)) >= 3
        assert choice.options[choice.right] == fact.answer
        turned = rotations(choice)
        assert sorted(c.right for c in turned) == list(range(len(choice.options)))
        assert all(c.options[c.right] == fact.answer for c in turned)
        assert all(set(c.options) == set(choice.options) for c in turned)
        assert choice.as_question(next(iter(LAYOUTS))).answer == f"{fact.answer} {choice.letter}"


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="rung: got 'stil'"):
        make_clip(0, "stil")
    with pytest.raises(ValueError, match="needs 24 frames or more, got 16"):
        make_clip(0, "several", frames=16)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rung", ["pan", "long"])
def test_an_outline_is_the_clip_without_its_pixels(rung: str, order: str) -> None:
    clip = make_clip(7, rung, "heldout", 24, "flash", order)
    outline = outline_clip(7, rung, "heldout", 24, "flash", order)
    assert (outline.script, outline.facts, outline.questions) == (clip.script, clip.facts, clip.questions)
    assert (outline.fps, outline.kind, outline.depths) == (clip.fps, clip.kind, clip.depths)
