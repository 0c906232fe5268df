"""`stsimdiff encode`: turn videos into tokens files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from . import archive, common, completion, options, output, outputs, segments


def encode(
    videos: Annotated[
        list[str],
        typer.Argument(help="Video to encode; or many: folders, files, patterns, lists.", show_default=False),
    ],
    output_path: options.Outputs,
    store: options.Store = "auto",
    model: options.VideoModel = None,
    revision: options.Revision = None,
    frames: options.Frames = None,
    fps: options.Fps = None,
    image_fps: options.ImageFps = None,
    start: options.Start = None,
    end: options.End = None,
    min_pixels: options.MinPixels = None,
    max_pixels: options.MaxPixels = None,
    evidence: Annotated[
        str,
        typer.Option(
            autocompletion=completion.one_of(completion.EVIDENCE),
            help="Evidence to store for methods that need it: saliency, keys or saliency,keys. auto stores what "
            "--method needs.",
            rich_help_panel=options.METHOD,
        ),
    ] = "",
    method: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.method,
            help="Method that compress will use later. Only with --evidence auto.",
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    decoder: options.Decoder = "auto",
    decode_workers: options.DecodeWorkers = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    attn: options.Attn = "auto",
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
    growing: Annotated[
        bool,
        typer.Option(
            "--growing",
            help="The video is still being written: leave what may change for the next --append.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = False,
    force: options.ForceMany = False,
    json: options.Json = False,
) -> None:
    """Encode a video into visual tokens and write them to a file.

    Only the chosen frames are read, only the vision side of the model is loaded, and only a few frames are in memory
    at a time. Many videos (a folder, several files, a pattern, a list in .txt, .jsonl, .csv or .parquet) are written to
    a folder; the same command goes on where it was stopped. With --append, one long video is written to a folder of
    segments, whether it is still being written or the command was stopped.
    """
    from ..errors import RequestError
    from ..models import EMBEDDED
    from ..models.inference.model_cache import ModelCache
    from ..models.loading.runtime import Runtime
    from ..pipeline import Context
    from ..storage.packing import parse_store
    from ..storage.sinks import Destination
    from ..timing import Stopwatch

    common.check_revision(model, revision)
    wanted = _evidence(evidence, method)
    form = parse_store(store)
    size = options.frame_size(min_pixels, max_pixels)
    asked = common.VideoOptions(frames, fps, start, end, decoder, decode_workers, size, image_fps=image_fps)
    sampling = asked.sampling()
    runtime = Runtime(device, dtype, attn)
    many = archive.Many(executor, workers, devices, decoders, shard, attempts, timeout, retry_failed, checksum, force)
    if growing and not append:
        raise RequestError("--growing works with --append only.", "Add --append, or leave it out.")
    if append:
        many.check_one()
        segments.encode(
            videos, output_path, force, json, model=model, sampling=sampling, runtime=runtime, revision=revision,
            evidence=wanted, store=form, growing=growing,
        )  # fmt: skip
        return
    if archive.is_many(videos, output_path):
        from ..archive.job import Job

        job = Job(
            options.new_folder(output_path),
            model,
            revision,
            sampling,
            chosen=frames is not None or fps is not None,
            runtime=runtime,
            evidence=tuple(wanted),
            store=form,
        )
        archive.run(job, videos, many, json)
        return
    many.check_one()
    (video,), output_file = map(Path, videos), options.new_file(output_path)
    outputs.check_outputs([output_file], force, common.inputs(model, video))
    timer = Stopwatch(device)
    models = ModelCache()
    tokens = common.encode(
        video,
        model,
        sampling,
        runtime,
        Context(models, timer),
        revision=revision,
        evidence=wanted,
        to=Destination(output_file, form),
    )
    written = output_file.stat().st_size
    grid = tokens.grid
    context = models.family(model or EMBEDDED, revision).context
    if context and grid.tokens > context:
        output.warn(
            f"{grid.tokens:,} tokens are more than the {context:,} positions of {grid.model.id}: to ask about them, "
            f"compress with --ratio {math.floor(1000 * context / grid.tokens) / 1000:g} or less, or encode fewer frames"
        )
    common.report_times(timer.seconds)
    if json:
        output.result_json(
            {
                "output": str(output_file),
                "model": grid.model.id,
                "decoder": grid.source.decoder,
                "grid": grid.shape,
                "token_width": grid.width,
                "store": store,
                "dtype": str(tokens.features.dtype).removeprefix("torch."),
                "tokens": grid.tokens,
                "evidence": sorted(tokens.evidence),
                "slot_seconds": grid.seconds,
                "missing_seconds": grid.source.missing_seconds,
                "seconds": timer.total(),
                "stage_seconds": timer.seconds,
                "bytes": written,
            }
        )
        return
    t, h, w = grid.shape
    output.result(
        f"{output_file}: {grid.tokens} tokens ({t} slots of {h} x {w}), {output.size(written)}, {timer.total():.1f} s"
    )


def _evidence(text: str, method: str | None) -> list[str]:
    """The evidence to store: the listed names, or what the method needs from the vision encoder."""
    from ..errors import RequestError
    from ..methods.spec import parse_method

    if (text.strip() == "auto") != (method is not None):
        raise RequestError(
            "--evidence auto and --method must be given together.", "Write e.g. --evidence auto --method visionzip"
        )
    if method is not None:
        return sorted(parse_method(method).evidence)
    return [name.strip() for name in text.split(",") if name.strip()]
