"""Prompts with visual tokens in them: a question becomes token ids and positions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...errors import ModelError, RequestError
from ...records import Prompt, TokenGrid
from ..families.base import Family
from ..loading.damage import reading, reason, running
from ..question import ORIGINAL, PACKED, SLOTS
from .user_text import MARK, Passage, TextReader

#: Text ids and the flat position p of a visual token: the text stands before it (after the last one if p = N).
Insertion = tuple[int, list[int]]


class Prompter:
    """Turns a question into token ids and positions; needs the tokenizer and the configuration, no weights."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.tokenizer = family.tokenizer
        self._reader = TextReader(self.tokenizer)
        #: Whole prompts by model, grid and question: many selections of one video are asked the same questions.
        self._whole = lru_cache(64)(self._whole_prompt)
        self._template = self._read_template()
        with reading(f"The configuration of {family.checkpoint.id}"):
            _ = family.placeholder

    def _read_template(self) -> str | None:
        """The chat template from a file of its own, which has two possible names; None if it is the tokenizer's."""
        checkpoint = self.family.checkpoint
        template = checkpoint.text("chat_template.jinja")
        return checkpoint.json("chat_template.json").get("chat_template") if template is None else template

    def ids(self, grid: TokenGrid, question: str) -> tuple[Tensor, Tensor]:
        """Ids (L,) and visual positions (L,) of the whole prompt, with all N visual tokens in it.

        Each placeholder (#) of the rendered prompt stands for an equal share of the N visual tokens 0, 1, 2, ...; the
        layout may write more ids before, between and after them. Here with 6 visual tokens in 2 slots, and a family
        that writes | between and ! after them:

            one placeholder for the video            <user>  #  What?     ->  <user> 0 1 2 | 3 4 5 ! What?
            one placeholder for each slot     <user> 0s: # 1s: # What?     ->  <user> 0s: 0 1 2 1s: 3 4 5 What?

        Text has -1 as its visual position. ModelError if the chat template does not write the placeholders; those that
        a question spells are text, see user_text.py.
        """
        with running(self.family.checkpoint.id, self.family.checkpoint.embedded):
            rendered = self._rendered(grid, question)
        expected = grid.shape[0] if self.family.placeholder_per_slot else 1
        texts = _split(rendered, self.family.placeholder)
        if len(texts) != expected + 1:
            raise ModelError(
                f"The chat template of {self.family.checkpoint.id} writes {len(texts) - 1} video placeholders instead "
                f"of {expected}.",
                "Is it the one that was published with the checkpoint?",
            )
        share, layout = grid.tokens // expected, grid.layout
        own: list[Insertion] = [(share * number, text) for number, text in enumerate(texts)]
        written: list[Insertion] = [(0, [*layout.before]), *((place, [*ids]) for place, ids in layout.between)]
        closing: list[Insertion] = [(grid.tokens, [*layout.after])]
        # A stable sort: at one place, the template's text stands before the layout's, except at the end of the video.
        insertions = sorted([*own[:-1], *written], key=lambda insertion: insertion[0]) + closing + own[-1:]
        return _interleaved(insertions, self.family.placeholder)

    def _rendered(self, grid: TokenGrid, question: str) -> list[int]:
        """Ids of the prompt with its placeholders: one for the whole video, or one for each slot."""
        texts, marked = self.family.prompt_text(grid, question), self.family.prompt_text(grid, MARK)
        if texts is not None and marked is not None:
            before, after = (self._reader.ids(Passage.find(*pair)) for pair in zip(texts, marked, strict=True))
            return [*before, self.family.placeholder, *after]
        frame = self._from_template(MARK)
        passage = Passage.find(self._from_template(question), frame)
        around = Passage.find(*[self.family.expand_placeholder(frame, grid)] * 2)
        begin = self.tokenizer.bos_token  # as transformers' processors: added, unless the template wrote it
        return self._reader.ids(
            replace(around, user=passage.user), add_special_tokens=not (begin and around.before.startswith(begin))
        )

    def _from_template(self, question: str) -> str:
        """The prompt as the chat template writes it.

        ModelError if it cannot, RequestError for an option that it does not know.
        """
        asked, template = self.family.template_kwargs, str(self._template or self.tokenizer.chat_template)
        if unknown := [name for name in asked if name not in template]:
            raise RequestError(
                f"The chat template of {self.family.checkpoint.id} does not know {unknown[0]}.",
                "Leave out what stands after the colon of its name.",
            )
        content: Any = [self.family.video_part, {"type": "text", "text": question}]
        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=self._template,
                add_generation_prompt=True,
                tokenize=False,
                **asked,
            )
        except Exception as error:  # a template may fail in any way
            raise ModelError(
                f"{self.family.checkpoint.id} has no usable chat template: {reason(error)}.",
                "Download the files of its tokenizer again.",
            ) from error
        return str(text)

    def unknown_words(self, question: str) -> list[str]:
        """Words that a closed vocabulary does not hold; [] for models that can spell anything."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            return []
        words = re.findall(r"[\w'-]+", question)
        return [
            word
            for word in dict.fromkeys(words)
            if unknown in self.tokenizer(word, add_special_tokens=False)["input_ids"]
        ]

    def check(self, question: str) -> None:
        """RequestError for a question that is longer than the context by itself."""
        self._check_length(len(self._reader.ids(Passage("", question))))

    def _check_length(self, words: int) -> None:
        """RequestError if that many tokens of text do not fit into the LLM's context."""
        context = self.family.context
        if context and words > context:
            raise RequestError(
                f"The question has {words:,} tokens, and the context of {self.family.checkpoint.id} has {context:,}.",
                "Ask a shorter question.",
            )

    def check_fits(self, prompt: Prompt) -> None:
        """RequestError if a prompt has more tokens than the LLM has positions."""
        context, visual = self.family.context, int((prompt.visual >= 0).sum())
        words = len(prompt.ids) - visual
        if context and visual + words > context:
            raise RequestError(
                f"{visual:,} visual tokens and {words:,} of text are more than the {context:,} positions of "
                f"{self.family.checkpoint.id}.",
                f"Keep at most {context - words:,} visual tokens: compress with a lower --ratio, or encode fewer "
                "--frames.",
            )

    def prompt(self, model: Any, grid: TokenGrid, question: str, index: Tensor, positions: str = ORIGINAL) -> Prompt:
        """The prompt with only the visual tokens of `index` (M,) in it, numbered as `positions` says: see POSITIONS.

        By default everything keeps its original position. RequestError for a question that is longer than the LLM's
        context.
        """
        if positions == SLOTS and len(index):
            grid, index = self._without_empty_slots(grid, index)
        whole = self._whole(model, grid, question)
        kept = torch.zeros(grid.tokens, dtype=torch.bool)
        kept[index.cpu()] = True
        prompt = whole[(whole.visual < 0) | kept[whole.visual.clamp_min(0)]]
        if positions == PACKED:
            prompt = replace(prompt, positions=torch.arange(len(prompt.ids)).expand_as(prompt.positions))
        return prompt

    def _without_empty_slots(self, grid: TokenGrid, index: Tensor) -> tuple[TokenGrid, Tensor]:
        """The grid of the slots that have a token of `index` (M,), and the places of these tokens on it.

        Slots follow each other at the original mean spacing, except where the prompt has the time of each in words.
        """
        t, h, w = grid.shape
        slots, rank = (index.cpu() // (h * w)).unique(return_inverse=True)
        seconds = tuple(grid.seconds[slot] for slot in slots.tolist())
        if not self.family.placeholder_per_slot:
            step = (grid.seconds[-1] - grid.seconds[0]) / max(t - 1, 1)
            seconds = tuple(grid.seconds[0] + step * number for number in range(len(slots)))
        shape = (len(slots), h, w)
        smaller = replace(grid, shape=shape, seconds=seconds, layout=self.family.layout_of(shape))
        return smaller, rank * (h * w) + index.cpu() % (h * w)

    def _whole_prompt(self, model: Any, grid: TokenGrid, question: str) -> Prompt:
        """The prompt with all N visual tokens in it."""
        ids, visual = self.ids(grid, question)
        self._check_length(int((visual < 0).sum()))
        positions = self.family.positions(model, ids.to(model.device), visual.to(model.device), grid).cpu()
        return Prompt(ids, visual, positions)


def _split(ids: list[int], placeholder: int) -> list[list[int]]:
    """What stands before, between and after the placeholders: one list more than there are placeholders."""
    texts: list[list[int]] = [[]]
    for token in ids:
        if token == placeholder:
            texts.append([])
        else:
            texts[-1].append(token)
    return texts


def _interleaved(insertions: Iterable[Insertion], placeholder: int) -> tuple[Tensor, Tensor]:
    """Ids and visual positions (L,) of texts, ascending by place, and of the visual tokens up to each place."""
    ids: list[Tensor] = []
    visual: list[Tensor] = []
    done = 0
    for place, text in insertions:
        ids += [torch.full((place - done,), placeholder), torch.tensor(text, dtype=torch.int64)]
        visual += [torch.arange(done, place), torch.full((len(text),), -1)]
        done = place
    return torch.cat(ids), torch.cat(visual)
