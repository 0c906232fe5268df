"""`stsimdiff bench`: measure how many answers compression costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import common, completion, evaluate, options, output

if TYPE_CHECKING:
    from ..evaluation.tasks.base import Sample
    from ..evaluation.tasks.ladder import LadderClips


def bench(
    videos: Annotated[
        list[Path] | None,
        typer.Argument(help="Your own videos. Default: rendered clips with known answers.", show_default=False),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.several(completion.method_name),
            help="Methods, separated by commas, e.g. all,fastv@inside. Default: all, those of packages included.",
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    ratios: options.Ratios = "0.1,0.2,0.3,0.5,1.0",
    rung: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.rung,
            help="Rungs of the ladder of clips, separated by commas, or all: still, pan, shake, noise, background, "
            "crowd, occluders, slow, long, several. Default: other clips, whose camera stands still.",
            show_default=False,
            rich_help_panel=options.FRAMES,
        ),
    ] = None,
    clips: Annotated[
        int, typer.Option(min=2, help="Number of rendered clips, of each rung.", rich_help_panel=options.FRAMES)
    ] = 100,
    frames: Annotated[
        int, typer.Option(min=1, help="Number of frames per clip or video.", rich_help_panel=options.FRAMES)
    ] = 32,
    min_pixels: options.MinPixels = None,
    max_pixels: options.MaxPixels = None,
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
    questions: Annotated[
        list[str] | None,
        typer.Option(
            help="Question about your own videos. May be repeated.", show_default=False, rich_help_panel=options.ANSWERS
        ),
    ] = None,
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs",
            help="With --rung: ask also about each clip backwards and without its event; a pair counts if both "
            "answers are right.",
            rich_help_panel=options.ANSWERS,
        ),
    ] = False,
    choices: Annotated[
        str | None,
        typer.Option(
            help="With --rung: ask also as multiple choice, in the prompt of videomme, longvideobench or egoschema; "
            "a choice counts if it is right in every rotation of its options.",
            show_default=False,
            rich_help_panel=options.ANSWERS,
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
            parser=options.new_file,
            metavar="PATH",
            help="JSON report to write. Run an interrupted bench again to continue it.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            parser=options.new_file,
            metavar="PATH",
            help="Picture to write, e.g. bench.png.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(
            parser=options.new_file,
            metavar="PATH",
            help="Markdown file for the tables.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Compare the answers that methods give at several ratios.

    All methods get the same clips and questions; 95 % intervals are taken over clips. Rendered clips have known
    answers. On your own videos, answers are compared with those from all tokens.

    Clips of --rung are hard in one way each, such as a moving camera. Controls are measured next to them: shuffled and
    reversed frames, one frame, no video.

    METHOD@question measures importance with each question instead of the general prompt. METHOD@inside gives the LLM
    all tokens with every question and prunes between its layers. METHOD@slots and METHOD@packed number the kept tokens
    as --positions of ask does.
    """
    from ..evaluation.plan import make_plan
    from ..models.question import check_generation
    from ..storage.atomic import check_outputs, save_json

    plan = make_plan(methods, ratios, ablation, sweep)
    check_generation(max_new_tokens, seed=seed)
    size = options.frame_size(min_pixels, max_pixels)
    unfinished = output_file and output_file.with_name(output_file.name + ".partial")
    read = common.inputs(model, *(videos or []))
    check_outputs((output_file, plot, markdown), force, read)
    check_outputs((unfinished, plot, markdown), True, read)
    if plot:
        from ..plotting import check_plot

        check_plot(plot)
    if rung is None:
        _only_with_rung(pairs, choices)
        task, samples = _questions(videos or [], questions or [], clips, frames, seed)
    else:
        task, samples = _ladder(rung, bool(videos or questions), (clips, frames, seed, pairs, choices))
    from ..evaluation.answering import Settings
    from ..evaluation.report import bench_report, bench_request
    from ..evaluation.run import Evaluator
    from ..evaluation.rungs.report import rungs_report
    from ..evaluation.samples_log import SamplesLog
    from ..models import EMBEDDED
    from ..models.loading.runtime import Runtime
    from ..records import FrameSize

    settings = Settings(model or EMBEDDED, frames, max_new_tokens, Runtime(device, dtype), size=size or FrameSize())
    request = bench_request(plan, settings, seed, questions or (), videos or ())
    if rung is not None:
        request |= task.request
    log = SamplesLog.in_file(unfinished, request, force) if unfinished else SamplesLog()
    evaluate.ask_all(Evaluator(task, plan, settings, log), samples, "clips")
    report = (bench_report if rung is None else rungs_report)(request, task, samples, plan, log)
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
            raise RequestError("--questions is about your own videos.", "Name a video, or leave out --questions.")
        rendered = RenderedClips(clips, frames, seed)
        return rendered, rendered.load_samples()
    from ..evaluation.tasks.own_videos import OwnVideos

    own = OwnVideos(tuple(videos), tuple(questions))
    return own, own.load_samples()


def _only_with_rung(pairs: bool, choices: str | None) -> None:
    """Refuse options that nothing but the ladder has."""
    from ..errors import RequestError

    for option in ["--pairs"] * pairs + ["--choices"] * (choices is not None):
        raise RequestError(f"{option} is about the ladder of clips.", "Name its rungs, e.g. --rung all.")


def _ladder(rung: str, own: bool, settings: tuple[int, int, int, bool, str | None]) -> tuple[LadderClips, list[Sample]]:
    """The task about clips of the ladder and its questions; refuses what does not fit together."""
    from ..errors import RequestError
    from ..evaluation.tasks.ladder import LadderClips, parse_rungs

    rungs = parse_rungs(rung)
    if own:
        raise RequestError(
            "--rung is about rendered clips, not about your own videos.", "Leave out --rung, or VIDEO and --questions."
        )
    ladder = LadderClips(rungs, *settings)
    return ladder, ladder.load_samples()


def _show(report: dict[str, Any], markdown: Path | None, json: bool) -> None:
    from ..evaluation.rungs.tables import LEGEND, RUNGS, rung_tables
    from ..evaluation.tables import tables
    from ..evaluation.text_table import save_markdown

    shown = tables(report)
    if markdown:
        save_markdown(markdown, shown)
    if json:
        output.result_json({key: value for key, value in report.items() if key != "sittings"})
        return
    if report["format"] == RUNGS:
        asked = f"{report['clips']} clips of {report['frames']} frames, {report['asked']} questions,"
        evaluate.show_head(report, f"{asked} seed {report['seed']};")
        output.result(LEGEND)
        evaluate.show_tables(rung_tables(report, details=False))
        return
    what = "clip" if report["blind"] is not None else "video"
    videos, questions = output.counted(report["clips"], what), output.counted(report["asked"], "question")
    asked = f"{videos} of {report['frames']} frames, {questions}, seed {report['seed']};"
    evaluate.show_head(report, asked)
    evaluate.show_tables(shown)
