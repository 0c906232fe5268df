"""`stsimdiff eval`: run the paper's benchmarks on data that is on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import common, completion, options, output, stops

if TYPE_CHECKING:
    from ..evaluation.run import Evaluator, Failure
    from ..evaluation.tasks.base import Sample
    from ..evaluation.text_table import TextTable


def evaluate(
    benchmark: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.benchmark,
            help="Benchmark: videomme, longvideobench, egoschema, mvbench or tvqa.",
            show_default=False,
        ),
    ],
    data: Annotated[Path, typer.Option(help="Folder with the data, in a published layout.", show_default=False)],
    model: options.VideoModel = None,
    revision: options.Revision = None,
    methods: Annotated[
        str,
        typer.Option(
            autocompletion=completion.several(completion.method_name),
            help="Methods, separated by commas, as for bench. vanilla always runs.",
            rich_help_panel=options.METHOD,
        ),
    ] = "st-simdiff",
    ratios: options.Ratios = "0.3,0.5",
    frames: Annotated[
        int, typer.Option(min=1, help="Number of frames per video.", rich_help_panel=options.FRAMES)
    ] = 64,
    decode_workers: options.DecodeWorkers = None,
    min_pixels: options.MinPixels = None,
    max_pixels: options.MaxPixels = None,
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
    """Score methods on published benchmarks, such as VideoMME.

    Prompts and answer extraction are those of lmms-eval; the data must already be on disk. A video is encoded once for
    all methods, ratios and questions. Missing or broken videos are reported and left out. With --output, methods,
    ratios and questions can be added later.
    """
    from ..evaluation.plan import make_plan
    from ..evaluation.tasks import TASKS
    from ..models.loading.quantize import check_quantize
    from ..storage.atomic import check_folder

    task = TASKS.load(benchmark)
    plan = make_plan(methods, ratios)
    check_quantize(quantize)
    size = options.frame_size(min_pixels, max_pixels)
    samples = (task.load_with_subtitles if subtitles else task.load_samples)(data)[:limit]
    if output_folder is None and any(sample.answer is None for sample in samples):
        from ..errors import RequestError

        raise RequestError(
            f"{task.title} has questions without public labels.", "Name a folder with -o for the submission file."
        )
    if output_folder is not None:
        check_folder(output_folder, data)
    from ..evaluation.answering import Settings
    from ..evaluation.report import eval_report, eval_request, save_results
    from ..evaluation.run import Evaluator
    from ..evaluation.samples_log import SamplesLog
    from ..models import EMBEDDED
    from ..models.loading.runtime import Runtime
    from ..records import FrameSize

    runtime = Runtime(device, dtype, attn, quantize)
    settings = Settings(
        model or EMBEDDED,
        frames,
        task.max_new_tokens,
        runtime,
        revision,
        decode_workers,
        size or FrameSize(),
    )
    request = eval_request(task, settings, subtitles)
    log = SamplesLog.in_folder(output_folder, request, force) if output_folder else SamplesLog()
    log.check(samples)
    common.introduce(settings.model)
    failures = ask_all(Evaluator(task, plan, settings, log), samples, "videos", leave_out)
    report = eval_report(request, task, samples, plan, log, failures)
    if output_folder:
        save_results(output_folder, report, task, samples, plan, log)
    _show(report, table, json)
    if failures:
        from ..errors import StsimdiffError

        raise StsimdiffError(
            f"{len(failures)} of {len(failures) + report['videos']} videos could not be used.",
            "Put them right and run the same command again: only they are missing.",
        )


def leave_out(failure: Failure) -> None:
    """Say that a video could not be used."""
    output.warn(f"{failure.video}: {failure.error} {failure.questions} questions are left out.")


def ask_all(
    evaluator: Evaluator, samples: list[Sample], what: str, on_failure: Callable[[Failure], None] | None = None
) -> list[Failure]:
    """Run an evaluation with a progress bar over its videos, and say how many of them are done already."""
    from ..evaluation.tasks.base import by_video

    total, done = len(by_video(samples)), evaluator.done(samples)
    if done:
        output.note(f"{done} of {total} {what} are done already.")
    try:
        with output.progress(what, total) as update:
            return evaluator.run(samples, update, on_failure)
    except stops.Stopped:
        output.note(
            "The answers so far are kept. The same command goes on with the rest."
            if evaluator.log.file is not None
            else "Nothing was written. With -o, answers are kept, and the same command goes on."
        )
        raise


def show_head(report: dict[str, Any], asked: str) -> None:
    """Print what was asked of which model on which machine."""
    from ..machine import short

    output.result(f"{report['model']}, {asked} {short(report['machine'])}")
    output.result(f"in brackets: {report['interval']}")


def show_tables(tables: Iterable[TextTable | None]) -> None:
    """Print tables, each after an empty line; one that is wider than the terminal in parts."""
    for table in filter(None, tables):
        for part in table.fitted(output.stdout.width) if output.stdout.is_terminal else [table]:
            output.result("")
            output.table(part.rows, part.header, part.title)


def _show(report: dict[str, Any], table: bool, json: bool) -> None:
    from ..evaluation.tables import compared_table, inside_table, paper_table, scores_table
    from ..methods.spec import shown

    if json:
        output.result_json(report)
        return
    videos = f"{report['videos']} videos of {report['frames']} frames"
    show_head(report, f"{videos}, {report['answered']} of {report['questions']} questions,")
    if any(row["without_letter"] for row in report["rows"]):
        counts = ", ".join(
            f"{row['without_letter']} of {shown(row['method'])} {row['ratio']:g}" for row in report["rows"]
        )
        output.note(f"answers that name no letter ({report['no_letter']}): {counts}")
    made = (scores_table(report), compared_table(report), inside_table(report))
    show_tables((*made, paper_table(report) if table else None))
