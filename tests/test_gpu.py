"""Every family and method on a GPU, in the types and attention kernels that GPUs are for, held against the CPU.

`make test-gpu` runs them on a real one. Elsewhere the same tests run in bfloat16 on the second device of
tests/support/second_device.py: so no tensor is on a wrong device in that type, and the bounds are those of rounding.
The Triton kernels are in tests/graph/test_kernels.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from stsimdiff_cli import pipeline
from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.inference.conversation import Answer
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.model_cache import ModelCache
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.runtime import ATTENTION, Runtime
from stsimdiff_cli.pipeline import Context
from stsimdiff_cli.records import CompressedVideo, Sizing, VideoTokens
from stsimdiff_cli.video import Sampling
from tests.support.clip_factory import SAMPLES
from tests.support.family_checks import clip_of
from tests.support.second_device import second_device
from tests.support.whole_models import grid_of, last_logits

QUESTION = "What appears for a moment?"
CPU = Runtime("cpu", "float32")
#: What rounding may change: features by their norm, logits in their standard deviations, of the tiny checkpoints.
BOUNDS = {"bfloat16": (0.06, 0.3), "float16": (0.01, 0.1)}
#: The part of the tokens that a method keeps on both devices: another order of summation may turn near ties.
AGREE = 0.95
QUESTIONS = (QUESTION, "What happens in this video?", "How many objects are there?", "Which object moves?")


def _combinations() -> list[Any]:
    kernels = [name for name, usable in ATTENTION.items() if usable is None or usable()]
    real = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
    every = [(dtype, kernel) for dtype in BOUNDS for kernel in kernels]
    return [
        pytest.param(("bfloat16", "sdpa", second_device), id="second device-bfloat16-sdpa"),
        *(pytest.param((*pair, nullcontext), id=f"gpu-{'-'.join(pair)}", marks=real) for pair in every),
    ]


@pytest.fixture(params=_combinations())
def there(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    """How the program runs on the GPU: each type with each attention kernel that is installed."""
    dtype, kernel, device = request.param
    with device():
        yield Runtime("cuda", dtype, kernel)


@pytest.fixture(scope="module")
def tokens() -> VideoTokens:
    """The tokens of a sample clip by the embedded model, with all evidence."""
    return pipeline.encode_video(
        SAMPLES / "flash.mp4", sampling=Sampling(frames=16), runtime=CPU, evidence=("saliency", "keys")
    )


@pytest.fixture(scope="module")
def models() -> ModelCache:
    return ModelCache()


def on_the_cpu(there: Runtime) -> Runtime:
    """The same type on the CPU."""
    return Runtime("cpu", there.dtype)


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """The norm of the difference, relative to that of what is expected."""
    return float((got.float() - expected).norm() / expected.norm())


def encode(family: Family, frames: torch.Tensor, runtime: Runtime) -> torch.Tensor:
    """The features (T, H, W, D) of a whole clip, on the CPU."""
    encoder = VisionEncoder(family, runtime.resolve(family.checkpoint))
    return encoder.encode(frames, Sizing(len(frames)))["features"]


def logits_of(family: Family, video: CompressedVideo, runtime: Runtime) -> torch.Tensor:
    """The logits (V,) after a question about a compressed video, float32 on the CPU."""
    language = LanguageModel(family, runtime.resolve(family.checkpoint))
    prompt = language.prompter.prompt(language.model, video.grid, QUESTION, video.index)
    return last_logits(language, prompt, video.embeddings).float().cpu()


def test_a_family_sees_selects_and_reads_as_on_the_cpu(there: Runtime, family: Family) -> None:
    features_bound, logits_bound = BOUNDS[there.dtype]
    frames = clip_of(6, 45, 60)
    expected, got = encode(family, frames, CPU), encode(family, frames, there)
    assert got.dtype == getattr(torch, there.dtype) and got.device.type == "cpu"
    assert error(got, expected) < features_bound

    grid = grid_of(family, got)
    seen = VideoTokens.of(grid, {"features": got})
    here, kept = (pipeline.compress_tokens(seen, "0.3", "st-simdiff+", runtime) for runtime in (CPU, there))
    assert torch.equal(kept.index, here.index) and torch.equal(kept.kind, here.kind)

    # In another type a mixture may choose other experts.
    same = on_the_cpu(there) if family.name.endswith("_moe") else CPU
    expected, got = logits_of(family, kept, same), logits_of(family, kept, there)
    assert float((got - expected).abs().max() / expected.std()) < logits_bound


def agreeing(here: list[str], answers: list[str]) -> int:
    return sum(map(str.__eq__, here, answers))


@pytest.mark.parametrize("method", list(METHODS))
def test_a_method_keeps_what_it_keeps_on_the_cpu(there: Runtime, method: str, tokens, models) -> None:
    here, kept = (
        pipeline.compress_tokens(tokens, "0.3", method, runtime, context=Context(models))
        for runtime in (on_the_cpu(there), there)
    )
    assert len(kept.index) == len(here.index)
    assert torch.isin(kept.index, here.index).float().mean() >= AGREE


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS.load(name).inside])
def test_a_method_prunes_inside_the_llm_as_on_the_cpu(there: Runtime, method: str, tokens, models) -> None:
    def ask(runtime: Runtime) -> list[Answer]:
        talk = pipeline.converse_inside(tokens, "0.3", method, runtime, context=Context(models))
        return [talk.ask(question, max_new_tokens=8) for question in QUESTIONS]

    here, answers = ask(on_the_cpu(there)), ask(there)
    assert [answer.alive_per_layer for answer in answers] == [answer.alive_per_layer for answer in here]
    assert agreeing([answer.text for answer in here], [answer.text for answer in answers]) >= len(QUESTIONS) - 1


def test_questions_are_answered_together_as_on_the_cpu_in_float32(there: Runtime, tokens, models) -> None:
    kept = pipeline.compress_tokens(tokens, "0.3", runtime=CPU, context=Context(models))

    def ask(runtime: Runtime) -> list[str]:
        talk = pipeline.converse(kept, runtime, context=Context(models))
        return [answer.text for answer in talk.ask_all(QUESTIONS, max_new_tokens=8)]

    here = ask(CPU)
    assert here[0] == "black square" and agreeing(here, ask(there)) >= len(QUESTIONS) - 1
