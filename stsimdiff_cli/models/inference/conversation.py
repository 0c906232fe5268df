"""Answers: a video is prefilled once, then questioned as often as one likes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.generation.streamers import BaseStreamer

from ...layer_pruning import LayerPruner
from ...records import Embeddings, Prompt, TokenGrid, VideoTokens
from ..loading.quiet import quiet

if TYPE_CHECKING:
    from .language_model import LanguageModel


@dataclass(frozen=True)
class Answer:
    """What the model said, and what it took."""

    text: str
    tokens: int  # generated
    prompt_tokens: int
    seconds: dict[str, float]  # from the question on: to the "first_token", and to the end of the "answer"


class Conversation:
    """A video in the LLM's cache. Every question starts from the video alone, not from earlier answers."""

    #: Visual tokens alive behind each layer with the last question, where a method cuts them there; else empty.
    alive_per_layer: Sequence[int] = ()

    def __init__(self, language: LanguageModel, grid: TokenGrid, tokens: Embeddings, index: Tensor) -> None:
        self.language = language
        self.grid = grid
        self.tokens = tokens
        self.index = index
        self.cache = language.new_cache()
        self._prefill()

    @torch.inference_mode()
    def _prefill(self) -> None:
        """Run everything up to the last visual token, which no question changes."""
        prompt = self._prompt("")
        places = (prompt.ids == self.language.family.placeholder).nonzero()
        if len(places):  # none without the video, as in the control of a benchmark
            self.language.read(prompt[: int(places[-1]) + 1], self.tokens, self.cache)

    def _prompt(self, question: str) -> Prompt:
        return self.language.prompter.prompt(self.language.model, self.grid, question, self.index)

    def _ready(self, question: str) -> tuple[Prompt, DynamicCache]:
        """A question's prompt, and a cache that holds the beginning of it, with all visual tokens."""
        return self._prompt(question), self.cache

    @torch.inference_mode()
    def ask(
        self,
        question: str,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """Answer one question; `on_text` receives the text piece by piece. Temperature 0 is greedy."""
        start = time.perf_counter()
        language = self.language
        prompt, cache = self._ready(question)
        known = cache.get_seq_length()
        sampling = (
            {"do_sample": True, "temperature": temperature}
            if temperature > 0
            else {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        )
        streamer = _Pieces(language.prompter.tokenizer, on_text)
        with torch.random.fork_rng(devices=[language.device] if language.device.type == "cuda" else []), quiet():
            torch.manual_seed(seed)
            language.model.generate(
                input_ids=prompt.ids.to(language.device)[None],
                position_ids=language.placed(prompt),
                attention_mask=torch.ones_like(prompt.ids, device=language.device)[None],
                past_key_values=cache,
                max_new_tokens=max_new_tokens,
                streamer=streamer,
                **sampling,
                **language.family.generation(language.model, len(prompt.ids)),
            )
        cache.crop(known - cache.get_seq_length())  # negative: so many tokens less
        seconds = {"first_token": streamer.first - start, "answer": time.perf_counter() - start}
        return Answer(streamer.text, len(streamer.ids), len(prompt.ids), seconds)


class PrunedConversation(Conversation):
    """All tokens of a video enter the LLM with every question; a method cuts them between its layers meanwhile.

    The pruner is made anew for every question: what is kept depends on it.
    """

    def __init__(self, language: LanguageModel, tokens: VideoTokens, make_pruner: Callable[[], LayerPruner]) -> None:
        self.make_pruner = make_pruner
        super().__init__(language, tokens.grid, tokens.embeddings, torch.arange(tokens.grid.tokens))

    def _prefill(self) -> None:
        """Nothing is the same for every question."""

    def _ready(self, question: str) -> tuple[Prompt, DynamicCache]:
        """Read the whole prompt but for its last token, with which generating begins.

        Layer 0 tells the generator how much of the prompt is in the cache, so the prompt is that of layer 0; later
        layers hold fewer tokens, which nobody needs to know: a single query sees all that there is.
        """
        pruner, cache = self.make_pruner(), self.language.new_cache()
        prompt = self.language.prune(self.grid, self.tokens, question, pruner, cache)
        self.alive_per_layer = pruner.alive_per_layer
        cache.crop(-1)
        entered = torch.zeros(self.grid.tokens, dtype=torch.bool)
        entered[pruner.entered] = True
        keep = (prompt.visual < 0) | entered[prompt.visual.clamp_min(0)]
        return prompt[keep], cache


class _Pieces(BaseStreamer):
    """Collects generated ids and hands on new text as soon as it is whole."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None] | None) -> None:
        self.tokenizer = tokenizer
        self.on_text = on_text
        self.ids: list[int] = []
        self.text = ""
        self.first = 0.0
        self._prompt_seen = False

    def put(self, value: Tensor) -> None:
        """Called by `generate`: first with the prompt, then with every new token."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        if not self.ids:
            self.first = time.perf_counter()
        self.ids += value.flatten().tolist()
        text = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        if not text.endswith("�"):  # half a character
            self._emit(text)

    def end(self) -> None:
        """Called by `generate` after the last token."""
        self._emit(self.tokenizer.decode(self.ids, skip_special_tokens=True))

    def _emit(self, text: str) -> None:
        if self.on_text and len(text) > len(self.text):
            self.on_text(text[len(self.text) :])
        self.text = text
