"""Draws docs/pictures/trace.png: the time line of one run, from a file of `stsimdiff profile --trace`.

    python docs/trace.py build/trace.json

A row is a thread, a bar what it does. Perfetto shows the same file with all details.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from stsimdiff_cli.plotting import picture, plain_axes, shades

PICTURES = Path(__file__).parent / "pictures"
#: Those that have a colour of their own; all others are drawn in the first colour.
COLOURED = ("decode", "preprocess", "encode", "write", "select")


def threads_of(events: list[dict[str, Any]]) -> dict[int, str]:
    """The threads of the first process that did something, in the order in which they began."""
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    work = sorted((e for e in events if e["ph"] == "X"), key=lambda e: e["ts"])
    return {e["tid"]: names[e["pid"], e["tid"]] for e in work if e["pid"] == work[0]["pid"]}


def draw(path: Path, events: list[dict[str, Any]]) -> None:
    """Write the picture."""
    threads = threads_of(events)
    work = [e for e in events if e["ph"] == "X" and e["tid"] in threads]
    begin = min(e["ts"] for e in work)
    with picture(path, 9.6, 0.8 + 0.33 * len(threads)) as figure:
        figure.subplots_adjust(left=0.1, right=0.985, top=0.86, bottom=0.2)
        axes = figure.subplots()
        plain_axes(axes, "", "seconds", "")
        rows = {tid: len(threads) - 1 - number for number, tid in enumerate(threads)}
        for event in sorted(work, key=lambda e: e["ts"]):
            bar(axes, event, (event["ts"] - begin) / 1e6, rows[event["tid"]])
        axes.set_yticks(list(rows.values()), list(threads.values()))
        axes.set_ylim(-0.6, len(threads) - 0.4)
        axes.set_xlim(-0.02, 1.01 * max(e["ts"] + e["dur"] - begin for e in work) / 1e6)
        for name in (*COLOURED, "anything else"):
            axes.bar(0, 0, color=colour(name), label=name)
        figure.legend(loc="upper left", bbox_to_anchor=(0.09, 1.02), ncols=len(COLOURED) + 1, frameon=False)


def bar(axes: Any, event: dict[str, Any], begin: float, row: int) -> None:
    """One span, with the number of its chunk or its name where there is room."""
    seconds = event["dur"] / 1e6
    axes.barh(
        row, seconds, left=begin, height=0.7, color=colour(event["name"]), edgecolor=shades().paper, linewidth=0.6
    )
    text = str(event["args"].get("chunk", event["name"]))
    if seconds > 0.012 * len(text) + 0.02:
        axes.text(begin + seconds / 2, row, text, ha="center", va="center", color=shades().paper, fontsize=7)


def colour(name: str) -> str:
    """The colour of a kind of work."""
    return shades().curves[COLOURED.index(name) + 1 if name in COLOURED else 0]


def main() -> None:
    """Write both pictures, for light and for dark pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    events = json.loads(parser.parse_args().trace.read_text())["traceEvents"]
    for name in ("trace.png", "trace.dark.png"):
        draw(PICTURES / name, events)


if __name__ == "__main__":
    main()
