"""The model `stsimdiff` for lmms-eval: answers video benchmarks from compressed videos.

    lmms-eval --model stsimdiff --model_args model=Qwen/Qwen2.5-VL-7B-Instruct,method=st-simdiff,ratio=0.3,frames=64 \\
        --tasks videomme,longvideobench_val_v,egoschema_subset --batch_size 1

A video is encoded and compressed once for all its questions and kept in the cache (video_cache.py), which the processes
of `accelerate launch` share. Questions are asked in the same way as by `stsimdiff ask`, `batch_size` at a time.

lmms-eval splits --model_args at commas: write `+` between the parameters of a method or the options of a model,
`method=st-simdiff:tau_sim=0.7+layer=2` or `model=OWNER/NAME:pool=average+times=off`, or put quotes around them.
`@question` and `@inside` after the method mean the same as in `stsimdiff bench`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lmms_eval.api.model import lmms

from ..errors import RequestError, StsimdiffError, VideoError
from .answer_log import AnswerLog
from .lmms_arguments import Arguments

if TYPE_CHECKING:
    import torch

    from ..integrations.video_cache import VideoCache
    from ..models.inference.conversation import Conversation

#: Generation settings of a task that are followed.
_HONOURED = {"max_new_tokens", "temperature", "do_sample", "until"}
#: Values that change nothing: a single beam, or no truncation of the probabilities.
_HARMLESS: dict[str, tuple[Any, ...]] = {"num_beams": (1, None), "top_p": (1, 1.0, None), "top_k": (0, None)}
#: lmms-eval's default for `until` in tasks that set none. Answers are not cut there.
_FILLER = "\n\n"
_MAX_NEW_TOKENS = 128  # for a task that sets no limit; the default of `stsimdiff ask`
ANSWERS = "answers"  # the folder of answers in that of the cache


@dataclass(frozen=True)
class Question:
    """One request: the position of its answer, the prompt, the video, generation settings, and earlier repeats."""

    place: int
    text: str
    video: Path
    generation: Mapping[str, Any]
    repeat: int = 0


class StSimDiffModel(lmms):
    """Answers questions about videos from compressed tokens. `arguments` are those of `Arguments`.

    RequestError for wrong arguments, and for a task that does not show exactly one video per question.
    """

    is_simple = True

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        from ..integrations.video_cache import GB, VideoCache
        from ..models import EMBEDDED
        from ..models.inference.model_cache import ModelCache

        parsed = Arguments.parse(arguments)
        self._warned: set[str] = set()
        self._broken: dict[Path, int] = {}  # videos that could not be read, and how many answers are empty for that
        self._batch_size = parsed.batch_size
        self._variant = parsed.variant()
        self._recipe = parsed.recipe(self._variant, self._join(parsed.device))
        self._cache: VideoCache = VideoCache(parsed.cache_dir, int(parsed.cache_gb * GB), warn=_warn)
        self._answers = AnswerLog(self._cache.files.folder / ANSWERS if self._cache.files.limit else None)
        self._models = ModelCache()
        if self._recipe.model == EMBEDDED and self._rank == 0:
            _warn(
                f"The embedded model {self._recipe.model} understands only rendered clips of coloured objects. "
                "For other videos choose a full model: model=OWNER/NAME"
            )

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> StSimDiffModel:
        """Like lmms-eval's own, but a wrong argument ends the command with a message instead of a traceback."""
        try:
            return super().create_from_arg_string(arg_string, additional_config)
        except StsimdiffError as error:
            raise SystemExit(f"stsimdiff: {_sentence(error)}") from None

    def _join(self, name: str) -> torch.device:
        """Join the processes that `accelerate launch` or torchrun started, if there are several.

        Returns the device for the model. Each process gets its own GPU.
        """
        from ..models.loading.runtime import pick_device

        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            self._device = pick_device(name)
            return self._device
        from accelerate import Accelerator

        self.accelerator = Accelerator()
        self._rank = self.accelerator.process_index
        self._world_size = self.accelerator.num_processes
        self._device = self.accelerator.device
        asked = self._device if name == "auto" else pick_device(name)
        return self._device if asked.type == self._device.type else asked

    @property
    def device(self) -> torch.device:
        """The device on which lmms-eval gathers results from all processes."""
        return self._device

    @property
    def batch_size(self) -> int:
        """How many questions about a video are asked together."""
        return self._batch_size

    def generate_until(self, requests: list[Any]) -> list[str]:
        """The answers, in the order of the requests. Questions about the same video are asked together.

        A video that cannot be read has empty answers; a warning names it, and another one counts them at the end.
        Answers that an earlier run gave to the same questions, with the same settings, are not asked for again.
        """
        from tqdm import tqdm

        self._broken = {}
        questions = self._questions(requests)
        answers = [""] * len(questions)
        groups = in_turn(by_video(questions), self._rank, self._world_size)
        with tqdm(total=len(questions), desc="stsimdiff", disable=self._rank != 0) as progress:
            for video, asked in groups:
                for question, answer in self._answered(video, asked):
                    answers[question.place] = answer
                    self.cache_hook.add_partial("generate_until", (question.text, question.generation), answer)
                    progress.update(1)
        if self._broken:
            empty = sum(self._broken.values())
            _warn(
                f"{len(self._broken)} of {len(groups)} videos could not be read: {empty} of {len(questions)} answers "
                "are empty."
            )
        return answers

    def loglikelihood(self, requests: list[Any]) -> NoReturn:
        """NotImplementedError: the model only generates."""
        raise NotImplementedError(
            "stsimdiff generates answers and computes no likelihoods. Choose a task that generates, "
            "e.g. egoschema_subset instead of egoschema_subset_mcppl."
        )

    def generate_until_multi_round(self, requests: list[Any]) -> NoReturn:
        """NotImplementedError: every question starts from the video alone."""
        raise NotImplementedError(
            "stsimdiff answers each question on its own and does not support tasks with several rounds."
        )

    def clean(self) -> None:
        """Release the model."""
        from ..models.inference.model_cache import ModelCache

        self._models = ModelCache()
        super().clean()

    # --- questions --------------------------------------------------------------------------------------------------

    def _questions(self, requests: list[Any]) -> list[Question]:
        questions, seen = [], Counter[tuple[str, str, Any, str]]()
        for place, request in enumerate(requests):
            text, generation, doc_to_visual, doc_id, task, split = request.args
            video = one_video(task, doc_to_visual(self.task_dict[task][split][doc_id]))
            same = (task, split, doc_id, text)
            questions.append(Question(place, text, video, generation, seen[same]))
            seen[same] += 1
        return questions

    def _answered(self, video: Path, questions: list[Question]) -> Iterator[tuple[Question, str]]:
        """Each question about a video with its answer."""
        left = []
        for question in questions:
            known = self._answers.get(self._key(question)) if self._answers and video.exists() else None
            if known is None:
                left.append(question)
            else:
                yield question, known
        if not left:
            return
        try:
            converse = self._conversations(video)
        except StsimdiffError as error:
            if video.exists() and not isinstance(error, VideoError):
                raise type(error)(_sentence(error)) from None  # lmms-eval prints no hints
            _warn(f"{_sentence(error)} Its {len(left)} answers are empty.")
            self._broken[video] = len(left)
            yield from ((question, "") for question in left)
            return
        for some in self._batches(left):
            texts = [question.text for question in some]
            try:
                answers = converse(texts[0]).ask_all(texts, **self._settings(some[0]))
            except StsimdiffError as error:
                raise type(error)(_sentence(error)) from None
            given = [cut(answer.text, each.generation.get("until")) for each, answer in zip(some, answers, strict=True)]
            self._answers.keep({self._key(each): text for each, text in zip(some, given, strict=True)})
            yield from zip(some, given, strict=True)

    def _key(self, question: Question) -> str:
        """What an answer depends on, as a hash."""
        from .video_cache import digest

        until = question.generation.get("until")
        return digest(
            {
                "video": self._recipe.video_key(question.video),
                "runtime": repr(self._recipe.runtime),
                "variant": [self._variant.form, self._variant.positions],
                "question": question.text,
                "settings": self._settings(question),
                "until": until if until is None or isinstance(until, str) else list(until),
            }
        )

    def _batches(self, questions: Iterable[Question]) -> Iterator[list[Question]]:
        """Questions that can be asked together, `batch_size` at most: they have the same tokens and settings."""
        from ..evaluation.variants import QUESTION

        alike: dict[str, list[Question]] = {}
        for question in questions:
            own = question.text if self._variant.form == QUESTION else ""
            alike.setdefault(repr((own, self._settings(question))), []).append(question)
        for some in alike.values():
            for begin in range(0, len(some), self._batch_size):
                yield some[begin : begin + self._batch_size]

    def _conversations(self, video: Path) -> Callable[[str], Conversation]:
        """A function from a question to the conversation in which to ask it."""
        from dataclasses import replace

        from .. import pipeline
        from ..evaluation.variants import INSIDE, QUESTION

        recipe, context = self._recipe, pipeline.Context(self._models)
        form = self._variant.form
        if form == QUESTION:
            tokens = self._cache.tokens(video, recipe, context)

            def own(question: str) -> Conversation:
                return pipeline.converse(
                    replace(recipe, prompt=question).compress(tokens, context), recipe.runtime, context=context
                )

            return own
        if form == INSIDE:
            tokens = self._cache.tokens(video, recipe, context)
            conversation: Conversation = pipeline.converse_inside(
                tokens, recipe.ratio, recipe.method, recipe.runtime, context=context
            )
        else:
            kept = self._cache.video(video, recipe, context)
            conversation = pipeline.converse(kept, recipe.runtime, positions=self._variant.positions, context=context)
        return lambda _: conversation

    def _settings(self, question: Question) -> dict[str, Any]:
        settings, ignored = generation_settings(question.generation)
        for name, value in ignored.items():
            if name not in self._warned:
                self._warned.add(name)
                _warn(f"The task asks for {name}={value}, which stsimdiff does not support; it is ignored.")
        return {**settings, "seed": question.repeat}


def one_video(task: str, visuals: Any) -> Path:
    """The path of the one video that a task shows. RequestError if it shows anything else."""
    hint = "Choose a task with one video per question, e.g. videomme, longvideobench_val_v or egoschema_subset."
    shown = list(visuals or [])
    if len(shown) == 1 and isinstance(shown[0], str | Path):
        return Path(shown[0]).absolute()
    if not shown:
        content = "no video"
    elif all(isinstance(item, str | Path) for item in shown):
        content = f"{len(shown)} files at once"
    else:
        content = f"{len(shown)} objects of type {type(shown[0]).__name__} instead of a video"
    raise RequestError(f"The task {task} shows {content}. {hint}")


def by_video(questions: Iterable[Question]) -> list[tuple[Path, list[Question]]]:
    """Questions grouped by video; videos in the order of their first question."""
    groups: dict[Path, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.video, []).append(question)
    return list(groups.items())


def in_turn(groups: list[Any], rank: int, world: int) -> list[Any]:
    """The same groups, rotated so that each process starts with a different one.

    lmms-eval deals questions out in turn, so every process gets the same videos. Starting at different videos, each
    process encodes some of them and finds the others' in the cache.
    """
    start = len(groups) * rank // world
    return groups[start:] + groups[:start]


def generation_settings(asked: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A task's generation settings as arguments of `Conversation.ask`, and the settings that are ignored.

    Decoding is greedy if do_sample is false or the temperature is 0. Sampling without a temperature uses 1.
    """
    sample, temperature = asked.get("do_sample"), asked.get("temperature")
    if temperature is None:
        temperature = 1.0 if sample else 0.0
    temperature = 0.0 if sample is False else float(temperature)
    ignored = {
        name: value
        for name, value in asked.items()
        if name not in _HONOURED
        and value not in _HARMLESS.get(name, ())
        and not (temperature == 0 and name in ("top_p", "top_k"))
    }
    return {"max_new_tokens": int(asked.get("max_new_tokens") or _MAX_NEW_TOKENS), "temperature": temperature}, ignored


def cut(answer: str, until: str | Iterable[str] | None) -> str:
    """The answer up to the first stop text in it."""
    for end in [until] if isinstance(until, str) else until or []:
        if end and end != _FILLER:
            answer = answer.split(end)[0]
    return answer


def _sentence(error: StsimdiffError) -> str:
    return f"{error} {error.hint or ''}".strip()


def _warn(text: str) -> None:
    from loguru import logger

    logger.warning(text)
