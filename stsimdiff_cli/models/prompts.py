"""Prompts with visual tokens in them: a question becomes token ids and positions."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from ..errors import ModelError, RequestError
from ..records import Prompt, TokenGrid
from .base import Family
from .loading import quiet


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
        checkpoint = self.family.checkpoint
        if (checkpoint.path / "chat_template.jinja").is_file():
            return (checkpoint.path / "chat_template.jinja").read_text()
        return checkpoint.json("chat_template.json").get("chat_template")

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
        # Text stands before certain visual tokens, and behind the last: the prompt's own, and what the layout writes.
        layout, done = grid.layout, 0
        texts = [(0, [*before, *layout.before]), *layout.between, (grid.tokens, [*layout.after, *after])]
        ids, visual = [], []
        for stop, text_ids in texts:
            ids += [torch.full((stop - done,), self.family.placeholder), torch.tensor(text_ids, dtype=torch.int64)]
            visual += [torch.arange(done, stop), torch.full((len(text_ids),), -1)]
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
