"""Frames to stored tokens, in four stages that work at the same time, each on another chunk of the video.

    chunk k + 3   decode    thread "decode", and the workers of the decoder
    chunk k + 2   prepare   thread "prepare": resize, normalise, begin to copy to the device
    chunk k + 1   encode    the caller's thread: on a GPU, queue the work
    chunk k       write     thread "write": wait for the device, check, store

A stage holds one chunk, in work or waiting for the next stage. Decoding begins while the model is loaded. If a stage
fails, or the caller is interrupted, all stages end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..records import Frames, FrameStream, Sizing, TokenGrid
from ..storage.finite import check_encoded
from ..storage.sinks import TokenSink
from ..timing import Stopwatch
from ..timing.spans import active, add, span
from ..video.rechunk import rechunked
from .overlap import After, Ahead

if TYPE_CHECKING:  # these import transformers
    import torch

    from ..models.families.base import Family
    from ..models.inference.vision_encoder import Encoding, Prepared, VisionEncoder

#: Called with the number of frames that are encoded, and the number of all frames.
Progress = Callable[[int, int], None]
#: Called with a sentence that the user should know.
Note = Callable[[str], None]


@contextmanager
def decoding(stream: FrameStream, family: Family, chunk: int) -> Iterator[Stages]:
    """Begin to decode, about `chunk` frames at a time; `Stages.run` does the rest. No thread outlives the block."""
    depth = family.frames_per_slot
    size = max(depth, chunk // depth * depth)
    missing: list[float] = []
    with closing(Ahead(stream.chunks, lambda chunks: rechunked(chunks, size, missing), "decode")) as decoded:
        yield Stages(stream, family, decoded, missing)


class Stages:
    """The stages after decoding. `missing` grows by the times of frames that cannot be decoded."""

    def __init__(self, stream: FrameStream, family: Family, decoded: Ahead, missing: list[float]) -> None:
        self._stream, self._family, self._decoded, self._missing = stream, family, decoded, missing

    def run(self, encoder: VisionEncoder, sink: TokenSink, timer: Stopwatch, progress: Progress, note: Note) -> None:
        """Encode all chunks and store them in the sink.

        The timer's step "decode" is the time in which the encoder waits for frames, "encode" all other until the last
        chunk is written, and "write" the time to finish.
        """
        writer = _Writer(self._stream, self._family, sink)
        done, count, watch = 0, self._stream.count, _Watch(encoder.device)

        def prepared(parts: Iterable[Frames]) -> Iterator[tuple[int, tuple[float, ...], Prepared]]:
            return (self._prepare(encoder, number, part) for number, part in enumerate(parts))

        with (
            closing(Ahead(self._decoded, prepared, "prepare")) as ahead,
            closing(After(writer.write, failed=ahead.cancel, name="write")) as after,
        ):
            timer.step("decode")
            for number, seconds, chunk in ahead:
                timer.step("encode", wait=False)
                with watch.work(chunk=number, frames=len(seconds)) as worked:
                    begun = encoder.start(chunk, note)
                after.put((number, seconds, begun, worked))
                done += len(seconds)
                progress(done, count)
                timer.step("decode", wait=False)
            timer.step("encode", wait=False)
            after.finish()
            timer.step("write")
            writer.finish(tuple(self._missing))

    def _prepare(self, encoder: VisionEncoder, number: int, part: Frames) -> tuple[int, tuple[float, ...], Prepared]:
        sizing = Sizing(self._stream.sized_for or self._stream.count, self._stream.size)
        with span("preprocess", chunk=number, frames=len(part.seconds)):
            return number, part.seconds, encoder.prepare(part.pixels, sizing)


class _Writer:
    """Stores the slots of a video in a sink, chunk by chunk."""

    def __init__(self, stream: FrameStream, family: Family, sink: TokenSink) -> None:
        self._stream, self._family, self._sink = stream, family, sink
        self._seconds: list[float] = []  # of slots
        self._grid: TokenGrid | None = None

    def write(self, chunk: tuple[int, tuple[float, ...], Encoding, Callable[[], None]]) -> None:
        """Store a chunk, given its number and the times of its frames; ModelError if it is not made of numbers.

        The last entry is to be called when the device is done with it.
        """
        number, seconds, begun, worked = chunk
        with span("copy", chunk=number):
            new = begun.wait()
        worked()
        with span("write", chunk=number):
            check_encoded(new, seconds, self._family.checkpoint.id)
            if self._grid is None:
                _, h, w, width = new["features"].shape
                slots = -(-self._stream.count // self._family.frames_per_slot)
                self._grid = self._draft((slots, h, w), width)
                self._sink.begin(self._grid, self._stream.count, new)
            self._sink.append(new)
        depth = self._family.frames_per_slot
        self._seconds += [self._family.slot_seconds(seconds[i : i + depth]) for i in range(0, len(seconds), depth)]

    def finish(self, missing: tuple[float, ...]) -> None:
        """End the video, of which the frames at the times `missing` could not be decoded."""
        if self._grid is None:
            raise ValueError("expected at least one frame, got none")
        shape = (len(self._seconds), *self._grid.shape[1:])
        self._sink.finish(
            replace(
                self._grid,
                shape=shape,
                seconds=tuple(self._seconds),
                layout=self._family.layout_of(shape),
                source=replace(self._stream.source, missing_seconds=missing),
            )
        )

    def _draft(self, shape: tuple[int, int, int], width: int) -> TokenGrid:
        """The grid if all frames arrive."""
        family, source, period = self._family, self._stream.source, self._stream.period
        return TokenGrid(
            shape=shape,
            width=width,
            seconds=(),
            layout=family.layout_of(shape),
            model=family.checkpoint.ref,
            source=source,
            coverage=family.coverage_of(source.width, source.height),
            saliency=family.saliency(),
            period=None if period is None else family.slot_period(period),
        )


class _Watch:
    """Records when the encoder works, if a time line is recorded."""

    def __init__(self, device: torch.device) -> None:
        self._clock: Any = None
        if device.type == "cuda" and active():
            from ..models.loading.device_clock import DeviceClock

            self._clock = DeviceClock(device)

    @contextmanager
    def work(self, **facts: Any) -> Iterator[Callable[[], None]]:
        """Record the block; on a GPU, what it queues there. Call what this yields when the GPU is done with it."""
        if self._clock is None:
            with span("encode", **facts):
                yield lambda: None
            return
        marks = [self._clock.mark()]
        with span("queue", **facts):
            yield lambda: self._add(marks, facts)
        marks.append(self._clock.mark())

    def _add(self, marks: list[Any], facts: dict[str, Any]) -> None:
        from ..models.loading.device_clock import ROW

        begin, end = map(self._clock.seconds, marks)
        add("encode", begin, end, thread=ROW, **facts)
