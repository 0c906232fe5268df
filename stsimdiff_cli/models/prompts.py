"""Prompts with visual tokens in them: a question becomes token ids and positions."""

from __future__ import annotations

import json
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
