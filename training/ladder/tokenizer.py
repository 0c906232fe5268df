"""The closed vocabulary as an ordinary Hugging Face tokenizer: that of training/tiny with the ladder's words."""

from __future__ import annotations

from functools import cache

from stsimdiff_cli.synthetic.choices import LETTERS, choice_words
from stsimdiff_cli.synthetic.ladder.questions import words
from stsimdiff_cli.synthetic.questions import question_words as plain_words
from training.tiny.tokenizer import SPECIALS


@cache
def vocabulary() -> dict[str, int]:
    """Token to id: special tokens, newline, roles, letters of options, then every word in order of the alphabet."""
    known = sorted({*words(), *plain_words(), *choice_words()})
    tokens = [*SPECIALS, "\n", "user", "assistant", "system", *LETTERS, *known]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}
