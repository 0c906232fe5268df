"""The program: its commands, and the only place that turns errors into messages and exit codes."""

from __future__ import annotations

import os

import typer

from .. import __version__
from . import output, stops, streams
from .ask import ask
from .bench import bench
from .boundary import as_sentence
from .compress import compress
from .encode import encode
from .evaluate import evaluate
from .inspect import inspect
from .listings import methods, models
from .profile import profile
from .serve import serve
from .status import status
from .view import view

app = typer.Typer(
    name="stsimdiff",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Offline video token compression for multimodal LLMs (ST-SimDiff).\n\n"
    "Encode a video once, keep the tokens that carry the story, ask from the file.",
)
app.command(no_args_is_help=True)(encode)
app.command(no_args_is_help=True)(compress)
app.command(no_args_is_help=True)(ask)
app.command(no_args_is_help=True)(serve)
app.command(no_args_is_help=True)(inspect)
app.command(no_args_is_help=True)(status)
app.command(no_args_is_help=True)(view)
app.command()(profile)
app.command()(bench)
app.command("eval", no_args_is_help=True)(evaluate)
app.command()(methods)
app.command()(models)


def _version(wanted: bool) -> None:
    if wanted:
        output.result(f"stsimdiff {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    pass


def main(args: list[str] | None = None) -> int:
    """Run the program with `args` (default: the command line); returns the exit code.

    0 done, 1 the work failed, 2 the request was wrong, 128 + n stopped by signal n (130 for Ctrl-C). A bug keeps its
    traceback.
    """
    try:
        with stops.stoppable():
            return _run(args)
    except stops.Stopped as stopped:
        stops.settle()
        output.stderr.print("interrupted")
        return stopped.exit_code


def _run(args: list[str] | None) -> int:
    try:
        app(args=args, prog_name="stsimdiff")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BrokenPipeError:  # whoever reads stdout has seen enough
        streams.drop_stdout()
        return 1
    except Exception as error:
        known = as_sentence(error)
        if known is None or os.environ.get("STSIMDIFF_DEBUG") == "1":
            raise
        output.error(str(known), known.hint)
        return known.exit_code
    return 0
