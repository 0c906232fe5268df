"""Renders clips of objects whose events and answers are known, on rungs of rising difficulty. Needs numpy only.

Every rung changes one thing of rung `still`, for the same seeds, events and questions. A clip is a function of its
arguments.

clips.py              the clip of a seed on a rung                                <- read first
world.py              what there is: colours, shapes, bodies
script.py             what happens when
plots.py              the scripts of rungs
rungs.py              what a rung changes: camera, noise, occluders, ...
draw.py               the pixels, with textures.py (photographs.npz) and codec.py
questions.py          what can be asked, wordings and answers
choices.py            the same questions as multiple choice
benchmark_prompts.py  the prompts of three benchmarks
video_file.py         writes frames to a video file (needs PyAV)
"""

#: Sides of rendered pictures in pixels; files may hold them enlarged.
_SIDES, _LARGEST = (96, 112), 3


def looks_rendered(width: int, height: int) -> bool:
    """Whether a video of this size may be one of these clips: small squares, which hardly any other is."""
    return width == height and any(width in range(side, _LARGEST * side + 1, side) for side in _SIDES)
