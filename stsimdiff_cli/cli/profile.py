"""`stsimdiff profile`: what compression costs and saves on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..models.loading.presets import PRESETS, find_preset
from . import common, completion, options, output, outputs


def profile(
    video: Annotated[
        Path | None,
        typer.Argument(
            help="Video to measure with. Default: a generated clip of 640 x 360 pixels.", show_default=False
        ),
    ] = None,
    frames: Annotated[
        str, typer.Option(help="Numbers of frames, separated by commas.", rich_help_panel=options.FRAMES)
    ] = "32,64,96,128",
    decode_workers: options.DecodeWorkers = None,
    min_pixels: options.MinPixels = None,
    max_pixels: options.MaxPixels = None,
    ratio: Annotated[str, typer.Option(help="Fraction of tokens to keep.", rich_help_panel=options.METHOD)] = "0.3",
    methods: Annotated[
        str,
        typer.Option(
            autocompletion=completion.several(completion.method_name),
            help="Methods, separated by commas. Savings are relative to vanilla.",
            rich_help_panel=options.METHOD,
        ),
    ] = "vanilla,st-simdiff",
    importance: options.Importance = None,
    model: options.VideoModel = None,
    dummy_weights: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.preset,
            help=f"Random weights of a published size instead of --model: {', '.join(PRESETS)}.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Measured runs, after one warm-up run.")] = 3,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Exact number of tokens generated per question.")] = 16,
    questions: Annotated[int, typer.Option(min=1, help="Questions per run. The video is prefilled once for all.")] = 1,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    attn: options.Attn = "auto",
    output_file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=options.new_file,
            metavar="PATH",
            help="JSON report to write.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            parser=options.new_file,
            metavar="PATH",
            help="Picture to write, e.g. profile.png.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            parser=options.new_file,
            metavar="PATH",
            help="Time line to write, e.g. trace.json: one more run, for Perfetto (ui.perfetto.dev).",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Measure time and memory, with and without compression.

    Every stage is measured, for each number of frames and each method in a separate process: one warm-up run, then the
    repeats. The tables show medians. Loading the model is not counted.
    """
    from ..models.question import check_generation
    from ..profiling.request import parse_frames, parse_methods
    from ..storage.atomic import temporary_folder

    counts, specs = parse_frames(frames), parse_methods(methods, importance)
    size = options.frame_size(min_pixels, max_pixels)
    check_generation(max_new_tokens)
    _check(ratio, video, model, dummy_weights)
    outputs.check_outputs((output_file, plot, trace), force, common.inputs(model, video))
    if plot:
        from ..plotting import check_plot

        check_plot(plot)
    from ..models import EMBEDDED
    from ..models.loading.runtime import Runtime
    from ..profiling import report
    from ..profiling.job import Job
    from ..records import FrameSize

    runtime = Runtime(device, dtype, attn)
    runtime.check()  # before a clip is rendered
    with temporary_folder() as folder:
        name = model or EMBEDDED
        if dummy_weights:
            from ..models.loading.random_weights import write_dummy

            name = str(write_dummy(folder / "model", dummy_weights))
        clip = video or _write_clip(folder, max(counts))
        jobs = [
            Job(
                video=str(clip),
                model=name,
                frames=count,
                method=spec,
                importance=importance,
                ratio=ratio,
                new_tokens=max_new_tokens,
                repeats=repeats,
                runtime=runtime,
                questions=questions,
                workers=decode_workers,
                trace=trace is not None,
                size=size or FrameSize(),
            )
            for count in counts
            for spec in specs
        ]
        with output.waiting("measuring") as show:
            measured = report.profile(
                jobs, lambda n, job: show(f"{n + 1} of {len(jobs)}: {job.method}, {job.frames} frames")
            )
    if trace:
        from ..profiling.trace import save_trace

        save_trace(trace, measured["rows"])
    measured |= {"dummy_weights": dummy_weights, "video_made": video is None}
    if dummy_weights:
        measured["model"] = f"{dummy_weights} (random weights)"
    if output_file:
        from ..storage.atomic import save_json

        save_json(output_file, measured, indent=2)
    if plot:
        from ..profiling.plot import save_plot

        save_plot(plot, measured)
    _warn(measured)
    if json:
        output.result_json(measured)
    else:
        _show(measured)
    if any(row["error"] for row in measured["rows"]):
        raise typer.Exit(1)


# --- the request ----------------------------------------------------------------------------------------------------


def _check(ratio: str, video: Path | None, model: str | None, preset: str | None) -> None:
    """Refuse what cannot be done before any work. RequestError with the reason."""
    from ..errors import RequestError
    from ..ratio import parse_ratio
    from ..storage.image_files import is_images
    from ..storage.reading import is_stored
    from ..storage.regular import check_file

    parse_ratio(ratio)
    if video is not None:
        if not is_images(video):
            check_file(video, "a video")
        if is_stored(video):
            hint = "profile measures decoding and encoding too: give it a video."
            raise RequestError(f"{video} is not a video.", hint)
    if preset is not None:
        find_preset(preset)
        if model is not None:
            raise RequestError("--model and --dummy-weights cannot be used together.", "Leave out one of them.")


def _write_clip(folder: Path, frames: int) -> Path:
    """The clip that is measured if the user names no video."""
    from ..profiling.clip import write_default_clip

    path = folder / "made.mp4"
    with output.waiting("writing a clip"):
        write_default_clip(path, frames)
    return path


# --- the output -----------------------------------------------------------------------------------------------------


def _show(measured: dict[str, Any]) -> None:
    """Two tables: the stages, and the totals with their savings."""
    from ..machine import short
    from ..profiling import report
    from ..profiling.job import BASELINE, PEAK, STAGES
    from ..profiling.trace import sentence

    video = measured["video"]
    output.result(f"{measured['model']} {measured['dtype'] or ''}, {short(measured['machine'])}")
    asked = output.counted(measured["questions"], "question")
    output.result(f"ratio {measured['ratio']:g}, {asked}, {measured['new_tokens']} tokens generated for each")
    if video:
        made = "a clip made here" if measured["video_made"] else video["name"]
        output.result(
            f"{made}: {video['width']} x {video['height']}, {video['seconds']:.0f} s, {video['fps']:g} frames/s"
        )
    rows = [row for row in measured["rows"] if not row["error"]]
    if not rows:
        return
    names = report.short_names(rows)
    for line in report.legend(rows):
        output.result(line)
    stages = [name for name in STAGES if name not in ("answer", "read")]
    output.result("")
    output.table(
        [
            [
                str(row["frames"]),
                names[row["method"]],
                str(row["kept"]),
                *(_time(row["seconds"][name]) for name in stages),
            ]
            for row in rows
        ],
        ["frames", "method", "kept", *stages],
        f"Seconds of each stage (median of {measured['repeats']}); token: one generated token",
    )
    output.result("")
    output.table(
        [
            [str(row["frames"]), names[row["method"]], *(_time(row["seconds"][name]) for name in ("cold", "warm"))]
            + [output.size(row["peak_bytes"]["all"])]
            + [_percent(row["saved_percent"], name) for name in ("cold", "warm", "peak")]
            for row in rows
        ],
        ["frames", "method", "cold s", "warm s", "peak", "cold %", "warm %", "peak %"],
        "cold: from the video to the last answer; warm: from the compressed file",
    )
    output.result(f"\n%: saved against {BASELINE}. peak: {PEAK};")
    output.result(f"{measured['peak_source']}. Loading the model is not counted.")
    for row in rows:
        if "encoder" in row:
            output.result(sentence(row, names[row["method"]]))


def _time(spread: dict[str, float] | None) -> str:
    if spread is None:
        return "-"
    seconds = spread["median"]
    return f"{seconds:.4f}" if seconds < 0.1 else f"{seconds:.3f}" if seconds < 10 else f"{seconds:.1f}"


def _percent(saved: dict[str, float] | None, name: str) -> str:
    return "-" if saved is None else f"{saved[name]:.1f}"


def _warn(measured: dict[str, Any]) -> None:
    """Warnings and notes that belong to the table."""
    common.introduce(measured["model"])
    if measured["dummy_weights"]:
        output.note(f"{find_preset(measured['dummy_weights']).summary}.")
        output.note("the weights are random: costs are real, communities and answers are not.")
    for remark in measured["remarks"]:
        output.warn(remark)
