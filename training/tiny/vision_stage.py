"""Runs the first stage (vision.py): writes vision.pt in the working folder, again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from .model import make_model
from .optimizer import Optimizer
from .state import Clock, learning_rate, load, save
from .vision import RUNGS, Heads, Pairs, vision_loss

TESTED = ("still", "pan", "noise", "crowd", "occluders")
PEAK = 5e-3  # learning rate


def train_vision(
    work: Path, steps: int, resume: bool, device: torch.device, batch: int, workers: int, seed: int = 1
) -> None:
    """Trains the tower and thrown-away heads; with `resume` goes on from vision.pt."""
    model: Any = make_model().to(device)
    heads = Heads().to(device)
    words = model.get_input_embeddings().weight.detach()
    optimizer = Optimizer([model.model.visual, heads], decay=0.01)
    path, start = work / "vision.pt", 0
    if resume and path.exists():
        state = load(path, device)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    clock = Clock("vision")
    data = Subset(Pairs(seed, batch, steps), range(start, steps))
    for step, item in enumerate(DataLoader(data, batch_size=None, num_workers=workers), start):
        loss, shown = vision_loss(model.model.visual, heads, words, {k: v.to(device) for k, v in item.items()})
        optimizer.step(loss, learning_rate(step, steps, PEAK))
        clock.count(shown | {"loss": float(loss.detach())})
        last = step + 1 == steps
        if clock.due("log") or last:
            clock.say(step + 1)
        if clock.due("save") or last:
            kept = {"model": model.state_dict(), "heads": heads.state_dict(), "optimizer": optimizer.state_dict()}
            save(path, kept | {"step": step + 1, "batch": batch})
        if clock.due("test", 600) or last:
            print(" ", held_out(model, heads, words, device), flush=True)


def held_out(model: Any, heads: Heads, words: torch.Tensor, device: torch.device) -> str:
    """Shares of held-out tokens named right, by rung: colour, shape, copies in percent."""
    texts = []
    for rung in (r for r in TESTED if r in RUNGS):
        item = {k: v.to(device) for k, v in Pairs(7, 64, 1, "heldout", rung)[0].items()}
        with torch.no_grad():
            _, shown = vision_loss(model.model.visual, heads, words, item)
        texts.append(f"{rung} " + "/".join(f"{100 * shown[k]:.0f}" for k in ("colour", "shape", "count")))
    return "held out, colour/shape/copies: " + ", ".join(texts)
