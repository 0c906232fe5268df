"""The tokenizer of the embedded models: it knows every word of every question and answer, and marks the others."""

import json

import numpy as np
import pytest

from stsimdiff_cli.models.tiny import CHECKPOINT, CHOICE
from stsimdiff_cli.synthetic.benchmark_prompts import LAYOUTS
from stsimdiff_cli.synthetic.choices import LETTERS, ask_as_choice, looks_of, split_words
from stsimdiff_cli.synthetic.clips import render_clip
from stsimdiff_cli.synthetic.questions import COLOURS, EVENTS, EXAMPLES, SHAPES, WORDINGS, event_sentence, wordings
from training.tiny.tokenizer import make_tokenizer, vocabulary


def test_the_tokenizer_knows_every_word_of_questions_and_answers():
    tokenizer = make_tokenizer()
    texts = [t for k in WORDINGS for c in COLOURS for s in SHAPES for t in wordings(k, c, s)]
    texts += [event_sentence(e, c, s, d) for e in EVENTS for c in COLOURS for s in SHAPES for d in ("left", "red")]
    texts += [*EXAMPLES, *(q.answer for s in range(40) for q in render_clip(s).questions)]
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


def test_letters_are_words_apart_and_stay_capitals():
    tokenizer = make_tokenizer()
    ids = tokenizer("A. a red Circle flashes\nB. An").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["A", ".", "a", "red", "circle", "flashes", "\n", "B", ".", "<unk>"]
    answers = tokenizer([f"red {letter}" for letter in LETTERS]).input_ids
    assert [tokenizer.decode(ids, skip_special_tokens=True) for ids in answers] == [f"red {x}" for x in LETTERS]


def test_the_words_of_the_checkpoint_keep_their_ids():
    known = json.loads((CHECKPOINT / "tokenizer.json").read_text())["model"]["vocab"]
    assert {word: vocabulary().get(word) for word in known} == known


def test_the_words_of_the_choice_checkpoint_are_the_whole_vocabulary():
    known = json.loads((CHOICE / "tokenizer.json").read_text())["model"]["vocab"]
    assert known == vocabulary()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_prompts_of_multiple_choice_are_split_as_the_tokenizer_does(layout):
    rng = np.random.default_rng(0)
    tokenizer = make_tokenizer()
    for seed in range(12):
        clip = render_clip(seed, frames=16)
        for question in clip.questions:
            asked = ask_as_choice(rng, question, looks_of(clip.scenes), layout)
            ids = tokenizer(asked.text + asked.answer).input_ids
            assert tokenizer.unk_token_id not in ids
            assert ids == [vocabulary()[word] for word in split_words(asked.text + asked.answer)]
