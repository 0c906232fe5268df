"""First stage: the vision tower alone, on labels of every token of pairs of frames, before and after an event.

Each token says in word vectors (those that the language model reads and writes) which colour and shape lie under it and
how many copies of that body there are, and in fixed directions (model.place_directions) where the token and its body
are. The first block is asked for outlines; a hinge on cosines asks that tokens of one body, or of the background, point
the same way, within a frame and over time, and others do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from stsimdiff_cli.synthetic.clips import make_clip
from stsimdiff_cli.synthetic.questions import NUMBERS
from stsimdiff_cli.synthetic.world import COLOURS, SHAPES

from .labels import label_clip
from .model import (
    CELLS,
    GRID,
    HIDDEN,
    PATCH,
    WIDTH,
    cut_patches,
    encode,
    patches_of,
    place_code,
    place_directions,
    working_type,
)
from .tokenizer import vocabulary

NORM = 2.0 * HIDDEN**-0.5  # root mean square of a feature: about three word vectors and a place
CELL_GAIN, CENTRE_GAIN = 0.4, 0.35  # lengths of the codes of places in a feature
RUNGS = {"still": 0.2, "pan": 0.15, "noise": 0.2, "background": 0.15, "crowd": 0.15, "occluders": 0.15}
KINDS = ("vanish", "appear", "recolour", "move", "cut", "none")
WIDE = tuple(range(49))


class Pairs(Dataset):
    """Item s is the batch of step s: frames (F, 112, 112, 3) uint8 in pairs, and their labels."""

    def __init__(self, seed: int, batch: int, steps: int, split: str = "train", rung: str | None = None) -> None:
        self.seed, self.batch, self.steps, self.split, self.rung = seed, batch, steps, split, rung

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, step])
        rungs, weights = list(RUNGS), list(RUNGS.values())
        columns: dict[str, list[np.ndarray]] = {}
        for i in range(self.batch // 2):
            rung = self.rung or str(rng.choice(rungs, p=weights))
            seed = self.seed * 1_000_000_000 + step * 1000 + i
            clip = make_clip(seed, rung, self.split, 2, str(rng.choice(KINDS)))
            known = label_clip(clip, outline=True)
            row = {name: getattr(known, name) for name in ("owner", "colour", "shape", "copies", "centre", "outline")}
            row["outline"] = row["outline"].astype(np.float16)
            row["same"] = np.stack([_matches(clip, known.owner)] * 2)
            for name, value in (row | {"frames": clip.frames}).items():
                columns.setdefault(name, []).append(value)
        return {name: torch.as_tensor(np.concatenate(values)) for name, values in columns.items()}


def _matches(clip: Any, owner: np.ndarray) -> np.ndarray:
    """(49,) 1 where both frames show the same body or the same background, 0 where they do not, -1 undecided."""
    from stsimdiff_cli.synthetic.draw import visible

    marks = []
    for frame in (0, 1):
        ground = ("ground", frame >= clip.script.cut)
        names = [(b.colour, b.shape) for b in visible(clip.script, clip.view, frame)]
        marks.append([names[o] if o >= 0 else ground if o == -1 else None for o in owner[frame]])
    return np.array([-1 if None in pair else int(pair[0] == pair[1]) for pair in zip(*marks, strict=True)])


class Heads(nn.Module):
    """The reader of outlines, thrown away after the stage."""

    def __init__(self) -> None:
        super().__init__()
        self.outline = nn.Linear(WIDTH, PATCH * PATCH)


def group_loss(unit: Tensor, words: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of a group of word vectors whose last is `nothing` (label -1), and the share that is right."""
    logits = 30 * F.linear(unit, F.normalize(words, dim=-1))
    target = torch.where(label == -1, len(words) - 1, label)
    keep, bodies = target >= 0, label >= 0
    right = (logits.argmax(-1) == target)[bodies].float().mean()
    return F.cross_entropy(logits[keep], target[keep]), right


def contrast(unit: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Hinges on cosines: above 0.85 for what is the same, below 0.1 for what is not; within frames and over pairs."""
    owner, colour, shape = labels["owner"], labels["colour"], labels["shape"]
    cosine = unit @ unit.transpose(1, 2)  # (F, 49, 49)
    a, b = owner[:, :, None], owner[:, None, :]
    known = (a > -2) & (b > -2)
    alike = (colour[:, :, None] == colour[:, None, :]) | (shape[:, :, None] == shape[:, None, :])
    same, other = known & (a == b), known & ~alike
    loss = F.relu(0.85 - cosine)[same].mean() + F.relu(cosine - 0.1)[other].mean()
    time = (unit[0::2] * unit[1::2]).sum(-1)  # (F / 2, 49)
    match = labels["same"][0::2]
    differs = (colour[0::2] != colour[1::2]) & (shape[0::2] != shape[1::2])
    steady, changed = F.relu(0.88 - time)[match == 1], F.relu(time - 0.1)[(match == 0) & differs]
    return loss, steady.mean() + changed.sum() / max(1, changed.numel())


def vision_loss(visual: Any, heads: Heads, words: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """The loss and the numbers worth printing. words is the (vocabulary, 256) table of word vectors."""
    ids = vocabulary()
    early: list[Tensor] = []
    features = encode(
        visual, patches_of(batch["frames"]).to(working_type(batch["frames"].device)), early
    ).float()  # (F, 49, 256)
    target = cut_patches(batch["outline"].float()[:, None])
    outline = F.binary_cross_entropy_with_logits(heads.outline(early[0].float()), target)
    directions = place_directions().to(features.device)
    places = features @ directions.flatten(0, 1).T  # (F, 49, 24)
    unit = F.normalize(features, dim=-1)
    nothing = words[ids["nothing"]][None]
    colour, colour_right = group_loss(unit, torch.cat([words[[ids[c] for c in COLOURS]], nothing]), batch["colour"])
    shape, shape_right = group_loss(unit, torch.cat([words[[ids[s] for s in SHAPES]], nothing]), batch["shape"])
    copies = torch.where(batch["copies"] > 0, batch["copies"] - 1, -2)
    count, count_right = group_loss(unit, torch.cat([words[[ids[n] for n in NUMBERS[1:]]], nothing]), copies)
    axis = (torch.arange(GRID, device=features.device) + 0.5) / GRID
    cell = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).view(CELLS, 2)
    cells = CELL_GAIN * place_code(cell).flatten(1)  # (49, 12): row, then column
    place = (places[..., :12] - cells).pow(2).sum(-1).mean()
    bodies = batch["owner"] >= 0
    centre_target = CENTRE_GAIN * place_code(batch["centre"]).flatten(2)
    wrong = (places[..., 12:] - centre_target).pow(2).sum(-1)
    centre = wrong[bodies].mean()
    size = (features.pow(2).mean(-1).sqrt().log() - np.log(NORM)).pow(2).mean()
    apart, steady = contrast(unit, batch)
    loss = colour + 2 * shape + count + 5 * outline + 4 * place + 8 * centre + 0.1 * size + apart + 2 * steady
    shown = {
        "colour": colour_right,
        "shape": shape_right,
        "count": count_right,
        "place": place / (2 * CELL_GAIN**2),
        "centre": centre / (2 * CENTRE_GAIN**2),
        "apart": apart,
        "steady": steady,
        "outline": outline,
    }
    return loss, {k: float(v.detach()) for k, v in shown.items()}
