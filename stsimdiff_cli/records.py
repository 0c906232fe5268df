"""The records that the stages hand each other. Read this first.

    video --decode--> Frames --encode--> VideoTokens --select--> Selection
          --store--> CompressedVideo --prompt--> Prompt --> answer

Letters: T time slots, H rows and W columns of the token grid as the LLM sees it, D width of the LLM,
N = T H W tokens, M kept tokens. Records are never changed after they are made.
This module imports nothing heavy, so that headers can be read without torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class Kind(IntFlag):
    """Why a token was kept (bits; both may be set)."""

    NONE = 0
    REPRESENTATIVE = 1  # T_rep, Eq. 5
    EVENT = 2  # T_event, Eq. 6


#: What a method may tell of the tokens beside those that it keeps, for pictures: `change` (T,) float32, 1 - the mean
#: similarity of a slot to the one before, 0 in the first; `regions` (T, H, W) int32, the community of every token;
#: `centrality` (M,) float32, of the kept tokens in their communities (Eq. 4).
TRACES = ("change", "regions", "centrality")


@dataclass(frozen=True)
class Source:
    """The video that tokens came from."""

    name: str
    bytes: int
    sha256: str
    seconds: float  # duration of the whole video
    fps: float  # average frame rate of the whole video
    frames: int  # presentable frames of the whole video
    width: int  # pixels, after rotation
    height: int
    decoder: str  # the reader that delivered the frames
    missing_seconds: tuple[float, ...] = ()  # chosen frames that could not be decoded
    notes: tuple[str, ...] = ()  # what one should know about the file, in sentences


@dataclass(frozen=True)
class Frames:
    """A chunk of decoded frames, in time order."""

    pixels: Tensor  # (n, height, width, 3) uint8, RGB, rotation applied
    seconds: tuple[float, ...]  # (n,) presentation time of each frame
    missing_seconds: tuple[float, ...] = ()  # asked for in this chunk but not decodable

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[-1] != 3 or len(self.pixels) != len(self.seconds):
            raise ValueError(
                f"expected pixels (n, height, width, 3) and n seconds, "
                f"got {tuple(self.pixels.shape)} and {len(self.seconds)}"
            )


@dataclass(frozen=True)
class ModelRef:
    """Which model made the tokens."""

    id: str
    family: str
    revision: str | None
    fingerprint: str


@dataclass(frozen=True)
class Layout:
    """Token ids that the family writes around and between the visual tokens.

    `between` holds (flat position p, ids): the ids stand before visual token p. They belong to the prompt,
    are always kept and do not count in N.
    """

    before: tuple[int, ...] = ()
    between: tuple[tuple[int, tuple[int, ...]], ...] = ()
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class TokenGrid:
    """What is known of a video's tokens beside the tokens themselves."""

    shape: tuple[int, int, int]  # T, H, W
    width: int  # D
    seconds: tuple[float, ...]  # (T,) time of each slot in the video
    layout: Layout
    model: ModelRef
    source: Source

    @property
    def tokens(self) -> int:
        """N = T H W."""
        t, h, w = self.shape
        return t * h * w


@dataclass(frozen=True)
class Embeddings:
    """What the LLM receives for M visual tokens."""

    features: Tensor  # (M, D), in the place of word embeddings
    deepstack: Tensor | None = None  # (M, K, D), added to the hidden states behind each of the first K layers

    def __getitem__(self, index: Any) -> Embeddings:
        """Some of them: a slice, or an index (M',)."""
        return Embeddings(self.features[index], None if self.deepstack is None else self.deepstack[index])

    def to(self, device: Any) -> Embeddings:
        """The same on a device."""
        return Embeddings(self.features.to(device), None if self.deepstack is None else self.deepstack.to(device))

    def read(self) -> Embeddings:
        """The same in memory."""
        return Embeddings(self.features[:], None if self.deepstack is None else self.deepstack[:])


@dataclass(frozen=True)
class VideoTokens:
    """All visual tokens of a video, as the LLM receives them.

    Tensors may be those of a file (storedtensor.StoredTensor), which are read slot by slot by those who can.
    """

    grid: TokenGrid
    features: Tensor  # (T, H, W, D)
    evidence: dict[str, Tensor] = field(default_factory=dict)  # "saliency" (T, H, W), "keys" (T, H, W, heads, K)
    deepstack: Tensor | None = None  # (T, H, W, K, D) where the family has it: see Embeddings

    def __post_init__(self) -> None:
        expected = (*self.grid.shape, self.grid.width)
        if tuple(self.features.shape) != expected:
            raise ValueError(f"expected features of shape {expected}, got {tuple(self.features.shape)}")
        deep = self.deepstack
        if deep is not None and (deep.ndim != 5 or (*deep.shape[:3], deep.shape[4]) != expected):
            raise ValueError(f"expected deepstack features (T, H, W, K, D) of {expected}, got {tuple(deep.shape)}")

    @property
    def slots_at_once(self) -> int | None:
        """Slots that who reads slot by slot should read at a time; None if they are all in memory."""
        at_once: int | None = getattr(self.features, "rows_at_once", None)
        return at_once

    @property
    def embeddings(self) -> Embeddings:
        """All N tokens in a row."""
        return Embeddings(self.features.flatten(0, 2), None if self.deepstack is None else self.deepstack.flatten(0, 2))

    def to(self, device: Any) -> VideoTokens:
        """The same on a device."""
        deep = None if self.deepstack is None else self.deepstack.to(device)
        evidence = {name: tensor.to(device) for name, tensor in self.evidence.items()}
        return VideoTokens(self.grid, self.features.to(device), evidence, deep)

    def read(self, *, features: bool = True) -> VideoTokens:
        """The same in memory, or only the evidence."""
        evidence = {name: tensor[:] for name, tensor in self.evidence.items()}
        if not features:
            return VideoTokens(self.grid, self.features, evidence, self.deepstack)
        return VideoTokens(self.grid, self.features[:], evidence, None if self.deepstack is None else self.deepstack[:])


@dataclass(frozen=True)
class Selection:
    """The tokens that a method keeps, and why."""

    index: Tensor  # (M,) int64, strictly increasing flat positions t H W + h W + w
    kind: Tensor  # (M,) uint8, bits of Kind
    community: Tensor  # (M,) int64, -1 where the method knows none
    importance: Tensor | None = None  # (M,) float32, null if nothing had to be pruned by importance
    counts: dict[str, int] = field(default_factory=dict)  # candidates, representatives, events, communities, ...
    features: Tensor | None = None  # (M, D) where a method merges; else the tokens are the originals
    traces: dict[str, Tensor] = field(default_factory=dict)  # what the method saw of all tokens: names in TRACES


@dataclass(frozen=True)
class CompressedVideo:
    """The kept tokens of a video with everything that `ask` needs."""

    grid: TokenGrid
    features: Tensor  # (M, D)
    index: Tensor  # (M,) int64
    kind: Tensor  # (M,) uint8
    community: Tensor  # (M,) int64
    importance: Tensor | None  # (M,) float32
    method: dict[str, Any]  # name, every parameter, ratio, importance source and prompt
    counts: dict[str, int]
    deepstack: Tensor | None = None  # (M, K, D) where the family has it
    traces: dict[str, Tensor] = field(default_factory=dict)  # names in TRACES, where the method tells

    @property
    def embeddings(self) -> Embeddings:
        """The kept tokens."""
        return Embeddings(self.features, self.deepstack)


@dataclass(frozen=True)
class Prompt:
    """A token sequence with visual tokens in it."""

    ids: Tensor  # (L,) int64; visual tokens hold the family's placeholder id
    visual: Tensor  # (L,) int64: flat position of the visual token, -1 for text
    positions: Tensor  # (R, L) int64: position ids, R rows as the family's LLM wants them

    def __getitem__(self, where: Any) -> Prompt:
        """A part of it: a slice, or a mask (L,)."""
        return Prompt(self.ids[where], self.visual[where], self.positions[:, where])
