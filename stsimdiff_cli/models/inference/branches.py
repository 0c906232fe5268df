"""Several questions at once: each is a branch of one sequence, whose trunk is the video.

    trunk (in the cache)       branch 0        branch 1                new tokens of the answers
    <user> v v v v v v v    What happens?    Where is it?    0 1    0 1    0

A branch attends to the trunk and to itself, and its positions go on where the trunk's end. So the cache of the video is
neither computed nor stored again for each question, and a step of decoding reads weights and cache once for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from .finite import require_finite
from .language_model import LanguageModel
from .masks import MASK
from .rules import Rules

#: Tokens of all branches together, answers included, if the trunk is not longer: they attend to all and use few.
ROOM = 4096
_TRUNK = -1


class Text:
    """The text of an answer, as it is `written`; `on_text` receives it as soon as its characters are complete."""

    def __init__(
        self,
        tokenizer: Any,
        written: Callable[[str], str] = str,
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.written = written
        self.on_text = on_text
        self.ids: list[int] = []
        self._said = 0

    def __str__(self) -> str:
        return self.written(self._decoded())

    def _decoded(self) -> str:
        return str(self.tokenizer.decode(self.ids, skip_special_tokens=True))

    def add(self, token: int, last: bool) -> None:
        """Take the next token."""
        self.ids.append(token)
        if self.on_text is None:
            return
        text = self._decoded()
        whole = last or not text.endswith("�")  # else it ends with part of a character
        text = self.written(text)
        if whole and len(text) > self._said:
            self.on_text(text[self._said :])
            self._said = len(text)


@dataclass(eq=False)
class Branch:
    """A question and its answer so far."""

    ids: Tensor  # (L,) the whole prompt with its trunk, then the answer
    new: Tensor  # (n,) the last of them: those that the cache does not hold
    positions: Tensor  # (1, n) or (R, 1, n) of the new ones
    room: int  # tokens that the branch may add to the cache
    rules: Rules
    generator: torch.Generator
    text: Text
    seconds: dict[str, float] = field(default_factory=lambda: {"share": 0.0})  # see Answer

    def choose(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The next token (1,) by its scores (1, vocabulary), and whether the answer ends with it (1,)."""
        scores = self.rules.process(self.ids[None], scores)
        if self.rules.sample:
            token = torch.multinomial(scores.softmax(-1), 1, generator=self.generator)[0]
        else:
            token = scores.argmax(-1)
        self.ids = torch.cat([self.ids, token])
        self.new, self.positions = token, self.positions[..., -1:] + 1
        return token, self.rules.stop(self.ids[None], None)


def answer(language: LanguageModel, cache: Cache, positions: Tensor, branches: Sequence[Branch], start: float) -> None:
    """Decode the answers of all branches into their texts; the cache holds the trunk before and after.

    `positions` (K,) are those of the trunk, and `start` is when the questions were asked, by `time.perf_counter`.
    ModelError if the model computes no numbers.
    """
    trunk, states = cache.get_seq_length(), _states(cache)
    for some in _groups(branches, lambda branch: branch.room, max(ROOM, trunk)):
        try:
            start = _answer(_Sequence(language, cache, positions), some, start)
        finally:
            _rewind(cache, trunk, states)


def _states(cache: Cache) -> dict[int, Any]:
    """Copies of the layers that keep one state for all tokens (linear attention), from which nothing can be removed."""
    return {i: deepcopy(layer) for i, layer in enumerate(cache.layers) if hasattr(layer, "recurrent_states")}


def _rewind(cache: Cache, length: int, states: dict[int, Any]) -> None:
    """Put a cache back to its first `length` tokens; `states` are its `_states` at that time."""
    more = cache.get_seq_length() - length
    layers: list[Any] = cache.layers
    for i, layer in enumerate(layers):
        if i in states:
            layers[i] = deepcopy(states[i])
        else:
            layer.crop(-more)  # negative: remove that many tokens


def _answer(sequence: _Sequence, live: list[Branch], start: float) -> float:
    """Decode the answers of branches that fit together; returns when they were done."""
    parts = [sequence.read(part) for part in sequence.parts(live)]
    scores, clock = torch.cat(parts), start
    while True:
        chosen = [branch.choose(row[None]) for branch, row in zip(live, scores, strict=True)]
        tokens, ends = (torch.cat(column).tolist() for column in zip(*chosen, strict=True))
        now = time.perf_counter()
        for branch, token, end in zip(live, tokens, ends, strict=True):
            branch.seconds["share"] += (now - clock) / len(live)
            branch.seconds.setdefault("first_token", now - start)
            branch.seconds["answer"] = now - start
            branch.text.add(token, last=end)
        live, clock = [branch for branch, end in zip(live, ends, strict=True) if not end], now
        if not live:
            return now
        scores = sequence.read(live)


class _Sequence:
    """The trunk and the tokens of all branches so far, in the order in which the cache holds them."""

    def __init__(self, language: LanguageModel, cache: Cache, positions: Tensor) -> None:
        self.model = language.model
        self.language = language
        self.cache = cache
        self.owners = torch.full((cache.get_seq_length(),), _TRUNK, device=language.device)  # (K,) the branch of each
        self.positions = positions.to(language.device)  # (K,)
        self.numbers: dict[Branch, int] = {}

    def parts(self, branches: Sequence[Branch]) -> Iterator[list[Branch]]:
        """The branches, as many at a time as a mask has room for."""
        keys = len(self.owners) + sum(len(branch.new) for branch in branches)
        for branch in branches:
            self.numbers[branch] = len(self.numbers)
        return _groups(branches, lambda branch: len(branch.new), MASK // keys)

    def read(self, branches: Sequence[Branch]) -> Tensor:
        """Run the new tokens of branches through the LLM: the scores (B, vocabulary) of what comes next, in float32."""
        past, lengths = len(self.owners), torch.tensor([len(branch.new) for branch in branches])
        numbers = torch.tensor([self.numbers[branch] for branch in branches])
        self.owners = torch.cat([self.owners, numbers.repeat_interleave(lengths).to(self.owners)])
        position_ids = torch.cat([branch.positions for branch in branches], dim=-1)
        self.positions = torch.cat([self.positions, position_ids.flatten(0, -2)[0]])
        alone = len(self.numbers) == 1 and self.language.family.window is None  # then it sees all that came before
        last = (lengths.cumsum(0) - 1).to(self.owners)
        scores = self.model(
            input_ids=torch.cat([branch.new for branch in branches])[None],
            position_ids=position_ids,
            attention_mask=None if alone else self._masks(past),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=last,
        ).logits[0]
        scores = scores if len(scores) == len(last) else scores[last]  # a class that does not know `logits_to_keep`
        scores = scores.to(torch.float32, copy=True)
        checkpoint = self.language.family.checkpoint
        require_finite(scores.amax(-1), "The outputs", checkpoint, self.model.dtype)  # tokens ruled out have -inf
        return scores

    def _masks(self, past: int) -> Any:
        """What the tokens after the first `past` attend to, as the model takes it."""
        own = self.owners[past:, None]
        seen = ((self.owners == _TRUNK) | (self.owners == own)).tril(past)
        return self.language.masks(seen, self.positions)


def _groups(branches: Iterable[Branch], size: Callable[[Branch], int], most: int) -> Iterator[list[Branch]]:
    """Branches in turn, at least one at a time and not more than have `most` together."""
    group: list[Branch] = []
    for branch in branches:
        if group and sum(map(size, group)) + size(branch) > most:
            yield group
            group = []
        group.append(branch)
    if group:
        yield group
