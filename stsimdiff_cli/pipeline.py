"""The stages in order: encode a video, compress its tokens, ask about them. Read this second, after records.py.

    tokens = encode_video("clip.mp4")                         decode and encode
    video = compress_tokens(tokens, "0.3")                    select
    conversation = converse(video)                            load the LLM, prefill
    conversation = converse_inside(tokens, "0.3", "fastv")    the same, but prune between the LLM's layers

Functions take records and return records. What several calls may share is in a Context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import RequestError
from .methods.base import Method
from .methods.spec import parse_method, spelled
from .models import EMBEDDED, FAMILIES
from .models.inference.early_layers import EarlyLayers, check_layout, matching_family
from .models.inference.model_cache import ModelCache, NoModelCache
from .models.loading.memory import enough_memory
from .models.loading.runtime import Runtime, selection_device
from .models.question import check_question
from .ratio import ALL, Ratio, parse_ratio
from .records import ArchiveMark, CompressedVideo, FrameSize, FrameStream, Sizing, TokenGrid, VideoTokens
from .storage.finite import check_encoded
from .storage.sinks import open_sink
from .timing import Stopwatch
from .token_features import DenseFeatures
from .video import Sampling, open_stream
from .video.opening import check_file
from .video.prefetch import prefetched
from .video.rechunk import rechunked

if TYPE_CHECKING:  # these import transformers, which not every stage needs
    from .models.families.base import Family
    from .models.inference.conversation import Conversation, PrunedConversation

#: The prompt for importance if no question is given. The embedded model was trained with it.
GENERAL_PROMPT = "What happens in this video?"
#: Bytes of a question that every LLM can read: a token has at least one.
_SHORT = 1024
#: Frames per decoding and encoding step.
CHUNK = 8
#: What takes less memory in the LLM.
_LESS = "Use --dtype bfloat16 or --quantize 4bit, a lower --ratio, fewer --frames, or a smaller checkpoint."
#: Called with a stage ("decode" or "encode"), the number of frames done, and the number of all frames.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Context:
    """What several calls may share. By default they share nothing: models are loaded anew, and nothing is reported.

    Pass a context with `models=ModelCache()` to load each model once for many videos, and with `timer=Stopwatch(...)`
    to add up the seconds of each stage: scan, load, decode, encode, write; the steps of the method; prefill.
    """

    models: ModelCache = field(default_factory=NoModelCache)
    timer: Stopwatch | None = None
    progress: Progress = lambda *_: None

    def timing(self, runtime: Runtime) -> Stopwatch:
        """The shared stopwatch, or a new one for the runtime's device."""
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

    `evidence` names what the vision encoder should record for methods ("saliency", "keys"). Memory holds the tokens
    and a few chunks of frames; with `to`, the tokens are written to that tokens file while they are encoded, and stay
    there. Frames that cannot be decoded are left out; their times are in `grid.source.missing_seconds`.

    Raises RequestError for a wrong request, VideoError for a video that cannot be read, ModelError for a checkpoint
    that cannot be used.
    """
    check_file(Path(path))
    timer = context.timing(runtime)
    with timer.during("load"):
        family = context.models.family(model, revision)
    with timer.during("scan"):
        stream = open_stream(path, sampling_for(family, sampling), CHUNK)  # includes the video's SHA-256
    return _encode(stream, family, runtime, evidence, to, None, replace(context, timer=timer))


def sampling_for(family: Family, sampling: Sampling) -> Sampling:
    """The sampling as the model's authors spread frames; RequestError for bounds on frames whose size is fixed."""
    _check_bounds(family, sampling.size)
    return replace(sampling, spread=sampling.spread or family.spread)


def _check_bounds(family: Family, size: FrameSize) -> None:
    """RequestError for bounds on frames whose size is fixed."""
    if size != FrameSize() and not family.native_resolution:
        able = ", ".join(name for name in FAMILIES if FAMILIES.load(name).native_resolution)
        raise RequestError(
            f"The frames of {family.name} have one size, so --min-pixels and --max-pixels do not apply.",
            f"Leave them out, or use a model of native resolution: {able}.",
        )


def encode_frames(
    stream: FrameStream,
    model: str = EMBEDDED,
    runtime: Runtime = Runtime(),
    *,
    revision: str | None = None,
    evidence: Iterable[str] = (),
    to: Path | None = None,
    mark: ArchiveMark | None = None,
    context: Context = Context(),
) -> VideoTokens:
    """Encode frames that arrive in chunks. Parameters and errors as `encode_video`.

    `mark` is written into the file `to`: which item of an archive it is.
    """
    timer = context.timing(runtime)
    with timer.during("load"):
        family = context.models.family(model, revision)
    _check_bounds(family, stream.size)
    return _encode(stream, family, runtime, evidence, to, mark, replace(context, timer=timer))


@enough_memory("encode the video", "Lower --frames, use --dtype bfloat16, or a smaller checkpoint.")
def _encode(
    stream: FrameStream,
    family: Family,
    runtime: Runtime,
    evidence: Iterable[str],
    to: Path | None,
    mark: ArchiveMark | None,
    context: Context,
) -> VideoTokens:
    timer = context.timing(runtime)
    timer.step("load")
    encoder = context.models.vision_encoder(family, runtime.resolve(family.checkpoint), frozenset(evidence))
    depth, count = family.frames_per_slot, stream.count
    sizing = Sizing(count, stream.size)
    chunk = max(depth, CHUNK // depth * depth)
    missing: list[float] = []
    seconds: list[float] = []
    grid: TokenGrid | None = None
    with open_sink(to, mark) as sink, closing(prefetched(stream.chunks)) as ahead:
        timer.step("decode")
        for part in rechunked(ahead, chunk, missing):
            context.progress("decode", min(len(seconds) * depth + len(part.seconds), count), count)
            timer.step("encode")
            new = {name: tensor.cpu() for name, tensor in encoder.encode(part.pixels, sizing).items()}
            check_encoded(new, part.seconds, family.checkpoint.id)
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
                    saliency=family.saliency(),
                    period=None if stream.period is None else family.slot_period(stream.period),
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


@enough_memory("compress the tokens", "Encode fewer --frames, or use --dtype bfloat16 or --device cpu.")
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
    """Keep exactly ceil(r N) of the N tokens; `method` may be a text as for `--method`.

    If the method ranks tokens by attention in the LLM, the LLM's first layers run on `prompt` (default:
    GENERAL_PROMPT). If the tokens are in a file, a method that streams holds a few slots in memory at a time, and the
    features of kept tokens stay in the file until they are saved.

    Raises RequestError if the method needs evidence that the tokens do not carry, if `model` is not the one that made
    the tokens, or if the prompt is empty or not text.
    """
    device = selection_device(runtime.check())  # a wrong device is refused even if no LLM is needed
    timer = context.timing(runtime)
    method = parse_method(method) if isinstance(method, str) else method
    ratio = ALL if method.keeps_all else parse_ratio(ratio)
    lacking = sorted(method.evidence - set(tokens.evidence))
    if lacking:
        raise RequestError(
            f"{method.name} needs {' and '.join(lacking)}, which the tokens do not carry.",
            f"Encode the video with --evidence auto --method {spelled(method)}",
        )
    question = GENERAL_PROMPT if prompt is None else check_question(prompt)
    used = {name: tokens.evidence[name] for name in method.evidence}
    on_device = replace(tokens, evidence=used).to(device).in_memory(features=not method.streams)
    llm = EarlyLayers(on_device, question, model, runtime, context.models, timer)
    selection = method.select(on_device, ratio, llm, timer.step).cpu()
    timer.stop()
    if selection.features is None:
        features = on_device.features.gather(selection.index).to("cpu")
    else:
        features = DenseFeatures(selection.features, token_dims=1)
    return CompressedVideo(
        grid=tokens.grid,
        features=features,
        deepstack=None if on_device.deepstack is None else on_device.deepstack.gather(selection.index).to("cpu"),
        index=selection.index,
        kind=selection.kind,
        community=selection.community,
        importance=selection.importance,
        method={
            "name": method.name,
            "parameters": method.parameters(),
            "ratio": ratio.decimal,
            "prompt": question if llm.asked else None,
        },
        counts=selection.counts,
        traces=selection.traces,
    )


def check_length(questions: Iterable[str], model: str) -> None:
    """RequestError for a question that is longer than the context of the model's LLM; no weights are read."""
    long = [question for question in questions if len(question.encode()) > _SHORT]
    if not long:
        return
    from .models.families import open_family
    from .models.inference.prompts import Prompter

    prompter = Prompter(open_family(model))
    for question in long:
        prompter.check(question)


def all_tokens(tokens: VideoTokens) -> CompressedVideo:
    """All tokens, uncompressed, as a record that `converse` takes."""
    return compress_tokens(tokens, ALL, "vanilla", Runtime(device="cpu"))


@enough_memory("read the video's tokens", _LESS)
def converse(
    video: CompressedVideo, runtime: Runtime = Runtime(), *, model: str | None = None, context: Context = Context()
) -> Conversation:
    """Load the LLM without its vision encoder and prefill it with the kept tokens once, for any number of questions.

    `model` says where the checkpoint is, if not where the file says; RequestError if it did not make the tokens.
    """
    from .models.inference.conversation import Conversation

    timer = context.timing(runtime)
    timer.step("load")
    family = matching_family(video.grid.model, model, context.models)
    check_layout(family, video.grid)
    language = context.models.language_model(family, runtime.resolve(family.checkpoint))
    timer.step("prefill")
    conversation = Conversation(language, video.grid, video.embeddings, video.index)
    timer.stop()
    return conversation


@enough_memory("load the LLM", _LESS)
def converse_inside(
    tokens: VideoTokens,
    ratio: str | float | Fraction | Ratio,
    method: str | Method,
    runtime: Runtime = Runtime(),
    *,
    model: str | None = None,
    context: Context = Context(),
) -> PrunedConversation:
    """A conversation that starts from all tokens, which `method` prunes between the LLM's layers during prefill.

    After the last pruning layer exactly ceil(r N) tokens are left. Raises RequestError for a method that cannot prune
    there, and if `model` did not make the tokens.
    """
    from .models.inference.conversation import PrunedConversation
    from .models.loading.weights import require_layers

    method = parse_method(method) if isinstance(method, str) else method
    ratio = parse_ratio(ratio)
    depth = method.layer_pruner(tokens, ratio).depth  # a method that cannot is refused before anything is loaded
    runtime.check()
    timer = context.timing(runtime)
    timer.step("load")
    family = matching_family(tokens.grid.model, model, context.models)
    check_layout(family, tokens.grid)
    require_layers(family, depth or 0)
    language = context.models.language_model(family, runtime.resolve(family.checkpoint), attention_rows=True)
    timer.stop()
    return PrunedConversation(language, tokens, lambda: method.layer_pruner(tokens, ratio))
