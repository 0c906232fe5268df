"""Compress every video of a folder, with one loaded model.

    python examples/compress_folder.py sample_videos kept --ratio 0.3 --method st-simdiff

Writes kept/NAME.safetensors for each video, to be asked with `stsimdiff ask`. Outputs that exist are skipped, so that a
stopped run goes on where it was. A video that fails is named on stderr, the rest are done, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import stsimdiff_cli as st

SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts"}


def main(arguments: list[str] | None = None) -> int:
    """Compress what is not there yet; the exit code."""
    parser = argparse.ArgumentParser(description="Compress every video of a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path, help="folder for the compressed files")
    parser.add_argument("--ratio", default="0.3", help="fraction of tokens to keep")
    parser.add_argument("--method", default="st-simdiff")
    parser.add_argument("--model", default="tiny", help="hub id or folder")
    parser.add_argument("--frames", type=int, default=32)
    options = parser.parse_args(arguments)
    method, ratio = st.parse_method(options.method), st.parse_ratio(options.ratio)
    context = st.Context(models=st.ModelCache())  # loads the model once, for all videos
    options.output.mkdir(parents=True, exist_ok=True)

    failed = 0
    for video in sorted(path for path in options.folder.iterdir() if path.suffix.lower() in SUFFIXES):
        target = options.output / f"{video.name}.safetensors"
        if target.exists():
            print(f"{video.name}: there already")
            continue
        try:
            sampling = st.Sampling(frames=options.frames)
            tokens = st.encode_video(video, options.model, sampling, evidence=method.evidence, context=context)
            kept = st.compress_tokens(tokens, ratio, method, context=context)
            size = st.save_compressed(target, kept)  # under another name first: a stopped run leaves no half file
        except st.StsimdiffError as error:
            failed += 1
            print(f"{video.name}: {error} {error.hint or ''}", file=sys.stderr)
        else:
            print(f"{video.name}: kept {len(kept.index)} of {tokens.grid.tokens} tokens, {size / 1e3:.0f} kB")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except st.StsimdiffError as error:  # a wrong --method or --ratio
        sys.exit(f"{error} {error.hint or ''}")
