"""Multiple choice: distinct options of which one is right, in the prompts of three benchmarks."""

import numpy as np
import pytest

from stsimdiff_cli.synthetic.benchmark_prompts import LAYOUTS
from stsimdiff_cli.synthetic.choices import MultipleChoice, ask_as_choice, looks_of, make_choice
from stsimdiff_cli.synthetic.clips import render_clip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_choice_has_distinct_options_of_which_the_named_one_is_right(layout):
    rng = np.random.default_rng(0)
    for seed in range(20):
        clip = render_clip(seed, frames=16)
        for question in clip.questions:
            choice = make_choice(rng, question, looks_of(clip.scenes), LAYOUTS[layout].max_options)
            assert len(choice.options) == len(set(choice.options)) == LAYOUTS[layout].max_options
            assert [i for i, option in enumerate(choice.options) if option == question.answer] == [choice.right]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_prompt_has_as_many_options_as_its_layout_allows_and_the_answer_names_the_right_one(layout):
    rng = np.random.default_rng(1)
    limits, counts = LAYOUTS[layout], set()
    for seed in range(6):
        clip = render_clip(seed, frames=16)
        for question in clip.questions:
            asked = ask_as_choice(rng, question, looks_of(clip.scenes), layout)
            options = [line for line in asked.text.splitlines() if line[:3] in ("A. ", "B. ", "C. ", "D. ", "E. ")]
            counts.add(len(options))
            answer, letter = asked.answer.rsplit(" ", 1)
            assert answer == question.answer
            assert f"{letter}. {answer}" in options
            assert asked.text.startswith(limits.before + question.text)
            assert asked.text.endswith(limits.after)
    assert counts == set(range(limits.min_options, limits.max_options + 1))


def test_a_prompt_is_that_of_the_benchmark():
    choice = MultipleChoice("colour", "What colour is the ring?", ("red", "blue"), 1)
    asked = choice.as_question("longvideobench")
    assert asked.answer == "blue B"
    assert asked.text == (
        "What colour is the ring?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly.\n"
    )
