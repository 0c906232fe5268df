"""The clips that the embedded model is trained and measured on: deterministic, honestly labelled, split for good."""

import json

import numpy as np
import pytest

from stsimdiff_cli.models.tiny import CHECKPOINT
from stsimdiff_cli.synthetic.choices import LAYOUTS, LETTERS, ask_in, choose, names, pieces
from stsimdiff_cli.synthetic.clips import RADII, SPEEDS, Clip, make_clip
from stsimdiff_cli.synthetic.long_clips import make_tale
from stsimdiff_cli.synthetic.questions import (
    COLOURS,
    COUNTS,
    EVENTS,
    EXAMPLES,
    KINDS,
    SHAPES,
    WORDINGS,
    sentence,
    wordings,
)
from stsimdiff_cli.synthetic.shapes import RGB, TEXTURES, coverage
from training.tiny.tokenizer import make_tokenizer, vocabulary

SEEDS = range(12)


def colour_under(clip: Clip, frame: int, thing) -> str:
    """The name of the colour that lies under an object's place in a frame, "" for none."""
    inside = coverage(thing) > 0.99
    mean = clip.frames[frame][inside].astype(float).mean(0)
    distance = {name: np.abs(mean - rgb).max() for name, rgb in RGB.items()}
    name = min(distance, key=distance.__getitem__)
    return name if distance[name] < 45 else ""


def shows(clip: Clip, frame: int, thing) -> bool:
    """Whether an object's place differs from that of the background just around it, and has the object's colour."""
    return colour_under(clip, frame, thing) == thing.colour


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_same_seed_gives_the_same_clip(split):
    a, b = make_clip(3, split), make_clip(3, split)
    assert (a.frames == b.frames).all()
    assert a.questions == b.questions
    assert a.frames.shape == (32, 96, 96, 3)
    assert a.frames.dtype == np.uint8


def test_other_seeds_give_other_clips():
    assert len({make_clip(s).frames.tobytes() for s in SEEDS}) == len(SEEDS)


def test_the_splits_share_no_texture_size_or_speed():
    assert not set(TEXTURES["train"]) & set(TEXTURES["heldout"])
    for bands in (RADII, SPEEDS):
        for low, high in bands["heldout"]:
            assert all(high < a or low > b for a, b in bands["train"])


def test_a_seed_gives_different_clips_in_the_two_splits():
    assert all((make_clip(s, "train").frames != make_clip(s, "heldout").frames).any() for s in SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_flashing_object_is_seen_in_its_frames_only(seed):
    clip = make_clip(seed, event="flash")
    seen = [i for i in range(len(clip.frames)) if shows(clip, i, clip.event.thing)]
    assert seen == list(range(clip.event.first, clip.event.last + 1))
    assert len(seen) in (1, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_vanishing_object_is_seen_until_its_frame(seed):
    clip = make_clip(seed, event="vanish")
    seen = [shows(clip, i, clip.event.thing) for i in range(len(clip.frames))]
    assert seen == [i < clip.event.first for i in range(len(clip.frames))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_recoloured_object_has_the_answered_colour_at_the_end(seed):
    clip = make_clip(seed, event="recolour")
    assert shows(clip, 0, clip.event.thing)
    assert colour_under(clip, -1, clip.event.thing) == clip.event.detail
    assert [q.answer for q in clip.questions if q.kind == "recolour"] == [clip.event.detail]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_moving_object_ends_on_the_answered_side(seed):
    clip = make_clip(seed, event="move")
    end = next(t for t in clip.scenes[-1] if t.shape == clip.event.thing.shape)
    dx, dy = end.x - clip.event.thing.x, end.y - clip.event.thing.y
    way = ("right" if dx > 0 else "left") if abs(dx) > abs(dy) else ("down" if dy > 0 else "up")
    assert way == clip.event.detail
    assert shows(clip, -1, end)
    assert not shows(clip, -1, clip.event.thing)


@pytest.mark.parametrize("seed", SEEDS)
def test_static_answers_name_objects_of_the_first_frame(seed):
    clip = make_clip(seed, "heldout")
    pairs = {(t.colour, t.shape) for t in clip.things}
    assert all(shows(clip, 0, t) for t in clip.things)
    assert len({c for c, _ in pairs}) == len({s for _, s in pairs}) == len(clip.things)
    for fact in clip.facts:
        if fact.kind == "colour":
            assert (fact.answer, fact.shape) in pairs
        if fact.kind == "shape":
            assert (fact.colour, fact.answer) in pairs
        if fact.kind == "count":
            assert fact.answer == COUNTS[len(clip.things) - 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_time_of_the_event_lies_in_the_answered_third(seed):
    clip = make_clip(seed)
    middle = (clip.event.first + clip.event.last) / 2 / len(clip.frames)
    assert clip.event.when == ("start", "middle", "end")[int(middle * 3)]


def test_every_kind_is_asked():
    assert {q.kind for s in range(40) for q in make_clip(s).questions} == set(KINDS)


def test_the_tokenizer_knows_every_word_of_questions_and_answers():
    tokenizer = make_tokenizer()
    texts = [t for k in WORDINGS for c in COLOURS for s in SHAPES for t in wordings(k, c, s)]
    texts += [sentence(e, c, s, d) for e in EVENTS for c in COLOURS for s in SHAPES for d in ("left", "red")]
    texts += [*EXAMPLES, *(q.answer for s in range(40) for q in make_clip(s).questions)]
    assert all(tokenizer.unk_token_id not in tokenizer(t).input_ids for t in texts)


def test_a_word_outside_the_vocabulary_is_marked():
    tokenizer = make_tokenizer()
    assert tokenizer.convert_ids_to_tokens(tokenizer("What colour is the zebra?").input_ids).count("<unk>") == 1


def test_answers_decode_to_plain_text():
    tokenizer = make_tokenizer()
    ids = [*tokenizer("The Red circle moves left").input_ids, vocabulary()["<|im_end|>"]]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the red circle moves left"


def test_the_chat_template_gives_the_prompt():
    message = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What shape is red?"}]}
    prompt = make_tokenizer().apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    assert prompt == (
        "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>What shape is red?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("count", range(2, 7))
def test_a_tale_shows_its_events_one_after_the_other(count):
    clip = make_tale(count, "heldout", 64, count)
    assert len(clip.events) == count
    assert len(clip.scenes) == len(clip.frames) == 64
    assert all(a.last < b.first for a, b in zip(clip.events, clip.events[1:], strict=False))
    for event in clip.events:
        if event.kind == "flash":
            assert [shows(clip, i, event.thing) for i in (event.first - 1, event.first, event.last + 1)] == [0, 1, 0]
        elif event.kind in ("vanish", "recolour"):
            assert [shows(clip, i, event.thing) for i in (event.first - 1, event.first)] == [1, 0]
            assert colour_under(clip, event.first, event.thing) == event.detail


def test_questions_about_tales_have_one_answer():
    for seed in range(12):
        clip = make_tale(seed, "train", 64, 2 + seed % 5)
        asked = [(fact.kind, fact.event, fact.colour, fact.shape) for fact in clip.facts]
        assert len(set(asked)) == len(asked)
        kinds = {fact.kind for fact in clip.facts}
        assert not kinds & {"when", "what"}
        happened = {event.kind for event in clip.events}
        assert not {"cut", "vanish"} <= happened
        assert not ("cut" in happened and "nothing" in kinds)
        assert not {f.event for f in clip.facts if f.kind == "nothing"} & happened


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_choice_has_distinct_options_of_which_the_named_one_is_right(layout):
    rng = np.random.default_rng(0)
    tokenizer = make_tokenizer()
    for seed in range(20):
        clip = make_clip(seed, frames=16)
        for question in clip.questions:
            choice = choose(rng, question, names(clip.scenes), LAYOUTS[layout].most)
            assert len(choice.options) == len(set(choice.options)) == LAYOUTS[layout].most
            assert [i for i, option in enumerate(choice.options) if option == question.answer] == [choice.right]
            asked = ask_in(rng, question, names(clip.scenes), layout)
            ids = tokenizer(asked.text + asked.answer).input_ids
            assert tokenizer.unk_token_id not in ids
            assert ids == [vocabulary()[piece] for piece in pieces(asked.text + asked.answer)]


def test_letters_are_words_apart_and_stay_capitals():
    tokenizer = make_tokenizer()
    ids = tokenizer("A. a red Circle flashes\nB. An").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["A", ".", "a", "red", "circle", "flashes", "\n", "B", ".", "<unk>"]
    answers = tokenizer([f"red {letter}" for letter in LETTERS]).input_ids
    assert [tokenizer.decode(ids, skip_special_tokens=True) for ids in answers] == [f"red {x}" for x in LETTERS]


def test_the_words_of_the_checkpoint_keep_their_ids():
    known = json.loads((CHECKPOINT / "tokenizer.json").read_text())["model"]["vocab"]
    assert {word: vocabulary().get(word) for word in known} == known
