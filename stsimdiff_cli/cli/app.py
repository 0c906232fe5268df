"""The program: its commands, and the only place that turns errors into messages and exit codes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Any

import typer

from .. import __version__
from . import completion, options, output, outputs, stops, streams
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


#: Other names of options, which are taken silently: one thing may be called by its plural or its singular everywhere.
_ALIASES = {
    "encode": {"methods": "method"},
    "compress": {"methods": "method", "ratios": "ratio", "question": "prompt"},
    "ask": {"ratios": "ratio", "start": "from", "end": "to"},
    "profile": {"method": "methods", "ratios": "ratio"},
    "bench": {"method": "methods", "ratio": "ratios", "question": "questions", "rungs": "rung"},
    "eval": {"method": "methods", "ratio": "ratios"},
}


def _add(command: Callable[..., None], name: str | None = None, bare: bool = False) -> None:
    """Add a command with the options that every command has. A `bare` one works without arguments."""
    aliases = _ALIASES.get(name or command.__name__, {})
    settings = {"token_normalize_func": lambda word: aliases.get(word, word)}
    app.command(name, no_args_is_help=not bare, context_settings=settings)(options.with_common(command))


completion.let_values_go_on()
_add(encode)
_add(compress)
_add(ask)
_add(serve)
_add(inspect)
_add(status)
_add(view)
_add(profile, bare=True)
_add(bench, bare=True)
_add(evaluate, "eval")
_add(methods, bare=True)
_add(models, bare=True)


def _version(wanted: bool) -> None:
    if wanted:
        output.result(f"stsimdiff {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(  # noqa: ARG001
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
    json: options.Json = False,  # noqa: ARG001
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    output.talk(quiet, verbose)


#: What Typer says of a number that is none or out of bounds, and what it must be.
NUMBERS = {
    r"Input should be a valid integer": "a whole number",
    r"Input should be a valid number": "a number",
    r"Input should be greater than or equal to (\S+)": r"a number of at least \1",
}


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
        outputs.report_stopped()
        output.interrupted(stopped.exit_code)
        return stopped.exit_code


def _run(args: list[str] | None) -> int:
    given = sys.argv[1:] if args is None else args
    output.begin(json="--json" in given)
    outputs.begin()
    try:
        with completion.whole_words():
            return app(args=args, prog_name="stsimdiff", standalone_mode=False) or 0
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BrokenPipeError:  # whoever reads stdout has seen enough
        streams.drop_stdout()
        return 1
    except typer.TyperException as error:
        return _refused(error)
    except Exception as error:
        known = as_sentence(error)
        if known is None or os.environ.get("STSIMDIFF_DEBUG") == "1":
            raise
        output.error(str(known), known.hint, known.exit_code)
        return known.exit_code


def _refused(error: Any) -> int:
    """Say what is wrong with the words of a command line that Typer could not read; a bare command shows its help."""
    context = getattr(error, "ctx", None)
    command = "stsimdiff" if context is None else context.command_path
    text = _plainly(error) or error.format_message().strip()
    if not text:  # the help was shown
        return error.exit_code
    output.error(text if text.endswith((".", "?", "!")) else f"{text}.", f"See {command} --help", error.exit_code)
    return error.exit_code


def _plainly(error: Any) -> str | None:
    """What an option's number must be, where Typer has no plain words for it."""
    param = getattr(error, "param", None)
    for begins, words in NUMBERS.items():
        if param is not None and (found := re.match(begins, error.message)):
            return f"{max(param.opts, key=len)} needs {found.expand(words)}."
    return None
