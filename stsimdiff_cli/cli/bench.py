"""`stsimdiff bench`: measure how many answers compression costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import common, options, output


def bench(
    videos: Annotated[
        list[Path] | None,
        typer.Argument(help="Your own videos. Default: rendered clips with known answers.", show_default=False),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods, separated by commas, e.g. all,fastv@inside. Default: all, those of packages included.",
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    ratios: Annotated[
        str, typer.Option(help="Fractions of tokens to keep, separated by commas.", rich_help_panel=options.METHOD)
    ] = "0.1,0.2,0.3,0.5,1.0",
    clips: Annotated[int, typer.Option(min=2, help="Number of rendered clips.", rich_help_panel=options.FRAMES)] = 100,
    frames: Annotated[
        int, typer.Option(min=1, help="Number of frames per clip or video.", rich_help_panel=options.FRAMES)
    ] = 32,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed of the clips and of the intervals.", rich_help_panel=options.FRAMES)
    ] = 0,
    ablation: Annotated[
        bool,
        typer.Option("--ablation", help="Measure the rows of the paper's Table 3.", rich_help_panel=options.METHOD),
    ] = False,
    sweep: Annotated[
        str,
        typer.Option(
            help="Values of st-simdiff's parameters to try, e.g. tau_sim=0.6:0.95,layer=1|2.",
            rich_help_panel=options.METHOD,
        ),
    ] = "",
    question: Annotated[
        list[str] | None,
        typer.Option(
            help="Question about your own videos. May be repeated.", show_default=False, rich_help_panel=options.ANSWERS
        ),
    ] = None,
    model: options.VideoModel = None,
    max_new_tokens: options.MaxNewTokens = 32,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    output_file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="JSON report to write. Run an interrupted bench again to continue it.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Picture to write, e.g. bench.png.", show_default=False, rich_help_panel=options.OUTPUT),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(help="Markdown file for the tables.", show_default=False, rich_help_panel=options.OUTPUT),
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Compare the answers that methods give at several ratios.

    All methods get the same clips and questions; 95 % intervals are taken over clips. Rendered clips have known
    answers. On your own videos, answers are compared with those from all tokens.

    METHOD@question measures importance with each question instead of the general prompt. METHOD@inside gives the LLM
    all tokens with every question and prunes between its layers.
    """
    from ..evaluation.plan import make_plan
    from ..storage.atomic import check_output, save_json

    plan = make_plan(methods, ratios, ablation, sweep)
    for path in (output_file, plot, markdown):
        if path:
            check_output(path, force)
    if plot:
        from ..plotting import check_plot

        check_plot(plot)
    exams = _exams(videos or [], question or [], clips, frames, seed)
    from ..evaluation import bench_report
    from ..evaluation.journal import Journal
    from ..evaluation.sitting import Examiner
    from ..models import EMBEDDED
    from ..models.loading.runtime import Runtime

    examiner = Examiner(model or EMBEDDED, Runtime(device, dtype), max_new_tokens)
    request = bench_report.request_of(plan, examiner, frames, seed, tuple(question or ()), videos or ())
    journal = Journal(output_file and output_file.with_name(output_file.name + ".partial"), request, force)
    done = sum(exam.name in journal.sittings for exam in exams)
    if done:
        output.note(f"{done} of {len(exams)} clips are done already.")
    with output.progress("clips", len(exams)) as update:
        sittings = bench_report.run(exams, plan, examiner, journal, update)
    found = bench_report.make_report(request, plan, sittings)
    if output_file:
        save_json(output_file, found)
        journal.close()
    if plot:
        from ..evaluation.plot import save_plot

        save_plot(plot, found)
    _show(found, markdown, json)
    if videos:
        common.introduce(found["model"])


def _exams(videos: list[Path], questions: list[str], clips: int, frames: int, seed: int) -> list[Any]:
    """The clips or videos; refuses what does not fit together."""
    from ..errors import RequestError
    from ..evaluation.exams import rendered_clips, video_files

    if not videos:
        if questions:
            raise RequestError("--question is about your own videos.", "Name a video, or leave out --question.")
        return rendered_clips(clips, frames, seed)
    if len(set(videos)) < len(videos):
        raise RequestError("A video is named twice.", "Name each video once.")
    return video_files(videos, frames, questions)


def _show(found: dict[str, Any], markdown: Path | None, json: bool) -> None:
    from ..evaluation.bench_tables import tables
    from ..machine import short
    from ..storage.atomic import whole_file

    grids = tables(found)
    if markdown:
        with whole_file(markdown) as temporary:
            temporary.write_text("\n\n".join(f"{grid.title}\n\n{grid.markdown()}" for grid in grids) + "\n")
    if json:
        output.result_json({key: value for key, value in found.items() if key != "sittings"})
        return
    what = "clips" if found["blind"] is not None else "videos"
    output.result(
        f"{found['model']}, {found['clips']} {what} of {found['frames']} frames, {found['asked']} questions, "
        f"seed {found['seed']}; {short(found['machine'])}"
    )
    output.result(f"in brackets: {found['interval']}")
    for grid in grids:
        output.result("")
        output.table(grid.rows, grid.header, grid.title)
