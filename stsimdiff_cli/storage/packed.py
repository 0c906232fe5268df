"""Packed features: a few bits for each number, and one scale for each vector of D numbers.

    x (D) --rotate--> r (D) --round--> codes 0 ... 2^b - 1, where r = scale (code - (2^b - 1) / 2)
    8 codes -> b bytes: bit i of code j is bit b j + i of the 8 b bits, the lowest first

A rotation spreads what a few channels hold over all of them, so that one scale suits the whole vector (Ashkboos et al.,
QuaRot, NeurIPS 2024; Zandieh et al., TurboQuant, arXiv 2504.19874). Here it is made of random signs and Hadamard
transforms, and takes O(D log D). With n the largest power of two up to D:

    change signs, transform the first n numbers; and if n < D: change signs again, transform the last n numbers

At 4 bits and fewer, the scale is the one of eleven that loses least: the largest numbers may be cut off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from ..token_features import TokenFeatures, describe
from .packing import Packing

CHUNK = 1 << 25  # bytes of unpacked features that a pass makes at a time; on the way it holds a few times as much
_BLOCK = 1 << 22  # numbers that are packed at a time
_SEARCHED = 4  # bits up to which scales are searched
_SHRINK = tuple(1 - 0.06 * step for step in range(11))  # of the scale that reaches the largest number


def pack(values: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    """Vectors (..., D) as codes (..., bytes) uint8 and scales (...) float32."""
    flat = values.reshape(-1, values.shape[-1])
    parts = [_pack(part.float(), packing) for part in flat.split(max(1, _BLOCK // flat.shape[1]))]
    codes, scales = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return codes.view(*values.shape[:-1], -1), scales.view(values.shape[:-1])


def unpack(codes: Tensor, scales: Tensor, width: int, packing: Packing) -> Tensor:
    """The vectors (..., D) again, in the type that the packing names, on the device of the codes."""
    levels = _from_bytes(codes, packing.bits)[..., :width].float() - _middle(packing.bits)
    values = _rotated(levels * scales[..., None], packing.seed, back=True)
    dtype: torch.dtype = getattr(torch, packing.dtype)
    return values.to(dtype)


def _middle(bits: int) -> float:
    return (2**bits - 1) / 2


def _pack(values: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    rotated = _rotated(values, packing.seed)
    largest = rotated.abs().amax(1) / _middle(packing.bits)
    codes, scales, least = _rounded(rotated, largest, packing.bits)
    for factor in _SHRINK[1:] if packing.bits <= _SEARCHED else ():
        others, smaller, error = _rounded(rotated, largest * factor, packing.bits)
        better = error < least
        codes = torch.where(better[:, None], others, codes)
        scales, least = torch.where(better, smaller, scales), torch.where(better, error, least)
    return _to_bytes(codes, packing.bits), scales


def _rounded(values: Tensor, scales: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (n, D) uint8 of vectors for given scales, these scales, and the squared error (n,)."""
    inverse = torch.where(scales > 0, 1 / scales, 0)[:, None]
    levels = (values * inverse + _middle(bits)).round().clamp(0, 2**bits - 1)
    error = ((levels - _middle(bits)) * scales[:, None] - values).square().sum(1)
    return levels.to(torch.uint8), scales, error


def _to_bytes(codes: Tensor, bits: int) -> Tensor:
    if bits == 8 and codes.shape[1] % 8 == 0:
        return codes
    words = torch.nn.functional.pad(codes, (0, -codes.shape[1] % 8)).view(len(codes), -1, 8).long()
    joined = (words << bits * torch.arange(8)).sum(2)  # 8 codes have no bits in common: their sum is their union
    return (joined[..., None] >> 8 * torch.arange(bits) & 255).to(torch.uint8).flatten(1)


def _from_bytes(codes: Tensor, bits: int) -> Tensor:
    if bits == 8:
        return codes
    places = torch.arange(8, device=codes.device)
    joined = (codes.unflatten(-1, (-1, bits)).long() << 8 * places[:bits]).sum(-1)
    return (joined[..., None] >> bits * places & 2**bits - 1).flatten(-2)


# --- the rotation ---------------------------------------------------------------------------------------------------


def _rotated(values: Tensor, seed: int, back: bool = False) -> Tensor:
    """Vectors (..., D) rotated, or rotated back."""
    width = values.shape[-1]
    size = 1 << (width.bit_length() - 1)
    steps = [(slice(0, size), 0), (slice(width - size, width), 1)][: 2 if size < width else 1]
    for part, number in reversed(steps) if back else steps:
        signs = _signs(width, seed, number).to(values.device)
        values = values.clone() if back else values * signs
        values[..., part] = _hadamard(values[..., part])
        if back:
            values *= signs
    return values


def _signs(width: int, seed: int, step: int) -> Tensor:
    """1 or -1 (D,) for each bit of SHAKE-256 of the text "seed step", the lowest bit of a byte first."""
    data = hashlib.shake_256(f"{seed} {step}".encode()).digest(-(-width // 8))
    bits = torch.frombuffer(bytearray(data), dtype=torch.uint8)[:, None] >> torch.arange(8) & 1
    return bits.flatten()[:width].float() * 2 - 1


def _hadamard(values: Tensor) -> Tensor:
    """The Hadamard transform (..., n) in Sylvester's order, scaled to keep lengths; it is its own inverse."""
    size = values.shape[-1]
    half = 1
    while half < size:
        pairs = values.unflatten(-1, (-1, 2, half))
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        values = torch.stack((first + second, first - second), -2).flatten(-3)
        half *= 2
    return values * size**-0.5


# --- features -------------------------------------------------------------------------------------------------------


class PackedFeatures:
    """Packed token features, in memory or in a file; implements token_features.TokenFeatures.

    They are unpacked chunk by chunk, on the device where they are delivered. Gathering leaves them packed, so that
    nothing more is lost.
    """

    def __init__(self, codes: TokenFeatures, scales: TokenFeatures, width: int, packing: Packing) -> None:
        self.codes, self.scales, self.packing = codes, scales, packing
        self._width = width

    def __repr__(self) -> str:
        return f"PackedFeatures({self.packing.store}, {describe(self)})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W, ...), or (M, ...) for gathered tokens."""
        return (*self.scales.shape, self._width)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the unpacked numbers."""
        dtype: torch.dtype = getattr(torch, self.packing.dtype)
        return dtype

    @property
    def device(self) -> torch.device:
        """The device on which `chunks` and `tensor` deliver."""
        return self.codes.device

    @property
    def chunk_rows(self) -> int:
        """Rows of about 32 MB when they are unpacked."""
        numbers = max(1, torch.Size(self.shape[1:]).numel())
        return max(1, CHUNK // (4 * numbers))

    def chunks(self, rows: int | None = None, wanted: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """See TokenFeatures."""
        step = rows or self.chunk_rows
        packed = zip(self.codes.chunks(step, wanted), self.scales.chunks(step, wanted), strict=True)
        for (begin, codes), (_, scales) in packed:
            yield begin, unpack(codes, scales, self._width, self.packing)

    def gather(self, index: Tensor) -> PackedFeatures:
        """The tokens at flat positions `index` (M,), ascending: (M, ...). They stay packed."""
        return self._like(self.codes.gather(index), self.scales.gather(index))

    def to(self, device: torch.device | str) -> PackedFeatures:
        """The same features, unpacked and delivered on another device."""
        return self._like(self.codes.to(device), self.scales.to(device))

    def in_memory(self) -> PackedFeatures:
        """The same features, packed in memory."""
        return self._like(self.codes.in_memory(), self.scales.in_memory())

    def tensor(self) -> Tensor:
        """All features as one tensor in memory."""
        out = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        for begin, chunk in self.chunks():
            out[begin : begin + len(chunk)] = chunk
        return out

    def _like(self, codes: TokenFeatures, scales: TokenFeatures) -> PackedFeatures:
        return PackedFeatures(codes, scales, self._width, self.packing)
