"""A model that answers from what a contender keeps of a video. Benches differ in what they make of the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .. import pipeline
from ..models.inference.conversation import Answer, Conversation
from ..models.inference.model_cache import ModelCache
from ..models.loading.runtime import Runtime
from ..records import CompressedVideo, VideoTokens
from ..timing import Stopwatch
from .plan import INSIDE, QUESTION, Contender


@dataclass(frozen=True)
class Replies:
    """Answers to some prompts about one video, from the same kept tokens.

    Seconds: "select" the tokens, "prefill" them, and for every prompt the whole "answer"; loading is left out.
    """

    kept: int
    answers: list[Answer]
    select: float
    prefill: float

    @property
    def texts(self) -> list[str]:
        """The answers alone."""
        return [answer.text for answer in self.answers]

    @property
    def answering(self) -> float:
        """Seconds of the prefill and of all answers."""
        return self.prefill + sum(answer.seconds["answer"] for answer in self.answers)


@dataclass
class Respondent:
    """Holds what stays the same from video to video; the cache loads every model once."""

    runtime: Runtime = Runtime()
    max_new_tokens: int = 32
    models: ModelCache = field(default_factory=ModelCache)

    def select(
        self, tokens: VideoTokens, contender: Contender, ratio: str, prompt: str | None
    ) -> tuple[CompressedVideo, float]:
        """What a contender keeps (for a prompt, or for the general one), and the seconds that it took."""
        context = self._context()
        video = pipeline.compress_tokens(tokens, ratio, contender.method, self.runtime, prompt=prompt, context=context)
        return video, working(context.timer)

    def answer(self, video: CompressedVideo, prompts: Sequence[str], select: float = 0.0) -> Replies:
        """Prefill what was kept, and answer every prompt."""
        context = self._context()
        conversation = pipeline.converse(video, self.runtime, context=context)
        return Replies(len(video.index), self._ask(conversation, prompts), select, working(context.timer))

    def inside(self, tokens: VideoTokens, contender: Contender, ratio: str, prompts: Sequence[str]) -> Replies:
        """All tokens enter with every prompt, and are cut between the LLM's layers; kept are those behind the last."""
        conversation = pipeline.converse_inside(tokens, ratio, contender.method, self.runtime, context=self._context())
        answers = self._ask(conversation, prompts)
        return Replies(conversation.alive_per_layer[-1], answers, 0.0, 0.0)

    def replies(
        self, tokens: VideoTokens, contender: Contender, ratio: str, prompts: Sequence[str]
    ) -> Iterator[tuple[list[int], Replies]]:
        """Answers to all prompts, whatever the contender's form, with the numbers of the prompts that share them."""
        if contender.form == INSIDE:
            yield list(range(len(prompts))), self.inside(tokens, contender, ratio, prompts)
            return
        for numbers, prompt in groups(contender, prompts):
            video, seconds = self.select(tokens, contender, ratio, prompt)
            yield numbers, self.answer(video, [prompts[i] for i in numbers], seconds)

    def _context(self) -> pipeline.Context:
        return pipeline.Context(self.models, Stopwatch(self.runtime.device))

    def _ask(self, conversation: Conversation, prompts: Sequence[str]) -> list[Answer]:
        return [conversation.ask(prompt, max_new_tokens=self.max_new_tokens) for prompt in prompts]


def groups(contender: Contender, prompts: Sequence[str]) -> list[tuple[list[int], str | None]]:
    """The numbers of prompts that share their tokens, with the prompt that importance is measured with."""
    if contender.form == QUESTION:
        return [([i], prompt) for i, prompt in enumerate(prompts)]
    return [(list(range(len(prompts))), None)]


def working(timer: Stopwatch | None) -> float:
    """Seconds of all steps but loading, which happens once for all videos."""
    return sum(seconds for step, seconds in timer.seconds.items() if step != "load") if timer else 0.0
