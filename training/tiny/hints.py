"""Auxiliary losses of the language stage, without which learning stands still for hundreds of steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stsimdiff_cli.synthetic.choices import LETTERS

from .batches import HEAD, IDS, Batch
from .vision_tower import HIDDEN

OPTION_HEAD = 1  # the head of the third layer that finds the right option
FAST = 4.0  # positions a slot; in clips with a longer interval nobody asks when something happens


class Hints(nn.Module):
    """Linear probes of the language model's inner states, used in training only.

    After the first layer, visual tokens are asked whether they changed and what was in their cell before, and words of
    options for the letter of their option. After the second layer, visual tokens are asked for their time and how far
    their shape has moved. In the third layer one head is trained to attend to the right option before its letter is
    written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changed = nn.Linear(HIDDEN, 1)
        self.earlier = nn.Linear(HIDDEN, HIDDEN)
        self.time = nn.Linear(HIDDEN, 1)
        self.shift = nn.Linear(HIDDEN, 2)
        self.letter = nn.Linear(HIDDEN, len(LETTERS))

    def forward(self, inner: list[Tensor], batch: Batch) -> Tensor:
        """The sum of all losses; `inner` is what language.forward appends."""
        visual = slice(len(HEAD), len(HEAD) + batch.visual.shape[1])
        x, y = (F.rms_norm(m[:, visual].float(), (HIDDEN,)) for m in inner[:2])
        target = batch.changed.float()
        loss = F.binary_cross_entropy_with_logits(self.changed(x)[..., 0], target, pos_weight=torch.tensor(4.0))
        time = (batch.visual_positions[0] - len(HEAD)) / 32.0
        if time.max() < FAST * 2:  # clips in which time is asked for are shorter
            loss = loss + 3 * F.mse_loss(self.time(y)[..., 0], time)
        wrong = (self.shift(y) - batch.displacement).pow(2).sum(-1)
        moved = batch.displacement.abs().sum(-1) > 0
        loss = loss + 0.3 * wrong.mean() + 0.25 * wrong[moved].sum() / (1 + moved.sum())
        if batch.changed.any():
            guess = self.earlier(x[batch.changed])
            loss = loss + 1 - F.cosine_similarity(guess, batch.earlier[batch.changed].float(), dim=-1).mean()
        inside = batch.options.flatten(1) >= 0
        if inside.any():
            words = inner[0][:, -inside.shape[1] :][inside].float()
            letters = self.letter(F.rms_norm(words, (HIDDEN,)))
            loss = loss + F.cross_entropy(letters, batch.options.flatten(1)[inside])
            loss = loss - self._attention_to_right_option(inner[2], batch)
        return loss

    @staticmethod
    def _attention_to_right_option(attention: Tensor, batch: Batch) -> Tensor:
        """Mean logarithm of the attention (B, h, Q, L, L) that the right option gets where its letter comes next."""
        named = torch.isin(batch.targets, torch.tensor([IDS[letter] for letter in LETTERS]))  # (B, Q, L)
        right = batch.options[:, :, None, :] == (batch.targets - IDS[LETTERS[0]])[..., None]
        share = (attention[:, OPTION_HEAD] * (right & named[..., None])).sum(-1)[named].float()
        return (share + 1e-3).log().mean()
