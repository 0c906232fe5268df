"""The tokenizer of the embedded model: it knows every word of every question and answer, and marks the others."""

import json

import numpy as np
import pytest

from stsimdiff_cli.models.tiny import CHECKPOINT
from stsimdiff_cli.synthetic.benchmark_prompts import LAYOUTS
from stsimdiff_cli.synthetic.choices import LETTERS, choose, split_words
from stsimdiff_cli.synthetic.clips import outline_clip
from stsimdiff_cli.synthetic.questions import EXAMPLES
from stsimdiff_cli.synthetic.rungs import RUNGS
from stsimdiff_cli.synthetic.script import EVENTS
from training.tiny.tokenizer import make_tokenizer, vocabulary


def test_the_tokenizer_knows_every_word_of_questions_and_answers():
    tokenizer = make_tokenizer()
    texts = [*EXAMPLES]
    for seed in range(60):
        for kind in EVENTS:
            clip = outline_clip(seed, RUNGS[seed % 8], frames=24, kind=kind)
            texts += [text for fact in clip.facts for text in (*fact.texts(), fact.answer)]
    assert len(set(texts)) > 500
    assert all(tokenizer.unk_token_id not in tokenizer(t).input_ids for t in set(texts))


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


def test_the_words_of_the_checkpoint_are_the_vocabulary():
    known = json.loads((CHECKPOINT / "tokenizer.json").read_text())["model"]["vocab"]
    assert known == vocabulary()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_prompts_of_multiple_choice_are_split_as_the_tokenizer_does(layout):
    rng = np.random.default_rng(0)
    tokenizer = make_tokenizer()
    for seed in range(12):
        clip = outline_clip(seed, RUNGS[seed % 8], frames=24)
        for fact in clip.facts:
            asked = choose(rng, fact, clip, LAYOUTS[layout].max_options).as_question(layout)
            ids = tokenizer(asked.text + asked.answer).input_ids
            assert tokenizer.unk_token_id not in ids
            assert ids == [vocabulary()[word] for word in split_words(asked.text + asked.answer)]
