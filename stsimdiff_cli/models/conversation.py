"""Answers: a video is prefilled once, then questioned as often as one likes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.generation.streamers import BaseStreamer

from ..records import Prompt, TokenGrid
from .loading import quiet

if TYPE_CHECKING:
    from .language import LanguageModel


@dataclass(frozen=True)
class Answer:
    """What the model said, and what it took."""

    text: str
    tokens: int  # generated
    prompt_tokens: int
    seconds: dict[str, float]  # from the question on: to the "first_token", and to the end of the "answer"


class Conversation:
    """A video in the LLM's cache. Every question starts from the video alone, not from earlier answers."""

    def __init__(self, language: LanguageModel, grid: TokenGrid, features: Tensor, index: Tensor) -> None:
        self.language = language
        self.grid = grid
        self.features = features
        self.index = index
        self.cache = DynamicCache(config=language.model.config.get_text_config())
        self.length = self._prefill()

    @torch.inference_mode()
    def _prefill(self) -> int:
        """Run everything up to the last visual token, which no question changes; returns how many tokens that is."""
        if not len(self.index):  # a conversation without the video, as the control of a benchmark
            return 0
        prompt = self._prompt("")
        inputs = self.language.inputs(prompt, self.features)
        video_end = int((prompt.ids == self.language.family.placeholder).nonzero()[-1]) + 1
        self.language.model.model.language_model(
            inputs_embeds=inputs["inputs_embeds"][:, :video_end],
            position_ids=inputs["position_ids"][..., :video_end],
            attention_mask=inputs["attention_mask"][:, :video_end],
            past_key_values=self.cache,
            use_cache=True,
        )
        return video_end

    def _prompt(self, question: str) -> Prompt:
        return self.language.prompter.prompt(self.language.model, self.grid, question, self.index)

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
        prompt = self._prompt(question)
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
                **language.inputs(prompt, self.features),
                past_key_values=self.cache,
                max_new_tokens=max_new_tokens,
                streamer=streamer,
                **sampling,
            )
        self.cache.crop(self.length - self.cache.get_seq_length())  # negative: so many tokens less
        seconds = {"first_token": streamer.first - start, "answer": time.perf_counter() - start}
        return Answer(streamer.text, len(streamer.ids), len(prompt.ids), seconds)


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
