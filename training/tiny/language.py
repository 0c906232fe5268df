"""The forward pass of the language model on packed questions (batches.py), written out for speed on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .batches import HEAD, IDS, Batch
from .vision_tower import GRID, gated, linear, rms_norm, rotate


def forward(model: Any, batch: Batch, dtype: torch.dtype = torch.bfloat16, inner: list[Tensor] | None = None) -> Tensor:
    """(B, Q, L, vocabulary) logits.

    These are appended to `inner`: all tokens after each of the first two layers, (B, P + Q L, 192), and the attention
    of the segments to themselves in each of the other layers, (B, h, Q, L, L). P is the length of the shared prefix.
    """
    lm = model.model.language_model
    b, count, length = batch.ids.shape
    embeddings = lm.embed_tokens.weight.to(dtype)
    head = embeddings[[IDS[token] for token in HEAD]].expand(b, -1, -1)
    close = embeddings[IDS["<|vision_end|>"]].expand(b, 1, -1)
    x = torch.cat([head, batch.visual.to(dtype), close, embeddings[batch.ids].flatten(1, 2)], 1)  # (B, P + Q L, D)
    start = torch.arange(len(HEAD)).expand(3, b, -1)
    end = torch.full((3, b, 1), len(HEAD) + GRID)
    positions = torch.cat([start, batch.visual_positions, end, batch.text_positions.flatten(2, 3)], 2)
    cos, sin = (t[:, None] for t in lm.rotary_emb(x, positions))
    shared = x.shape[1] - count * length
    for i, layer in enumerate(lm.layers):
        attn = layer.self_attn
        normed = rms_norm(layer.input_layernorm, x)
        q, k, v = (
            linear(p, normed).view(b, x.shape[1], attn.num_heads, -1).transpose(1, 2)
            for p in (attn.q_proj, attn.k_proj, attn.v_proj)
        )
        q, k = rotate(q, cos, sin) * attn.scaling, rotate(k, cos, sin)
        mixed, attention = attend_segments(q[:, :, shared:], k, v, shared, count)
        if i + 1 < len(lm.layers):
            front = attend(q[:, :, :shared], k[:, :, :shared], v[:, :, :shared])
            mixed = torch.cat([front, mixed], 2)
        else:
            x = x[:, shared:]  # nothing reads the visual tokens after the last layer
        x = x + linear(attn.o_proj, mixed.transpose(1, 2).flatten(2))
        x = x + gated(layer.mlp, rms_norm(layer.post_attention_layernorm, x))
        if inner is not None:
            inner.append(x if i < 2 else attention)
    return F.linear(rms_norm(lm.norm, x), embeddings).view(b, count, length, -1)


def attend(q: Tensor, k: Tensor, v: Tensor, chunk: int = 128) -> Tensor:
    """Causal attention (B, h, S, d) in chunks of queries, so that half of the scores are never computed."""
    rows = []
    for a in range(0, q.shape[2], chunk):
        b = min(a + chunk, q.shape[2])
        score = q[:, :, a:b] @ k[:, :, :b].transpose(2, 3)
        mask = torch.full((b - a, b), -torch.inf, dtype=q.dtype).triu(a + 1)
        rows.append((score + mask).softmax(-1) @ v[:, :, :b])
    return torch.cat(rows, 2)


def attend_segments(q: Tensor, k: Tensor, v: Tensor, shared: int, count: int) -> tuple[Tensor, Tensor]:
    """Attention of segments: each sees the first `shared` tokens, and itself causally.

    Returns (B, h, Q * L, d), and the attention within each segment, (B, h, Q, L, L).
    """
    b, h, total, d = k.shape
    length = (total - shared) // count
    own_k, own_v = (x[:, :, shared:].reshape(b, h, count, length, d) for x in (k, v))
    own_q = q.reshape(b, h, count, length, d)
    mask = torch.full((length, length), -torch.inf, dtype=q.dtype).triu(1)
    far = (q @ k[:, :, :shared].transpose(2, 3)).view(b, h, count, length, shared)
    attention = torch.cat([far, own_q @ own_k.transpose(3, 4) + mask], -1).softmax(-1)
    within = attention[..., shared:]
    mixed = (within @ own_v).flatten(2, 3)
    mixed = mixed + attention[..., :shared].reshape(b, h, count * length, shared) @ v[:, :, :shared]
    return mixed, within


def answer_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of the answers' tokens, and (B, Q) whether every token of an answer is the most likely one.

    That is exactly whether greedy decoding gives the answer: both agree up to the first wrong token.
    """
    marked = targets >= 0
    picked = logits[marked].float()
    loss = F.cross_entropy(picked, targets[marked])
    right = torch.ones_like(marked)
    right[marked] = picked.argmax(-1) == targets[marked]
    return loss, right.all(-1)
