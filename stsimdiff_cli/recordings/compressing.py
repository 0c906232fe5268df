"""Compresses what is new in a folder of tokens into another folder of segments, with the budget of the whole."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ..errors import RequestError
from ..methods.base import Method
from ..models.inference.model_cache import ModelCache, NoModelCache
from ..models.loading.runtime import Runtime
from ..pipeline import Context, compress_tokens
from ..ratio import ALL, Ratio
from ..storage.formats import COMPRESSED
from ..storage.segment_writer import SegmentWriter, open_segments
from ..storage.sinks import Destination
from ..storage.stored_segments import StoredSegments
from ..storage.writing import save_compressed
from . import Added


def append_kept(
    tokens: Path,
    to: Destination,
    ratio: Ratio,
    method: Method,
    runtime: Runtime = Runtime(),
    *,
    prompt: str | None = None,
    model: str | None = None,
    context: Context = Context(),
) -> Added:
    """Compress the segments of the folder `tokens` that the folder `to` does not have yet, one after the other.

    After each, exactly ceil(r N) tokens are kept of the N so far. A method sees a segment and the slots just before it
    (Method.lookback); its communities end where the segment does. A segment too short to keep a token is compressed
    together with the next one, once that is there.

    Raises RequestError for a method that needs to see the whole video, for other settings than the folder's, and for
    tokens that are not those that the folder was made from.
    """
    if not method.by_segment:
        raise RequestError(
            f"{method.name} chooses by what is in the whole video, so it cannot compress segments.",
            "Compress the folder into one file, without --append; or use another method, e.g. st-simdiff.",
        )
    ratio = ALL if method.keeps_all else ratio
    if isinstance(context.models, NoModelCache):
        context = replace(context, models=ModelCache())
    stored = StoredSegments(tokens)
    if stored.compressed:
        raise RequestError(f"{tokens} is already compressed.", "Give the folder of tokens.")
    settings = {
        "method": f"{method.name} {json.dumps(method.parameters())}",
        "ratio": ratio.decimal,
        "prompt": prompt or "none",
        "store": to.store or "auto",
    }
    with open_segments(to.path, COMPRESSED, stored.index.model, settings) as writer:
        before = len(writer.segments)
        begin = _done(writer, stored)
        kept, seen = sum(segment.kept for segment in writer.segments), 0
        cells = stored.grid.shape[1] * stored.grid.shape[2]
        for end, segment in enumerate(stored.segments, 1):
            seen += segment.slots * cells
            budget = ratio.budget(seen) - kept
            if end <= begin or not budget:
                continue
            part = stored.section(begin, end)
            fraction = Fraction(budget, part.grid.tokens)
            whole = replace(part.tokens(in_memory=False), past=stored.past(begin, method.lookback))
            video = compress_tokens(whole, fraction, method, runtime, prompt=prompt, model=model, context=context)
            video = replace(video, method={**video.method, "ratio": ratio.decimal})
            with context.timing(runtime).during("write"):
                save_compressed(writer.next_path, video, store=to.store)
            writer.add(
                stored.index.border,
                sources=tuple(one.digest for one in stored.segments[begin:end]),
                complete=stored.index.complete and end == len(stored.segments),
            )
            begin, kept = end, kept + budget
        writer.finish(complete=stored.index.complete and begin == len(stored.segments))
        return Added(writer.segments, len(writer.segments) - before, bool(writer.index and writer.index.complete))


def _done(writer: SegmentWriter, stored: StoredSegments) -> int:
    """How many segments of the tokens have been compressed. RequestError if they were others."""
    sources = [digest for segment in writer.segments for digest in segment.sources]
    if sources != [segment.digest for segment in stored.segments[: len(sources)]]:
        raise RequestError(
            f"{writer.folder} was compressed from other segments than those of {stored.path}.",
            "Give the folder of tokens that it was made from, or another output.",
        )
    return len(sources)
