"""NVILA written from its published description, step by step: slow, and the reference for ours.

SigLIP and Qwen2 are those of the reference for LLaVA-Video, so tensors get the names that they have there.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tests.support.references.llava_video import TOWER, LlavaVideoReference


class NvilaReference(LlavaVideoReference):
    """All tensors of a checkpoint except those of the tower's last layer."""

    def __init__(self, folder: Path) -> None:
        self.published = json.loads((folder / "config.json").read_text())
        vision = json.loads((folder / "vision_tower" / "config.json").read_text())
        llm = json.loads((folder / "llm" / "config.json").read_text())
        self.config = llm | {"vision_config": vision}
        self.projector = json.loads((folder / "mm_projector" / "config.json").read_text())["mm_projector_type"]
        self.stop, self.penalty = [llm["eos_token_id"]], 1.0
        last = f"vision_model.encoder.layers.{vision['num_hidden_layers'] - 1}."
        self.tensors = {}
        for file in folder.glob("llm/*.safetensors"):
            self.tensors |= load_file(file)
        if llm["tie_word_embeddings"]:
            self.tensors["lm_head.weight"] = self.tensors["model.embed_tokens.weight"]
        for name, tensor in load_file(folder / "vision_tower" / "model.safetensors").items():
            if not name.startswith(last):
                self.tensors[name.replace("vision_model", TOWER)] = tensor
        for name, tensor in load_file(folder / "mm_projector" / "model.safetensors").items():
            self.tensors[f"mm_projector.{name}"] = tensor

    def projected(self, patches: Tensor) -> Tensor:
        """(n, patches, C) to (n, H, H, D), one token at a time."""
        if self.published["dynamic_s2"]:  # one block: every scale has the same features
            patches = torch.cat([patches] * len(self.published["s2_scales"].split(",")), -1)
        n, count, width = patches.shape
        side, square = round(count**0.5), 3 if "3x3" in self.projector else 2
        patches = patches.view(n, side, side, width)
        tokens = []
        for row in range(0, side, square):
            for column in range(0, side, square):
                parts = [
                    patches[:, r, c] if r < side and c < side else torch.zeros(n, width)
                    for r in range(row, row + square)
                    for c in range(column, column + square)
                ]
                tokens.append(self._mlp(torch.cat(parts, -1)))
        tall = -(-side // square)
        return torch.stack(tokens, 1).view(n, tall, tall, -1)

    def _mlp(self, x: Tensor) -> Tensor:
        steps = [1, 2, "gelu", 4, 5, "gelu", 7] if "3x3" in self.projector else [1, 2, "gelu", 4]
        for step in steps:
            if step == "gelu":
                x = x * 0.5 * (1 + torch.erf(x / 2**0.5))
                continue
            weight, bias = (self.tensors[f"mm_projector.layers.{step}.{name}"] for name in ("weight", "bias"))
            x = F.layer_norm(x, x.shape[-1:], weight, bias, 1e-5) if weight.ndim == 1 else x @ weight.T + bias
        return x

    def averaged(self, tokens: Tensor) -> Tensor:
        """(n, h, w, C) to (t, H, W, C) as the video encoder does; an incomplete last slot is the mean of its frames."""
        encoder = json.loads(self.published.get("video_encoder", "{}"))
        time, tall, wide = encoder.get("pool_sizes", [[1, 1, 1]])[0]
        n, rows, columns = tokens.shape[:3]
        return torch.stack(
            [
                torch.stack(
                    [
                        torch.stack(
                            [
                                tokens[t : t + time, r : r + tall, c : c + wide].mean((0, 1, 2))
                                for c in range(0, columns, wide)
                            ]
                        )
                        for r in range(0, rows, tall)
                    ]
                )
                for t in range(0, n, time)
            ]
        )

    def gathered(self, patches: Tensor) -> Tensor:
        """Values of patches (n, patches, C) as means over the patches of each token, then averaged like tokens."""
        n, count, width = patches.shape
        side, square = round(count**0.5), 3 if "3x3" in self.projector else 2
        x = patches.view(n, side, side, width)
        starts = range(0, side, square)
        cells = [[x[:, r : r + square, c : c + square].mean((1, 2)) for c in starts] for r in starts]
        return self.averaged(torch.stack([torch.stack(row, 1) for row in cells], 1))

    def features(self, pixels: Tensor) -> Tensor:
        """(t, H, W, D) of frames (n, 3, height, width)."""
        return self.averaged(self.projected(self.tower(pixels)[0]))
