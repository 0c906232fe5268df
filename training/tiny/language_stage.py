"""Runs the second stage (language.py): writes language.pt in the working folder, again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from stsimdiff_cli.synthetic.benchmark_prompts import LAYOUTS
from stsimdiff_cli.synthetic.rungs import RUNGS

from .clips import STAGES, Example, Plan, Plans, Shelf, Steps, encode_clip, render
from .evaluate import accuracy, spread_kinds, total
from .language import (
    AFTER,
    CHOICES,
    LETTERED,
    QUESTIONS,
    Batch,
    Hints,
    Middle,
    answer_loss,
    ask,
    keep_tokens,
    make_batch,
    pick_facts,
    read,
)
from .model import make_model
from .optimizer import Optimizer
from .state import Clock, learning_rate, load, save

TESTED = 6  # clips a rung that show how training goes
DECAY = 0.998  # of the running mean of the weights, which is the model that is tested and exported
PEAK = 1.2e-3  # learning rate


def compose(plan: Plan, examples: list[Example], step: int, seed: int) -> Batch:
    """The batch of a plan: questions, layouts and kept tokens are drawn from the step's number."""
    rng = np.random.default_rng([seed, step, 8])
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    after = str(rng.choice(list(AFTER), p=list(AFTER.values())))
    layout = str(rng.choice(list(LAYOUTS))) if plan.choices else None
    kept = [keep_tokens(e.change, plan.ratio, plan.structured, generator) for e in examples]
    count = LETTERED if plan.letters else CHOICES if plan.choices else QUESTIONS
    asked = [[ask(rng, e, fact, layout) for fact in pick_facts(rng, e.known.facts, count)] for e in examples]
    return make_batch(examples, kept, asked, after, last_only=plan.letters)


def begin(work: Path, model: Any, device: torch.device) -> dict[str, Any]:
    """The state with which the stage begins: the tower and the word vectors of vision.pt."""
    learned = load(work / "vision.pt", device)["model"]
    own = model.state_dict()
    own |= {k: v for k, v in learned.items() if "visual" in k or "embed_tokens" in k}
    own["lm_head.weight"] = own["model.language_model.embed_tokens.weight"]
    return {"model": own, "step": 0}


def train_language(
    work: Path, steps: int, resume: bool, device: torch.device, budget: int, workers: int, reuse: int, seed: int = 2
) -> None:
    """Trains the language model on the tower of vision.pt; with `resume` goes on from language.pt, tower included."""
    model: Any = make_model().to(device)
    path = work / "language.pt"
    state = load(path, device) if resume and path.exists() else begin(work, model, device)
    model.load_state_dict(state["model"])
    mean: Any = make_model().to(device)
    mean.load_state_dict(state.get("mean", state["model"]))
    lm, hints = model.model.language_model, Hints().to(device)
    optimizer = Optimizer([lm, hints], decay=0.02)
    if "hints" in state:
        hints.load_state_dict(state["hints"])
        optimizer.load_state_dict(state["optimizer"])
    start, visual = state["step"], model.model.visual
    shelf, clock = Shelf(seed), Clock("language")
    tests: dict[int, dict[str, list[Example]]] = {}
    data = Subset(Steps(Plans(seed, budget, reuse), steps, workers > 0), range(start, steps))
    loader = DataLoader(data, batch_size=None, num_workers=workers, collate_fn=lambda item: item)
    for step, (plan, raws) in enumerate(loader, start):
        examples = [encode_clip(visual, raw, device) for raw in raws]
        examples = examples or [shelf.get(visual, key, device) for key in plan.keys]
        batch = compose(plan, examples, step, seed)
        middle = Middle()
        loss, right = answer_loss(read(model, batch, middle=middle), batch.targets)
        hint, shown = hints(middle, batch, plan.letters)
        optimizer.step(loss + hint, learning_rate(step, steps, PEAK))
        with torch.no_grad():
            decay = min(DECAY, (step + 1) / (step + 10))
            for a, b in zip(mean.model.language_model.parameters(), lm.parameters(), strict=True):
                a.lerp_(b, 1 - decay)
        share = "letters" if plan.letters else "choices" if plan.choices else "right"
        numbers = {"loss": float(loss.detach()), share: float(right.float().mean()), "hint": float(hint.detach())}
        clock.count(numbers | shown)
        last = step + 1 == steps
        if clock.due("log") or last:
            clock.say(step + 1, f"keep {plan.ratio:.2f} of {plan.keys[0].frames} frames")
        if clock.due("save") or last:
            kept = {"model": model.state_dict(), "mean": mean.state_dict(), "hints": hints.state_dict()}
            save(path, kept | {"optimizer": optimizer.state_dict(), "step": step + 1, "budget": budget, "reuse": reuse})
        if clock.due("test", 900) or last:
            report(mean, tests, step, device)


def report(model: Any, tests: dict[int, dict[str, list[Example]]], step: int, device: torch.device) -> None:
    """Held-out accuracy by rung and by kind, with all tokens and with three in ten."""
    stage = next(s for s in STAGES if step < s.end)
    frames = min(32, max(stage.lengths))
    rungs = [r for r in RUNGS if frames >= 24 or r not in ("long", "several")]
    if frames not in tests:
        tests[frames] = {
            rung: [
                encode_clip(model.model.visual, render(s, rung, "heldout", frames, kind(rung, s, frames)), device)
                for s in range(TESTED)
            ]
            for rung in rungs
        }
    for keep in (1.0, 0.3):
        tallies = {rung: accuracy(model, clips, keep) for rung, clips in tests[frames].items()}
        print(f"  held out, {frames} frames, keep {keep}:", *(f"{r} {total(t):.0f}" for r, t in tallies.items()))
        kinds: dict[str, list[int]] = {}
        for tally in tallies.values():
            for name, (right, asked, _) in tally.items():
                known = kinds.setdefault(name, [0, 0])
                known[0], known[1] = known[0] + right, known[1] + asked
        print("   ", *(f"{k} {100 * r / n:.0f}" for k, (r, n) in kinds.items()), flush=True)


def kind(rung: str, seed: int, frames: int) -> str | None:
    """The kind of event of a tested clip."""
    if frames == 1:
        return "none"
    return spread_kinds(rung, seed) if frames > 2 else "appear"
