"""Trains an embedded model from scratch, in stages, on one CPU thread.

    python -m training.tiny.train                         everything, in the folder tiny_training
    python -m training.tiny.train --stage language --resume
    python -m training.tiny.train --stage language --start FOLDER    only the last phase, from a checkpoint

Stages: `vision` (vision.py) trains the vision tower, `language` (language.py, curriculum.py) the language model on its
frozen features, `export` writes the checkpoint. The state is saved every hundred steps (every two hundred of the
language model) in the working folder, so that --resume continues an interrupted run.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stsimdiff_cli.models.tiny import CHOICE as TARGET
from stsimdiff_cli.synthetic.benchmark_prompts import LAYOUTS

from .curriculum import CURRICULUM, Pools, sample_batch
from .evaluate import accuracy, summary
from .examples import Example, make_example
from .hints import Hints
from .language import answer_loss, forward
from .model import export, make_model
from .tokenizer import vocabulary
from .vision import Heads, render_pairs, vision_loss

TESTED = {16: 12, 32: 24, 64: 12}  # frames and number of the held-out clips that show how training goes
TESTED_LONG = 12  # number of long ones, of 64 frames


# --- vision ---------------------------------------------------------------------------------------------------------


def train_vision(work: Path, steps: int, resume: bool, seed: int = 1, batch: int = 64, peak: float = 1.5e-3) -> None:
    """Train the vision tower and write vision.pt, which holds the weights of the whole network."""
    model: Any = make_model()
    heads = Heads()
    words = model.get_input_embeddings().weight.detach()
    weights = [*model.model.visual.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    path, start = work / "vision.pt", 0
    if resume and path.exists():
        state = torch.load(path)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    began = time.monotonic()
    mean: dict[str, float] = {}
    for step in range(start, steps):
        set_learning_rate(optimizer, cosine_rate(step, steps, peak))
        pairs = render_pairs(np.random.default_rng([seed, step]), batch)
        loss, shown = vision_loss(model.model.visual, heads, words, *pairs)
        update(optimizer, weights, loss)
        shown["loss"] = float(loss.detach())
        mean = {k: 0.9 * mean.get(k, v) + 0.1 * v for k, v in shown.items()}
        if (step + 1) % 50 == 0:
            print_progress("vision", step + 1, began, mean)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            state = {"model": model.state_dict(), "heads": heads.state_dict(), "optimizer": optimizer.state_dict()}
            save_state(path, state | {"step": step + 1})


def cosine_rate(step: int, steps: int, peak: float) -> float:
    """A warm-up of 100 steps, then a cosine down to a twentieth of the peak."""
    if step < 100:
        return peak * (step + 1) / 100
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0))))


# --- language -------------------------------------------------------------------------------------------------------


def train_language(work: Path, steps: int, resume: bool, checkpoint: Path | None, seed: int, peak: float) -> None:
    """Train the language model and write language.pt: all weights, and their running mean, which is what is exported.

    With a `checkpoint`, training starts from its weights and consists of the last phase of the curriculum only.
    """
    model: Any = make_model()
    path, start = work / "language.pt", 0
    state = initial_state(model, work, path if resume else None, checkpoint)
    model.load_state_dict(state["model"])
    lm, hints = model.model.language_model, Hints()
    weights = [*lm.parameters(), *hints.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=peak, betas=(0.9, 0.98), weight_decay=0.02)
    mean_model: Any = make_model()
    mean_model.load_state_dict(state["mean"] if "mean" in state else model.state_dict())
    if "mean" in state:
        hints.load_state_dict(state["memory"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    visual = model.model.visual
    pools: Pools = {}
    held_out = held_out_clips(visual)
    began = time.monotonic()
    mean: dict[str, float] = {}
    for step in range(start, steps):
        left = min(1.0, (steps - step) / (0.35 * steps))  # the last third goes down to a fiftieth
        set_learning_rate(optimizer, peak * max(0.02, left) * min(1.0, (step + 1) / 100))
        phase = CURRICULUM[-1] if checkpoint else next(phase for phase in CURRICULUM if step < phase.end)
        batch = sample_batch(visual, pools, step, seed, phase)
        inner: list[torch.Tensor] = []
        loss, right = answer_loss(forward(model, batch, inner=inner), batch.targets)
        hint = hints(inner, batch)
        update(optimizer, weights, loss + 0.5 * hint)
        with torch.no_grad():
            decay = min(0.998, (step + 1) / (step + 20))
            for a, b in zip(mean_model.model.language_model.parameters(), lm.parameters(), strict=True):
                a.lerp_(b, 1 - decay)
        shown = {"loss": float(loss.detach()), "right": float(right.float().mean()), "hint": float(hint.detach())}
        mean = {k: 0.95 * mean.get(k, v) + 0.05 * v for k, v in shown.items()}
        if (step + 1) % 50 == 0:
            print_progress("language", step + 1, began, mean)
        if (step + 1) % 200 == 0 or step + 1 == steps:
            print_accuracy(mean_model, held_out, choices=bool(phase.choices))
            state = {"model": model.state_dict(), "mean": mean_model.state_dict(), "memory": hints.state_dict()}
            save_state(path, state | {"optimizer": optimizer.state_dict(), "step": step + 1})


def initial_state(model: Any, work: Path, saved: Path | None, checkpoint: Path | None) -> dict[str, Any]:
    """The saved state if there is one, else the weights of the checkpoint, else those of the vision stage."""
    if saved is not None and saved.exists():
        return torch.load(saved)
    if checkpoint is not None:
        return {"model": checkpoint_weights(model, checkpoint)}
    trained = torch.load(work / "vision.pt")["model"]  # the vision tower, and the embeddings whose words it uses
    weights = model.state_dict() | {
        k: v for k, v in trained.items() if any(part in k for part in ("visual", "embed_tokens"))
    }
    weights["lm_head.weight"] = weights["model.language_model.embed_tokens.weight"]
    return {"model": weights}


def checkpoint_weights(model: Any, folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint whose vocabulary may be shorter: later words keep the embeddings of the model.

    ValueError if a word has another id there.
    """
    weights = type(model).from_pretrained(folder, dtype=torch.float32).state_dict()
    known = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    if any(vocabulary().get(word) != i for word, i in known.items()):
        raise ValueError(f"{folder} has a vocabulary that does not begin like this version's")
    for key in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        weights[key] = torch.cat([weights[key][: len(known)], model.state_dict()[key][len(known) :]])
    return weights


HeldOut = tuple[dict[int, list[Example]], list[Example]]  # by number of frames, and long clips


def held_out_clips(visual: Any) -> HeldOut:
    """The clips on which progress is measured."""
    short = {n: [make_example(visual, s, "heldout", n) for s in range(count)] for n, count in TESTED.items()}
    return short, [make_example(visual, s, "heldout", 64, events=2 + s % 5) for s in range(TESTED_LONG)]


def print_accuracy(model: Any, held_out: HeldOut, choices: bool) -> None:
    """Accuracy by kind of question; with choices also of multiple choice, and of long clips at two intervals."""
    short, long_clips = held_out
    for frames, keep in [(n, 1.0) for n in short] + [(32, 0.3)]:
        print(f"  {frames} frames, keep {keep}:", *summary(accuracy(model, short[frames], keep)), flush=True)
    if not choices:
        return
    for name, clips, interval in (("choices", short[32], 1.0), ("long", long_clips, 1.0), ("slow", long_clips, 15.0)):
        for i, layout in enumerate(LAYOUTS):
            tally = accuracy(model, clips[i :: len(LAYOUTS)], layout=layout, interval=interval)
            print(f"  {name}, {layout}:", *summary(tally), flush=True)


# --- both -----------------------------------------------------------------------------------------------------------


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of all weights."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def update(optimizer: torch.optim.Optimizer, weights: list[torch.nn.Parameter], loss: torch.Tensor) -> None:
    """One step of the optimizer, with gradients clipped to a norm of 1."""
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state file, whole or not at all."""
    temporary = path.with_suffix(".saving")
    torch.save(state, temporary)
    temporary.replace(path)


def print_progress(stage: str, step: int, began: float, shown: dict[str, float]) -> None:
    """One line of progress."""
    numbers = " ".join(f"{k} {v:.3f}" for k, v in shown.items())
    print(f"{stage} {step} {time.monotonic() - began:.0f}s {numbers}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=("all", "vision", "language", "export"), default="all")
    parser.add_argument("--work", type=Path, default=Path("tiny_training"), help="folder of the saved states")
    parser.add_argument("--vision-steps", type=int, default=2200, help="steps of the vision stage")
    parser.add_argument("--steps", type=int, default=6000, help="steps of the language stage")
    parser.add_argument("--start", type=Path, help="folder of a checkpoint from which the language stage starts")
    parser.add_argument("--seed", type=int, default=2, help="seed of the language stage")
    parser.add_argument("--peak", type=float, default=1e-3, help="highest learning rate of the language stage")
    parser.add_argument("--out", type=Path, default=TARGET, help="folder of the exported checkpoint")
    parser.add_argument("--resume", action="store_true", help="continue from the saved states")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.stage in ("all", "vision"):
        train_vision(options.work, options.vision_steps, options.resume)
    if options.stage in ("all", "language"):
        train_language(options.work, options.steps, options.resume, options.start, options.seed, options.peak)
    if options.stage in ("all", "export"):
        model = make_model()
        model.load_state_dict(torch.load(options.work / "language.pt")["mean"])
        export(model, options.out)


if __name__ == "__main__":
    main()
