"""The stages in a row: encode a video, compress its tokens, ask about them. Read this second.

Every function takes records and returns records; what it took is in the stopwatch that it is given, and a shelf
that keeps loaded models makes it quick for many videos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from . import video
from .ahead import ahead
from .collecting import Collected, regrouped
from .errors import RequestError
from .methods.base import Method, parse_method, spelled
from .models import EMBEDDED
from .models.devices import pick_attention, pick_device, pick_dtype
from .models.quantize import check_quantize
from .models.shelf import Shelf
from .ratio import parse_ratio
from .records import CompressedVideo, Frames, Source, TokenGrid, VideoTokens
from .shallow import How, ShallowLlm, matching_family
from .store import StoredVideo, growing_tokens
from .timing import Stopwatch

if TYPE_CHECKING:  # these import transformers, which not everybody needs
    from .models.conversation import Conversation, PrunedConversation

#: The prompt for importance when no question is given; the embedded model was trained on it too.
GENERAL_PROMPT = "What happens in this video?"
#: Frames of a video, if nobody names a number.
DEFAULT_FRAMES = 32
#: Called with a stage ("decode", "encode"), frames done and frames in all.
Progress = Callable[[str, int, int], None]


def encode_video(
    path: str | Path,
    model: str = EMBEDDED,
    *,
    revision: str | None = None,
    frames: int = DEFAULT_FRAMES,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    evidence: Iterable[str] = (),
    decoder: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "auto",
    chunk: int = 8,
    to: Path | None = None,
    shelf: Shelf | None = None,
    watch: Stopwatch | None = None,
    progress: Progress = lambda *_: None,
) -> VideoTokens:
    """Decode chosen frames of a video and encode them into visual tokens, `chunk` frames at a time.

    `frames` are spread uniformly over the clip (or the part from `start` to `end` seconds), or taken at `fps`.
    Memory holds the tokens and two chunks; with a tokens file to write `to`, the tokens stay in that file. Frames that
    cannot be decoded are left out and named in the record.
    Raises RequestError for a wrong request, VideoError for a video that cannot be read, ModelError for the model.
    """
    path = Path(path)
    watch = watch or Stopwatch()
    watch.step("scan")
    found = video.scan(path)
    reader = video.decoder_for(found, decoder)
    chosen = video.choose_frames(found, frames=frames, fps=fps, start=start, end=end)
    watch.step("load")
    watch.stop()
    return encode_frames(
        video.read_frames(path, found, chosen, chunk=chunk, decoder=reader),
        len(chosen),
        video.source_of(path, found, reader, ()),
        model,
        revision=revision,
        evidence=evidence,
        device=device,
        dtype=dtype,
        attention=attention,
        chunk=chunk,
        to=to,
        shelf=shelf,
        watch=watch,
        progress=progress,
    )


def encode_frames(
    parts: Iterable[Frames],
    count: int,
    source: Source,
    model: str = EMBEDDED,
    *,
    revision: str | None = None,
    evidence: Iterable[str] = (),
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "auto",
    chunk: int = 8,
    to: Path | None = None,
    shelf: Shelf | None = None,
    watch: Stopwatch | None = None,
    progress: Progress = lambda *_: None,
) -> VideoTokens:
    """Encode frames that come in chunks, `count` in all (those that could not be decoded included), of one source."""
    from .models.loading import open_family

    where = pick_device(device)
    watch = waiting(watch or Stopwatch(), where)
    watch.step("load")
    family = open_family(model, revision)
    kind = pick_dtype(dtype, where, family.checkpoint)
    kernel = pick_attention(attention, where, kind)
    encoder = (shelf or Shelf()).encoder(family, where, kind, frozenset(evidence), kernel)
    depth = family.frames_per_slot
    chunk = max(depth, chunk // depth * depth)
    missing: list[float] = []
    seconds: list[float] = []
    grid: TokenGrid | None = None
    memory = Collected()
    with growing_tokens(to) if to else nullcontext(memory) as growing:
        watch.step("decode")
        for part in regrouped(ahead(parts), chunk, missing):
            done = len(seconds)
            progress("decode", min(done * depth + len(part.seconds), count), count)
            watch.step("encode")
            new = {name: tensor.cpu() for name, tensor in encoder.encode(part.pixels, count).items()}
            if grid is None:
                _, h, w, width = new["features"].shape
                shape = (-(-count // depth), h, w)
                grid = TokenGrid(shape, width, (), family.layout_of(shape), family.checkpoint.ref, source)
                growing.begin(grid, count, new)
            growing.append(new)
            seconds += [family.slot_seconds(part.seconds[i : i + depth]) for i in range(0, len(part.seconds), depth)]
            progress("encode", min(len(seconds) * depth, count), count)
            watch.step("decode")
        watch.step("write")
        if grid is None:
            raise ValueError("expected at least one frame, got none")
        shape = (len(seconds), *grid.shape[1:])
        grid = replace(
            grid,
            shape=shape,
            seconds=tuple(seconds),
            layout=family.layout_of(shape),
            source=replace(source, missing_seconds=tuple(missing)),
        )
        growing.finish(grid)
    watch.stop()
    return StoredVideo(to).tokens(stay=True) if to else memory.tokens


def compress_tokens(
    tokens: VideoTokens,
    ratio: str | float | Fraction,
    method: str | Method = "st-simdiff",
    *,
    prompt: str | None = None,
    model: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "auto",
    quantize: str | None = None,
    shelf: Shelf | None = None,
    watch: Stopwatch | None = None,
) -> CompressedVideo:
    """Keep exactly ceil(r N) tokens; `method` may be text, as for `--method`.

    Of tokens that stay in their file, a method that streams holds a few slots at a time, and what it keeps stays there
    until it is saved.
    If the method ranks by attention in the LLM, its first layers are run on `prompt` (default: a general one).
    Raises RequestError if the method needs evidence that the tokens do not carry.
    """
    where = pick_device(device)
    pick_attention(attention, where)  # wrong even if no LLM is needed
    check_quantize(quantize)
    watch = waiting(watch or Stopwatch(), where)
    method = parse_method(method) if isinstance(method, str) else method
    ratio = Fraction(1) if method.keeps_all else parse_ratio(ratio)
    lacking = sorted(method.needs - {"llm"} - set(tokens.evidence))
    if lacking:
        raise RequestError(
            f"{method.name} needs {' and '.join(lacking)}, which the tokens do not carry.",
            f"Encode the video with --evidence auto --method {spelled(method)}",
        )
    question = prompt or GENERAL_PROMPT
    used = {name: tokens.evidence[name] for name in method.needs - {"llm"}}
    placed = replace(tokens, evidence=used).to(where).read(features=not method.streams)
    llm = ShallowLlm(placed, question, model, How(where, dtype, attention, quantize), shelf or Shelf(), watch)
    chosen = method.select(placed, ratio, llm, watch.step)
    watch.stop()
    kept = placed.embeddings[chosen.index.to(where)].to("cpu")
    return CompressedVideo(
        grid=tokens.grid,
        features=kept.features if chosen.features is None else chosen.features.cpu(),
        deepstack=kept.deepstack,
        index=chosen.index,
        kind=chosen.kind,
        community=chosen.community,
        importance=chosen.importance,
        method={
            "name": method.name,
            "parameters": method.parameters(),
            "ratio": _decimal(ratio),
            "prompt": question if llm.asked else None,
        },
        counts=chosen.counts,
        traces=chosen.traces,
    )


def all_tokens(tokens: VideoTokens) -> CompressedVideo:
    """Uncompressed tokens in the form that `converse` takes."""
    return compress_tokens(tokens, 1, "vanilla", device="cpu")


def converse(
    video: CompressedVideo,
    *,
    model: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "auto",
    quantize: str | None = None,
    shelf: Shelf | None = None,
    watch: Stopwatch | None = None,
) -> Conversation:
    """Load the LLM (no vision tower), put the kept tokens into its cache once, and take questions.

    `attention` and `quantize` are as for `--attn` and `--quantize`, here and above.
    Raises RequestError if `model` is not the one that made the tokens.
    """
    where = pick_device(device)
    watch = waiting(watch or Stopwatch(), where)
    watch.step("load")
    family = matching_family(video.grid.model, model)
    language = How(where, dtype, attention, quantize).load(shelf, family)
    watch.step("prefill")
    conversation = language.watch(video.grid, video.embeddings, video.index)
    watch.stop()
    return conversation


def converse_inside(
    tokens: VideoTokens,
    ratio: str | float | Fraction,
    method: str | Method,
    *,
    model: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "auto",
    quantize: str | None = None,
    shelf: Shelf | None = None,
    watch: Stopwatch | None = None,
) -> PrunedConversation:
    """Questions about all tokens of a video, which `method` prunes between the LLM's layers while it reads.

    Behind the last cut exactly ceil(r N) tokens are alive. Raises RequestError for a method that works elsewhere.
    """
    from .models.conversation import PrunedConversation
    from .models.loading import require_layers

    method = parse_method(method) if isinstance(method, str) else method
    ratio = parse_ratio(ratio)
    depth = method.session(tokens, ratio).depth  # refuses before anything is loaded
    where = pick_device(device)
    watch = waiting(watch or Stopwatch(), where)
    watch.step("load")
    family = matching_family(tokens.grid.model, model)
    require_layers(family, depth or 0)
    language = How(where, dtype, attention, quantize).load(shelf, family, probed=True)
    watch.stop()
    return PrunedConversation(language, tokens, lambda: method.session(tokens, ratio))


def waiting(watch: Stopwatch, device: torch.device) -> Stopwatch:
    """The same stopwatch, which from now on waits for the device at every boundary."""
    if device.type == "cuda":
        watch.synchronise = lambda: torch.cuda.synchronize(device)
    return watch


def _decimal(ratio: Fraction) -> str:
    """The ratio as a decimal, exactly."""
    value: Any = ratio.numerator / ratio.denominator
    return str(value) if Fraction(str(value)) == ratio else str(ratio)
