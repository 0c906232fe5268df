"""Trains the embedded model, in stages; see README.md in this folder.

    python -m training.tiny.train --work FOLDER --resume [--out CHECKPOINT]
    python -m training.tiny.train --work FOLDER --stage export --out CHECKPOINT

The state in the working folder is written every four minutes; --resume goes on from it with the same batches that an
undisturbed run would have seen. On a GPU: --device cuda --workers 14 --reuse 1 --batch 256 --budget 60000.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from .evaluate import load_state
from .language_stage import train_language
from .model import export
from .vision_stage import train_vision


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=("all", "vision", "language", "export"), default="all")
    parser.add_argument("--work", type=Path, required=True, help="folder of states")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that render (0: this one)")
    parser.add_argument("--vision-steps", type=int, default=2200, help="with which the learning rate falls")
    parser.add_argument("--steps", type=int, default=9600, help="of the language stage")
    parser.add_argument("--batch", type=int, default=32, help="frames a step of the vision stage")
    parser.add_argument("--budget", type=int, default=4000, help="tokens a step of the language stage")
    parser.add_argument("--reuse", type=int, default=2, help="how often the language stage reads a clip")
    parser.add_argument("--out", type=Path, help="folder in which the checkpoint is written at the end")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device(options.device)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.stage == "export" and options.out is None:
        parser.error("--stage export needs --out")
    if options.workers and options.reuse != 1:
        parser.error("--workers goes with --reuse 1")
    if options.stage in ("all", "vision"):
        train_vision(options.work, options.vision_steps, options.resume, device, options.batch, options.workers)
    if options.stage in ("all", "language"):
        steps, budget = options.steps, options.budget
        train_language(options.work, steps, options.resume, device, budget, options.workers, options.reuse)
    if options.out is not None:
        export(load_state(options.work / "language.pt"), options.out)


if __name__ == "__main__":
    main()
