"""The optimizer of both stages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import Module, Parameter


class Optimizer:
    """Muon for the matrices of layers, AdamW for everything else (word vectors, biases, norms, convolutions).

    A step of Muon has the length that AdamW's would have, so that both share one learning rate (Liu et al., 2025,
    "Muon is Scalable for LLM Training").
    """

    def __init__(self, modules: Iterable[Module], decay: float) -> None:
        named = [(n, p) for m in modules for n, p in m.named_parameters() if p.requires_grad]
        matrices = [p for n, p in named if p.ndim == 2 and "embed_tokens" not in n]
        others = [p for n, p in named if not any(p is m for m in matrices)]
        self.parts: list[Any] = [
            torch.optim.Muon(matrices, momentum=0.95, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=decay),
        ]
        self.weights: list[Parameter] = [*matrices, *others]

    def step(self, loss: torch.Tensor, rate: float) -> None:
        """One step down the gradient of a loss with a learning rate."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        for part in self.parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """What load_state_dict takes."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Goes on from a state."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
