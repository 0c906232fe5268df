"""Heads of sizes that vLLM's attention on a CPU does not take, such as the 48 numbers of the embedded models' heads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.models import qwen2
from vllm.platforms import current_platform


class PaddedAttention(Attention):
    """Attention whose heads have zeros after their own numbers, which changes neither its scores nor its values."""

    def __init__(self, num_heads: int, head_size: int, scale: float, **settings: Any) -> None:
        super().__init__(num_heads, _fitting(head_size), scale, **settings)
        self.own = head_size

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **settings: Any) -> Tensor:
        """As Attention: each (tokens, heads x size)."""
        wide = [self._padded(each) for each in (query, key, value)]
        out = super().forward(*wide, *args, **settings)
        return out.view(len(out), -1, self.head_size)[..., : self.own].flatten(1)

    def _padded(self, x: Tensor) -> Tensor:
        return F.pad(x.view(len(x), -1, self.own), (0, self.head_size - self.own)).flatten(1)


def _fitting(size: int) -> int:
    """The smallest size of a head that is taken and not less; the size itself if there is none."""
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    return min((each for each in CPUAttentionBackend.get_supported_head_sizes() if each >= size), default=size)


@contextmanager
def padded_heads() -> Iterator[None]:
    """Within it, LLMs of Qwen2's class are made with such attention, if they run on a CPU."""
    if not current_platform.is_cpu():
        yield
        return
    whole, qwen2.Attention = qwen2.Attention, PaddedAttention
    try:
        yield
    finally:
        qwen2.Attention = whole
