"""Answers: a video is prefilled once, then asked any number of questions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import DynamicCache

from ...layer_pruning import LayerPruner
from ...records import Embeddings, Prompt, TokenGrid, VideoTokens
from ..loading.damage import running
from ..loading.memory import enough_memory
from ..question import ORIGINAL, check_generation, check_text
from . import branches
from .answer_attention import AnswerAttention
from .branches import Branch, Text
from .language_model import LanguageModel


@dataclass(frozen=True)
class Answer:
    """What the model said, and how long it took.

    Seconds: from when the questions were asked to the "first_token" and to the end of the "answer"; questions that are
    asked together wait for each other, and "share" is this one's part of the time.
    """

    text: str
    tokens: int  # generated
    prompt_tokens: int
    seconds: dict[str, float]
    slots: tuple[float, ...] = ()  # (T,) shares of attention, if the conversation reads it: see AnswerAttention
    #: Visual tokens alive after each layer, if a method pruned between layers; else empty.
    alive_per_layer: Sequence[int] = ()


class Conversation:
    """A video in the LLM's cache. Every question starts from the video alone, not from earlier answers.

    With `attention`, answers say which slots they looked at, and questions are answered one at a time; the LLM must
    have been loaded with `attention_rows`. `positions` is one of POSITIONS.
    """

    #: One more than the last position of what all questions share, which is that among all tokens of the video.
    reach: int = 0

    def __init__(
        self,
        language: LanguageModel,
        grid: TokenGrid,
        tokens: Embeddings,
        index: Tensor,
        *,
        attention: bool = False,
        positions: str = ORIGINAL,
    ) -> None:
        self.language = language
        self.attention = attention
        self.positions = positions
        self.grid = grid
        self.tokens = tokens
        self.index = index
        self.cache = language.new_cache()
        self._prefill()

    @torch.inference_mode()
    def _prefill(self) -> None:
        """Run everything up to the last visual token, or what it sees, which is the same for every question."""
        prompt, family = self._prompt(""), self.language.family
        self.language.prompter.check_fits(prompt)
        shown = ((prompt.ids == family.placeholder) | (family.mutual(prompt.ids) >= 0)).nonzero()
        if len(shown):  # none without the video, as in the control of a benchmark
            begin = prompt[: int(shown[-1]) + 1]
            self.reach = int(begin.positions.max()) + 1
            with running(family.checkpoint.id, family.checkpoint.embedded):
                self.language.prefill(begin, self.tokens, self.cache)

    def _prompt(self, question: str) -> Prompt:
        return self.language.prompter.prompt(self.language.model, self.grid, question, self.index, self.positions)

    def ask(
        self,
        question: str,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """Answer one question; `on_text` receives the text piece by piece. Temperature 0 is greedy.

        RequestError for a question that is not text, or that does not fit into the context with the video, and for
        settings out of range;
        ModelError if the model computes no numbers.
        """
        return self.ask_all([question], max_new_tokens, temperature, seed, on_text)[0]

    @enough_memory(
        "answer the question",
        "Lower --max-new-tokens, --ratio or --frames, or use --dtype bfloat16 or --quantize 4bit.",
    )
    @torch.inference_mode()
    def ask_all(
        self,
        questions: Sequence[str],
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        on_text: Callable[[str], None] | None = None,
    ) -> list[Answer]:
        """Answer questions together, as many at a time as fit; each answer is that of `ask`, up to rounding.

        Parameters and errors as `ask`. `on_text` is for a single question.
        """
        for question in questions:
            check_text(question)
        check_generation(max_new_tokens, temperature, seed)
        with running(self.language.family.checkpoint.id, self.language.family.checkpoint.embedded):
            return self._answers(questions, max_new_tokens, temperature, seed, on_text)

    def _answers(
        self,
        questions: Sequence[str],
        max_new_tokens: int,
        temperature: float,
        seed: int,
        on_text: Callable[[str], None] | None,
    ) -> list[Answer]:
        start = time.perf_counter()
        prompts = [self._prompt(question) for question in questions]
        for prompt in prompts:
            self.language.prompter.check_fits(prompt)
        generation = max_new_tokens, temperature, seed
        if self.language.takes_masks and not self.attention:
            return self._answered(start, prompts, self.cache, *generation, on_text)
        return [
            self._answered(time.perf_counter(), [prompt], self.cache, *generation, on_text)[0] for prompt in prompts
        ]

    def _answered(
        self,
        start: float,
        prompts: Sequence[Prompt],
        cache: DynamicCache,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        on_text: Callable[[str], None] | None,
    ) -> list[Answer]:
        """Answers to prompts whose common beginning is in the cache; asked at `start`."""
        language, done = self.language, cache.get_seq_length()
        seen = [AnswerAttention(prompt) for prompt in prompts] if self.attention else []  # of a single one
        asked = [
            Branch(
                ids=prompt.ids.to(language.device),
                new=prompt.ids[done:].to(language.device),
                positions=language.position_ids(prompt)[..., done:],
                room=len(prompt.ids) - done + max_new_tokens,
                rules=language.rules(len(prompt.ids), max_new_tokens, temperature),
                generator=torch.Generator(language.device).manual_seed(seed),
                text=Text(language.prompter.tokenizer, self._written, on_text),
            )
            for prompt in prompts
        ]
        with seen[0].watching(language) if seen else nullcontext():
            branches.answer(language, cache, prompts[0].positions[0, :done], asked, start)
        slots = seen[0].slots(self.grid) if seen else ()
        return [
            Answer(str(branch.text), len(branch.text.ids), len(prompt.ids), branch.seconds, slots)
            for branch, prompt in zip(asked, prompts, strict=True)
        ]

    def _written(self, text: str) -> str:
        """What the model said, as the user reads it."""
        return self.language.family.answer_text(text, self.grid)


class PrunedConversation(Conversation):
    """All tokens of a video enter the LLM with every question, and a method prunes them between its layers.

    Every question has a new pruner, because what is kept depends on the question.
    """

    def __init__(self, language: LanguageModel, tokens: VideoTokens, make_pruner: Callable[[], LayerPruner]) -> None:
        self.make_pruner = make_pruner
        super().__init__(language, tokens.grid, tokens.embeddings, torch.arange(tokens.grid.tokens))

    def _prefill(self) -> None:
        """There is no shared prefix: which tokens survive depends on the question."""

    def _answers(
        self,
        questions: Sequence[str],
        max_new_tokens: int,
        temperature: float,
        seed: int,
        on_text: Callable[[str], None] | None,
    ) -> list[Answer]:
        answers = []
        for question in questions:
            start = time.perf_counter()
            prompt, cache, alive = self._prefilled(question)
            answer = self._answered(start, [prompt], cache, max_new_tokens, temperature, seed, on_text)[0]
            answers.append(replace(answer, alive_per_layer=alive))
        return answers

    def _prefilled(self, question: str) -> tuple[Prompt, DynamicCache, Sequence[int]]:
        """A question's prompt, a cache with all of it but its last token, and how many tokens each layer left alive.

        What the cache holds is looked up at layer 0, so the prompt is that of layer 0. Later layers hold fewer tokens,
        which does not matter: a single query attends to all that there are.
        """
        self.language.prompter.check_fits(self._prompt(question))
        pruner, cache = self.make_pruner(), self.language.new_cache()
        prompt = self.language.prune(self.grid, self.tokens, question, pruner, cache)
        cache.crop(-1)  # remove one token
        entered = torch.zeros(self.grid.tokens, dtype=torch.bool)
        entered[pruner.entered] = True
        keep = (prompt.visual < 0) | entered[prompt.visual.clamp_min(0)]
        return prompt[keep], cache, pruner.alive_per_layer
