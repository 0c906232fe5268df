"""What takes the place of a video in a prompt: ids, features and positions, independent of any engine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.families.base import Family
from ...models.inference.prompts import Prompter
from ...models.loading.random_weights import random_model
from ...records import CompressedVideo, Prompt, TensorRecord, TokenGrid


@dataclass(frozen=True, eq=False, repr=False)
class VideoSpan(TensorRecord):
    """The part of a prompt that stands for a video, whatever text is around it.

    S tokens, of which some are text: times in words, for instance.
    """

    ids: tuple[int, ...]  # (S,); kept tokens, and a learned newline after them, have the family's placeholder id
    features: Tensor  # (M, D), or (M, D + K D): each token's deepstack features after its own
    positions: Tensor  # (3, S) int64, counted from where the span begins
    advance: int  # the position of the first token after the span, likewise
    key: str  # hash of all of it


def laid_out(length: int, videos: Iterable[tuple[int, Tensor, int]]) -> Tensor:
    """Positions (3, length) of a prompt. Text counts on from what is before it; each video has those of its file.

    A video is its offset in the prompt, and the `positions` and the `advance` of its span; in the order of the prompt.
    """
    parts: list[Tensor] = []
    done = place = 0
    for offset, positions, advance in videos:
        parts += [torch.arange(place, place + offset - done).expand(3, -1), positions + place + offset - done]
        place += offset - done + advance
        done = offset + positions.shape[1]
    parts.append(torch.arange(place, place + length - done).expand(3, -1))
    return torch.cat(parts, dim=1)


class _Weightless:
    """A model as families ask it for positions: transformers' method for them looks at the configuration only."""

    device = torch.device("cpu")

    def __init__(self, family: Family) -> None:
        self.model = random_model(family.config, torch.device("meta"), torch.float32, "eager").model


class VideoPrompts:
    """Makes the prompts of one family; needs the tokenizer and the configuration, no weights."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.prompter = Prompter(family)
        self._model = _Weightless(family)

    def ids(self, video: CompressedVideo, question: str) -> list[int]:
        """The prompt of a question, with one placeholder where the span belongs. Errors as Prompter."""
        whole, begin, end = self._whole(video.grid, question)
        self.prompter.check_fits(self._kept(whole, video))
        return [*whole.ids[:begin].tolist(), self.family.placeholder, *whole.ids[end:].tolist()]

    def span(self, video: CompressedVideo) -> VideoSpan:
        """What stands for the video; the text between its tokens stays, as in `ask`."""
        whole, begin, end = self._whole(video.grid, "")
        part = self._kept(whole[begin:end], video)
        rows = whole.positions[-3:].expand(3, -1)  # Qwen-VL has running text positions before its three
        start = int(rows[:, begin - 1].max()) + 1
        tokens = video.embeddings
        features = [tokens.features, *([] if tokens.deepstack is None else [tokens.deepstack.flatten(1)])]
        ids, joined = tuple(part.ids.tolist()), torch.cat(features, dim=1).contiguous()
        positions = (part.positions[-3:].expand(3, -1) - start).contiguous()
        advance = int(rows[0, end]) - start
        key = hashlib.sha256(str((ids, advance, joined.dtype, tuple(joined.shape))).encode())
        for tensor in (positions, joined):
            key.update(tensor.view(torch.uint8).numpy().tobytes())
        return VideoSpan(ids, joined, positions, advance, key.hexdigest())

    def _whole(self, grid: TokenGrid, question: str) -> tuple[Prompt, int, int]:
        """The prompt with all N tokens in it, and where its span begins and ends."""
        whole = self.prompter.prompt(self._model, grid, question, torch.arange(grid.tokens))
        visual = (whole.visual >= 0).nonzero()[:, 0]
        before, after = self._written(grid)
        begin = int(visual[0]) - before - len(grid.layout.before)
        return whole, begin, int(visual[-1]) + 1 + after + len(grid.layout.after)

    def _written(self, grid: TokenGrid) -> tuple[int, int]:
        """How many ids the family writes before the first and after the last token, in the place of its placeholder."""
        if self.family.prompt_text(grid, "") is not None:
            return 0, 0
        own, tokenizer = self.family.placeholder, self.prompter.tokenizer
        text = self.family.expand_placeholder(tokenizer.convert_ids_to_tokens(own), grid)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids.index(own), ids[::-1].index(own)

    @staticmethod
    def _kept(prompt: Prompt, video: CompressedVideo) -> Prompt:
        """A prompt, or a part of one, with only the kept tokens in it."""
        kept = torch.zeros(video.grid.tokens, dtype=torch.bool)
        kept[video.index] = True
        return prompt[(prompt.visual < 0) | kept[prompt.visual.clamp_min(0)]]
