"""`stsimdiff methods` and `stsimdiff models`: what there is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..registry import written
from . import options, output


def methods(
    name: Annotated[str | None, typer.Argument(help="Show this method's parameters.", show_default=False)] = None,
    json: options.Json = False,
) -> None:
    """List the compression methods, or the parameters of one."""
    from ..methods import METHODS

    if name is not None:
        _parameters(name, json)
        return
    if json:
        rows = [
            {"method": key, "idea": e.summary, "needs": e.needs, "runs": e.runs, "source": e.source}
            for key, e in METHODS.entries.items()
        ]
        output.result_json({"methods": rows})
        return
    output.table(
        [[key, e.summary, e.needs, e.runs, e.source] for key, e in METHODS.entries.items()],
        ["method", "keeps", "needs", "runs", "source"],
    )
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
    """List the embedded models and the model families."""
    from ..models import EMBEDDED, EMBEDDED_CHOICE, FAMILIES

    embedded = {
        EMBEDDED: "embedded: 2.8 million parameters, Qwen2.5-VL classes; rendered clips of coloured shapes only",
        EMBEDDED_CHOICE: "embedded: the same, taught multiple choice and clips of minutes",
    }
    defaults = {EMBEDDED: "--model tiny (the default)", EMBEDDED_CHOICE: "--model tiny-choice (the default of eval)"}
    if json:
        rows: list[dict[str, Any]] = [
            {"model": name, "summary": summary, "checkpoints": None} for name, summary in embedded.items()
        ]
        rows += [
            {"model": key, "summary": entry.summary, "checkpoints": entry.source.split(", ")}
            for key, entry in FAMILIES.entries.items()
        ]
        output.result_json({"models": rows})
        return
    output.table(
        [[name, summary, defaults[name]] for name, summary in embedded.items()]
        + [[key, entry.summary, entry.source] for key, entry in FAMILIES.entries.items()],
        ["model type", "what it is", "checkpoints"],
    )
    output.result("\nAll give evidence for every method: saliency and keys (encode --evidence), attention in the LLM.")
    output.result("What each part of a checkpoint takes in memory: docs/models.md.")
