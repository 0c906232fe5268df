"""Prompts with visual tokens in them: a question becomes token ids and positions."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from ...errors import ModelError, RequestError
from ...records import Prompt, TokenGrid
from ..families.base import Family


class Prompter:
    """Turns a question into token ids and positions; needs the tokenizer and the configuration, no weights."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.tokenizer = family.tokenizer
        self._template = self._read_template()

    def _read_template(self) -> str | None:
        """The chat template: a file of its own in checkpoints old and new, or the tokenizer's."""
        checkpoint = self.family.checkpoint
        if (checkpoint.path / "chat_template.jinja").is_file():
            return (checkpoint.path / "chat_template.jinja").read_text()
        return checkpoint.json("chat_template.json").get("chat_template")

    def ids(self, grid: TokenGrid, question: str) -> tuple[Tensor, Tensor]:
        """Ids (L,) and visual positions (L,) of the whole prompt, all N visual tokens in place."""
        plain = self._plain(grid, question)
        places = [i for i, token in enumerate(plain) if token == self.family.placeholder]
        expected = grid.shape[0] if self.family.slotwise else 1
        if len(places) != expected:
            raise RequestError(
                f"The prompt holds {len(places)} video placeholders instead of {expected}.",
                "Leave special tokens out of the question.",
            )
        # Text stands before certain visual tokens, and behind the last: the prompt's own, and what the layout writes.
        begins = [0, *(place + 1 for place in places)]
        own = [plain[begin:place] for begin, place in zip(begins, [*places, len(plain)], strict=True)]
        share, layout, done = grid.tokens // expected, grid.layout, 0
        texts = [(share * i, ids) for i, ids in enumerate(own[:-1])] + [(0, [*layout.before]), *layout.between]
        texts = [*sorted(texts, key=lambda text: text[0]), (grid.tokens, [*layout.after, *own[-1]])]
        ids, visual = [], []
        for stop, text_ids in texts:
            ids += [torch.full((stop - done,), self.family.placeholder), torch.tensor(text_ids, dtype=torch.int64)]
            visual += [torch.arange(done, stop), torch.full((len(text_ids),), -1)]
            done = stop
        return torch.cat(ids), torch.cat(visual)

    def _plain(self, grid: TokenGrid, question: str) -> list[int]:
        """Ids of the prompt with one placeholder for the whole video, or for each slot if the family is `slotwise`."""
        around = self.family.around(grid, question)
        if around is not None:
            before, after = (self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in around)
            return [*before, self.family.placeholder, *after]
        content: Any = [self.family.video_part, {"type": "text", "text": question}]
        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=self._template,
                add_generation_prompt=True,
                tokenize=False,
            )
        except (ValueError, TypeError) as error:
            raise ModelError(f"{self.family.checkpoint.id} has no usable chat template: {error}") from error
        text = self.family.written(str(text), grid)
        begin = self.tokenizer.bos_token  # as transformers' processors: added, unless the template wrote it
        return self.tokenizer(text, add_special_tokens=not (begin and text.startswith(begin)))["input_ids"]

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
        return Prompt(ids, visual, positions)[keep]
