"""The records that the stages hand to each other. Read this first, then pipeline.py.

    video --decode--> Frames --encode--> VideoTokens --select--> Selection
          --store--> CompressedVideo --prompt--> Prompt --> answer

Letters: T time slots, H rows and W columns of the token grid as the LLM sees it, D the width of the LLM,
N = T H W tokens, M kept tokens. A flat position is t H W + h W + w.

Records are frozen. A record that holds tensors checks their shapes when it is made (ValueError with what was expected
and what it got). This module imports nothing heavy, so that the header of a file can be read without torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from enum import IntFlag
from typing import TYPE_CHECKING, Annotated, Any

from .registry import printable
from .token_features import DenseFeatures, TokenFeatures, describe

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class TensorRecord:
    """A record that holds tensors: it equals only itself, and its `repr` has shapes instead of numbers."""

    def __repr__(self) -> str:
        texts = (f"{item.name}={_text(getattr(self, item.name))}" for item in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(texts)})"


# --- numbers that are stored in files -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Within:
    """The range of a number in a file's header; what is outside was edited (storage/schema.py)."""

    least: float
    most: float


Seconds = Annotated[float, Within(-1e9, 1e9)]
Rate = Annotated[float, Within(0, 1e6)]
Amount = Annotated[int, Within(0, (1 << 63) - 1)]
Pixels = Annotated[int, Within(1, 1 << 16)]
Side = Annotated[int, Within(1, (1 << 31) - 1)]  # of a tensor
Position = Annotated[int, Within(0, (1 << 62) - 1)]  # flat
TokenId = Annotated[int, Within(0, (1 << 31) - 1)]
Edge = Annotated[float, Within(0, 1000)]  # in fractions of a frame


# --- the video and its frames ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """The video that tokens came from."""

    name: str
    bytes: Amount
    sha256: str
    seconds: Seconds  # duration of the whole video
    fps: Rate  # average frame rate of the whole video
    frames: Amount  # presentable frames of the whole video
    width: Pixels  # after rotation
    height: Pixels
    decoder: str  # the reader that delivered the frames
    missing_seconds: tuple[Seconds, ...] = ()  # times of chosen frames that could not be decoded
    notes: tuple[str, ...] = ()  # what a user should know about the file, in sentences


@dataclass(frozen=True, eq=False, repr=False)
class Frames(TensorRecord):
    """A chunk of decoded frames, in time order."""

    pixels: Tensor  # (n, height, width, 3) uint8, RGB, rotation applied
    seconds: tuple[float, ...]  # (n,) presentation time of each frame
    missing_seconds: tuple[float, ...] = ()  # times of frames of this chunk that could not be decoded

    def __post_init__(self) -> None:
        _check_shape("pixels", self.pixels, len(self.seconds), None, None, 3)


@dataclass(frozen=True)
class FrameSize:
    """How many pixels a user allows a frame, for models that take frames of any size. Default: as the model has it."""

    min_pixels: int | None = None
    max_pixels: int | None = None
    processor: bool = False  # the bounds of the checkpoint's own files hold, instead of its authors' rule for videos

    @property
    def stated(self) -> dict[str, Any]:
        """What the user stated, as JSON values; {} for nothing."""
        return {name: value for name, value in asdict(self).items() if value not in (None, False)}


@dataclass(frozen=True)
class Sizing:
    """What the size of an encoded frame depends on besides the frame."""

    frames: int  # of the whole video
    size: FrameSize = FrameSize()


@dataclass(frozen=True)
class FrameStream:
    """The chosen frames of one video, decoded chunk by chunk while they are consumed."""

    source: Source
    count: int  # chosen frames, including those that cannot be decoded
    chunks: Iterable[Frames]
    period: float | None = None  # seconds of video for each frame, where so many were spread evenly over it
    size: FrameSize = FrameSize()
    sized_for: int | None = None  # frames of the whole, of which these are a part and have the size; None: `count`


# --- the tokens of a video ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelRef:
    """The model that made the tokens."""

    id: str
    family: str
    revision: str | None
    fingerprint: str


@dataclass(frozen=True)
class Layout:
    """Token ids that the family writes around and between the visual tokens.

    `between` holds pairs (flat position p, ids): the ids stand before visual token p. These ids belong to the prompt,
    are always kept and do not count in N.
    """

    before: tuple[TokenId, ...] = ()
    between: tuple[tuple[Position, tuple[TokenId, ...]], ...] = ()
    after: tuple[TokenId, ...] = ()


@dataclass(frozen=True)
class Coverage:
    """The part of a frame that the token grid covers, in fractions of the frame's width and height.

    Default: the whole frame. The bottom and right edges may exceed 1 where the last cells extend past the frame.
    """

    left: Edge = 0.0
    top: Edge = 0.0
    right: Edge = 1.0
    bottom: Edge = 1.0
    blank_columns: Amount = 0  # columns at the right of the grid that show no pixels, such as learned newlines


@dataclass(frozen=True)
class ArchiveMark:
    """Which item of an archive a file was made from, and with which settings: their hashes (archive/identity.py)."""

    item: str
    settings: str


#: What saliency is: attention that a token receives from all tokens of its slot, or from the encoder's [CLS] alone.
RECEIVED, FROM_CLS = "received", "cls"


@dataclass(frozen=True, repr=False)
class TokenGrid:
    """Everything that is known about a video's tokens except the tokens themselves."""

    shape: tuple[Side, Side, Side]  # T, H, W
    width: Side  # D
    seconds: tuple[Seconds, ...]  # (T,) time of each slot in the video
    layout: Layout
    model: ModelRef
    source: Source
    coverage: Coverage = Coverage()
    saliency: str = RECEIVED  # what the evidence of that name is, if there is any: RECEIVED or FROM_CLS
    period: Seconds | None = None  # seconds of video for each slot, where frames were spread evenly over it

    @property
    def tokens(self) -> int:
        """N = T H W."""
        t, h, w = self.shape
        return t * h * w

    def __repr__(self) -> str:
        return f"TokenGrid({' x '.join(map(str, self.shape))}, {self.model.id}, {self.source.name})"

    def __str__(self) -> str:
        slots, rows, columns = self.shape
        form = f"{slots} slots of {rows} x {columns}, width {self.width}"
        return f"{self.tokens} tokens of {printable(self.source.name)} ({form}) by {printable(self.model.id)}"


@dataclass(frozen=True, eq=False, repr=False)
class VideoTokens(TensorRecord):
    """All visual tokens of a video, as the LLM receives them, in memory or in a file."""

    grid: TokenGrid
    features: TokenFeatures  # (T, H, W, D)
    evidence: dict[str, TokenFeatures] = field(default_factory=dict)  # saliency (T, H, W), keys (T, H, W, heads, K)
    deepstack: TokenFeatures | None = None  # (T, H, W, K, D) where the family has it: see Embeddings
    past: Tensor | None = None  # (P, H, W, D): features of the slots before the first, if these are a part of a video

    def __post_init__(self) -> None:
        _check_shape("features", self.features, *self.grid.shape, self.grid.width)
        if self.past is not None:
            _check_shape("past features", self.past, None, *self.grid.shape[1:], self.grid.width)
        if self.deepstack is not None:
            _check_shape("deepstack features", self.deepstack, *self.grid.shape, None, self.grid.width)
        for name, values in self.evidence.items():
            _check_shape(name, values, *self.grid.shape, *[None] * (len(values.shape) - 3))

    def __str__(self) -> str:
        return str(self.grid)

    @classmethod
    def of(cls, grid: TokenGrid, tensors: dict[str, Tensor]) -> VideoTokens:
        """From tensors in memory: `features`, `deepstack` if there is any, and evidence under other names."""
        dense: dict[str, TokenFeatures] = {name: DenseFeatures(tensor) for name, tensor in tensors.items()}
        return cls(grid, dense.pop("features"), deepstack=dense.pop("deepstack", None), evidence=dense)

    @property
    def tensors(self) -> dict[str, TokenFeatures]:
        """All tensors under the names that they have in a tokens file."""
        deepstack = {} if self.deepstack is None else {"deepstack": self.deepstack}
        return {"features": self.features, **deepstack, **self.evidence}

    @property
    def embeddings(self) -> Embeddings:
        """All N tokens in the order of their flat positions, in memory."""
        deepstack = None if self.deepstack is None else self.deepstack.tensor().flatten(0, 2)
        return Embeddings(self.features.tensor().flatten(0, 2), deepstack)

    def embeddings_at(self, index: Tensor) -> Embeddings:
        """The tokens at flat positions `index` (M,), in memory."""
        deepstack = None if self.deepstack is None else self.deepstack.gather(index).tensor()
        return Embeddings(self.features.gather(index).tensor(), deepstack)

    def to(self, device: torch.device | str) -> VideoTokens:
        """The same tokens, delivered on another device."""
        deepstack = None if self.deepstack is None else self.deepstack.to(device)
        evidence = {name: values.to(device) for name, values in self.evidence.items()}
        past = None if self.past is None else self.past.to(device)
        return VideoTokens(self.grid, self.features.to(device), evidence, deepstack, past)

    def in_memory(self, *, features: bool = True) -> VideoTokens:
        """The same tokens in memory; with `features=False` only the evidence is read."""
        evidence = {name: values.in_memory() for name, values in self.evidence.items()}
        if not features:
            return replace(self, evidence=evidence)
        deepstack = None if self.deepstack is None else self.deepstack.in_memory()
        return replace(self, features=self.features.in_memory(), evidence=evidence, deepstack=deepstack)


# --- the tokens that are kept ---------------------------------------------------------------------------------------


class Kind(IntFlag):
    """Why a token was kept. Bits: both may be set."""

    NONE = 0
    REPRESENTATIVE = 1  # T_rep, Eq. 5
    EVENT = 2  # T_event, Eq. 6


#: What a method may report about tokens, kept or not, for visualisation: `change` (T,) float32, 1 - the mean similarity
#: of a slot to the one before, 0 for the first; `regions` (T, H, W) int32, the community of every token; `whole_of`
#: (C,) int32, for each of C communities the lowest number of those that were cut from the same one; `centrality`
#: (M,) float32, of the kept tokens in their communities (Eq. 4).
TRACES = ("change", "regions", "whole_of", "centrality")


@dataclass(frozen=True, eq=False, repr=False)
class Selection(TensorRecord):
    """The tokens that a method keeps, and why."""

    index: Tensor  # (M,) int64, strictly increasing flat positions
    kind: Tensor  # (M,) uint8, bits of Kind
    community: Tensor  # (M,) int64, -1 where the method has no communities
    importance: Tensor | None = None  # (M,) float32, None if nothing had to be pruned by importance
    counts: dict[str, int] = field(default_factory=dict)  # candidates, representatives, events, communities, ...
    features: Tensor | None = None  # (M, D) if the method merges tokens; None: the original features
    traces: dict[str, Tensor] = field(default_factory=dict)  # under the names in TRACES

    def __post_init__(self) -> None:
        _check_kept(self, (None, None, None))
        if self.features is not None:
            _check_shape("features", self.features, len(self.index), None)

    def cpu(self) -> Selection:
        """The same selection on the CPU."""
        return replace(
            self,
            index=self.index.cpu(),
            kind=self.kind.cpu(),
            community=self.community.cpu(),
            importance=None if self.importance is None else self.importance.cpu(),
            features=None if self.features is None else self.features.cpu(),
            traces={name: tensor.cpu() for name, tensor in self.traces.items()},
        )


@dataclass(frozen=True, eq=False, repr=False)
class CompressedVideo(TensorRecord):
    """The kept tokens of a video with everything that `ask` needs."""

    grid: TokenGrid
    features: TokenFeatures  # (M, D)
    index: Tensor  # (M,) int64, strictly increasing flat positions
    kind: Tensor  # (M,) uint8, bits of Kind
    community: Tensor  # (M,) int64, -1 where the method has no communities
    importance: Tensor | None  # (M,) float32
    method: dict[str, Any]  # name, every parameter, ratio, source of importance, and prompt
    counts: dict[str, int]
    deepstack: TokenFeatures | None = None  # (M, K, D) where the family has it: see Embeddings
    traces: dict[str, Tensor] = field(default_factory=dict)  # under the names in TRACES, if the method reports them

    def __post_init__(self) -> None:
        _check_kept(self, self.grid.shape)
        kept = len(self.index)
        _check_shape("features", self.features, kept, self.grid.width)
        if self.deepstack is not None:
            _check_shape("deepstack features", self.deepstack, kept, None, self.grid.width)

    def __str__(self) -> str:
        return f"{len(self.index)} of {self.grid}, kept by {self.method['name']} at ratio {self.method['ratio']}"

    @property
    def embeddings(self) -> Embeddings:
        """The kept tokens, in memory."""
        return Embeddings(self.features.tensor(), None if self.deepstack is None else self.deepstack.tensor())


# --- what the LLM receives ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Embeddings(TensorRecord):
    """What the LLM receives for M visual tokens, in memory."""

    features: Tensor  # (M, D), in the place of input embeddings
    deepstack: Tensor | None = None  # (M, K, D), added to the hidden states after each of the first K layers

    def __post_init__(self) -> None:
        _check_shape("features", self.features, None, None)
        if self.deepstack is not None:
            _check_shape("deepstack features", self.deepstack, len(self.features), None, self.features.shape[1])

    def __getitem__(self, index: Any) -> Embeddings:
        """Some of the tokens: a slice, or an index (M',)."""
        return Embeddings(self.features[index], None if self.deepstack is None else self.deepstack[index])


@dataclass(frozen=True, eq=False, repr=False)
class Prompt(TensorRecord):
    """A token sequence of text with visual tokens in it."""

    ids: Tensor  # (L,) int64; visual tokens have the family's placeholder id
    visual: Tensor  # (L,) int64: flat position of the visual token, -1 for text
    positions: Tensor  # (R, L) position ids, in the R rows that the LLM expects: int64, or float32 for fractions

    def __post_init__(self) -> None:
        _check_shape("ids", self.ids, None)
        _check_shape("visual", self.visual, len(self.ids))
        _check_shape("positions", self.positions, None, len(self.ids))

    def __getitem__(self, part: Any) -> Prompt:
        """A part of the sequence: a slice, or a mask (L,)."""
        return Prompt(self.ids[part], self.visual[part], self.positions[:, part])


# --- shapes ---------------------------------------------------------------------------------------------------------


def _check_shape(name: str, tensor: Any, *expected: int | None) -> None:
    """Raise ValueError unless a tensor has the expected shape; None stands for any size."""
    shape = tuple(tensor.shape)
    if len(shape) != len(expected) or any(e is not None and e != s for e, s in zip(expected, shape, strict=True)):
        text = ", ".join("any" if side is None else str(side) for side in expected)
        raise ValueError(f"expected {name} of shape ({text}), got {shape}")


def _check_kept(record: Selection | CompressedVideo, grid: tuple[int | None, int | None, int | None]) -> None:
    """Raise ValueError unless every tensor about kept tokens has M entries, and traces fit the grid (T, H, W)."""
    _check_shape("index", record.index, None)
    kept = len(record.index)
    for name in ("kind", "community", "importance"):
        tensor = getattr(record, name)
        if tensor is not None:
            _check_shape(name, tensor, kept)
    shapes: dict[str, tuple[int | None, ...]] = {
        "change": grid[:1],
        "regions": grid,
        "whole_of": (None,),
        "centrality": (kept,),
    }
    for name, tensor in record.traces.items():
        if name not in shapes:
            raise ValueError(f"expected traces with names in {TRACES}, got {name!r}")
        _check_shape(name, tensor, *shapes[name])


def _text(value: Any) -> str:
    """A field of a record in a few words."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_text(item)}" for name, item in value.items()) + "}"
    if hasattr(value, "shape") and not isinstance(value, TokenGrid):
        return describe(value)
    if isinstance(value, tuple) and len(value) > 4:
        return f"({value[0]!r}, ... {len(value)} values)"
    return repr(value)
