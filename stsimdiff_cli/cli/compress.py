"""`stsimdiff compress`: turn tokens files, or videos, into compressed files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..methods import default_method
from . import archive, common, completion, options, output, outputs, segments
from .inspect import kind_counts

if TYPE_CHECKING:
    from ..ratio import Ratio
    from ..records import CompressedVideo
    from ..storage.byte_budget import ByteBudget

COUNTS = ("tokens", "kept", "candidates", "representatives", "events", "communities", "largest_community")


def compress(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Tokens file, or a video, which is encoded first; or many: folders, files, patterns, lists.",
            show_default=False,
        ),
    ],
    output_path: options.Outputs,
    ratio: Annotated[
        str | None,
        typer.Option(
            help="Fraction of tokens to keep: above 0, up to 1, e.g. 0.3.",
            show_default=False,
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--bytes",
            help="Instead of --ratio: largest size of the file, e.g. 2MB. Picks ratio, and without --store bits.",
            show_default=False,
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    size_per_minute: Annotated[
        str | None,
        typer.Option(
            "--bytes-per-minute",
            help="Instead of --ratio: largest size for each minute of encoded video, e.g. 500kB.",
            show_default=False,
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.method,
            help="Method, with any parameters after a colon, e.g. st-simdiff:tau_diff=p95. Default: st-simdiff+; the "
            "paper's st-simdiff with --importance or --prompt, which st-simdiff+ does not need.",
            show_default=False,
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    store: options.Store = "auto",
    importance: options.Importance = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Question with which attention in the LLM is measured. Default: 'What happens in this video?'.",
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    model: options.Model = None,
    revision: options.Revision = None,
    frames: options.Frames = None,
    fps: options.Fps = None,
    image_fps: options.ImageFps = None,
    start: options.Start = None,
    end: options.End = None,
    min_pixels: options.MinPixels = None,
    max_pixels: options.MaxPixels = None,
    decoder: options.Decoder = "auto",
    decode_workers: options.DecodeWorkers = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    attn: options.Attn = "auto",
    quantize: options.Quantize = None,
    executor: options.Executor = None,
    workers: options.Workers = None,
    devices: options.Devices = None,
    decoders: options.Decoders = None,
    shard: options.Shard = None,
    attempts: options.Attempts = None,
    timeout: options.Timeout = None,
    retry_failed: options.RetryFailed = False,
    checksum: options.Checksum = False,
    append: options.Append = False,
    force: options.ForceMany = False,
    json: options.Json = False,
) -> None:
    """Keep the tokens that carry the story of a video.

    At ratio r, exactly ceil(r N) of the N tokens are kept; with --bytes, as many as fit into the file. For the methods
    and their parameters, see `stsimdiff methods`. Many videos (a folder, several files, a pattern,
    a list in .txt, .jsonl, .csv or .parquet) are written to a folder; the same command goes on where it was stopped.
    A folder of segments is one video; with --append, its new segments are compressed into another folder.
    """
    from ..errors import RequestError
    from ..methods.spec import parse_method
    from ..models.question import check_question
    from ..ratio import ALL, Ratio
    from ..storage.byte_budget import ByteBudget
    from ..storage.packing import parse_store
    from ..storage.writing import save_compressed
    from ..timing import Stopwatch, selection_seconds

    amount = _amount(ratio, size, size_per_minute)
    default = default_method(importance is not None or prompt is not None)
    chosen = parse_method(method or default, **({} if importance is None else {"importance": importance}))
    form = parse_store(store)
    if prompt is not None:
        check_question(prompt)
        if "llm" not in chosen.needs:
            output.note(f"{chosen.name} asks no LLM, so --prompt changes nothing.")
    if importance in ("llm", "saliency") and importance not in chosen.needs:
        output.note(f"{chosen.name} ranks nothing by importance, so --importance changes nothing.")
    many = archive.Many(executor, workers, devices, decoders, shard, attempts, timeout, retry_failed, checksum, force)
    pixels = options.frame_size(min_pixels, max_pixels)
    asked = common.VideoOptions(frames, fps, start, end, decoder, decode_workers, pixels, revision, image_fps)
    if append:
        many.check_one()
        segments.compress(
            files, output_path, force, json, amount=amount, method=chosen, store=form, prompt=prompt, model=model,
            asked=asked, runtime=(device, dtype, attn, quantize),
        )  # fmt: skip
        return
    single = not archive.is_many(files, output_path)
    if single:
        many.check_one()
        (file,), output_file = map(Path, files), options.new_file(output_path)
        outputs.check_outputs([output_file], force, common.inputs(model, file))
    from .. import pipeline
    from ..models.loading.runtime import Runtime
    from ..records import VideoTokens

    runtime = Runtime(device, dtype, attn, quantize)
    runtime.check()  # before a video is encoded
    if not single:
        common.check_revision(model, revision)
        from ..archive.job import Job

        job = Job(
            options.new_folder(output_path),
            model,
            revision,
            asked.sampling(),
            chosen=asked.chosen,
            runtime=runtime,
            evidence=tuple(sorted(chosen.evidence)),
            method=chosen,
            ratio=amount if isinstance(amount, Ratio) else None,
            size=amount if isinstance(amount, ByteBudget) else None,
            prompt=prompt,
            store=form,
        )
        archive.run(job, files, many, json)
        return
    context = pipeline.Context(timer=Stopwatch(device))
    timer = context.timing(runtime)
    timer.step("read")
    evidence = sorted(chosen.evidence)
    tokens = common.open_input(file, model, asked, runtime, context, stay=True, evidence=evidence)
    if not isinstance(tokens, VideoTokens):
        raise RequestError(f"{file} is already compressed.", "Give the tokens file or the video.")
    fitted = pipeline.compress_to(
        tokens, amount, chosen, form, runtime=runtime, prompt=prompt, model=model, context=context
    )
    video = fitted.video
    with timer.during("write"):
        written = save_compressed(output_file, video, store=fitted.store)
    if chosen.keeps_all and ratio is not None and amount != ALL:
        output.note(f"{chosen.name} keeps every token, so the ratio {ratio} is ignored.")
    counts = video.counts
    common.report_times(timer.seconds)
    if json:
        output.result_json(
            {
                "output": str(output_file),
                "method": video.method["name"],
                "parameters": video.method["parameters"],
                "ratio": float(ratio)
                if ratio is not None and not chosen.keeps_all
                else counts["kept"] / counts["tokens"],
                "prompt": video.method["prompt"],
                "store": fitted.store or "auto",
                **dict.fromkeys(COUNTS),
                **counts,
                "kept_by_kind": kind_counts(video.kind.numpy()),
                "seconds": timer.total(),
                "stage_seconds": timer.seconds,
                "core_seconds": selection_seconds(timer.seconds),
                "bytes": written,
            }
        )
        return
    output.result(
        f"{output_file}: kept {counts['kept']} of {counts['tokens']} tokens{_reasons(video)}, "
        f"{output.size(written)}, {timer.total():.1f} s"
    )


def _reasons(video: CompressedVideo) -> str:
    """Why the tokens were kept, and what they were chosen from, if the method says."""
    if "communities" not in video.counts:
        return ""
    kept = ", ".join(f"{count} {name}" for name, count in kind_counts(video.kind.numpy()).items() if count)
    return f" ({kept}) from {video.counts['candidates']} candidates in {video.counts['communities']} communities"


def _amount(ratio: str | None, size: str | None, size_per_minute: str | None) -> Ratio | ByteBudget:
    """What one of three options says; RequestError for none of them, or several."""
    from ..errors import RequestError
    from ..ratio import parse_ratio
    from ..storage.byte_budget import parse_bytes

    given = sum(text is not None for text in (ratio, size, size_per_minute))
    if given != 1:
        names = "--ratio, --bytes and --bytes-per-minute"
        raise RequestError(
            f"Only one of {names} can be given." if given else f"One of {names} must be given.",
            "Write e.g. --ratio 0.3, or --bytes 2MB",
        )
    if ratio is not None:
        return parse_ratio(ratio)
    return parse_bytes(size) if size is not None else parse_bytes(str(size_per_minute), a_minute=True)
