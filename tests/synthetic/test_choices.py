"""Multiple choice: distinct options of which one is right, in the prompts of three benchmarks."""

import numpy as np
import pytest

from stsimdiff_cli.synthetic.benchmark_prompts import LAYOUTS
from stsimdiff_cli.synthetic.choices import MultipleChoice, choose
from stsimdiff_cli.synthetic.clips import outline_clip
from stsimdiff_cli.synthetic.rungs import RUNGS


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_choice_has_distinct_options_of_which_only_the_named_one_is_right(layout):
    rng = np.random.default_rng(0)
    limits = LAYOUTS[layout]
    for seed in range(20):
        outline = outline_clip(seed, RUNGS[seed % len(RUNGS)], frames=24)
        for fact in outline.facts:
            choice = choose(rng, fact, outline, limits.max_options)
            assert 3 <= len(choice.options) <= limits.max_options
            assert len(choice.options) == len(set(choice.options))
            assert [i for i, option in enumerate(choice.options) if option == fact.answer] == [choice.right]
            asked = choice.as_question(layout)
            answer, letter = asked.answer.rsplit(" ", 1)
            assert answer == fact.answer
            assert f"{letter}. {answer}" in asked.text.splitlines()
            assert asked.text.startswith(limits.before + choice.text)
            assert asked.text.endswith(limits.after)


def test_a_prompt_is_that_of_the_benchmark():
    choice = MultipleChoice("colour", "What colour is the ring?", ("red", "blue"), 1)
    asked = choice.as_question("longvideobench")
    assert asked.answer == "blue B"
    assert asked.text == (
        "What colour is the ring?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly.\n"
    )
