"""How vLLM is told to serve a checkpoint with the plug-in."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Sequence
from typing import Any

import torch

from ...errors import ModelError, RequestError
from ...models.families.base import Family
from ...models.inference.conversation import Answer
from ...models.loading.damage import reason
from ...records import CompressedVideo
from . import AUTHORED, CLASSES, SCHEME, architecture
from .log import kept_stderr
from .prompts import VideoPrompts

#: Of families in AUTHORED: who reads the configuration, and who applies the penalty, which vLLM then must not.
_AUTHORED = {
    "config_format": SCHEME,
    "logits_processors": [f"{__package__}.penalty:AnswerPenalty"],
    "override_generation_config": {"repetition_penalty": 1.0},
}
#: Bytes for the LLM's states of the embedded model, in the place of most of the machine's memory: one whole context in
#: float32, and a quarter more.
_LITTLE = 1 << 29
_SEE = "--verbose shows all that vLLM writes."


def require_vllm() -> None:
    """RequestError if vLLM is not installed. Its log goes to stderr from here on, and only warnings do."""
    if importlib.util.find_spec("vllm") is None:
        raise RequestError("vLLM is not installed.", "Install it: pip install 'stsimdiff[vllm]'")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")


def require_template(family: Family) -> None:
    """RequestError for a family whose checkpoints have no chat template, by which a server writes its prompts."""
    if family.name in AUTHORED:
        raise RequestError(
            f"{family.checkpoint.id} cannot be served: checkpoints of the family {family.name} have no chat template.",
            "vLLM answers questions about its files without a server: stsimdiff ask FILE QUESTION --engine vllm",
        )


def require_served(family: Family) -> None:
    """RequestError for a family that the plug-in does not serve."""
    if family.name not in CLASSES:
        raise RequestError(
            f"{family.checkpoint.id} is of the family {family.name}, which cannot be served with vLLM yet.",
            f"These can: {', '.join(CLASSES)}. Others answer with `stsimdiff ask`.",
        )


def arguments(family: Family, dtype: str = "auto") -> dict[str, Any]:
    """Arguments of vLLM's engine, by the names that Python and, with dashes, its command line use.

    RequestError for a family that the plug-in does not serve.
    """
    require_served(family)
    return {
        "model": str(family.checkpoint.path),
        "dtype": dtype,
        "hf_overrides": {"architectures": [architecture(family.name)], **_sections(family)},
        "limit_mm_per_prompt": {"video": 8},
        "skip_mm_profiling": True,
        **({} if torch.cuda.is_available() else {"enforce_eager": True}),  # compiling pays on a GPU
        **({"kv_cache_memory_bytes": _LITTLE} if family.checkpoint.embedded else {}),
        **(_AUTHORED if family.name in AUTHORED else {}),
    }


def _sections(family: Family) -> dict[str, Any]:
    """What has to be said otherwise about the rotary embedding, so that vLLM takes three positions a token.

    An LLM whose positions are single numbers gets three sections, in any proportion.
    """
    text = family.config.get_text_config()
    rope = dict(text.rope_parameters)
    if "mrope_section" in rope:
        return {}
    half = (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads) // 2
    rope["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]
    return {"text_config": {"rope_parameters": rope}}


class Engine:
    """A model in vLLM, for questions about many videos at once. Its answers are those of `ask`, up to rounding."""

    def __init__(self, family: Family, dtype: str = "auto", live: bool = False, **settings: Any) -> None:
        """`settings` are further arguments of vLLM's `LLM`. ModelError if vLLM cannot load the checkpoint.

        What vLLM writes while it loads is shown only if `live`.
        """
        self.family, self.prompts = family, VideoPrompts(family)
        given = arguments(family, dtype) | settings
        if family.name in AUTHORED:
            os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"  # penalty.py is for the runner before it
        with kept_stderr(live) as log:
            try:
                from vllm import LLM

                self._llm = LLM(**given)
            except Exception as error:  # vLLM, torch and transformers raise dozens of types
                why = log.reason() or reason(error)  # the engine is a process of its own
                raise ModelError(f"vLLM cannot load {family.checkpoint.id}: {why}.", _SEE) from error

    def ask(
        self,
        videos: Sequence[CompressedVideo],
        questions: Sequence[str],
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[Answer]]:
        """Every question about every video, all at once: an answer a question, for each video.

        Seconds of an answer are an equal share of the whole. RequestError for what does not fit into the context.
        """
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError

        sampling = self._llm.get_default_sampling_params()
        sampling = SamplingParams(
            temperature=temperature,
            seed=seed,
            max_tokens=max_new_tokens,
            repetition_penalty=sampling.repetition_penalty,
            detokenize=False,
            **({"top_p": sampling.top_p, "top_k": sampling.top_k} if temperature else {}),
        )
        prompts: list[Any] = []
        for video in videos:
            span = self.prompts.span(video)
            prompts += [
                {"prompt_token_ids": self.prompts.ids(video, question), "multi_modal_data": {"video": [span]}}
                for question in questions
            ]
        start = time.perf_counter()
        try:
            done = self._llm.generate(prompts, sampling, use_tqdm=False)
        except VLLMClientError as error:
            raise RequestError(f"vLLM refuses a question: {error}.") from error
        share = (time.perf_counter() - start) / max(len(done), 1)
        decode = self.prompts.prompter.tokenizer.decode
        answers = []
        for request, video in zip(done, (video for video in videos for _ in questions), strict=True):
            ids = list(request.outputs[0].token_ids)
            text = self.family.answer_text(decode(ids, skip_special_tokens=True), video.grid)
            answers.append(Answer(text, len(ids), len(request.prompt_token_ids or ()), {"answer": share}))
        size = len(questions)
        return [answers[place : place + size] for place in range(0, len(answers), size)]
