"""`stsimdiff bench`: what compression costs in answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import common, evaluate, options, output


def bench(
    videos: Annotated[
        list[Path] | None,
        typer.Argument(help="Your own videos. Default: rendered clips with known answers.", show_default=False),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="List with commas, e.g. all,st-simdiff:layer=2,st-simdiff@question. Default: all."),
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
    task, samples = _questions(videos or [], question or [], clips, frames, seed)
    from ..evaluation.answering import Settings
    from ..evaluation.report import bench_report, bench_request
    from ..evaluation.run import Evaluator
    from ..evaluation.samples_log import SamplesLog
    from ..models import EMBEDDED
    from ..models.loading.runtime import Runtime

    settings = Settings(model or EMBEDDED, frames, max_new_tokens, Runtime(device, dtype))
    request = bench_request(plan, settings, seed, question or (), videos or ())
    unfinished = output_file and output_file.with_name(output_file.name + ".partial")
    log = SamplesLog.in_file(unfinished, request, force) if unfinished else SamplesLog()
    evaluate.ask_all(Evaluator(task, plan, settings, log), samples, "clips")
    report = bench_report(request, task, samples, plan, log)
    if output_file:
        save_json(output_file, report)
        log.discard()
    if plot:
        from ..evaluation.plot import save_plot

        save_plot(plot, report)
    _show(report, markdown, json)
    if videos:
        common.introduce(report["model"])


def _questions(videos: list[Path], questions: list[str], clips: int, frames: int, seed: int) -> tuple[Any, list[Any]]:
    """The task and its questions; refuses what does not fit together."""
    if not videos:
        from ..errors import RequestError
        from ..evaluation.tasks.rendered_clips import RenderedClips

        if questions:
            raise RequestError("--question is about your own videos.", "Name a video, or leave out --question.")
        rendered = RenderedClips(clips, frames, seed)
        return rendered, rendered.load_samples()
    from ..evaluation.tasks.own_videos import OwnVideos

    own = OwnVideos(tuple(videos), tuple(questions))
    return own, own.load_samples()


def _show(report: dict[str, Any], markdown: Path | None, json: bool) -> None:
    from ..evaluation.tables import tables
    from ..evaluation.text_table import save_markdown

    shown = tables(report)
    if markdown:
        save_markdown(markdown, shown)
    if json:
        output.result_json({key: value for key, value in report.items() if key != "sittings"})
        return
    what = "clips" if report["blind"] is not None else "videos"
    asked = (
        f"{report['clips']} {what} of {report['frames']} frames, {report['asked']} questions, seed {report['seed']};"
    )
    evaluate.show_head(report, asked)
    evaluate.show_tables(shown)
