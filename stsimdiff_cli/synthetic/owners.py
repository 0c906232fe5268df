"""Which body lies under every token of a frame, from what is drawn where."""

from __future__ import annotations

import numpy as np

from .clips import Clip
from .draw import coverage, visible
from .world import SIDE, Body

TOKEN = 16  # pixels a side
GRID = SIDE // TOKEN
CELLS = GRID * GRID
NONE, UNDECIDED = -1, -2
_MUCH, _LITTLE = 0.12, 0.015  # of a token


def shares(bodies: tuple[Body, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(bodies, 49) how much of each token a body visibly covers, and (112, 112) how much all of them cover.

    Later bodies cover earlier ones.
    """
    left = np.ones((SIDE, SIDE), np.float32)
    rows = []
    for body in bodies[::-1]:
        alpha = coverage(body)
        rows.append((alpha * left).reshape(GRID, TOKEN, GRID, TOKEN).mean((1, 3)).ravel())
        left = left * (1 - alpha)
    return np.array(rows[::-1]).reshape(len(bodies), CELLS), 1 - left


def owners(share: np.ndarray) -> np.ndarray:
    """(bodies, 49) shares -> (49,) the body that covers most of each token; NONE without any, UNDECIDED between."""
    if not len(share):
        return np.full(CELLS, NONE)
    best = share.max(0)
    return np.where(best > _MUCH, share.argmax(0), np.where(best < _LITTLE, NONE, UNDECIDED))


def names_under(clip: Clip, frame: int) -> list[str | None]:
    """The name of the body under each of the 49 tokens of a frame, "" for the background, None where undecided."""
    seen = visible(clip.script, clip.view, frame)
    names: dict[int, str | None] = {NONE: "", UNDECIDED: None}
    names |= {i: f"{body.turning if body.mix > 0.5 else body.colour} {body.shape}" for i, body in enumerate(seen)}
    return [names[int(owner)] for owner in owners(shares(seen)[0])]
