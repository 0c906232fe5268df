"""Bytes, and processor seconds to write and to read, of a compressed file of real width."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stsimdiff_cli.methods.uniform import Uniform
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import compress_tokens
from stsimdiff_cli.records import Embeddings, Layout, ModelRef, Source, TokenGrid, VideoTokens
from stsimdiff_cli.storage.reading import StoredVideo
from stsimdiff_cli.storage.writing import save_compressed

from .forms import OFFERED

#: 64 frames of LLaVA-Video-7B, of which 0.3 is kept.
SHAPE, WIDTH, RATIO, REPEATS = (64, 14, 15), 3584, "0.3", 3


def measure() -> list[dict[str, Any]]:
    """One row for every form: bytes, and the least seconds of a few repeats, in turn."""
    features = torch.randn(*SHAPE, WIDTH, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    seconds = tuple(float(slot) for slot in range(SHAPE[0]))
    source = Source("clip", 1, "", 64.0, 1.0, 64, 384, 384, "pyav")
    grid = TokenGrid(SHAPE, WIDTH, seconds, Layout(), ModelRef("random", "llava_video", None, ""), source)
    video = compress_tokens(VideoTokens.of(grid, {"features": features}), RATIO, Uniform(), Runtime(device="cpu"))
    rows = {store: {"form": store, "write": float("inf"), "read": float("inf")} for store in OFFERED}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(REPEATS):
            for store, row in rows.items():
                file = Path(folder) / store
                row["write"] = min(row["write"], _seconds(save_compressed, file, video, store=store))
                row["read"] = min(row["read"], _seconds(_read, file))
                row["bytes"] = file.stat().st_size
    return list(rows.values())


def _read(file: Path) -> Embeddings:
    return StoredVideo(file).video().embeddings


def _seconds(work: Callable[..., object], *args: object, **more: object) -> float:
    began = time.process_time()
    work(*args, **more)
    return time.process_time() - began
