"""`stsimdiff eval`: run the paper's benchmarks on data that is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import common, options, output


def evaluate(
    benchmark: Annotated[
        str, typer.Argument(help="Benchmark: videomme, longvideobench or egoschema.", show_default=False)
    ],
    data: Annotated[Path, typer.Option(help="Folder with the data, in a published layout.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(
            help="Hub id or local folder of a checkpoint. Default: the embedded model tiny-choice.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    revision: options.Revision = None,
    methods: Annotated[
        str,
        typer.Option(
            help="Methods, separated by commas, as for bench. vanilla always runs.", rich_help_panel=options.METHOD
        ),
    ] = "st-simdiff",
    ratios: Annotated[
        str, typer.Option(help="Fractions of tokens to keep, separated by commas.", rich_help_panel=options.METHOD)
    ] = "0.3,0.5",
    frames: Annotated[
        int, typer.Option(min=1, help="Number of frames per video.", rich_help_panel=options.FRAMES)
    ] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only this many questions, the first ones.")] = None,
    subtitles: Annotated[
        bool, typer.Option("--subtitles", help="Add subtitles to the prompt (videomme only).")
    ] = False,
    table: Annotated[
        bool, typer.Option("--table", help="Show the paper's results next to ours.", rich_help_panel=options.OUTPUT)
    ] = False,
    output_folder: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for answers, report and tables. Run an interrupted evaluation again to continue it.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    attn: options.Attn = "auto",
    quantize: options.Quantize = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Discard the answers that are already in the folder.", rich_help_panel=options.OUTPUT
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Score methods on VideoMME, LongVideoBench or EgoSchema.

    Prompts and answer extraction are those of lmms-eval; the data must already be on disk. A video is encoded once for
    all methods, ratios and questions. Missing or broken videos are reported and left out. With --output, methods,
    ratios and questions can be added later.
    """
    from ..evaluation.plan import make_plan
    from ..evaluation.tasks import TASKS
    from ..models.loading.quantize import check_quantize

    task = TASKS.load(benchmark)
    plan = make_plan(methods, ratios)
    check_quantize(quantize)
    items = task.read(data, subtitles=subtitles)[:limit]
    if output_folder is None and any(item.answer is None for item in items):
        from ..errors import RequestError

        raise RequestError(
            f"{task.title} has questions without public labels.", "Name a folder with -o for the submission file."
        )
    from ..evaluation.report import make_report
    from ..evaluation.results import save_results
    from ..evaluation.run import Failure, Settings, by_video, request_of, run, unanswered
    from ..evaluation.samples_log import Lines
    from ..models import EMBEDDED_CHOICE
    from ..models.loading.runtime import Runtime

    settings = Settings(model or EMBEDDED_CHOICE, frames, Runtime(device, dtype, attn, quantize), revision)
    request = request_of(task, settings, subtitles)
    lines = Lines(output_folder, request, force)
    lines.check(items)
    common.introduce(settings.model)
    videos = by_video(items)
    done = sum(not unanswered(some, plan, lines) for some in videos.values())
    if done:
        output.note(f"{done} of {len(videos)} videos are done already.")

    def tell(failure: Failure) -> None:
        output.warn(f"{failure.video}: {failure.error} {failure.questions} questions are left out.")

    with output.progress("videos", len(videos)) as update:
        failures = run(task, items, plan, settings, lines, update, tell)
    report = make_report(request, task, items, plan, lines, failures)
    if output_folder:
        save_results(output_folder, report, task, items, plan, lines)
    _show(report, table, json)
    if failures:
        from ..errors import StsimdiffError

        raise StsimdiffError(
            f"{len(failures)} of {len(videos)} videos could not be used.",
            "Put them right and run the same command again: only they are missing.",
        )


def _show(report: dict[str, Any], table: bool, json: bool) -> None:
    from ..evaluation.tables import compared_table, paper_table, scores_table
    from ..machine import short

    if json:
        output.result_json(report)
        return
    output.result(
        f"{report['model']}, {report['videos']} videos of {report['frames']} frames, "
        f"{report['answered']} of {report['questions']} questions, {short(report['machine'])}"
    )
    output.result(f"in brackets: {report['interval']}")
    if any(row["without_letter"] for row in report["rows"]):
        counts = ", ".join(f"{row['without_letter']} of {row['method']} {row['ratio']:g}" for row in report["rows"])
        output.note(f"answers that name no letter ({report['no_letter']}): {counts}")
    for grid in (scores_table(report), compared_table(report), paper_table(report) if table else None):
        if grid:
            output.result("")
            output.table(grid.rows, grid.header, grid.title)
