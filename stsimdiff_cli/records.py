"""The records that the stages hand each other. Read this first.

    video --decode--> Frames --encode--> VideoTokens --select--> Selection
          --store--> CompressedVideo --prompt--> Prompt --> answer

Letters: T time slots, H rows and W columns of the token grid as the LLM sees it, D width of the LLM,
N = T H W tokens, M kept tokens. Records are never changed after they are made.
This module imports nothing heavy, so that headers can be read without torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from enum import IntFlag
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
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


class TensorRecord:
    """A record that holds tensors: it is equal to itself alone, and prints shapes instead of numbers."""

    def __repr__(self) -> str:
        shown = (f"{item.name}={_shown(getattr(self, item.name))}" for item in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(shown)})"


def _shown(value: Any) -> str:
    """A field of a record in a few words."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_shown(item)}" for name, item in value.items()) + "}"
    if isinstance(value, TokenGrid):
        return f"TokenGrid({' x '.join(map(str, value.shape))}, {value.model.id}, {value.source.name})"
    if hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
    if isinstance(value, tuple) and len(value) > 4:
        return f"({value[0]!r}, ... {len(value)} values)"
    return repr(value)


def _check_shape(name: str, tensor: Any, *expected: int | None) -> None:
    """ValueError unless a tensor has the expected shape; None stands for any size."""
    shape = tuple(tensor.shape)
    if len(shape) != len(expected) or any(e is not None and e != s for e, s in zip(expected, shape, strict=True)):
        wanted = ", ".join("any" if side is None else str(side) for side in expected)
        raise ValueError(f"expected {name} of shape ({wanted}), got {shape}")


@dataclass(frozen=True, eq=False, repr=False)
class Frames(TensorRecord):
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
class FrameStream:
    """The chosen frames of one video, which arrive chunk by chunk while they are used."""

    source: Source
    count: int  # frames in all, those that cannot be decoded included
    chunks: Iterable[Frames]


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


class TokenFeatures(Protocol):
    """A tensor with a row for every token, in memory (DenseFeatures) or in a file (storage.lazy_tensor.FileFeatures).

    Its shape is (T, H, W, ...) for all tokens of a video, or (M, ...) for kept ones.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W, ...) or (M, ...)."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers."""

    @property
    def device(self) -> torch.device:
        """Where chunks and gathered tokens are delivered."""

    @property
    def chunk_rows(self) -> int:
        """Rows (slots, or kept tokens) that a pass should read at a time: all of them if they are in memory."""

    def chunks(self, rows: int | None = None, wanted: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """The first row and the numbers (n, ...) of every chunk of at most `rows` rows (default: `chunk_rows`).

        A chunk is valid until the next one: those from a file are read into the same memory.
        `wanted` (rows,) bool: of each chunk only from the first wanted row to the last, and nothing if there is none.
        """

    def gather(self, index: Tensor) -> TokenFeatures:
        """The tokens at flat positions `index` (M,), ascending: (M, ...); those of a file stay there."""

    def to(self, device: torch.device | str) -> TokenFeatures:
        """The same, delivered to another device."""

    def tensor(self) -> Tensor:
        """All of it in memory."""


class DenseFeatures:
    """Token features in memory: TokenFeatures around a tensor (T, H, W, ...), or (M, ...) with `token_dims=1`."""

    def __init__(self, tensor: Tensor, token_dims: int = 3) -> None:
        self._tensor, self._token_dims = tensor, token_dims

    def __repr__(self) -> str:
        return f"DenseFeatures({_shown(self._tensor)})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W, ...) or (M, ...)."""
        return tuple(self._tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers."""
        return self._tensor.dtype

    @property
    def device(self) -> torch.device:
        """Where the tensor is."""
        return self._tensor.device

    @property
    def chunk_rows(self) -> int:
        """All rows: they are in memory anyway."""
        return max(1, len(self._tensor))

    def chunks(self, rows: int | None = None, wanted: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """See TokenFeatures; chunks are views of the tensor."""
        for begin, end in spans(len(self._tensor), rows or self.chunk_rows, wanted):
            yield begin, self._tensor[begin:end]

    def gather(self, index: Tensor) -> DenseFeatures:
        """The tokens at flat positions `index` (M,): (M, ...)."""
        flat = self._tensor.flatten(0, self._token_dims - 1)
        return DenseFeatures(flat[index.to(flat.device)], token_dims=1)

    def to(self, device: torch.device | str) -> DenseFeatures:
        """The same on another device."""
        return DenseFeatures(self._tensor.to(device), self._token_dims)

    def tensor(self) -> Tensor:
        """The tensor itself."""
        return self._tensor


def spans(rows: int, step: int, wanted: Tensor | None = None) -> Iterator[tuple[int, int]]:
    """First row and end of every chunk of `step` of `rows` rows.

    `wanted` (rows,) bool: of each chunk only from the first wanted row to the last, and nothing if there is none.
    """
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        if wanted is None:
            yield begin, end
            continue
        places = wanted[begin:end].nonzero()
        if len(places):
            yield begin + int(places[0]), begin + int(places[-1]) + 1


@dataclass(frozen=True, eq=False, repr=False)
class Embeddings(TensorRecord):
    """What the LLM receives for M visual tokens, in memory."""

    features: Tensor  # (M, D), in the place of word embeddings
    deepstack: Tensor | None = None  # (M, K, D), added to the hidden states after each of the first K layers

    def __post_init__(self) -> None:
        _check_shape("features", self.features, None, None)
        if self.deepstack is not None:
            _check_shape("deepstack features", self.deepstack, len(self.features), None, self.features.shape[1])

    def __getitem__(self, index: Any) -> Embeddings:
        """Some of them: a slice, or an index (M',)."""
        return Embeddings(self.features[index], None if self.deepstack is None else self.deepstack[index])


@dataclass(frozen=True, eq=False, repr=False)
class VideoTokens(TensorRecord):
    """All visual tokens of a video, as the LLM receives them; in memory, or in a file that is read when needed."""

    grid: TokenGrid
    features: TokenFeatures  # (T, H, W, D)
    evidence: dict[str, TokenFeatures] = field(default_factory=dict)  # saliency (T, H, W), keys (T, H, W, heads, K)
    deepstack: TokenFeatures | None = None  # (T, H, W, K, D) where the family has it: see Embeddings

    def __post_init__(self) -> None:
        _check_shape("features", self.features, *self.grid.shape, self.grid.width)
        if self.deepstack is not None:
            _check_shape("deepstack features", self.deepstack, *self.grid.shape, None, self.grid.width)
        for name, values in self.evidence.items():
            _check_shape(name, values, *self.grid.shape, *[None] * (len(values.shape) - 3))

    @classmethod
    def of(cls, grid: TokenGrid, tensors: dict[str, Tensor]) -> VideoTokens:
        """From tensors in memory: `features`, perhaps `deepstack`, and any evidence."""
        held: dict[str, TokenFeatures] = {name: DenseFeatures(tensor) for name, tensor in tensors.items()}
        return cls(grid, held.pop("features"), deepstack=held.pop("deepstack", None), evidence=held)

    @property
    def tensors(self) -> dict[str, TokenFeatures]:
        """Everything by the names that a tokens file uses."""
        deepstack = {} if self.deepstack is None else {"deepstack": self.deepstack}
        return {"features": self.features, **deepstack, **self.evidence}

    @property
    def embeddings(self) -> Embeddings:
        """All N tokens in a row, in memory."""
        deep = None if self.deepstack is None else self.deepstack.tensor().flatten(0, 2)
        return Embeddings(self.features.tensor().flatten(0, 2), deep)

    def embeddings_at(self, index: Tensor) -> Embeddings:
        """The tokens at flat positions `index` (M,), in memory."""
        deep = None if self.deepstack is None else self.deepstack.gather(index).tensor()
        return Embeddings(self.features.gather(index).tensor(), deep)

    def to(self, device: torch.device | str) -> VideoTokens:
        """The same on a device."""
        deep = None if self.deepstack is None else self.deepstack.to(device)
        evidence = {name: values.to(device) for name, values in self.evidence.items()}
        return VideoTokens(self.grid, self.features.to(device), evidence, deep)

    def in_memory(self, *, features: bool = True) -> VideoTokens:
        """The same in memory, or only the evidence."""
        evidence: dict[str, TokenFeatures] = {n: DenseFeatures(v.tensor()) for n, v in self.evidence.items()}
        if not features:
            return VideoTokens(self.grid, self.features, evidence, self.deepstack)
        deep = None if self.deepstack is None else DenseFeatures(self.deepstack.tensor())
        return VideoTokens(self.grid, DenseFeatures(self.features.tensor()), evidence, deep)


@dataclass(frozen=True, eq=False, repr=False)
class Selection(TensorRecord):
    """The tokens that a method keeps, and why."""

    index: Tensor  # (M,) int64, strictly increasing flat positions t H W + h W + w
    kind: Tensor  # (M,) uint8, bits of Kind
    community: Tensor  # (M,) int64, -1 where the method knows none
    importance: Tensor | None = None  # (M,) float32, None if nothing had to be pruned by importance
    counts: dict[str, int] = field(default_factory=dict)  # candidates, representatives, events, communities, ...
    features: Tensor | None = None  # (M, D) where a method merges; else the tokens are the originals
    traces: dict[str, Tensor] = field(default_factory=dict)  # what the method saw of all tokens: names in TRACES

    def __post_init__(self) -> None:
        _check_kept(self)
        if self.features is not None:
            _check_shape("features", self.features, len(self.index), None)


@dataclass(frozen=True, eq=False, repr=False)
class CompressedVideo(TensorRecord):
    """The kept tokens of a video with everything that `ask` needs."""

    grid: TokenGrid
    features: TokenFeatures  # (M, D)
    index: Tensor  # (M,) int64
    kind: Tensor  # (M,) uint8
    community: Tensor  # (M,) int64
    importance: Tensor | None  # (M,) float32
    method: dict[str, Any]  # name, every parameter, ratio, importance source and prompt
    counts: dict[str, int]
    deepstack: TokenFeatures | None = None  # (M, K, D) where the family has it
    traces: dict[str, Tensor] = field(default_factory=dict)  # names in TRACES, where the method tells

    def __post_init__(self) -> None:
        _check_kept(self)
        kept = len(self.index)
        _check_shape("features", self.features, kept, self.grid.width)
        if self.deepstack is not None:
            _check_shape("deepstack features", self.deepstack, kept, None, self.grid.width)

    @property
    def embeddings(self) -> Embeddings:
        """The kept tokens, in memory."""
        return Embeddings(self.features.tensor(), None if self.deepstack is None else self.deepstack.tensor())


def _check_kept(record: Selection | CompressedVideo) -> None:
    """Everything that is said of kept tokens is said of each of them."""
    _check_shape("index", record.index, None)
    kept = len(record.index)
    for name in ("kind", "community", "importance"):
        tensor = getattr(record, name)
        if tensor is not None:
            _check_shape(name, tensor, kept)


@dataclass(frozen=True, eq=False, repr=False)
class Prompt(TensorRecord):
    """A token sequence with visual tokens in it."""

    ids: Tensor  # (L,) int64; visual tokens hold the family's placeholder id
    visual: Tensor  # (L,) int64: flat position of the visual token, -1 for text
    positions: Tensor  # (R, L) int64: position ids, R rows as the family's LLM wants them

    def __post_init__(self) -> None:
        _check_shape("ids", self.ids, None)
        _check_shape("visual", self.visual, len(self.ids))
        _check_shape("positions", self.positions, None, len(self.ids))

    def __getitem__(self, where: Any) -> Prompt:
        """A part of it: a slice, or a mask (L,)."""
        return Prompt(self.ids[where], self.visual[where], self.positions[:, where])
