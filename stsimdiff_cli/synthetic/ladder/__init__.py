"""Clips of rising difficulty: every rung changes one thing of rung `still`, for the same seeds, events and questions.

world.py holds what there is, script.py what happens when, rungs.py what a rung changes, draw.py the pixels,
questions.py what can be asked, clips.py joins them. numpy only; a clip is a function of its arguments.
"""

from .clips import Clip, Outline, make_clip, outline_clip, twin_of
from .rungs import RUNGS

__all__ = ["RUNGS", "Clip", "Outline", "make_clip", "outline_clip", "twin_of"]
