"""`stsimdiff methods` and `stsimdiff models`: list what is available."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ..registry import Entry, Table, written
from . import completion, options, output


def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            autocompletion=completion.method_name, help="Method whose parameters to show.", show_default=False
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """List the compression methods, or the parameters of one.

    Methods of installed packages are listed after the built-in ones, with the package that they come from.
    """
    from ..methods import METHODS

    if name is not None:
        _parameters(name, json)
        return
    entries = METHODS.entries
    _tell(METHODS)
    if json:
        rows = [
            {
                "method": key,
                "idea": entry.summary,
                "needs": entry.needs,
                "runs": entry.runs,
                "source": entry.citation,
                "package": entry.package,
            }
            for key, entry in entries.items()
        ]
        output.result_json({"methods": rows})
        return
    output.table(
        [[key, entry.summary, entry.needs, entry.runs, entry.citation] for key, entry in entries.items()],
        ["method", "keeps", "needs", "runs", "source"],
    )
    _packages(entries)
    output.result(
        "\nneeds: evidence to encode with (encode --evidence auto --method METHOD), or the LLM's first layers"
    )
    output.result("LLM: also between the LLM's layers (ask --inside METHOD)")
    output.result("Parameters of one: stsimdiff methods st-simdiff")


def _parameters(name: str, json: bool) -> None:
    from dataclasses import fields

    from ..methods import METHODS

    items = fields(METHODS.load(name))
    if json:
        rows = [{"parameter": f.name, "default": f.default, "doc": f.metadata["doc"]} for f in items]
        output.result_json({"method": name, "parameters": rows})
        return
    if not items:
        output.result(f"{name} has no parameters.")
        return
    choices = [" | ".join(f.metadata["choices"]) for f in items]
    rows_text = [
        [f.name, written(f.default), f.metadata["doc"] + (f" [{choice}]" if choice else "")]
        for f, choice in zip(items, choices, strict=True)
    ]
    output.table(rows_text, ["parameter", "default", "meaning"])


def models(json: options.Json = False) -> None:
    """List the embedded model and the supported model families.

    Families of installed packages are listed after the built-in ones, with the package that they come from.
    """
    from ..models import EMBEDDED, FAMILIES

    about = "embedded: 5.9 million parameters, Qwen2.5-VL classes; rendered clips of coloured objects only"
    entries = FAMILIES.entries
    _tell(FAMILIES)
    if json:
        rows: list[dict[str, Any]] = [{"model": EMBEDDED, "summary": about, "checkpoints": None, "package": None}]
        rows += [
            {"model": key, "summary": entry.summary, "checkpoints": entry.checkpoints, "package": entry.package}
            for key, entry in entries.items()
        ]
        output.result_json({"models": rows})
        return
    output.table(
        [[EMBEDDED, about, f"--model {EMBEDDED} (the default)"]]
        + [[key, entry.summary, ", ".join(entry.checkpoints)] for key, entry in entries.items()],
        ["model type", "what it is", "checkpoints"],
    )
    _packages(entries)
    output.result(
        "\nAll give saliency and keys (encode --evidence), and importance. Methods that read several layers of the "
        "LLM, such as\nfastv, are refused where some layers do not attend from left to right to the whole prompt."
    )
    output.result("What each part of a checkpoint takes in memory: docs/models.md.")


def _tell(table: Table[Any]) -> None:
    """Name what installed packages offer and the listing leaves out."""
    for note in table.notes:
        output.warn(note)


def _packages(entries: Mapping[str, Entry]) -> None:
    """A line for each installed package that some of the entries come from."""
    offers: dict[str, list[str]] = {}
    for name, entry in entries.items():
        if entry.package:
            offers.setdefault(entry.package, []).append(name)
    if offers:
        output.result("")
    for package, names in offers.items():
        output.result(f"from the package {package}: {', '.join(names)}")
