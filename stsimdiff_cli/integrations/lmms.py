"""The model `stsimdiff` of lmms-eval: video benchmarks answered from compressed videos.

    lmms-eval --model stsimdiff --model_args model=Qwen/Qwen2.5-VL-7B-Instruct,method=st-simdiff,ratio=0.3,frames=64 \\
        --tasks videomme,longvideobench_val_v,egoschema_subset --batch_size 1

A video is encoded and compressed once for all its questions, and kept in the cache (../cache.py), which the processes
of `accelerate launch` share. A question is asked as `stsimdiff ask` would ask it.

lmms-eval splits --model_args at commas: write `+` between the parameters of a method,
`method=st-simdiff:tau_sim=0.7+layer=2`, or put quotes around it. `@question` and `@inside` behind it mean what they
mean to `stsimdiff bench`.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lmms_eval.api.model import lmms

from ..errors import RequestError, StsimdiffError
from ..registry import unknown_name

if TYPE_CHECKING:
    import torch

    from ..evaluation.plan import Contender
    from ..integrations.video_cache import Recipe, VideoCache
    from ..models.inference.conversation import Conversation

#: What lmms-eval hands every model beside --model_args, or users of other models write for ours.
_ALIASES = {"pretrained": "model", "attn_implementation": "attn"}
#: What a task may ask of generation and we do.
_HONOURED = {"max_new_tokens", "temperature", "do_sample", "until"}
#: Values that change nothing: one beam, or no cut of the probabilities.
_HARMLESS: dict[str, tuple[Any, ...]] = {"num_beams": (1, None), "top_p": (1, 1.0, None), "top_k": (0, None)}
#: What lmms-eval puts into `until` for a task that says nothing of the end; answers that contain it are not cut.
_FILLER = "\n\n"
_MAX_NEW_TOKENS = 128  # for a task that does not say, as for `stsimdiff ask`


@dataclass(frozen=True)
class Arguments:
    """What --model_args may hold; names and meanings are those of the stsimdiff command line.

    `method` may end in @question or @inside. `cache_gb` bounds the cache in `cache_dir` (default: see cache.py), in
    10^9 bytes; 0 switches it off. lmms-eval adds the batch sizes by itself.
    """

    model: str = "tiny-choice"
    method: str = "st-simdiff"
    ratio: str = "0.3"
    frames: int = 64
    fps: float | None = None
    device: str = "auto"
    dtype: str = "auto"
    attn: str = "auto"
    quantize: str | None = None
    revision: str | None = None
    decoder: str = "auto"
    cache_dir: str | None = None
    cache_gb: float = 20.0
    batch_size: int = 1
    max_batch_size: int | None = None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Arguments:
        """From the values that lmms-eval made of the text (`0.3` is a float by now). RequestError for a wrong one."""
        known = {item.name: item for item in fields(cls)}
        values: dict[str, Any] = {}
        for written, value in given.items():
            name = _ALIASES.get(written, written)
            if name not in known:
                names = ", ".join(sorted(known.keys() - {"max_batch_size"}))
                raise RequestError(f"There is no argument named {written!r}.", f"Known: {names}.")
            if name in values:
                raise RequestError(f"{written} and {name} mean the same.", "Give one of them.")
            if value is not None:
                values[name] = _converted(name, str(known[name].type), value)
        found = cls(**values)
        if found.frames < 1:
            raise RequestError(f"frames={found.frames} is too few.", "Give a number of at least 1, e.g. frames=64")
        if "frames" in values and found.fps is not None:
            raise RequestError("frames and fps exclude each other.", "Give one of them.")
        if found.batch_size != 1:
            raise RequestError(
                f"batch_size={found.batch_size}: stsimdiff answers one question at a time.", "Use --batch_size 1"
            )
        return found

    def contender(self) -> Contender:
        """The method and its form."""
        from ..evaluation.plan import parse_contender

        return parse_contender(re.sub(r"[+;]\s*(?=\w+=)", ",", self.method.strip("'\"")))

    def recipe(self, contender: Contender, device: torch.device) -> Recipe:
        """How videos are encoded and compressed; RequestError for what this machine cannot do.

        The model is looked for once: from then on it is the folder where it was found, and no hub is asked.
        """
        from ..integrations.video_cache import Recipe
        from ..models import EMBEDDED_FOLDERS
        from ..models.loading.checkpoint import find_checkpoint
        from ..models.loading.runtime import Runtime
        from ..ratio import parse_ratio
        from ..video import READERS, Sampling

        runtime = Runtime(str(device), self.dtype, self.attn, self.quantize)
        runtime.check()
        checkpoint = find_checkpoint(self.model, self.revision)
        runtime.resolve(checkpoint)
        if self.decoder not in ("auto", *READERS):
            raise unknown_name(READERS.what, self.decoder, ["auto", *READERS])
        return Recipe(
            model=checkpoint.id if checkpoint.id in EMBEDDED_FOLDERS else str(checkpoint.path),
            sampling=Sampling(frames=self.frames, fps=self.fps, decoder=self.decoder),
            runtime=runtime,
            method=contender.method,
            ratio=parse_ratio(self.ratio),
        )


def _converted(name: str, kind: str, value: Any) -> Any:
    """One value as the argument's type, which is written as in the dataclass above."""
    if kind.startswith("str"):
        return str(value)
    try:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        if kind.startswith("int"):
            if number != int(number):
                raise ValueError
            return int(number)
    except (TypeError, ValueError):
        wanted = "a whole number" if kind.startswith("int") else "a number"
        raise RequestError(f"{name}={value} is not {wanted}.", f"Write e.g. {name}=1") from None
    return number


@dataclass(frozen=True)
class Question:
    """One request: where its answer goes, the prompt, the video, how to generate, and how often it came before."""

    place: int
    text: str
    video: Path
    generation: Mapping[str, Any]
    repeat: int = 0


class StSimDiffModel(lmms):
    """Answers questions about videos from compressed tokens; `arguments` are those of `Arguments`.

    RequestError for wrong arguments, and for a task that gives something else than one video for each question.
    """

    is_simple = True

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        from ..integrations.video_cache import GB, VideoCache
        from ..models import EMBEDDED_FOLDERS
        from ..models.inference.model_cache import ModelCache

        given = Arguments.read(arguments)
        self._told: set[str] = set()
        self._contender = given.contender()
        self._recipe = given.recipe(self._contender, self._join(given.device))
        self._cache: VideoCache = VideoCache(given.cache_dir, int(given.cache_gb * GB), warn=_warn)
        self._models = ModelCache()
        if self._recipe.model in EMBEDDED_FOLDERS and self._rank == 0:
            _warn(
                f"The embedded model {self._recipe.model} knows rendered clips of coloured shapes; "
                "name a real one: model=OWNER/NAME"
            )

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> StSimDiffModel:
        """As lmms-eval's own; a wrong argument ends the command with a sentence."""
        try:
            return super().create_from_arg_string(arg_string, additional_config)
        except StsimdiffError as error:
            raise SystemExit(f"stsimdiff: {_sentence(error)}") from None

    def _join(self, name: str) -> torch.device:
        """Take the place among the processes that `accelerate launch` or torchrun started, if there are several.

        Returns the device for the model: of a machine's GPUs each process gets its own.
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
        """Where lmms-eval puts what it gathers from all processes."""
        return self._device

    @property
    def batch_size(self) -> int:
        """Always 1."""
        return 1

    def generate_until(self, requests: list[Any]) -> list[str]:
        """The answers, in the order of the requests. Those about one video are asked one after the other."""
        from tqdm import tqdm

        questions = self._questions(requests)
        answers = [""] * len(questions)
        groups = in_turn(by_video(questions), self._rank, self._world_size)
        with tqdm(total=len(questions), desc="stsimdiff", disable=self._rank != 0) as progress:
            for video, asked in groups:
                for question, answer in self._answered(video, asked):
                    answers[question.place] = answer
                    self.cache_hook.add_partial("generate_until", (question.text, question.generation), answer)
                    progress.update(1)
        return answers

    def loglikelihood(self, requests: list[Any]) -> NoReturn:
        """Not possible: the model generates."""
        raise NotImplementedError(
            "stsimdiff generates answers and gives no likelihoods: choose a task that generates, "
            "e.g. egoschema_subset instead of egoschema_subset_mcppl."
        )

    def generate_until_multi_round(self, requests: list[Any]) -> NoReturn:
        """Not possible: every question starts from the video alone."""
        raise NotImplementedError("stsimdiff answers each question on its own: tasks in several rounds do not work.")

    def clean(self) -> None:
        """Let go of the model."""
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
        try:
            converse = self._conversations(video)
            for question in questions:
                settings = self._settings(question)
                answer = converse(question.text).ask(question.text, **settings).text
                yield question, cut(answer, question.generation.get("until"))
        except StsimdiffError as error:
            raise type(error)(_sentence(error)) from None  # lmms-eval prints no hints

    def _conversations(self, video: Path) -> Callable[[str], Conversation]:
        """A function that gives the conversation about a video in which a question is to be asked."""
        from dataclasses import replace

        from .. import pipeline
        from ..evaluation.plan import INSIDE, QUESTION

        recipe, context = self._recipe, pipeline.Context(self._models)
        form = self._contender.form
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
            conversation = pipeline.converse(self._cache.video(video, recipe, context), recipe.runtime, context=context)
        return lambda _: conversation

    def _settings(self, question: Question) -> dict[str, Any]:
        settings, ignored = generation_settings(question.generation)
        for name, value in ignored.items():
            if name not in self._told:
                self._told.add(name)
                _warn(f"The task asks for {name}={value}, which stsimdiff does not do: it is ignored.")
        return {**settings, "seed": question.repeat}


def one_video(task: str, visuals: Any) -> Path:
    """The path of the video that a task shows; RequestError if it shows something else."""
    works = "Tasks with one video for each question work, e.g. videomme, longvideobench_val_v, egoschema_subset."
    shown = list(visuals or [])
    if len(shown) == 1 and isinstance(shown[0], str | Path):
        return Path(shown[0]).absolute()
    if not shown:
        found = "no video"
    elif all(isinstance(item, str | Path) for item in shown):
        found = f"{len(shown)} files at once"
    else:
        found = f"{len(shown)} of the kind {type(shown[0]).__name__} instead of a video"
    raise RequestError(f"The task {task} shows {found}. {works}")


def by_video(questions: Iterable[Question]) -> list[tuple[Path, list[Question]]]:
    """Questions about the same video together; videos in the order in which they come first."""
    groups: dict[Path, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.video, []).append(question)
    return list(groups.items())


def in_turn(groups: list[Any], rank: int, world: int) -> list[Any]:
    """The same groups, begun at another place by each of several processes.

    lmms-eval deals questions out in turn, so that all processes have the same videos: from different places, each
    makes other ones, and finds those of the others in the cache.
    """
    start = len(groups) * rank // world
    return groups[start:] + groups[:start]


def generation_settings(asked: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `Conversation.ask` takes of a task's wishes, and the wishes that it cannot fulfil.

    Greedy if do_sample is false or the temperature is 0; sampling without a temperature is at 1.
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
    """The answer up to the first of the texts that end it."""
    for end in [until] if isinstance(until, str) else until or []:
        if end and end != _FILLER:
            answer = answer.split(end)[0]
    return answer


def _sentence(error: StsimdiffError) -> str:
    return f"{error} {error.hint or ''}".strip()


def _warn(text: str) -> None:
    from loguru import logger

    logger.warning(text)
