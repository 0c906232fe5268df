"""What encode and compress do with --append: they add to a folder of segments, and say what it has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from . import common, options, output

if TYPE_CHECKING:
    from ..models.loading.runtime import Runtime
    from ..ratio import Ratio
    from ..recordings import Added
    from ..storage.byte_budget import ByteBudget
    from ..video import Sampling


def encode(
    videos: list[str],
    output_path: str,
    force: bool,
    json: bool,
    *,
    model: str | None,
    sampling: Sampling,
    runtime: Runtime,
    store: str | None,
    growing: bool,
    **settings: Any,
) -> None:
    """Add what is new of a video. `settings` are those of recordings.encoding.append_tokens."""
    from ..models import EMBEDDED
    from ..models.inference.model_cache import ModelCache
    from ..pipeline import Context
    from ..recordings.encoding import Tape, append_tokens
    from ..timing import Stopwatch

    video, folder = _one(videos, force, "video"), options.growing_folder(output_path)
    timer = Stopwatch(runtime.device)
    common.introduce(model or EMBEDDED)
    with output.progress("frames") as progress:
        context = Context(ModelCache(), timer, progress, output.note)
        added = append_tokens(
            video, Tape(folder, store, growing), model or EMBEDDED, sampling, runtime, context=context, **settings
        )
    _print(folder, added, timer.total(), json, {"slots": added.slots, "tokens": added.kept})


def compress(
    files: list[str],
    output_path: str,
    force: bool,
    json: bool,
    *,
    amount: Ratio | ByteBudget,
    asked: common.VideoOptions,
    runtime: tuple[str, str, str, str | None],
    store: str | None,
    **settings: Any,
) -> None:
    """Compress what is new in a folder of tokens. `settings` are those of recordings.compressing.append_kept."""
    from ..models.loading.runtime import Runtime
    from ..pipeline import Context
    from ..ratio import Ratio
    from ..recordings.compressing import append_kept
    from ..storage.segment_index import is_segments
    from ..storage.sinks import Destination
    from ..timing import Stopwatch

    source, folder = _one(files, force, "folder of segments"), options.growing_folder(output_path)
    if not isinstance(amount, Ratio):
        raise RequestError("Bytes are for one file, and --append writes a folder.", "Give --ratio.")
    if not is_segments(source):
        raise RequestError(f"{source} is not a folder of segments.", "Make one: stsimdiff encode --append")
    asked.check_unused(source)
    checked = Runtime(*runtime)
    timer = Stopwatch(checked.device)
    added = append_kept(
        source, Destination(folder, store), amount, runtime=checked, context=Context(timer=timer), **settings
    )
    _print(folder, added, timer.total(), json, {"slots": added.slots, "kept": added.kept})


def _one(sources: list[str], force: bool, what: str) -> Path:
    """The one source. RequestError for several, and for --force, which would replace what is to be continued."""
    if force:
        raise RequestError("--append adds to a folder, and never overwrites.", "Leave out --force.")
    if len(sources) != 1:
        raise RequestError(f"--append takes one {what}, got {len(sources)}.", "Give them one after the other.")
    return Path(sources[0])


def _print(folder: Path, added: Added, seconds: float, json: bool, counts: dict[str, int]) -> None:
    if json:
        output.result_json(
            {
                "output": str(folder),
                "segments": len(added.segments),
                "added": added.added,
                **counts,
                "complete": added.complete,
                "bytes": added.bytes,
                "seconds": seconds,
            }
        )
        return
    state = "complete" if added.complete else "may grow"
    numbers = ", ".join(f"{count} {'tokens kept' if name == 'kept' else name}" for name, count in counts.items())
    output.result(
        f"{folder}: {added.added} of {len(added.segments)} segments added, {numbers}, {output.size(added.bytes)}, "
        f"{state}, {seconds:.1f} s"
    )
