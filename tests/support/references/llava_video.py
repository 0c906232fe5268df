"""LLaVA-Video written from its published description, step by step: slow, and the reference for ours."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

TOWER = "model.vision_tower.vision_tower.vision_model"


class LlavaVideoReference:
    """All tensors of a checkpoint, by their published names."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.stop = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
        self.penalty = json.loads((folder / "generation_config.json").read_text())["repetition_penalty"]
        files = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
        self.tensors = {name: t for file in set(files.values()) for name, t in load_file(folder / file).items()}

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    # --- SigLIP without its last layer, and what follows ---

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], 1e-6)

    def tower(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, patches, C) of the last layer, and its saliency (n, patches) and keys (n, patches, C)."""
        weight = self.tensors[f"{TOWER}.embeddings.patch_embedding.weight"]
        bias = self.tensors[f"{TOWER}.embeddings.patch_embedding.bias"]
        x = F.conv2d(pixels, weight, bias, stride=weight.shape[-1]).flatten(2).transpose(1, 2)
        x = x + self.tensors[f"{TOWER}.embeddings.position_embedding.weight"]
        heads = self.config["vision_config"]["num_attention_heads"]
        layers = sum(name.endswith("layer_norm1.weight") for name in self.tensors)
        for i in range(layers):
            layer = f"{TOWER}.encoder.layers.{i}"
            y = self._norm(f"{layer}.layer_norm1", x)
            q, k, v = (
                self._linear(f"{layer}.self_attn.{name}_proj", y).unflatten(-1, (heads, -1)).transpose(1, 2)
                for name in "qkv"
            )  # (n, heads, patches, c)
            weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
            x = x + self._linear(f"{layer}.self_attn.out_proj", (weights @ v).transpose(1, 2).flatten(2))
            y = F.gelu(self._linear(f"{layer}.mlp.fc1", self._norm(f"{layer}.layer_norm2", x)), approximate="tanh")
            x = x + self._linear(f"{layer}.mlp.fc2", y)
        return x, weights.mean((1, 2)), k.transpose(1, 2).flatten(2)

    def pool(self, patches: Tensor) -> Tensor:
        """(n, patches, C) to (n, H, H, C), one token at a time."""
        n, count, width = patches.shape
        side = round(count**0.5)
        x = patches.view(n, side, side, width)
        if self.config["mm_spatial_pool_mode"] == "average":
            half = side // 2
            cells = [x[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean((1, 2)) for r in range(half) for c in range(half)]
            return torch.stack(cells, 1).view(n, half, half, width)
        half = (side + 1) // 2
        lines = torch.zeros(half, side)  # weights of the old rows (or columns) in each new one
        for i in range(half):
            place = (i + 0.5) * side / half - 0.5
            low = int(place)
            lines[i, low] += 1 - (place - low)
            lines[i, min(low + 1, side - 1)] += place - low
        return torch.einsum("ar,bc,nrcd->nabd", lines, lines, x)

    def features(self, pixels: Tensor) -> Tensor:
        """(n, H, W, D), with a newline after every row."""
        x = self._linear("model.mm_projector.2", F.gelu(self._linear("model.mm_projector.0", self.tower(pixels)[0])))
        rows = [
            [torch.cat([row, self.tensors["model.image_newline"][None]]) for row in frame] for frame in self.pool(x)
        ]
        return torch.stack([torch.stack(frame) for frame in rows])

    # --- Qwen2 ---

    def _rms(self, name: str, x: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + self.config["rms_norm_eps"]).rsqrt() * self.tensors[name]

    def logits(self, x: Tensor, positions: Tensor) -> Tensor:
        """Logits of the next token, from embeddings (L, D) at `positions` (L,)."""
        heads, groups = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        half = x.shape[-1] // heads // 2
        angles = positions[:, None] * self.config["rope_theta"] ** -(torch.arange(half) / half)  # (L, half)
        cos, sin = angles.cos(), angles.sin()

        def turned(part: Tensor) -> Tensor:  # (heads, L, 2 half): the first half of a head turns with the second
            a, b = part[..., :half], part[..., half:]
            return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

        later = torch.ones(len(x), len(x)).triu(1).bool()
        for i in range(self.config["num_hidden_layers"]):
            layer = f"model.layers.{i}"
            y = self._rms(f"{layer}.input_layernorm.weight", x)
            q, k, v = (
                self._linear(f"{layer}.self_attn.{name}_proj", y).unflatten(-1, (-1, 2 * half)).transpose(0, 1)
                for name in "qkv"
            )
            q, k = turned(q), turned(k)
            k, v = (part.repeat_interleave(heads // groups, 0) for part in (k, v))
            weights = (q @ k.transpose(-1, -2) / (2 * half) ** 0.5).masked_fill(later, -torch.inf).softmax(-1)
            x = x + self._linear(f"{layer}.self_attn.o_proj", (weights @ v).transpose(0, 1).flatten(1))
            y = self._rms(f"{layer}.post_attention_layernorm.weight", x)
            gate = F.silu(self._linear(f"{layer}.mlp.gate_proj", y))
            x = x + self._linear(f"{layer}.mlp.down_proj", gate * self._linear(f"{layer}.mlp.up_proj", y))
        return self._linear("lm_head", self._rms("model.norm.weight", x[-1]))

    def greedy(self, features: Tensor, ids: Tensor, visual: Tensor, positions: Tensor, count: int) -> list[int]:
        """The next `count` tokens, or up to one that ends the answer; repeated tokens are a little less likely.

        ids and visual (L,) are those of a prompt; features (T, H, W, D); positions (L,).
        """
        words = self.tensors["model.embed_tokens.weight"]
        flat = features.flatten(0, 2)
        x = torch.stack([flat[v] if v >= 0 else words[i] for i, v in zip(ids.tolist(), visual.tolist(), strict=True)])
        said: list[int] = []
        while len(said) < count and (not said or said[-1] not in self.stop):
            logits = self.logits(x, positions)
            for token in set(said):
                logits[token] = logits[token] / self.penalty if logits[token] > 0 else logits[token] * self.penalty
            said.append(int(logits.argmax()))
            x = torch.cat([x, words[said[-1:]]])
            positions = torch.cat([positions, positions[-1:] + 1])
        return said
