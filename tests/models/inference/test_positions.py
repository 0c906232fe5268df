"""Kept tokens that are numbered otherwise: like text, or without the slots of which nothing is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.loading.quiet import quiet
from stsimdiff_cli.models.question import check_positions
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.runtimes import FP32
from tests.support.whole_models import from_features, token_types, tokens_of


def test_packed_is_what_generate_does_with_embeddings_that_come_without_a_grid(family, frames):
    tokens = tokens_of(family, frames)
    index = torch.arange(tokens.grid.tokens)[::3]
    language = LanguageModel(family, FP32)
    language.model.generation_config.repetition_penalty = None  # which cannot count ids that generate does not see
    conversation = Conversation(language, tokens.grid, tokens.embeddings[index], index, positions="packed")
    prompt = language.prompter.prompt(language.model, tokens.grid, QUESTIONS[0], index)
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "max_new_tokens": 10}
    if tokens.deepstack is None:  # generate takes none
        with quiet(), torch.inference_mode():
            if family.window is None:
                ids = language.model.generate(
                    inputs_embeds=language.inputs(prompt, tokens.embeddings[index])["inputs_embeds"],
                    attention_mask=torch.ones_like(prompt.ids)[None],
                    **({} if family.causal else token_types(family, prompt.ids)),
                    **greedy,
                    **family.generate_kwargs(language.model, 0),
                )[0]
            else:  # a class whose generate takes features in their place
                ids = from_features(language, prompt, tokens.embeddings[index].features, **greedy)
        expected = language.prompter.tokenizer.decode(ids, skip_special_tokens=True)
        assert conversation.ask(QUESTIONS[0], max_new_tokens=10).text == expected
    packed = conversation._prompt(QUESTIONS[0])
    assert torch.equal(packed.positions, torch.arange(len(prompt.ids)).expand_as(prompt.positions))
    assert torch.equal(packed.ids, prompt.ids) and not torch.equal(packed.positions, prompt.positions)


def test_without_empty_slots_the_rest_is_a_shorter_video(family, frames):
    """The slots 1 and 3 of a video are numbered as the whole of a video of two slots."""
    tokens = tokens_of(family, frames)
    _, h, w = tokens.grid.shape
    language = LanguageModel(family, FP32)
    slots = torch.tensor([1, 3])
    index = (slots[:, None] * h * w + torch.arange(h * w)).flatten()
    short = tokens_of(family, frames[: 2 * family.frames_per_slot]).grid
    if family.native_resolution:  # where the size of frames may depend on how many there are
        short = replace(short, shape=(2, h, w))
    prompter, model = language.prompter, language.model
    kept = prompter.prompt(model, tokens.grid, QUESTIONS[1], index, positions="slots")
    whole = prompter.prompt(model, short, QUESTIONS[1], torch.arange(short.tokens))
    assert torch.equal(kept.positions, whole.positions)
    assert torch.equal(kept.visual, whole.visual)
    some = prompter.prompt(model, tokens.grid, QUESTIONS[1], index[::2], "slots")
    assert torch.equal(some.positions, whole.positions[:, ~torch.isin(whole.visual, torch.arange(1, 2 * h * w, 2))])


def test_with_something_of_every_slot_there_is_nothing_to_close(family, frames):
    tokens = tokens_of(family, frames)
    language = LanguageModel(family, FP32)
    index = torch.arange(tokens.grid.tokens)[:: tokens.grid.shape[2]]
    original, slots = (
        language.prompter.prompt(language.model, tokens.grid, QUESTIONS[1], index, positions)
        for positions in ("original", "slots")
    )
    assert torch.equal(original.positions, slots.positions) and torch.equal(original.ids, slots.ids)


def test_an_unknown_numbering_is_refused():
    with pytest.raises(RequestError, match="numbering of positions"):
        check_positions("pack")
