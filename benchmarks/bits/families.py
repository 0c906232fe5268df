"""How far logits move: small random checkpoints of every family, all tokens of a few noisy frames.

Random weights have no outlier channels, so one is added to the features in a second pass: every tenth channel is five
times as large.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.loading.runtime import ResolvedRuntime
from stsimdiff_cli.records import CompressedVideo
from stsimdiff_cli.token_features import DenseFeatures
from tests.support.checkpoints import CHECKPOINTS
from tests.support.runtimes import FP32
from tests.support.whole_models import last_logits, tokens_of

from .forms import forms_of

QUESTION = "What happens in this video?"


def measure() -> list[dict[str, Any]]:
    """One row for every family, kind of features and form: the largest difference, in standard deviations of logits."""
    rows = []
    for name, make in CHECKPOINTS.items():
        with tempfile.TemporaryDirectory() as folder:
            rows += _family(name, make(Path(folder) / "checkpoint"), Path(folder), FP32)
    return rows


def _family(name: str, checkpoint: Path, folder: Path, runtime: ResolvedRuntime) -> list[dict[str, Any]]:
    family = open_family(str(checkpoint))
    language = LanguageModel(family, runtime)
    noise = torch.randint(0, 256, (6, 45, 60, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    tokens = tokens_of(family, noise)
    index = torch.arange(tokens.grid.tokens)
    prompt = language.prompter.prompt(language.model, tokens.grid, QUESTION, index)

    rows = []
    for outliers in (False, True):
        whole = tokens.embeddings
        features = whole.features.clone()
        features[:, ::10] *= 5 if outliers else 1
        video = CompressedVideo(
            tokens.grid,
            DenseFeatures(features, 1),
            index,
            torch.zeros(len(index), dtype=torch.uint8),
            -torch.ones(len(index), dtype=torch.int64),
            None,
            {"name": "vanilla", "parameters": {}, "ratio": "1", "prompt": None},
            {},
            None if whole.deepstack is None else DenseFeatures(whole.deepstack, 1),
        )
        expected: Tensor | None = None
        for form, _, stored in forms_of(video, folder, trials=True):
            got = last_logits(language, prompt, stored.embeddings)
            expected = got if expected is None else expected
            error = (stored.features.tensor().float() - features).norm() / features.norm()
            rows.append(
                {
                    "family": name,
                    "outliers": outliers,
                    "form": form,
                    "logits": float((got - expected).abs().max() / expected.std()),
                    "features": float(error),
                }
            )
    return rows
