"""The program: its commands, and the only place that turns errors into messages and exit codes."""

from __future__ import annotations

import os
import sys

import typer

from .. import __version__
from ..errors import StsimdiffError
from . import output
from .ask import ask
from .bench import bench
from .compress import compress
from .encode import encode
from .evaluate import evaluate
from .inspect import inspect
from .listings import methods, models
from .profile import profile
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
app.command(no_args_is_help=True)(inspect)
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

    0 done, 1 the work failed, 2 the request was wrong, 130 interrupted. A bug keeps its traceback.
    """
    try:
        app(args=args, prog_name="stsimdiff")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except StsimdiffError as error:
        if os.environ.get("STSIMDIFF_DEBUG") == "1":
            raise
        output.error(str(error), error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        output.stderr.print("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def run() -> None:
    """Entry point of the `stsimdiff` script."""
    sys.exit(main())
