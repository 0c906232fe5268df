"""Controls: what a question is asked about besides the video, to see how much of the answer the video gives.

A question about events that is answered as well from shuffled or reversed frames, from one frame or from none says
nothing about time (TVBench, Cores et al., 2024).
"""

from __future__ import annotations

import random

from .plan import Cell

#: The questions alone, without any visual token.
NO_VIDEO: Cell = ("no video", "0")
#: All tokens of the frames in random order, of the frames backwards, and of the middle frame alone.
SHUFFLED: Cell = ("shuffled frames", "1")
REVERSED: Cell = ("reversed frames", "1")
SINGLE: Cell = ("single frame", "1")
CONTROLS = (SHUFFLED, REVERSED, SINGLE, NO_VIDEO)


def frame_order(control: Cell, frames: int, seed: str) -> list[int]:
    """The numbers of the frames that a control shows, in its order; `seed` decides how they are shuffled."""
    if control == SHUFFLED:
        return random.Random(seed).sample(range(frames), frames)
    if control == REVERSED:
        return list(reversed(range(frames)))
    if control == SINGLE:
        return [frames // 2]
    raise ValueError(f"control: got {control[0]!r}, expected one that shows frames")
