"""What a shell may offer as the value of an option. Nothing heavy is imported, but for the parameters of a method.

Lists whose modules import torch are written out here; tests hold them against the modules.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout

from typer import _completion_shared

from ..models.loading.presets import PRESETS

DECODERS = ("auto", "pyav", "decord", "torchcodec")
DEVICES = ("auto", "cpu", "cuda", "cuda:0", "cuda:1", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")
ATTENTION = ("auto", "sdpa", "eager", "flash_attention_2", "flash_attention_3")
STORES = ("auto", "float32", "bfloat16", "float16", "int8", "int4", "int3")
QUANTIZE = ("4bit", "8bit")
IMPORTANCE = ("llm", "saliency", "centrality")
EVIDENCE = ("auto", "saliency", "keys", "saliency,keys")
EXECUTORS = ("local", "ray")
ENGINES = ("transformers", "vllm")
BREAKS = ":="  # where bash ends words, besides spaces

#: Where a value goes on, as after `tau_diff=`, bash puts no space. bash 3 has no compopt, and puts one.
_GOES_ON = f"""\
    if [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == *[{BREAKS}] ]]; then
        compopt -o nospace 2> /dev/null
    fi
"""
_END = "    return 0\n"


def let_values_go_on() -> None:
    """Add to Typer's completion script for bash what keeps it from ending a value that goes on. Others need nothing."""
    scripts = _completion_shared._completion_scripts
    if _GOES_ON not in scripts["bash"]:
        scripts["bash"] = scripts["bash"].replace(_END, _GOES_ON + _END)


@contextmanager
def whole_words() -> Iterator[None]:
    """Where bash asks, give Typer whole words, and bash the part of each offer that it will put in.

    bash ends a word at each colon and equals sign, as in `st-simdiff:tau_sim=0.8`, and replaces only what follows.
    """
    if os.environ.get("_STSIMDIFF_COMPLETE") != "complete_bash":
        yield
        return
    cut = os.environ["COMP_WORDS"].split("\n")[: int(os.environ["COMP_CWORD"]) + 1]
    words: list[str] = []
    for word in cut:
        if words and word and (word[0] in BREAKS or words[-1][-1:] in tuple(BREAKS)):
            words[-1] += word
        else:
            words.append(word)
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(words), str(len(words) - 1)
    value = words[-1].partition("=")[2] if words[-1].startswith("--") else words[-1]
    there = value[: max(value.rfind(sign) for sign in BREAKS) + 1]
    offers = io.StringIO()
    try:
        with redirect_stdout(offers):
            yield
    finally:
        sys.stdout.writelines(f"{offer.removeprefix(there)}\n" for offer in offers.getvalue().splitlines())


def one_of(values: Iterable[str]) -> Callable[[str], list[str]]:
    """Offers those of the values that begin as what was typed."""
    listed = tuple(values)

    def offer(incomplete: str) -> list[str]:
        return [value for value in listed if value.startswith(incomplete)]

    return offer


def several(offer: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """Offers values after the last comma of a list."""

    def offer_last(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + value for value in offer(last)]

    return offer_last


def method(incomplete: str) -> list[str]:
    """Methods; after a colon, the parameters of one, and after a parameter's equals sign its choices."""
    from ..methods import METHODS

    name, colon, rest = incomplete.partition(":")
    if not colon:
        return one_of(METHODS)(incomplete)
    if name not in METHODS:
        return []
    from dataclasses import fields

    items = {item.name: item for item in fields(METHODS.load(name))}
    before, comma, last = rest.rpartition(",")
    typed = f"{name}:{before}{comma}"
    key, equals, value = last.partition("=")
    if not equals:
        return [f"{typed}{item}=" for item in items if item.startswith(key)]
    if key not in items:
        return []
    choices = ("on", "off") if isinstance(items[key].default, bool) else items[key].metadata["choices"]
    return [f"{typed}{key}={choice}" for choice in choices if choice.startswith(value)]


def method_name(incomplete: str) -> list[str]:
    """Methods without parameters."""
    from ..methods import METHODS

    return one_of(METHODS)(incomplete)


def model(incomplete: str) -> list[str]:
    """The embedded model and the published checkpoints of all families."""
    from ..models import EMBEDDED, FAMILIES

    published = [name for entry in FAMILIES.entries.values() for name in entry.checkpoints]
    return one_of([EMBEDDED, *published])(incomplete)


def benchmark(incomplete: str) -> list[str]:
    """The benchmarks of eval."""
    from ..evaluation.tasks import TASKS

    return one_of(TASKS)(incomplete)


def rung(incomplete: str) -> list[str]:
    """The rungs of bench's ladder."""
    from ..synthetic.rungs import RUNGS

    return several(one_of(["all", *RUNGS]))(incomplete)


preset = one_of(PRESETS)
