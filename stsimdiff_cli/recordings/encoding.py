"""Encodes what is new of a video into a folder of segments."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RequestError
from ..models.inference.model_cache import ModelCache, NoModelCache
from ..models.loading.runtime import Runtime
from ..pipeline import CHUNK, Context, encode_frames, sampling_for
from ..records import FrameStream, Source
from ..storage.formats import TOKENS
from ..storage.image_files import state_of
from ..storage.segment_index import Recording
from ..storage.segment_writer import SegmentWriter, open_segments
from ..storage.sinks import Destination
from ..storage.stretch import clock
from ..timing.spans import span
from ..video import Sampling, Scan, choose_frames, decoder_for, read_frames, scan, source_of
from ..video.chunks import NoFrameError
from ..video.opening import check_file
from ..video.source import checksum_beside
from . import Added

if TYPE_CHECKING:  # it imports transformers
    from ..models.families.base import Family

#: Slots of a segment: about four minutes at a frame a second.
SLOTS = 256
#: Pictures by which a frame may be stored late at most (H.264 and HEVC), and one that may be half written.
_REORDERED = 17
_REOPEN = "Name another folder, or give the video that the folder was made from."


@dataclass(frozen=True)
class Tape:
    """A folder of segments to write, and how."""

    folder: Path
    store: str | None = None  # form of the features: one of packing.STORES; None: as they are computed
    growing: bool = False  # whether the video is still being written
    slots: int = SLOTS  # of a segment


def append_tokens(
    video: Path,
    tape: Tape,
    model: str,
    sampling: Sampling,
    runtime: Runtime = Runtime(),
    *,
    revision: str | None = None,
    evidence: Iterable[str] = (),
    context: Context = Context(),
) -> Added:
    """Encode what a folder of segments does not have yet of a video, segment by segment.

    Frames are those at whole multiples of 1 / fps seconds, so that it does not matter how often this is called. With
    `growing`, the video is still being written: frames at its end that may change are left for the next call, and the
    folder is not complete. A folder that is killed while it grows loses the segment that was open.

    Raises RequestError for a sampling without a rate, for other settings than the folder's, and for another video.
    """
    if sampling.fps is None or sampling.start is not None or sampling.end is not None:
        raise RequestError("Segments need a rate, and the whole video.", "Give --fps 1, without --start and --end.")
    check_file(video)
    if isinstance(context.models, NoModelCache):
        context = replace(context, models=ModelCache())
    timer = context.timing(runtime)
    context = replace(context, timer=timer)
    with timer.during("load"):
        family = context.models.family(model, revision)
    rate, sampling = float(sampling.fps), sampling_for(family, sampling)
    evidence = tuple(sorted(evidence))
    settings = {
        "fps": f"{rate:g}",
        "store": tape.store or "auto",
        "evidence": ",".join(evidence) or "none",
        "size": json.dumps(asdict(sampling.size)),
        "decoder": sampling.decoder,
        "slots": str(tape.slots),
        **({} if sampling.image_fps is None else {"image_fps": f"{sampling.image_fps:g}"}),
    }
    with open_segments(tape.folder, TOKENS, family.checkpoint.ref.fingerprint, settings) as writer:
        recording = Recording(video.name, *state_of(video))
        before = len(writer.segments)
        if _is_new(writer, recording):
            with timer.during("scan"), span("scan"):
                found, source = _scanned(video, sampling, tape.growing)
            frames = _settled(found, sampling, tape.growing)
            done = sum(segment.frames for segment in writer.segments)
            _check_continues(writer, found, frames, done)
            step = tape.slots * family.frames_per_slot
            count = len(frames) - (len(frames) - done) % family.frames_per_slot * tape.growing
            begin, lost = done, None
            for end in (*range(done + step, count, step), count) if count > done else ():
                part = frames[begin:end]
                stream = FrameStream(
                    source,
                    len(part),
                    read_frames(video, found, part, CHUNK, sampling.decoder, sampling.workers),
                    size=sampling.size,
                    sized_for=step,
                )
                try:
                    made = encode_frames(
                        stream,
                        model,
                        runtime,
                        revision=revision,
                        evidence=evidence,
                        to=Destination(writer.next_path, tape.store),
                        context=_counting(context, begin - done, count - done),
                    )
                except NoFrameError as error:  # they are missing frames of the next segment, if there is one
                    lost = error
                    continue
                writer.add(
                    _border(family, made.grid.shape),
                    frames=len(part),
                    recording=recording,
                    complete=not tape.growing and end == count,
                )
                begin, lost = end, None
            if lost is not None:
                if not writer.segments:
                    raise lost
                context.note(_not_decoded(found, frames[begin:count]))
            writer.finish(recording=recording, complete=not tape.growing)
        return Added(writer.segments, len(writer.segments) - before, bool(writer.index and writer.index.complete))


def _scanned(video: Path, sampling: Sampling, growing: bool) -> tuple[Scan, Source]:
    """What is in a video. One that grows has no SHA-256 yet."""
    if growing:
        found = scan(video, sampling.image_fps)
        return found, source_of(video, found, decoder_for(found, sampling.decoder), sha256="")
    with checksum_beside(video) as checksum:
        found = scan(video, sampling.image_fps)
        return found, source_of(video, found, decoder_for(found, sampling.decoder), sha256=checksum())


def _is_new(writer: SegmentWriter, recording: Recording) -> bool:
    """Whether a video may have more than the folder has. RequestError for a video that is not the folder's."""
    index = writer.index
    if index is None or index.recording is None:
        return True
    known = index.recording
    if recording.name != known.name or recording.bytes < known.bytes:
        raise RequestError(
            f"{writer.folder} was made from {known.name} of {known.bytes} bytes or more, not from {recording.name} "
            f"of {recording.bytes}.",
            _REOPEN,
        )
    if index.complete and recording != known:
        raise RequestError(
            f"{writer.folder} is complete, but {known.name} has changed since.",
            "Use --growing while a video is being written; or encode it again in another folder.",
        )
    return not index.complete


def _settled(found: Scan, sampling: Sampling, growing: bool) -> list[int]:
    """The chosen frames of a video; of one that is growing, those that are the same however it goes on."""
    frames = choose_frames(found, sampling)
    late = _REORDERED if found.reordered else 1
    return [frame for frame in frames if not growing or frame < found.frames - late - 1]


def _check_continues(writer: SegmentWriter, found: Scan, frames: list[int], done: int) -> None:
    """RequestError unless the chosen frames begin with those that the folder has, by their times."""
    if not writer.segments:
        return
    end = writer.segments[-1].last
    times = np.array([found.seconds[frame] for frame in frames[:done]])
    if len(times) < done or not times[0] - 1e-6 <= writer.segments[0].first <= end <= times[-1] + 1e-6:
        raise RequestError(f"The frames of the video are not those that {writer.folder} goes on from.", _REOPEN)


def _not_decoded(found: Scan, frames: list[int]) -> str:
    """A sentence about frames at the end of which none can be decoded."""
    first, last = (clock(found.seconds[frame]) for frame in (frames[0], frames[-1]))
    return f"The last {len(frames)} chosen frames, from {first} to {last}, cannot be decoded: no segment has them."


def _border(family: Family, shape: tuple[int, int, int]) -> tuple[int, ...]:
    """The ids before the first token of a slot that is not the first."""
    _, rows, columns = shape
    return next((ids for place, ids in family.layout_of((2, rows, columns)).between if place == rows * columns), ())


def _counting(context: Context, done: int, count: int) -> Context:
    """A context whose progress is that of all segments."""
    return replace(context, progress=lambda part, _: context.progress(done + part, count))
