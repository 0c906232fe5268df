"""Encoding: frames in, tokens and evidence out, one chunk at a time.

    frames --prepare--> pixels on the device --start--> work that is queued there --wait--> tokens on the CPU

The three steps of a chunk may be taken by different threads, while others are taken for other chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import RequestError
from ...records import Sizing
from ...registry import unknown_name
from .. import FAMILIES
from ..families.base import Family
from ..loading.damage import running
from ..loading.memory import out_of_memory
from ..loading.runtime import ResolvedRuntime
from ..loading.transfer import ToHost
from ..loading.weights import load_vision
from .attention_tap import allow_taps, attach_tap, attention_from_first, attention_received
from .finite import not_finite

_FINITE = "finite "  # before the name of a tensor: whether it holds only numbers


@dataclass(eq=False)
class Batch:
    """Frames that are encoded together, (n, height, width, 3) uint8, and what the encoder takes of them.

    `pixels` is None if there is no memory for them now: they are made when the batch is encoded.
    """

    frames: Tensor
    pixels: dict[str, Tensor] | None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A chunk of a video, ready to be encoded; `sizing` is that of the whole video."""

    batches: list[Batch]
    sizing: Sizing


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
        self.most: int | None = None  # frames that are encoded together; None as long as memory has sufficed for all

    def encode(self, frames: Tensor, sizing: Sizing | None = None) -> dict[str, Tensor]:
        """Tokens of (n, height, width, 3) uint8 frames, n a multiple of the family's frames per slot except at the end.

        `sizing` is that of the whole video, if these are a part of it. Returns `features` (t, H, W, D)
        in the model's dtype, `deepstack` (t, H, W, K, D) where the family has it, and, if asked for, `saliency`
        (t, H, W) and `keys` (t, H, W, heads, K), both float32, pooled, merged and ordered like the features; all on
        the CPU.
        """
        return self.start(self.prepare(frames, sizing or Sizing(len(frames)))).wait()

    @torch.inference_mode()
    def prepare(self, frames: Tensor, sizing: Sizing) -> Prepared:
        """Resize, normalise and begin to copy to the device; parameters as `encode`."""
        with running(self.family.checkpoint.id, self.family.checkpoint.embedded):
            return Prepared([self._batch(part, sizing) for part in frames.split(self.most or len(frames))], sizing)

    @torch.inference_mode()
    def start(self, prepared: Prepared, note: Callable[[str], None] = lambda _: None) -> Encoding:
        """Encode a chunk. On CUDA the work is only queued.

        If memory does not suffice, half as many frames are encoded at a time, now and later; `note` gets a sentence.
        """
        with running(self.family.checkpoint.id, self.family.checkpoint.embedded):
            parts = [part for batch in prepared.batches for part in self._encode_batch(batch, prepared.sizing, note)]
        return Encoding(self, parts)

    def _batch(self, frames: Tensor, sizing: Sizing) -> Batch:
        try:
            return Batch(frames, self.family.preprocess(frames, sizing, self.device))
        except Exception as error:
            if not out_of_memory(error):
                raise
            return Batch(frames, None)

    def _encode_batch(self, batch: Batch, sizing: Sizing, note: Callable[[str], None]) -> list[ToHost]:
        frames = batch.frames
        try:
            pixels = batch.pixels or self.family.preprocess(frames, sizing, self.device)
            return [self._on_the_way(self._encode(pixels))]
        except Exception as error:
            fewer = self._fewer(len(frames))
            if fewer is None or not out_of_memory(error):
                raise
        # Outside of the block, where what the error's traceback held is free.
        batch.pixels = None
        pixels = {}
        self._lower(fewer, len(frames), note)
        return [part for few in frames.split(fewer) for part in self._encode_batch(Batch(few, None), sizing, note)]

    def _lower(self, fewer: int, frames: int, note: Callable[[str], None]) -> None:
        """From now on encode so many frames at a time, where `frames` were too many."""
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.empty_cache()
        if self.most is None or fewer < self.most:
            self.most = fewer
            place = "GPU memory" if on_gpu else "memory"
            note(f"there is not enough {place} to encode {frames} frames at a time: from here on it is {fewer}.")

    def _fewer(self, frames: int) -> int | None:
        """Half of so many frames, in whole slots; None if there is nothing to halve."""
        depth = self.family.frames_per_slot
        slots = -(-frames // depth)
        return slots // 2 * depth or None

    def _on_the_way(self, tensors: dict[str, Tensor]) -> ToHost:
        """The tensors, and whether the features are numbers, on their way to the CPU."""
        features = tensors.keys() - self.evidence
        return ToHost(tensors | {_FINITE + name: tensors[name].isfinite().all() for name in features}, self.device)

    def _encode(self, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self.evidence:
            return self.family.encode(self.model, pixels)
        attention = self.family.last_attention(self.model)
        read = attention_from_first if self.family.class_token else attention_received
        saliency: list[Tensor] = []
        inputs: list[Tensor] = []
        hook = self.family.key_projection(self.model).register_forward_pre_hook(
            lambda _, arguments: inputs.append(arguments[0])
        )
        try:
            with attach_tap(attention, lambda *qk: saliency.append(read(*qk).flatten())):
                out = self.family.encode(self.model, pixels)
        finally:
            hook.remove()
        if "saliency" in self.evidence:
            per_patch = torch.cat(saliency)[:, None]  # (patches, 1)
            out["saliency"] = self.family.to_grid(self.model, per_patch, pixels)[..., 0]
        if "keys" in self.evidence:
            per_patch = self.family.keys(self.model, inputs[0]).float()  # (patches, heads x K)
            grid = self.family.to_grid(self.model, per_patch, pixels)
            out["keys"] = grid.unflatten(-1, (self.family.key_heads(self.model), -1))
        return out


class Encoding:
    """The tokens of a chunk on their way from the device."""

    def __init__(self, encoder: VisionEncoder, parts: list[ToHost]) -> None:
        self._encoder, self._parts = encoder, parts

    def wait(self) -> dict[str, Tensor]:
        """The tokens as `VisionEncoder.encode` returns them; ModelError if the features are not numbers."""
        checkpoint, dtype = self._encoder.family.checkpoint, self._encoder.model.dtype
        with running(checkpoint.id, checkpoint.embedded):
            parts = [part.wait() for part in self._parts]
        self._parts = []
        for part in parts:
            for name in [name for name in part if name.startswith(_FINITE)]:
                if not bool(part.pop(name)):
                    raise not_finite("The features", checkpoint, dtype)
        if len(parts) == 1:
            return parts[0]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
