"""What may be asked: a question's text, and how its answer is made. Checked at the door, before any work."""

from __future__ import annotations

import math

from ..errors import RequestError
from ..registry import unknown_name

#: How the kept tokens of a video are numbered in a prompt. ORIGINAL: as if all tokens were there. SLOTS: as if slots of
#: which nothing is kept had never been there; tokens of the others keep their places. PACKED: like text, without gaps,
#: which is what engines do with embeddings that come without a grid.
ORIGINAL, SLOTS, PACKED = "original", "slots", "packed"
POSITIONS = (ORIGINAL, SLOTS, PACKED)
#: Characters of a question, and tokens of an answer: far more than the context of any LLM here.
LONGEST, MOST_NEW_TOKENS = 10_000_000, 1_000_000
#: Temperatures above 0. Logits are float32 when they are divided by it, and must stay finite.
TEMPERATURES = (1e-6, 1e6)
#: Seeds that torch takes for every device.
LARGEST_SEED = 2**63 - 1


def check_question(question: str) -> str:
    """The question as it is; RequestError if there is nothing in it, or something that is not text."""
    if not question.strip():
        raise RequestError("The question is empty.", 'Ask e.g. "What happens in this video?"')
    return check_text(question)


def check_text(text: str) -> str:
    """The text as it is; RequestError if it has NUL characters or cannot be written as UTF-8, or is far too long."""
    if len(text) > LONGEST:
        raise RequestError(
            f"The question has {len(text):,} characters, more than fit in the context of any LLM.",
            f"The limit is {LONGEST:,}; the model's own context length is lower.",
        )
    if "\0" in text:
        raise RequestError("The question contains a NUL character.", "Is it the content of a binary file?")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestError(
            "The question contains bytes that are not UTF-8.", "Write it in UTF-8, the encoding of most terminals."
        ) from None
    return text


def check_positions(positions: str) -> str:
    """The name as it is; RequestError if it is not one of POSITIONS."""
    if positions not in POSITIONS:
        raise unknown_name("numbering of positions", positions, list(POSITIONS))
    return positions


def check_generation(max_new_tokens: int, temperature: float = 0.0, seed: int = 0) -> None:
    """RequestError for settings of an answer that no model can follow."""
    if not 1 <= max_new_tokens <= MOST_NEW_TOKENS:
        raise RequestError(
            f"An answer cannot have up to {max_new_tokens} tokens.",
            f"Give --max-new-tokens from 1 to {MOST_NEW_TOKENS:,}, e.g. 128.",
        )
    least, most = TEMPERATURES
    if not (temperature == 0 or (math.isfinite(temperature) and least <= temperature <= most)):
        raise RequestError(
            f"The temperature {temperature:g} cannot be used.",
            f"Give 0, which always takes the most likely token, or a number from {least:g} to {most:g}, e.g. 0.7.",
        )
    if not 0 <= seed <= LARGEST_SEED:
        raise RequestError(f"{seed} is not a usable seed.", f"Give a whole number from 0 to {LARGEST_SEED}.")
