"""Answers to questions about one video, from the tokens that a variant keeps of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from .. import pipeline
from ..models.inference.conversation import Answer, Conversation
from ..models.inference.model_cache import ModelCache
from ..models.loading.runtime import Runtime
from ..models.question import ORIGINAL
from ..records import CompressedVideo, FrameSize, VideoTokens
from ..timing import Stopwatch
from .variants import INSIDE, QUESTION, Variant


@dataclass(frozen=True)
class Settings:
    """What decides an answer besides the question, the variant and the ratio."""

    model: str
    frames: int
    max_new_tokens: int = 32
    runtime: Runtime = Runtime()
    revision: str | None = None
    workers: int | None = None  # that decode a video; no answer depends on it
    size: FrameSize = FrameSize()


@dataclass(frozen=True)
class Answers:
    """Answers to some prompts about one video, from the same kept tokens.

    `video` holds these tokens; None if tokens are pruned inside the LLM. Seconds: "select" the tokens and "prefill"
    them; loading is left out.
    """

    kept: int
    answers: list[Answer]
    video: CompressedVideo | None = None
    select: float = 0.0
    prefill: float = 0.0


#: Answers to a video's questions by `fingerprint`, so that equal tokens are asked once.
Known = dict[bytes, Answers]


@dataclass
class Answerer:
    """Holds what stays the same from video to video; the cache loads every model once."""

    settings: Settings
    models: ModelCache = field(default_factory=ModelCache)

    def context(self) -> pipeline.Context:
        """The loaded models and a new stopwatch."""
        return pipeline.Context(self.models, Stopwatch(self.settings.runtime.device))

    def answers(
        self, tokens: VideoTokens, variant: Variant, ratio: str, prompts: Sequence[str], known: Known | None = None
    ) -> Iterator[tuple[list[int], Answers]]:
        """Answers to all prompts, with the numbers of the prompts that share them.

        Tokens are kept once for all prompts, or for each prompt its own if the variant asks for that. `known` holds
        answers about this video and gets the new ones; with None, every variant is asked anew.
        """
        if variant.form == INSIDE:
            yield list(range(len(prompts))), self.inside(tokens, variant, ratio, prompts)
            return
        alone = [([i], prompt) for i, prompt in enumerate(prompts)]
        shared: list[tuple[list[int], str | None]] = [(list(range(len(prompts))), None)]
        for numbers, prompt in alone if variant.form == QUESTION else shared:
            context = self.context()
            method, runtime = variant.method, self.settings.runtime
            video = pipeline.compress_tokens(tokens, ratio, method, runtime, prompt=prompt, context=context)
            answers = self.answer(video, [prompts[i] for i in numbers], known, variant.positions)
            yield numbers, replace(answers, video=video, select=working(context.timer))

    def answer(
        self, video: CompressedVideo, prompts: Sequence[str], known: Known | None = None, positions: str = ORIGINAL
    ) -> Answers:
        """Prefill what was kept and answer every prompt, unless the answers are `known`."""
        key = b"" if known is None else fingerprint(video, [positions, *prompts])
        if known is not None and key in known:
            return known[key]
        context = self.context()
        conversation = pipeline.converse(video, self.settings.runtime, positions=positions, context=context)
        answers = Answers(len(video.index), self._ask(conversation, prompts), video, prefill=working(context.timer))
        if known is not None:
            known[key] = answers
        return answers

    def inside(self, tokens: VideoTokens, variant: Variant, ratio: str, prompts: Sequence[str]) -> Answers:
        """All tokens enter with every prompt and are pruned between the LLM's layers.

        Those left after the last pruning layer count as kept.
        """
        conversation = pipeline.converse_inside(
            tokens, ratio, variant.method, self.settings.runtime, context=self.context()
        )
        answers = self._ask(conversation, prompts)
        return Answers(answers[-1].alive_per_layer[-1], answers)

    def without_video(self, tokens: VideoTokens, prompts: Sequence[str]) -> Answers:
        """Answers to the prompts without any visual token."""
        video = pipeline.all_tokens(tokens)
        none = video.index[:0]
        nothing = replace(
            video,
            features=video.features.gather(none),
            deepstack=None if video.deepstack is None else video.deepstack.gather(none),
            index=none,
            kind=video.kind[:0],
            community=video.community[:0],
            importance=None,
        )
        return replace(self.answer(nothing, prompts), video=None)

    def _ask(self, conversation: Conversation, prompts: Sequence[str]) -> list[Answer]:
        return conversation.ask_all(prompts, max_new_tokens=self.settings.max_new_tokens)


def fingerprint(video: CompressedVideo, words: Sequence[str]) -> bytes:
    """Equal for equal tokens of one video and equal words: what is asked, and how."""
    digest = hashlib.sha256(repr(list(words)).encode())
    for tensor in (video.index, video.features.tensor()):
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def working(timer: Stopwatch | None) -> float:
    """Seconds of all steps but loading, which happens once for all videos."""
    return sum(seconds for step, seconds in timer.seconds.items() if step != "load") if timer else 0.0
