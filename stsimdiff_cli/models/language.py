"""The language side: prompts with visual tokens in them, importance, and answers."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, DynamicCache
from transformers.generation.streamers import BaseStreamer

from ..errors import ModelError, RequestError
from ..records import Prompt, TokenGrid
from .base import Family
from .loading import load_language, quiet
from .probe import PROBED, last_row, tapped


@dataclass(frozen=True)
class Answer:
    """What the model said, and what it took."""

    text: str
    tokens: int  # generated
    prompt_tokens: int
    seconds: dict[str, float]  # "prompt": this question's own prefill and generation; "first_token"


class Prompter:
    """Turns a question into token ids and positions; needs the tokenizer and the configuration, no weights."""

    def __init__(self, family: Family) -> None:
        self.family = family
        path = family.checkpoint.path
        try:
            with quiet():
                self.tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelError(f"The tokenizer of {family.checkpoint.id} cannot be loaded: {error}") from error
        self._template = self._read_template()

    def _read_template(self) -> str | None:
        """The chat template: a file of its own in checkpoints old and new, or the tokenizer's."""
        path = self.family.checkpoint.path
        if (path / "chat_template.jinja").is_file():
            return (path / "chat_template.jinja").read_text()
        if (path / "chat_template.json").is_file():
            return json.loads((path / "chat_template.json").read_text())["chat_template"]
        return None

    def ids(self, grid: TokenGrid, question: str) -> tuple[Tensor, Tensor]:
        """Ids (L,) and visual positions (L,) of the whole prompt, all N visual tokens in place."""
        content: Any = [{"type": "video"}, {"type": "text", "text": question}]
        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=self._template,
                add_generation_prompt=True,
                tokenize=False,
            )
        except (ValueError, TypeError) as error:
            raise ModelError(f"{self.family.checkpoint.id} has no usable chat template: {error}") from error
        plain = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        places = [i for i, token in enumerate(plain) if token == self.family.placeholder]
        if len(places) != 1:
            raise RequestError(
                f"The prompt holds {len(places)} video placeholders instead of one.",
                "Leave special tokens out of the question.",
            )
        before, after = plain[: places[0]], plain[places[0] + 1 :]
        block, visual = self._visual_block(grid)
        ids = torch.cat([torch.tensor(before, dtype=torch.int64), block, torch.tensor(after, dtype=torch.int64)])
        text_only = torch.full((len(before),), -1), torch.full((len(after),), -1)
        return ids, torch.cat([text_only[0], visual, text_only[1]])

    def _visual_block(self, grid: TokenGrid) -> tuple[Tensor, Tensor]:
        """The visual tokens with what the file's layout writes around and between them: ids and visual positions."""
        layout = grid.layout
        ids, visual, done = [torch.tensor(layout.before, dtype=torch.int64)], [torch.full((len(layout.before),), -1)], 0
        stops = [*layout.between, (grid.tokens, layout.after)]
        for stop, extra in stops:
            ids += [torch.full((stop - done,), self.family.placeholder), torch.tensor(extra, dtype=torch.int64)]
            visual += [torch.arange(done, stop), torch.full((len(extra),), -1)]
            done = stop
        return torch.cat(ids), torch.cat(visual)

    def unknown_words(self, question: str) -> list[str]:
        """Words that a closed vocabulary does not hold; [] for models that can spell anything."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            return []
        words = re.findall(r"[\w'-]+", question)
        return [word for word in words if unknown in self.tokenizer(word, add_special_tokens=False)["input_ids"]]

    def prompt(self, model: Any, grid: TokenGrid, question: str, index: Tensor) -> Prompt:
        """The prompt with only the visual tokens of `index` (M,) in it; everything keeps its original position."""
        ids, visual = self.ids(grid, question)
        positions = self.family.positions(model, ids.to(model.device), visual.to(model.device), grid).cpu()
        kept = torch.zeros(grid.tokens, dtype=torch.bool)
        kept[index.cpu()] = True
        keep = (visual < 0) | kept[visual.clamp_min(0)]
        return Prompt(ids[keep], visual[keep], positions[:, keep])


class LanguageModel:
    """The LLM of a checkpoint without its vision tower, loaded."""

    def __init__(
        self, family: Family, device: torch.device, dtype: torch.dtype, layers: int | None = None, probed: bool = False
    ) -> None:
        self.family = family
        self.device = device
        self.prompter = Prompter(family)
        self.model: Any = load_language(family, device, dtype, PROBED if probed else "sdpa", layers)

    def inputs(self, prompt: Prompt, features: Tensor) -> dict[str, Tensor]:
        """Model inputs of a prompt whose visual tokens are `features` (M, D), batch size 1."""
        ids, visual = prompt.ids.to(self.device), prompt.visual.to(self.device)
        words = self.model.get_input_embeddings()
        embeddings = words(ids.masked_fill(ids == self.family.placeholder, 0))  # (L, D)
        embeddings[visual >= 0] = features.to(self.device, embeddings.dtype)
        self.family.embed_extra(self.model, embeddings, ids, visual)
        positions = prompt.positions.to(self.device)
        return {
            "inputs_embeds": embeddings[None],
            "position_ids": positions if len(positions) == 1 else positions[:, None],
            # The mask says that this is one sequence: gaps in the positions would else read as several.
            "attention_mask": torch.ones_like(ids)[None],
        }

    @torch.inference_mode()
    def importance(self, grid: TokenGrid, features: Tensor, index: Tensor, prompt: str, layer: int) -> Tensor:
        """Attention from the last prompt token to each of the tokens `index`, mean over heads (section 4.5): (C,).

        `features` (C, D) are those tokens; only they and the prompt enter the LLM, which runs up to `layer`.
        """
        sequence = self.prompter.prompt(self.model, grid, prompt, index)
        rows: list[Tensor] = []

        def stop(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
            rows.append(last_row(query, key, mask, scaling))
            raise _RowTaken

        attention = self.model.model.language_model.layers[layer].self_attn
        with tapped(attention, stop), contextlib.suppress(_RowTaken):
            self.model.model.language_model(use_cache=False, **self.inputs(sequence, features))
        return rows[0][(sequence.visual >= 0).to(self.device)]

    def watch(self, grid: TokenGrid, features: Tensor, index: Tensor) -> Conversation:
        """Prefill a video once, to ask about it many times."""
        return Conversation(self, grid, features, index)


class _RowTaken(Exception):  # noqa: N818 (it ends a forward pass early; it is no error)
    """The attention row has been taken: the rest of the forward pass is not needed."""


class Conversation:
    """A video in the LLM's cache. Every question starts from the video alone, not from earlier answers."""

    def __init__(self, language: LanguageModel, grid: TokenGrid, features: Tensor, index: Tensor) -> None:
        self.language = language
        self.grid = grid
        self.features = features
        self.index = index
        self.cache = DynamicCache(config=language.model.config.get_text_config())
        self.prefill_seconds = self._prefill()

    @torch.inference_mode()
    def _prefill(self) -> float:
        """Run everything up to the last visual token, which no question changes."""
        start = time.perf_counter()
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
        self.length = video_end
        _synchronise(self.language.device)
        return time.perf_counter() - start

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


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
