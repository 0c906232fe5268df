"""First stage of the training: the vision tower alone, on labels of every token of single frames.

Each token names, in the embeddings of the language model, the colour and the shape under it and how many shapes its
frame has. Small heads, used in training only, predict the place of the token and of its shape, and from the first block
the outline of the shapes in each patch, without which shapes are learned slowly. Finally, tokens of one shape (or of
one background) must point the same way and others must not, within a frame and over time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stsimdiff_cli.synthetic.pairs import render_pair
from stsimdiff_cli.synthetic.questions import COLOURS, COUNTS, SHAPES
from stsimdiff_cli.synthetic.shapes import SIDE, coverage, token_labels

from .tokenizer import vocabulary
from .vision_tower import CELLS, GRID, HIDDEN, PATCH, cut_patches, encode, patches_of

NORM = 1.7 * HIDDEN**-0.5  # root mean square of a feature: the sum of about three embeddings


class Heads(nn.Module):
    """Probes of the features: places, outlines, and vectors for the counts one and five, which are not words."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Linear(HIDDEN, 2 * GRID)
        self.centre = nn.Linear(HIDDEN, 2)
        self.outline = nn.Linear(128, PATCH * PATCH)
        self.few_many = nn.Parameter(torch.randn(2, HIDDEN) * HIDDEN**-0.5)


def render_pairs(rng: np.random.Generator, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    """`count` frames (F, 96, 96, 3), in pairs before and after a small change, and the labels of their tokens.

    Labels are (F, 36) each: -1 background, -2 undecided. Besides, outline (F, 144, 64) is the coverage of each patch.
    """
    frames, rows, masks = [], [], []
    for frame, scene in (picture for _ in range(count // 2) for picture in render_pair(rng)):
        owner = token_labels(scene)[0].flatten()
        colour = np.array([COLOURS.index(t.colour) for t in scene] + [-2, -1])
        shape = np.array([SHAPES.index(t.name) for t in scene] + [-2, -1])
        x, y = (np.array([getattr(t, a) / SIDE for t in scene] + [0, 0]) for a in "xy")
        frames.append(frame)
        masks.append(np.max([coverage(t) for t in scene], 0))
        rows.append((owner, colour[owner], shape[owner], np.full(CELLS, len(scene) - 1), x[owner], y[owner]))
    columns = [torch.as_tensor(np.stack(c)) for c in zip(*rows, strict=True)]
    labels = dict(zip(("owner", "colour", "shape", "count", "x", "y"), columns, strict=True))
    labels["outline"] = cut_patches(torch.as_tensor(np.stack(masks))[:, None])  # (F, 144, 64)
    return torch.as_tensor(np.stack(frames)), labels


def group_loss(unit: Tensor, words: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy over some embeddings, the last of which is `nothing` (label -1), and the share that is right."""
    logits = 30 * F.linear(unit, F.normalize(words, dim=-1))
    target = torch.where(label == -1, len(words) - 1, label)
    keep = target >= 0
    objects = label >= 0
    right = (logits.argmax(-1) == target)[objects].float().mean()
    return F.cross_entropy(logits[keep], target[keep]), right


def contrast(unit: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Hinge losses on cosines: above 0.85 for what is the same, below 0.1 for what is not.

    The first compares tokens of one frame, and of different scenes at the same place. The second compares the two
    frames of a pair: a token must change if and only if what lies under it does.
    """
    owner, colour, shape = labels["owner"], labels["colour"], labels["shape"]
    cosine = unit @ unit.transpose(1, 2)  # (F, 36, 36)
    a, b = owner[:, :, None], owner[:, None, :]
    known = (a > -2) & (b > -2)
    same, other = known & (a == b), known & (a != b)
    loss = F.relu(0.85 - cosine)[same].mean() + F.relu(cosine - 0.1)[other].mean()
    across = (unit * unit.roll(2, 0)).sum(-1)  # (F, 36), against the next scene
    alike = (owner >= 0) & ((colour == colour.roll(2, 0)) | (shape == shape.roll(2, 0)))
    apart = (owner > -2) & (owner.roll(2, 0) > -2) & ~alike
    loss = loss + F.relu(across - 0.1)[apart].mean()
    before, after = ({k: v[i::2] for k, v in labels.items()} for i in (0, 1))
    known = (before["owner"] > -2) & (after["owner"] > -2)
    same_shape = (before["colour"] == after["colour"]) & (before["shape"] == after["shape"])
    stays = known & same_shape & (before["x"] == after["x"]) & (before["y"] == after["y"])
    time = (unit[0::2] * unit[1::2]).sum(-1)  # (F / 2, 36)
    steady, changed = F.relu(0.9 - time)[stays], F.relu(time - 0.1)[known & ~same_shape]
    return loss, steady.mean() + changed.sum() / max(1, changed.numel())


def vision_loss(
    visual: Any, heads: Heads, words: Tensor, frames: Tensor, labels: dict[str, Tensor]
) -> tuple[Tensor, dict[str, float]]:
    """The loss, and the numbers to print. words (vocabulary, 192) are the input embeddings."""
    ids = vocabulary()
    early: list[Tensor] = []
    features = encode(visual, patches_of(frames).bfloat16(), early).float()  # (F, 36, 192)
    outline = F.binary_cross_entropy_with_logits(heads.outline(early[0].float()), labels["outline"])
    unit = F.normalize(features, dim=-1)
    nothing = words[ids["nothing"]][None]
    colour, colour_right = group_loss(unit, torch.cat([words[[ids[c] for c in COLOURS]], nothing]), labels["colour"])
    shape, shape_right = group_loss(unit, torch.cat([words[[ids[s] for s in SHAPES]], nothing]), labels["shape"])
    numbers = torch.cat([heads.few_many[:1], words[[ids[c] for c in COUNTS]], heads.few_many[1:]])
    count_logits = 30 * F.linear(unit, F.normalize(numbers, dim=-1))
    count = F.cross_entropy(count_logits.flatten(0, 1), labels["count"].flatten())
    cell = torch.arange(CELLS)
    scaled = unit * HIDDEN**0.5
    rows, cols = heads.places(scaled).split(GRID, -1)
    place = sum(
        F.cross_entropy(x.flatten(0, 1), y.repeat(len(frames))) for x, y in ((rows, cell // GRID), (cols, cell % GRID))
    )
    inside = labels["owner"] >= 0
    target = torch.stack([labels["x"], labels["y"]], -1)[inside].float()
    centre = F.mse_loss(heads.centre(scaled)[inside], target)
    size = (features.pow(2).mean(-1).sqrt().log() - np.log(NORM)).pow(2).mean()
    apart, steady = contrast(unit, labels)
    loss = colour + 2 * shape + count + 5 * outline + 0.2 * place + 10 * centre + 0.1 * size + apart + 2 * steady
    shown = {
        "colour": colour_right,
        "shape": shape_right,
        "count": (count_logits.argmax(-1) == labels["count"]).float().mean(),
        "row": (rows.argmax(-1) == cell // GRID).float().mean(),
        "centre_px": centre.sqrt() * SIDE,
        "contrast": apart,
        "steady": steady,
        "outline": outline,
    }
    return loss, {k: float(v.detach()) for k, v in shown.items()}
