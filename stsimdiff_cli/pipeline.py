"""The stages in a row: encode a video, compress its tokens, ask about them. Read this second.

Every function takes records and returns records. What they may share (loaded models, a stopwatch, a progress bar)
comes in a Context; pass one with a ModelCache to load each model once for many videos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import RequestError
from .methods.base import Method
from .methods.spec import parse_method, spelled
from .models import EMBEDDED
from .models.inference.early_layers import EarlyLayers, matching_family
from .models.inference.model_cache import ModelCache, NoModelCache
from .models.loading.runtime import Runtime
from .ratio import ALL, Ratio, parse_ratio
from .records import CompressedVideo, FrameStream, TokenGrid, VideoTokens
from .storage.sinks import open_sink
from .timing import Stopwatch
from .token_features import DenseFeatures
from .video import Sampling, open_stream
from .video.prefetch import prefetched
from .video.rechunk import rechunked

if TYPE_CHECKING:  # these import transformers, which not everybody needs
    from .models.inference.conversation import Conversation, PrunedConversation

#: The prompt for importance when no question is given; the embedded model was trained on it too.
GENERAL_PROMPT = "What happens in this video?"
#: Frames that are decoded and encoded at a time.
CHUNK = 8
#: Called with a stage ("decode", "encode"), frames done and frames in all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Context:
    """What calls may share: loaded models, a stopwatch that adds up their steps, and who is told of progress."""

    models: ModelCache = field(default_factory=NoModelCache)
    timer: Stopwatch | None = None
    progress: Progress = lambda *_: None

    def timing(self, runtime: Runtime) -> Stopwatch:
        """The stopwatch, or a new one for the device."""
        return self.timer or Stopwatch(runtime.device)


def encode_video(
    path: str | Path,
    model: str = EMBEDDED,
    sampling: Sampling = Sampling(),
    runtime: Runtime = Runtime(),
    *,
    revision: str | None = None,
    evidence: Iterable[str] = (),
    to: Path | None = None,
    context: Context = Context(),
) -> VideoTokens:
    """Decode the chosen frames of a video and encode them into visual tokens, a few frames at a time.

    Memory holds the tokens and two chunks of frames; with a tokens file to write `to`, the tokens stay in that file.
    Frames that cannot be decoded are left out and named in the record.
    Raises RequestError for a wrong request, VideoError for a video that cannot be read, ModelError for the model.
    """
    with context.timing(runtime).during("scan"):
        stream = open_stream(path, sampling, CHUNK)
    return encode_frames(stream, model, runtime, revision=revision, evidence=evidence, to=to, context=context)


def encode_frames(
    stream: FrameStream,
    model: str = EMBEDDED,
    runtime: Runtime = Runtime(),
    *,
    revision: str | None = None,
    evidence: Iterable[str] = (),
    to: Path | None = None,
    context: Context = Context(),
) -> VideoTokens:
    """Encode frames that arrive in chunks; see `encode_video`."""
    from .models.families import open_family

    timer = context.timing(runtime)
    timer.step("load")
    family = open_family(model, revision)
    encoder = context.models.vision_encoder(family, runtime.resolve(family.checkpoint), frozenset(evidence))
    depth, count = family.frames_per_slot, stream.count
    chunk = max(depth, CHUNK // depth * depth)
    missing: list[float] = []
    seconds: list[float] = []
    grid: TokenGrid | None = None
    with open_sink(to) as sink:
        timer.step("decode")
        for part in rechunked(prefetched(stream.chunks), chunk, missing):
            context.progress("decode", min(len(seconds) * depth + len(part.seconds), count), count)
            timer.step("encode")
            new = {name: tensor.cpu() for name, tensor in encoder.encode(part.pixels, count).items()}
            if grid is None:
                _, h, w, width = new["features"].shape
                shape = (-(-count // depth), h, w)
                grid = TokenGrid(
                    shape=shape,
                    width=width,
                    seconds=(),
                    layout=family.layout_of(shape),
                    model=family.checkpoint.ref,
                    source=stream.source,
                    coverage=family.coverage_of(stream.source.width, stream.source.height),
                )
                sink.begin(grid, count, new)
            sink.append(new)
            seconds += [family.slot_seconds(part.seconds[i : i + depth]) for i in range(0, len(part.seconds), depth)]
            context.progress("encode", min(len(seconds) * depth, count), count)
            timer.step("decode")
        timer.step("write")
        if grid is None:
            raise ValueError("expected at least one frame, got none")
        shape = (len(seconds), *grid.shape[1:])
        grid = replace(
            grid,
            shape=shape,
            seconds=tuple(seconds),
            layout=family.layout_of(shape),
            source=replace(stream.source, missing_seconds=tuple(missing)),
        )
        sink.finish(grid)
    timer.stop()
    return sink.tokens()


def compress_tokens(
    tokens: VideoTokens,
    ratio: str | float | Fraction | Ratio,
    method: str | Method = "st-simdiff",
    runtime: Runtime = Runtime(),
    *,
    prompt: str | None = None,
    model: str | None = None,
    context: Context = Context(),
) -> CompressedVideo:
    """Keep exactly ceil(r N) tokens; `method` may be text, as for `--method`.

    Of tokens that stay in their file, a method that streams holds a few slots at a time, and what it keeps stays there
    until it is saved.
    If the method ranks by attention in the LLM, its first layers are run on `prompt` (default: a general one).
    Raises RequestError if the method needs evidence that the tokens do not carry.
    """
    device = runtime.check()  # wrong even if no LLM is needed
    timer = context.timing(runtime)
    method = parse_method(method) if isinstance(method, str) else method
    ratio = ALL if method.keeps_all else parse_ratio(ratio)
    lacking = sorted(method.evidence - set(tokens.evidence))
    if lacking:
        raise RequestError(
            f"{method.name} needs {' and '.join(lacking)}, which the tokens do not carry.",
            f"Encode the video with --evidence auto --method {spelled(method)}",
        )
    question = prompt or GENERAL_PROMPT
    used = {name: tokens.evidence[name] for name in method.evidence}
    placed = replace(tokens, evidence=used).to(device).in_memory(features=not method.streams)
    llm = EarlyLayers(placed, question, model, runtime, context.models, timer)
    chosen = method.select(placed, ratio, llm, timer.step)
    timer.stop()
    if chosen.features is None:
        features = placed.features.gather(chosen.index).to("cpu")
    else:
        features = DenseFeatures(chosen.features.cpu(), token_dims=1)
    return CompressedVideo(
        grid=tokens.grid,
        features=features,
        deepstack=None if placed.deepstack is None else placed.deepstack.gather(chosen.index).to("cpu"),
        index=chosen.index,
        kind=chosen.kind,
        community=chosen.community,
        importance=chosen.importance,
        method={
            "name": method.name,
            "parameters": method.parameters(),
            "ratio": ratio.decimal,
            "prompt": question if llm.asked else None,
        },
        counts=chosen.counts,
        traces=chosen.traces,
    )


def all_tokens(tokens: VideoTokens) -> CompressedVideo:
    """Uncompressed tokens in the form that `converse` takes."""
    return compress_tokens(tokens, ALL, "vanilla", Runtime(device="cpu"))


def converse(
    video: CompressedVideo, runtime: Runtime = Runtime(), *, model: str | None = None, context: Context = Context()
) -> Conversation:
    """Load the LLM (no vision tower), put the kept tokens into its cache once, and take questions.

    Raises RequestError if `model` is not the one that made the tokens.
    """
    from .models.inference.conversation import Conversation

    timer = context.timing(runtime)
    timer.step("load")
    family = matching_family(video.grid.model, model)
    language = context.models.language_model(family, runtime.resolve(family.checkpoint))
    timer.step("prefill")
    conversation = Conversation(language, video.grid, video.embeddings, video.index)
    timer.stop()
    return conversation


def converse_inside(
    tokens: VideoTokens,
    ratio: str | float | Fraction | Ratio,
    method: str | Method,
    runtime: Runtime = Runtime(),
    *,
    model: str | None = None,
    context: Context = Context(),
) -> PrunedConversation:
    """Questions about all tokens of a video, which `method` prunes between the LLM's layers while it reads.

    After the last pruning layer exactly ceil(r N) tokens are left. Raises RequestError for a method that cannot do so.
    """
    from .models.inference.conversation import PrunedConversation
    from .models.loading.weights import require_layers

    method = parse_method(method) if isinstance(method, str) else method
    ratio = parse_ratio(ratio)
    depth = method.layer_pruner(tokens, ratio).depth  # refuses before anything is loaded
    runtime.check()
    timer = context.timing(runtime)
    timer.step("load")
    family = matching_family(tokens.grid.model, model)
    require_layers(family, depth or 0)
    language = context.models.language_model(family, runtime.resolve(family.checkpoint), attention_rows=True)
    timer.stop()
    return PrunedConversation(language, tokens, lambda: method.layer_pruner(tokens, ratio))
