"""`stsimdiff bench`: what compression costs in answers."""

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
            help="List with commas, e.g. all,st-simdiff:layer=2,st-simdiff@question. Default: all that "
            "`stsimdiff methods` lists, built-in ones and those of installed packages."
        ),
    ] = None,
    ratios: Annotated[str, typer.Option(help="Ratios, with commas.")] = "0.1,0.2,0.3,0.5,1.0",
    clips: Annotated[int, typer.Option(min=2, help="Rendered clips.")] = 100,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each clip or video.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the clips and of the intervals.")] = 0,
    ablation: Annotated[bool, typer.Option("--ablation", help="The rows of the paper's Table 3.")] = False,
    sweep: Annotated[
        str, typer.Option(help="Parameters of st-simdiff: tau_sim=0.6:0.95,tau_diff=0.1:0.4,importance=llm|centrality")
    ] = "",
    question: Annotated[
        list[str] | None, typer.Option(help="Question about your videos; may be repeated.", show_default=False)
    ] = None,
    model: options.Model = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 32,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    output_file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Report to write (JSON). Run a stopped bench again and it goes on.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture to write, e.g. bench.png.", show_default=False)] = None,
    markdown: Annotated[Path | None, typer.Option(help="Tables to write, in Markdown.", show_default=False)] = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Compare methods at several ratios: the same clips, the same questions, 95 % intervals over clips.

    Rendered clips have known answers. On your own videos, answers are compared with those that all tokens give.
    A method followed by @question measures importance with each question instead of the general prompt; one followed
    by @inside prunes between the LLM's layers, into which all tokens go with every question.
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
