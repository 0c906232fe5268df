"""Questions that are asked together: every answer is the one that transformers' own loop gives to it alone."""

from __future__ import annotations

import time
from copy import deepcopy

import pytest
import torch

from stsimdiff_cli.models.inference import branches
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.loading.quiet import quiet
from stsimdiff_cli.models.loading.runtime import ResolvedRuntime
from tests.support.checkpoints.parts import QUESTIONS as SHORT
from tests.support.runtimes import CPU, FP32
from tests.support.whole_models import tokens_of, with_holes

QUESTIONS = [*SHORT, "w9 " * 40, SHORT[0]]
NEW = 10


def conversation_of(family, frames, runtime: ResolvedRuntime = FP32) -> Conversation:
    """A conversation about every other token."""
    tokens = tokens_of(family, frames)
    index = torch.arange(tokens.grid.tokens)[::2]
    return Conversation(LanguageModel(family, runtime), tokens.grid, tokens.embeddings[index], index)


def by_generate(conversation: Conversation, question: str, **sampling) -> list[int]:
    """The answer's tokens by the whole `generate` of transformers, from a copy of the cache.

    Where layers have windows it counts them in the tokens that it is given: there it gets the whole prompt, with holes.
    """
    language, prompt = conversation.language, conversation._prompt(question)
    with quiet(), torch.inference_mode():
        if language.family.window is not None:
            sampling = sampling or {"do_sample": False}
            own = language.family.generate_kwargs(language.model, len(prompt.ids))
            return with_holes(conversation, question, max_new_tokens=NEW, **sampling, **own)
        out = language.model.generate(
            input_ids=prompt.ids[None],
            position_ids=language.position_ids(prompt),
            attention_mask=torch.ones_like(prompt.ids)[None],
            past_key_values=deepcopy(conversation.cache),
            max_new_tokens=NEW,
            **(sampling or {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}),
            **language.family.generate_kwargs(language.model, len(prompt.ids)),
        )
    return out[0, len(prompt.ids) :].tolist()


def end_early(monkeypatch, family, answers: list[list[int]]) -> None:
    """Let a token end answers at as many different steps as possible."""
    own = family.generate_kwargs
    end = max(
        {token for ids in answers for token in ids}, key=lambda token: len({steps(ids, token) for ids in answers})
    )
    monkeypatch.setattr(family, "generate_kwargs", lambda *given: own(*given) | {"eos_token_id": [end]})


def steps(ids: list[int], end: int) -> int:
    return ids.index(end) if end in ids else len(ids)


def texts(conversation: Conversation, answers: list[list[int]]) -> list[str]:
    return [conversation.language.prompter.tokenizer.decode(ids, skip_special_tokens=True) for ids in answers]


def test_together_every_question_gets_the_answer_that_it_gets_alone(family, frames, monkeypatch):
    conversation = conversation_of(family, frames)
    end_early(monkeypatch, family, [by_generate(conversation, question) for question in QUESTIONS])
    expected = [by_generate(conversation, question) for question in QUESTIONS]
    assert len({tuple(ids) for ids in expected}) > 2
    assert len({len(ids) for ids in expected}) > 1, "answers must end at different steps"
    for _ in range(2):  # an answer must not depend on those before it
        together = conversation.ask_all(QUESTIONS, max_new_tokens=NEW)
        assert [answer.text for answer in together] == texts(conversation, expected)
        assert [answer.tokens for answer in together] == list(map(len, expected))


def test_drawn_answers_are_those_that_are_drawn_alone(family, frames):
    conversation = conversation_of(family, frames)
    expected = []
    for question in QUESTIONS:
        torch.manual_seed(7)
        expected.append(by_generate(conversation, question, do_sample=True, temperature=1.5))
    before = torch.get_rng_state()
    together = conversation.ask_all(QUESTIONS, max_new_tokens=NEW, temperature=1.5, seed=7)
    assert [answer.text for answer in together] == texts(conversation, expected)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers must go on as before"


@pytest.mark.parametrize("checkpoint", ["qwen2_5_vl"], indirect=True)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_answers_do_not_depend_on_how_many_fit(family, frames, monkeypatch, attention):
    conversation = conversation_of(family, frames, ResolvedRuntime(CPU, torch.float32, attention))
    trunk, expected = conversation.cache.get_seq_length(), [by_generate(conversation, text) for text in QUESTIONS]
    sizes = [len(conversation._prompt(question).ids) - trunk for question in QUESTIONS]
    masks: list[tuple[int, int]] = []
    made = conversation.language.masks
    monkeypatch.setattr(
        conversation.language, "masks", lambda seen, places: masks.append(tuple(seen.shape)) or made(seen, places)
    )

    def prefilled(room: int, entries: int) -> list[tuple[int, int]]:
        """Masks of the questions' own tokens, after the answers were compared."""
        monkeypatch.setattr(branches, "ROOM", room)
        monkeypatch.setattr(branches, "MASK", entries)
        masks.clear()
        answers = conversation.ask_all(QUESTIONS, max_new_tokens=NEW)
        assert [answer.text for answer in answers] == texts(conversation, expected)
        return [shape for shape in masks if shape[0] > len(QUESTIONS)]

    total = sum(sizes)
    assert prefilled(10_000, 1 << 24) == [(total, trunk + total)]
    assert prefilled(10_000, (total - 1) * (trunk + total)) == [
        (total - sizes[-1], trunk + total - sizes[-1]),
        (sizes[-1], trunk + total),
    ]
    most = total + len(QUESTIONS) * NEW
    assert prefilled(most - 1, 1 << 24) == [(total - sizes[-1], trunk + total - sizes[-1])]  # the last by itself
    small = prefilled(0, 1 << 24)  # at most as many tokens as the trunk has
    assert small and all(columns <= 2 * trunk for _, columns in small)


@pytest.mark.parametrize("checkpoint", ["qwen2_vl"], indirect=True)
def test_shares_add_up_to_the_time_of_all(family, frames):
    start = time.perf_counter()
    answers = conversation_of(family, frames).ask_all(QUESTIONS, max_new_tokens=3)
    passed = time.perf_counter() - start
    assert all(0 < a.seconds["first_token"] <= a.seconds["answer"] < passed for a in answers)
    assert sum(a.seconds["share"] for a in answers) == pytest.approx(max(a.seconds["answer"] for a in answers))
