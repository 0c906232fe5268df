"""Renders the sample videos again.

python -m stsimdiff_cli.synthetic.samples sample_videos
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from .clips import Clip, make_clip

# File name: event and seed of a held-out clip.
SAMPLES = {"flash": ("flash", 2012), "vanish": ("vanish", 2019), "recolour": ("recolour", 2030), "move": ("move", 2038)}
ZOOM = 2  # pictures are 192 x 192, so that the colour of small objects survives 4:2:0 subsampling


def sample(name: str) -> Clip:
    """The clip of a sample video."""
    event, seed = SAMPLES[name]
    return make_clip(seed, "heldout", 32, event)


def write_video(path: Path, frames: np.ndarray, fps: float, **options: str) -> None:
    """H.264 (CRF 12, 4:2:0) from (T, H, W, 3) uint8 frames; `options` are more or other options of libx264."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(fps))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "12", "preset": "slow", "threads": "1", **options}
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name in SAMPLES:
        clip = sample(name)
        write_video(folder / f"{name}.mp4", clip.frames.repeat(ZOOM, 1).repeat(ZOOM, 2), clip.fps)
        print(f"{name}.mp4")
        for question in clip.questions:
            print(f"  {question.text} {question.answer}")


if __name__ == "__main__":
    main()
