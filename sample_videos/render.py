"""Renders the sample videos of this folder again, and prints their questions with the true answers.

python sample_videos/render.py [FOLDER]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from stsimdiff_cli.synthetic.clips import Clip, make_clip
from stsimdiff_cli.synthetic.video_file import write_video

#: File name: event and seed of a clip of the held-out split.
SAMPLES = {"flash": ("flash", 2055), "vanish": ("vanish", 2140), "recolour": ("recolour", 2030), "move": ("move", 2429)}
ZOOM = 2  # pictures are 224 x 224, so that the colour of small objects survives 4:2:0 subsampling


def render_sample(name: str) -> Clip:
    """The clip of a sample video."""
    event, seed = SAMPLES[name]
    return make_clip(seed, "still", "heldout", 32, event)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent, help="default: this folder")
    folder = parser.parse_args().folder
    for name in SAMPLES:
        clip = render_sample(name)
        write_video(folder / f"{name}.mp4", clip.frames.repeat(ZOOM, 1).repeat(ZOOM, 2), clip.fps)
        print(f"{name}.mp4")
        for question in clip.questions:
            print(f"  {question.text} {question.answer}")


if __name__ == "__main__":
    main()
