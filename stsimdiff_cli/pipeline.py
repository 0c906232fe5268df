"""The stages in order: encode a video, compress its tokens, ask about them. Read this second, after records.py.

    tokens = encode_video("clip.mp4")                         decode and encode
    selection = select(features, "0.3")                       choose among features of one's own
    video = compress_tokens(tokens, "0.3")                    select
    conversation = converse(video)                            load the LLM, prefill
    conversation = converse_inside(tokens, "0.3", "fastv")    the same, but prune between the LLM's layers

Functions take records and return records. What several calls may share is in a Context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RequestError
from .methods import DEFAULT, default_method
from .methods.base import Method
from .methods.spec import parse_method, spelled
from .models import EMBEDDED, FAMILIES
from .models.inference.early_layers import EarlyLayers, check_layout, matching_family
from .models.inference.model_cache import ModelCache, NoModelCache
from .models.loading.memory import enough_memory
from .models.loading.runtime import Runtime, selection_device
from .models.question import ORIGINAL, check_positions, check_question
from .ratio import ALL, Ratio, parse_ratio
from .records import (
    ArchiveMark,
    CompressedVideo,
    FrameSize,
    FrameStream,
    Layout,
    ModelRef,
    Selection,
    Source,
    TokenGrid,
    VideoTokens,
)
from .stages.encoding import Note, Progress, decoding
from .storage.byte_budget import ByteBudget
from .storage.form import forms_by_size
from .storage.sinks import Destination, open_sink
from .storage.writing import FileSize, compressed_size
from .timing import Stopwatch
from .timing.spans import span
from .token_features import DenseFeatures
from .video import Sampling, open_stream
from .video.opening import check_file

if TYPE_CHECKING:  # these import transformers, which not every stage needs
    from torch import Tensor

    from .layer_pruning import LayerPruner
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


@dataclass(frozen=True)
class Context:
    """What several calls may share. By default they share nothing: models are loaded anew, and nothing is reported.

    Pass a context with `models=ModelCache()` to load each model once for many videos, and with `timer=Stopwatch(...)`
    to add up the seconds of each stage: scan, load, decode, encode, write; the steps of the method; prefill. `note`
    gets sentences that the user should know.
    """

    models: ModelCache = field(default_factory=NoModelCache)
    timer: Stopwatch | None = None
    progress: Progress = lambda *_: None
    note: Note = lambda _: None

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
    to: Path | Destination | None = None,
    context: Context = Context(),
) -> VideoTokens:
    """Decode the chosen frames of a video and encode them into visual tokens, a few frames at a time.

    `evidence` names what the vision encoder should record for methods ("saliency", "keys"). Memory holds the tokens
    and a few chunks of frames; with `to`, the tokens are written to that tokens file while they are encoded, and stay
    there; a Destination says more about the file. Frames that cannot be decoded are left out; their times are in
    `grid.source.missing_seconds`.

    Raises RequestError for a wrong request, VideoError for a video that cannot be read, ModelError for a checkpoint
    that cannot be used.
    """
    check_file(Path(path))
    timer = context.timing(runtime)
    with timer.during("load"):
        family = context.models.family(model, revision)
    with timer.during("scan"), span("scan"):
        stream = open_stream(path, sampling_for(family, sampling), CHUNK)  # includes the video's SHA-256
    return _encode(stream, family, runtime, evidence, to, replace(context, timer=timer))


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
    to: Path | Destination | None = None,
    context: Context = Context(),
) -> VideoTokens:
    """Encode frames that arrive in chunks. Parameters and errors as `encode_video`."""
    timer = context.timing(runtime)
    with timer.during("load"):
        family = context.models.family(model, revision)
    _check_bounds(family, stream.size)
    return _encode(stream, family, runtime, evidence, to, replace(context, timer=timer))


@enough_memory("encode the video", "Lower --frames, use --dtype bfloat16, or a smaller checkpoint.")
def _encode(
    stream: FrameStream,
    family: Family,
    runtime: Runtime,
    evidence: Iterable[str],
    to: Path | Destination | None,
    context: Context,
) -> VideoTokens:
    timer = context.timing(runtime)
    timer.step("load")
    with decoding(stream, family, CHUNK) as stages:
        with span("load"):
            encoder = context.models.vision_encoder(family, runtime.resolve(family.checkpoint), frozenset(evidence))
        with open_sink(to) as sink:
            stages.run(encoder, sink, timer, context.progress, context.note)
    timer.stop()
    return sink.tokens()


@enough_memory("compress the tokens", "Encode fewer --frames, or use --dtype bfloat16 or --device cpu.")
def compress_tokens(
    tokens: VideoTokens,
    ratio: str | float | Fraction | Ratio,
    method: str | Method | None = None,
    runtime: Runtime = Runtime(),
    *,
    prompt: str | None = None,
    model: str | None = None,
    context: Context = Context(),
) -> CompressedVideo:
    """Keep exactly ceil(r N) of the N tokens; `method` may be a text as for `--method`.

    Without a method it is st-simdiff+, or st-simdiff if a prompt is given.

    If the method ranks tokens by attention in the LLM, the LLM's first layers run on `prompt` (default:
    GENERAL_PROMPT). If the tokens are in a file, a method that streams holds a few slots in memory at a time, and the
    features of kept tokens stay in the file until they are saved.

    Raises RequestError if the method needs evidence that the tokens do not carry, if `model` is not the one that made
    the tokens, or if the prompt is empty or not text.
    """
    device = selection_device(runtime.check())  # a wrong device is refused even if no LLM is needed
    timer = context.timing(runtime)
    method = method or default_method(prompt is not None)
    method = parse_method(method) if isinstance(method, str) else method
    ratio = ALL if method.keeps_all else parse_ratio(ratio)
    _check_evidence(method, tokens, f"Encode the video with --evidence auto --method {spelled(method)}")
    question = GENERAL_PROMPT if prompt is None else check_question(prompt)
    used = {name: tokens.evidence[name] for name in method.evidence}
    with span("select"):
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


def select(
    features: Tensor,
    ratio: str | float | Fraction | Ratio,
    method: str | Method = DEFAULT,
    *,
    evidence: Mapping[str, Tensor] | None = None,
) -> Selection:
    """Choose exactly ceil(r N) of features (T, H, W, D) of one's own, from any model. No file and no model is read.

    `Selection.index` (M,) has the flat positions of the kept tokens: `features.flatten(0, 2)[index]` are their
    features, unless the method merges tokens and `Selection.features` (M, D) has others. The work is done on the
    device of the features; the result is on the CPU. `evidence` holds what some methods need besides: saliency
    (T, H, W), keys (T, H, W, heads, K).

    Raises RequestError for a method that asks an LLM, and if evidence is missing; ValueError for a wrong shape, for
    numbers that are not floating point, and for NaN or infinity.
    """
    if features.ndim != 4 or not features.is_floating_point() or 0 in features.shape:
        raise ValueError(f"expected floating point features (T, H, W, D), got {features.dtype} {tuple(features.shape)}")
    if not bool(features.isfinite().all()):
        raise ValueError("expected finite features, got NaN or infinity")
    method = parse_method(method) if isinstance(method, str) else method
    if "llm" in method.needs:
        raise RequestError(
            f"{spelled(method)} asks the LLM that made the tokens, and features alone have none.",
            "Use st-simdiff+, st-simdiff:importance=centrality, or another method that `stsimdiff methods` lists so.",
        )
    tensors = {"features": features.detach(), **(evidence or {})}
    tokens = VideoTokens.of(_grid_of(features), {name: values.to(features.device) for name, values in tensors.items()})
    _check_evidence(method, tokens, "Pass it as evidence={...}.")
    ratio = ALL if method.keeps_all else parse_ratio(ratio)
    return method.select(tokens, ratio, _NoLlm(), lambda _: None).cpu()


def _grid_of(features: Tensor) -> TokenGrid:
    """A grid for features (T, H, W, D) of unknown origin: a slot a second."""
    slots, rows, columns, width = features.shape
    source = Source("features", 0, "", float(slots), 1.0, slots, columns, rows, "none")
    seconds = tuple(map(float, range(slots)))
    return TokenGrid((slots, rows, columns), width, seconds, Layout(), ModelRef("unknown", "unknown", None, ""), source)


class _NoLlm:
    """Where a method expects an LLM that it does not need: a `methods.base.Llm`."""

    def importance(self, index: Tensor, layer: int) -> Tensor:  # noqa: ARG002
        """ValueError: the method did not declare what it asks for."""
        raise ValueError("expected 'llm' in the needs of a method that asks for importance")

    def prefill(self, pruner: LayerPruner) -> None:  # noqa: ARG002
        """ValueError likewise."""
        raise ValueError("expected 'llm' in the needs of a method that asks for a prefill")


def _check_evidence(method: Method, tokens: VideoTokens, hint: str) -> None:
    lacking = sorted(method.evidence - set(tokens.evidence))
    if lacking:
        raise RequestError(f"{method.name} needs {' and '.join(lacking)}, which the tokens do not carry.", hint)


@dataclass(frozen=True)
class Fitted:
    """Kept tokens whose file has as many bytes as it may."""

    video: CompressedVideo
    store: str | None  # the form in which it fits, for save_compressed


def compress_to(
    tokens: VideoTokens,
    amount: Ratio | ByteBudget,
    method: str | Method,
    store: str | None = None,
    mark: ArchiveMark | None = None,
    **options: Any,
) -> Fitted:
    """`compress_tokens` with a ratio, or with the bytes that the file may have. `options` are its other arguments."""
    if isinstance(amount, Ratio):
        return Fitted(compress_tokens(tokens, amount, method, **options), store)
    return _compress_to_bytes(tokens, amount, method, store, mark, **options)


def _compress_to_bytes(
    tokens: VideoTokens,
    budget: ByteBudget,
    method: str | Method,
    store: str | None,
    mark: ArchiveMark | None,
    **options: Any,
) -> Fitted:
    """Keep as many tokens as fit into a file of so many bytes, header included.

    Without `store`, the features get the most bits at which all tokens fit; if not all fit, 4 bits, because at equal
    bytes more tokens answer more questions than more bits. RequestError if not even one token fits.
    """
    most = budget.of(tokens.grid)
    method = parse_method(method) if isinstance(method, str) else method
    total = tokens.grid.tokens

    def attempt(kept: int, form: str | None) -> tuple[Fitted, FileSize]:
        video = compress_tokens(tokens, Fraction(kept, total), method, **options)
        return Fitted(video, form), compressed_size(video, mark, form)

    forms = [store] if store else forms_by_size(tokens.features)
    whole: Fitted | None = None
    for form in forms:  # the largest first
        if whole is None:
            whole, _ = attempt(total, form)
        size = compressed_size(whole.video, mark, form)
        if size.total <= most:
            return Fitted(whole.video, form)
    best, kept, tried = None, total, {total}
    while True:  # from a size that is known, by what a token takes; sizes of headers differ by some bytes
        kept = max(1, min(total, kept + (most - size.total) // size.token))
        if kept in tried or method.keeps_all:
            break
        tried.add(kept)
        fitted, size = attempt(kept, forms[-1])
        if size.total <= most and (best is None or len(fitted.video.index) > len(best.video.index)):
            best = fitted
    if best is None:
        raise RequestError(
            f"{most} bytes are too few: the smallest file that {method.name} makes of this video has {size.total}.",
            "Give more bytes, or encode fewer frames.",
        )
    return best


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
    video: CompressedVideo | VideoTokens,
    runtime: Runtime = Runtime(),
    *,
    model: str | None = None,
    attention: bool = False,
    positions: str = ORIGINAL,
    context: Context = Context(),
) -> Conversation:
    """Load the LLM without its vision encoder and prefill it with a video once, for any number of questions.

    The LLM reads the kept tokens of a compressed video, or all tokens of an encoded one.

    `model` says where the checkpoint is, if not where the file says; RequestError if it did not make the tokens. With
    `attention`, answers say which slots they looked at (Answer.slots). `positions` numbers the kept tokens
    otherwise, to measure what that costs: "slots" or "packed".
    """
    from .models.inference.conversation import Conversation

    check_positions(positions)
    if isinstance(video, VideoTokens):
        video = all_tokens(video)
    timer = context.timing(runtime)
    timer.step("load")
    family = matching_family(video.grid.model, model, context.models)
    check_layout(family, video.grid)
    with span("load"):
        language = context.models.language_model(family, runtime.resolve(family.checkpoint), attention_rows=attention)
    timer.step("prefill")
    with span("prefill"):
        conversation = Conversation(
            language, video.grid, video.embeddings, video.index, attention=attention, positions=positions
        )
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
