"""Renders clips of coloured shapes whose events and answers are known. Needs numpy and nothing else of the package.

shapes.py             draws shapes on textured backgrounds
scenes.py             places and moves shapes, renders the frames of a clip
clips.py              clips with one event, and what can be asked about them     <- read first
long_clips.py         clips with several events
pairs.py              two frames, before and after a small change
questions.py          wordings and answers
benchmark_prompts.py  the prompts of three benchmarks
choices.py            the same questions as multiple choice
video_file.py         writes frames to a video file (needs PyAV)
"""

#: Sides of rendered pictures in pixels; files may hold them enlarged.
_SIDES, _LARGEST = (96, 112), 3


def looks_rendered(width: int, height: int) -> bool:
    """Whether a video of this size may be one of these clips: small squares, which hardly any other is."""
    return width == height and any(width in range(side, _LARGEST * side + 1, side) for side in _SIDES)
