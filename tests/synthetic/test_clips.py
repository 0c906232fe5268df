"""The clips that the embedded models are trained and measured on: deterministic, honestly labelled, split for good."""

import subprocess
import sys

import numpy as np
import pytest

from stsimdiff_cli.synthetic.clips import render_clip
from stsimdiff_cli.synthetic.questions import COUNTS, KINDS
from stsimdiff_cli.synthetic.scenes import RADII, SPEEDS
from stsimdiff_cli.synthetic.shapes import TEXTURES
from tests.support.rendered_clips import colour_under, shows

SEEDS = range(12)
IMPORT_ALL = """
import pkgutil, sys
import stsimdiff_cli.synthetic as package
for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
    __import__(module.name)
loaded = {name.split(".")[0] for name in sys.modules}
print(sorted(name for name in sys.modules if name.startswith("stsimdiff_cli.") and "synthetic" not in name))
print(sorted(loaded & {"av", "torch", "transformers", "scipy", "PIL", "rich", "typer"}))
"""


def test_the_generator_imports_numpy_and_nothing_else_of_the_package():
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_same_seed_gives_the_same_clip(split):
    a, b = render_clip(3, split), render_clip(3, split)
    assert (a.frames == b.frames).all()
    assert a.questions == b.questions
    assert a.frames.shape == (32, 96, 96, 3)
    assert a.frames.dtype == np.uint8


def test_other_seeds_give_other_clips():
    assert len({render_clip(s).frames.tobytes() for s in SEEDS}) == len(SEEDS)


def test_the_splits_share_no_texture_size_or_speed():
    assert not set(TEXTURES["train"]) & set(TEXTURES["heldout"])
    for ranges in (RADII, SPEEDS):
        for low, high in ranges["heldout"]:
            assert all(high < a or low > b for a, b in ranges["train"])


def test_a_seed_gives_different_clips_in_the_two_splits():
    assert all((render_clip(s, "train").frames != render_clip(s, "heldout").frames).any() for s in SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_flashing_object_is_seen_in_its_frames_only(seed):
    clip = render_clip(seed, event="flash")
    seen = [i for i in range(len(clip.frames)) if shows(clip, i, clip.event.shape)]
    assert seen == list(range(clip.event.first, clip.event.last + 1))
    assert len(seen) in (1, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_vanishing_object_is_seen_until_its_frame(seed):
    clip = render_clip(seed, event="vanish")
    seen = [shows(clip, i, clip.event.shape) for i in range(len(clip.frames))]
    assert seen == [i < clip.event.first for i in range(len(clip.frames))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_recoloured_object_has_the_answered_colour_at_the_end(seed):
    clip = render_clip(seed, event="recolour")
    assert shows(clip, 0, clip.event.shape)
    assert colour_under(clip, -1, clip.event.shape) == clip.event.detail
    assert [q.answer for q in clip.questions if q.kind == "recolour"] == [clip.event.detail]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_moving_object_ends_on_the_answered_side(seed):
    clip = render_clip(seed, event="move")
    end = next(shape for shape in clip.scenes[-1] if shape.name == clip.event.shape.name)
    dx, dy = end.x - clip.event.shape.x, end.y - clip.event.shape.y
    direction = ("right" if dx > 0 else "left") if abs(dx) > abs(dy) else ("down" if dy > 0 else "up")
    assert direction == clip.event.detail
    assert shows(clip, -1, end)
    assert not shows(clip, -1, clip.event.shape)


@pytest.mark.parametrize("seed", SEEDS)
def test_static_answers_name_objects_of_the_first_frame(seed):
    clip = render_clip(seed, "heldout")
    looks = {(shape.colour, shape.name) for shape in clip.scenes[0]}
    assert all(shows(clip, 0, shape) for shape in clip.scenes[0])
    assert len({colour for colour, _ in looks}) == len({name for _, name in looks}) == len(clip.scenes[0])
    for fact in clip.facts:
        if fact.kind == "colour":
            assert (fact.answer, fact.shape) in looks
        if fact.kind == "shape":
            assert (fact.colour, fact.answer) in looks
        if fact.kind == "count":
            assert fact.answer == COUNTS[len(clip.scenes[0]) - 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_time_of_the_event_lies_in_the_answered_third(seed):
    clip = render_clip(seed)
    middle = (clip.event.first + clip.event.last) / 2 / len(clip.frames)
    assert clip.event.when == ("start", "middle", "end")[int(middle * 3)]


def test_every_kind_is_asked():
    assert {q.kind for s in range(40) for q in render_clip(s).questions} == set(KINDS)
