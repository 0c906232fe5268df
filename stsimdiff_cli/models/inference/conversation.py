"""Answers: a video is prefilled once, then asked any number of questions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from ...layer_pruning import LayerPruner
from ...records import Embeddings, Prompt, TokenGrid, VideoTokens
from ..loading.damage import running
from ..loading.memory import enough_memory
from ..loading.quiet import quiet
from ..question import check_generation, check_text
from .finite import FiniteLogits

if TYPE_CHECKING:
    from .language_model import LanguageModel


@dataclass(frozen=True)
class Answer:
    """What the model said, and how long it took."""

    text: str
    tokens: int  # generated
    prompt_tokens: int
    seconds: dict[str, float]  # from the question to the "first_token", and to the end of the "answer"


class Conversation:
    """A video in the LLM's cache. Every question starts from the video alone, not from earlier answers."""

    #: One more than the position of the last visual token, which is that among all tokens of the video.
    reach: int = 0
    #: Visual tokens alive after each layer for the last question, if a method prunes between layers; else empty.
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
        """Run everything up to the last visual token, which is the same for every question."""
        prompt = self._prompt("")
        self.language.prompter.check_fits(prompt)
        visual = (prompt.ids == self.language.family.placeholder).nonzero()
        if len(visual):  # none without the video, as in the control of a benchmark
            begin = prompt[: int(visual[-1]) + 1]
            self.reach = int(begin.positions.max()) + 1
            with running(self.language.family.checkpoint.id, self.language.family.checkpoint.embedded):
                self.language.prefill(begin, self.tokens, self.cache)

    def _prompt(self, question: str) -> Prompt:
        return self.language.prompter.prompt(self.language.model, self.grid, question, self.index)

    def _prompt_and_cache(self, question: str) -> tuple[Prompt, DynamicCache]:
        """A question's prompt, and a cache that holds its beginning with all visual tokens."""
        prompt = self._prompt(question)
        self.language.prompter.check_fits(prompt)
        return prompt, self.cache

    @enough_memory(
        "answer the question",
        "Lower --max-new-tokens, --ratio or --frames, or use --dtype bfloat16 or --quantize 4bit.",
    )
    @torch.inference_mode()
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
        check_text(question)
        check_generation(max_new_tokens, temperature, seed)
        with running(self.language.family.checkpoint.id, self.language.family.checkpoint.embedded):
            return self._answer(question, max_new_tokens, temperature, seed, on_text)

    def _answer(
        self,
        question: str,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        on_text: Callable[[str], None] | None,
    ) -> Answer:
        start = time.perf_counter()
        language = self.language
        prompt, cache = self._prompt_and_cache(question)
        prefilled, states = cache.get_seq_length(), _states(cache)
        sampling = (
            {"do_sample": True, "temperature": temperature}
            if temperature > 0
            else {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        )
        own = language.family.generate_kwargs(language.model, len(prompt.ids))
        finite = FiniteLogits(language.family.checkpoint, language.model.dtype)
        processors = LogitsProcessorList([finite, *own.get("logits_processor", [])])
        streamer = _TextStreamer(
            language.prompter.tokenizer, lambda text: language.family.answer_text(text, self.grid), on_text
        )
        with _seeded(language.device, seed), quiet():
            language.model.generate(
                input_ids=prompt.ids.to(language.device)[None],
                position_ids=language.position_ids(prompt),
                attention_mask=torch.ones_like(prompt.ids, device=language.device)[None],
                past_key_values=cache,
                max_new_tokens=max_new_tokens,
                streamer=streamer,
                **sampling,
                **(own | {"logits_processor": processors}),
            )
        _rewind(cache, prefilled, states)
        seconds = {"first_token": streamer.first - start, "answer": time.perf_counter() - start}
        return Answer(streamer.text, len(streamer.ids), len(prompt.ids), seconds)


class PrunedConversation(Conversation):
    """All tokens of a video enter the LLM with every question, and a method prunes them between its layers.

    Every question has a new pruner, because what is kept depends on the question.
    """

    def __init__(self, language: LanguageModel, tokens: VideoTokens, make_pruner: Callable[[], LayerPruner]) -> None:
        self.make_pruner = make_pruner
        super().__init__(language, tokens.grid, tokens.embeddings, torch.arange(tokens.grid.tokens))

    def _prefill(self) -> None:
        """There is no shared prefix: which tokens survive depends on the question."""

    def _prompt_and_cache(self, question: str) -> tuple[Prompt, DynamicCache]:
        """Prefill the whole prompt except its last token, with which generation begins.

        `generate` looks at layer 0 for how much of the prompt is in the cache, so the prompt is that of layer 0. Later
        layers hold fewer tokens, which does not matter: a single query attends to all that there are.
        """
        self.language.prompter.check_fits(self._prompt(question))
        pruner, cache = self.make_pruner(), self.language.new_cache()
        prompt = self.language.prune(self.grid, self.tokens, question, pruner, cache)
        self.alive_per_layer = pruner.alive_per_layer
        cache.crop(-1)  # remove one token
        entered = torch.zeros(self.grid.tokens, dtype=torch.bool)
        entered[pruner.entered] = True
        keep = (prompt.visual < 0) | entered[prompt.visual.clamp_min(0)]
        return prompt[keep], cache


def _states(cache: DynamicCache) -> dict[int, Any]:
    """Copies of the layers that keep one state for all tokens (linear attention), from which nothing can be removed."""
    return {i: deepcopy(layer) for i, layer in enumerate(cache.layers) if hasattr(layer, "recurrent_states")}


def _rewind(cache: DynamicCache, length: int, states: dict[int, Any]) -> None:
    """Put a cache back to its first `length` tokens; `states` are its `_states` at that time."""
    more = cache.get_seq_length() - length
    layers: list[Any] = cache.layers
    for i, layer in enumerate(layers):
        if i in states:
            layers[i] = states[i]
        else:
            layer.crop(-more)  # negative: remove that many tokens


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Within the block, random numbers on the CPU and on the device begin at `seed`; after it, they go on as before.

    Other GPUs are left alone: `torch.manual_seed` would start the caller's random numbers on all of them anew.
    """
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device], device_type=device.type):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield


class _TextStreamer(BaseStreamer):
    """Collects generated ids and passes on new text, as it is `written`, as soon as its characters are complete."""

    def __init__(self, tokenizer: Any, written: Callable[[str], str], on_text: Callable[[str], None] | None) -> None:
        self.tokenizer = tokenizer
        self.written = written
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
        if not text.endswith("�"):  # part of a character
            self._emit(text)

    def end(self) -> None:
        """Called by `generate` after the last token."""
        self._emit(self.tokenizer.decode(self.ids, skip_special_tokens=True))

    def _emit(self, text: str) -> None:
        text = self.written(text)
        if self.on_text and len(text) > len(self.text):
            self.on_text(text[len(self.text) :])
        self.text = text
