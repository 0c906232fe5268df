"""Encoding: frames in, tokens and evidence out, one chunk at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import RequestError
from ...records import Sizing
from ...registry import unknown_name
from .. import FAMILIES
from ..families.base import Family
from ..loading.damage import running
from ..loading.runtime import ResolvedRuntime
from ..loading.weights import load_vision
from .attention_tap import allow_taps, attach_tap, attention_from_first, attention_received
from .finite import require_finite


class VisionEncoder:
    """The vision side of a checkpoint, loaded."""

    def __init__(
        self,
        family: Family,
        runtime: ResolvedRuntime,
        evidence: frozenset[str] = frozenset(),
    ) -> None:
        """Load it; RequestError for evidence that does not exist or that the family does not provide."""
        for name in evidence - family.evidence:
            if name not in {"saliency", "keys"}:
                raise unknown_name("evidence", name, ["saliency", "keys"])
            able = [other for other in FAMILIES if name in FAMILIES.load(other).evidence]
            raise RequestError(
                f"The family {family.name} does not provide {name}.", f"Families that do: {', '.join(able)}."
            )
        self.family = family
        self.device = runtime.device
        self.evidence = evidence
        self.model: Any = load_vision(family, allow_taps(runtime) if evidence else runtime)

    @torch.inference_mode()
    def encode(self, frames: Tensor, sizing: Sizing | None = None) -> dict[str, Tensor]:
        """Tokens of (n, height, width, 3) uint8 frames, n a multiple of the family's frames per slot except at the end.

        `sizing` is that of the whole video, if these are a part of it. Returns `features` (t, H, W, D)
        in the model's dtype, `deepstack` (t, H, W, K, D) where the family has it, and, if asked for, `saliency`
        (t, H, W) and `keys` (t, H, W, heads, K), both float32, pooled, merged and ordered like the features.
        """
        with running(self.family.checkpoint.id, self.family.checkpoint.embedded):
            return self._encode(frames, sizing or Sizing(len(frames)))

    def _encode(self, frames: Tensor, sizing: Sizing) -> dict[str, Tensor]:
        pixels = self.family.preprocess(frames, sizing, self.device)
        if not self.evidence:
            return self._tokens(pixels)
        attention = self.family.last_attention(self.model)
        read = attention_from_first if self.family.class_token else attention_received
        saliency: list[Tensor] = []
        inputs: list[Tensor] = []
        hook = self.family.key_projection(self.model).register_forward_pre_hook(
            lambda _, arguments: inputs.append(arguments[0])
        )
        try:
            with attach_tap(attention, lambda *qk: saliency.append(read(*qk).flatten())):
                out = self._tokens(pixels)
        finally:
            hook.remove()
        if "saliency" in self.evidence:
            per_patch = torch.cat(saliency)[:, None]  # (patches, 1)
            out["saliency"] = self.family.to_grid(self.model, per_patch, pixels)[..., 0].clone()
        if "keys" in self.evidence:
            per_patch = self.family.keys(self.model, inputs[0]).float()  # (patches, heads x K)
            grid = self.family.to_grid(self.model, per_patch, pixels)
            out["keys"] = grid.unflatten(-1, (attention.num_heads, -1)).clone()
        return out

    def _tokens(self, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Features and deepstack features, copied because inference tensors may not leave inference mode."""
        checkpoint, dtype = self.family.checkpoint, self.model.dtype
        return {
            name: require_finite(tensor, "The features", checkpoint, dtype).clone()
            for name, tensor in self.family.encode(self.model, pixels).items()
        }
