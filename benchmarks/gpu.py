"""What the paper's Figure 3 shows, measured on a GPU with random weights of the published sizes; or all of it in small.

    python benchmarks/gpu.py [--small] [--folder FOLDER]

Writes one report of `stsimdiff profile` for each run below (times cold and warm, peak memory, savings against vanilla),
the picture and the time line of the first, and what `core.py` prints. It needs a GPU of 24 GB or more. With `--small`
the same runs are made on the CPU, in minutes, with a checkpoint in the layout of `llava-onevision-0.5b` whose layers
are few and narrow: its numbers mean nothing, and go to `build/gpu-small`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stsimdiff_cli.cli.app import main as stsimdiff
from stsimdiff_cli.models.loading.random_weights import write_dummy

HERE = Path(__file__).parent
RATIO = "0.3"


@dataclass(frozen=True)
class Run:
    """One profile: the name of its report, a preset, and what is asked of it."""

    name: str
    preset: str
    frames: str
    questions: int = 1
    drawn: bool = False  # with picture and time line


RUNS = (
    Run("gpu", "llava-video-7b", "32,64,96,128,256", drawn=True),
    Run("gpu-16", "llava-video-7b", "128", questions=16),
    Run("gpu-qwen2.5", "qwen2.5-vl-7b", "64,128"),
    Run("gpu-qwen3", "qwen3-vl-8b", "64,128"),
)
#: The same in small: the layout of this preset, with these entries of its configuration changed.
SMALL = "llava-onevision-0.5b"
NARROW = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2}
SMALL_RUNS = (
    Run("gpu", SMALL, "2,4", drawn=True),
    Run("gpu-16", SMALL, "2", questions=16),
)


def arguments_of(run: Run, folder: Path, small: bool) -> list[str]:
    """The command line of a run."""
    if small:
        text = {**NARROW, "num_key_value_heads": 1}
        model = write_dummy(folder / "model", run.preset, vision_config=NARROW, text_config=text)
        where = ["--device", "cpu", "--model", str(model), "--repeats", "1", "--max-new-tokens", "2"]
    else:
        where = ["--device", "cuda", "--dummy-weights", run.preset]
    out = ["--output", str(folder / f"{run.name}.json"), "--force"]
    if run.drawn:
        out += ["--plot", str(folder / f"{run.name}.png"), "--trace", str(folder / f"{run.name}.trace.json")]
    return ["profile", *where, "--frames", run.frames, "--ratio", RATIO, "--questions", str(run.questions), *out]


def core(folder: Path, small: bool) -> None:
    """The selection against a memory copy."""
    few = ["--slots", "4", "--repeats", "1", "--video", "scenes", "--max-community", "sqrt"]
    size = ["--device", "cpu", *few] if small else ["--device", "cuda", "--repeats", "20"]
    with (folder / "gpu-core.jsonl").open("w") as out:
        subprocess.run([sys.executable, str(HERE / "core.py"), *size], check=True, stdout=out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make all runs; the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="on the CPU, with a tiny model")
    parser.add_argument("--folder", type=Path, help="default: benchmarks/reports, or build/gpu-small")
    given = parser.parse_args(arguments)
    folder = given.folder or (HERE.parent / "build" / "gpu-small" if given.small else HERE / "reports")
    folder.mkdir(parents=True, exist_ok=True)
    core(folder, given.small)
    runs = SMALL_RUNS if given.small else RUNS
    return sum(stsimdiff(arguments_of(run, folder, given.small)) != 0 for run in runs)


if __name__ == "__main__":
    sys.exit(main())
