"""Writes docs/commands.md, the command reference, from the program's own help.

    python docs/commands.py

What the page says is what `stsimdiff COMMAND --help` says: change the texts there.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer

from stsimdiff_cli.cli.app import app

PAGE = Path(__file__).parent / "commands.md"
OPENING = """\
# Command reference

<!-- Written by `make reference` from the help texts of the commands; do not edit. -->

Every command answers `-h` with what is on this page. Results go to stdout, everything else to stderr. Exit codes:
0 done, 1 the work failed, 2 the request was wrong, 130 interrupted (143 by SIGTERM, 129 by SIGHUP). With `--json`,
before or after the command, it prints one object on one line, whose keys carry units, and each line on stderr is an
object too: [json-schema.json](json-schema.json) describes them all. Options that may be plural or singular
(`--ratios`, `--ratio`) are taken by either name. Nothing is overwritten without `--force`, and files are written in one
step, or not at all. `STSIMDIFF_DEBUG=1` shows the traceback of an expected error too.
"""


def page() -> str:
    """The whole page."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return "\n".join([OPENING, *(section(name, command) for name, command in commands.items())])


def section(name: str, command: Any) -> str:
    """One command: its usage, what it does, and a table of its arguments and options."""
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    shown = [parameter for parameter in options if parameter.required]
    usage = " ".join(
        [
            f"stsimdiff {name}",
            *map(placeholder, arguments),
            *(f"{parameter.opts[-1]} {parameter.name.upper()}" for parameter in shown),
            *(["[OPTIONS]"] if len(shown) < len(options) else []),
        ]
    )
    rows = [*map(argument_row, arguments), *(option_row(parameter) for parameter in options if not parameter.hidden)]
    table = ["| argument or option | default | |", "| --- | --- | --- |", *rows]
    return "\n".join([f"## {name}\n", f"```text\n{usage}\n```\n", inspect.cleandoc(command.help), "", *table, ""])


def placeholder(argument: Any) -> str:
    """An argument in a line of usage: VIDEO, [VIDEO], QUESTIONS..."""
    text = argument.name.upper() + "..." * (argument.nargs == -1)
    return text if argument.required else f"[{text}]"


def argument_row(argument: Any) -> str:
    """A line of the table for an argument."""
    return row(f"`{argument.name.upper()}`", "required" if argument.required else "", argument.help)


def option_row(option: Any) -> str:
    """A line of the table for an option."""
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.required:
        return row(names, "required", option.help)
    silent = option.default is None or option.default is False or option.default == ""
    return row(names, "" if silent else f"`{option.default}`", option.help)


def row(*cells: str) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
