"""Draws docs/pictures/house.svg: the layers of the package, as the import contract in pyproject.toml has them.

    python docs/house.py

A package is drawn in the layer that the contract gives it. What it is for, and the imports drawn as arrows, stand
below; a test holds both against the code.
"""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "pictures" / "house.svg"
#: What each package or module is for, in a few words.
PURPOSE = {
    "cli": "one file a command",
    "integrations": "lmms-eval and vLLM",
    "evaluation": "answers, scores, intervals",
    "archive": "whole folders, on many workers",
    "profiling": "time and memory",
    "view": "what was kept, and why",
    "recordings": "what grows, in segments",
    "pipeline": "the stages in a row",
    "stages": "decode, encode, write at once",
    "methods": "tokens to a selection",
    "models": "frames to tokens, prompt to answer",
    "video": "a file to frames",
    "graph": "edges, communities, centrality",
    "layer_pruning": "cuts between LLM layers",
    "plotting": "the style of pictures",
    "storage": "files, read and written",
    "records": "what stages pass on",
    "machine": "what it ran on",
    "synthetic": "clips and questions",
    "registry": "names to classes",
    "ratio": "exact budgets",
    "timing": "seconds, and time lines",
    "token_features": "in memory or in a file",
    "errors": "a sentence and a hint",
}
#: Imports that tell how the parts work together: (from, to).
ARROWS = (
    ("cli", "evaluation"),
    ("evaluation", "pipeline"),
    ("archive", "pipeline"),
    ("recordings", "pipeline"),
    ("pipeline", "methods"),
    ("pipeline", "stages"),
    ("stages", "models"),
    ("stages", "video"),
    ("methods", "graph"),
    ("methods", "layer_pruning"),
    ("models", "layer_pruning"),
    ("plotting", "storage"),
    ("storage", "records"),
)
WIDTH, BOX, HIGH, GAP, ROW = 760, 216, 40, 24, 62
STYLE = """
  .card { fill: #ffffff } .box { fill: #eef4fa; stroke: #0072b2 } .name { fill: #10131a; font-weight: bold }
  .what { fill: #4a5260 } .arrow { stroke: #8a93a0; fill: none } .tip { fill: #8a93a0 }
  text { font-family: system-ui, sans-serif; text-anchor: middle }
  @media (prefers-color-scheme: dark) {
    .card { fill: #16181c } .box { fill: #1e2a36; stroke: #4ea8e6 } .name { fill: #e8eaed } .what { fill: #b9bec6 }
  }
"""


def layers() -> list[list[str]]:
    """The layers of the contract, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    whole = next(contract for contract in contracts if contract.get("containers") == ["stsimdiff_cli"])
    return [[name.strip() for name in layer.split("|")] for layer in whole["layers"]]


def drawn() -> str:
    """The picture as text."""
    rows = layers()
    height = ROW * len(rows) + 46
    place = {name: (x, y) for y, row in enumerate(rows) for x, name in zip(_centres(len(row)), row, strict=True)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<title>The layers of stsimdiff; imports go downwards only</title>\n<style>{STYLE}</style>",
        f'<rect class="card" width="{WIDTH}" height="{height}" rx="8"/>',
        '<defs><marker id="tip" markerWidth="7" markerHeight="7" refX="6" refY="3" orient="auto">'
        '<path class="tip" d="M0,0 L6,3 L0,6 z"/></marker></defs>',
        *(_arrow(place[start], place[end]) for start, end in ARROWS),
        *(_box(name, *where) for name, where in place.items()),
        f'<text class="what" x="{WIDTH // 2}" y="{height - 14}" font-size="12">'
        "Imports go downwards only; what stands in one row does not import its neighbours.</text>",
        "</svg>\n",
    ]
    return "\n".join(parts)


def _centres(count: int) -> list[int]:
    """Where the middles of so many boxes in a row are."""
    step = BOX + GAP
    return [WIDTH // 2 + round(step * (i - (count - 1) / 2)) for i in range(count)]


def _box(name: str, x: int, row: int) -> str:
    y = 16 + ROW * row
    return (
        f'<rect class="box" x="{x - BOX // 2}" y="{y}" width="{BOX}" height="{HIGH}" rx="5"/>'
        f'<text class="name" x="{x}" y="{y + 17}" font-size="14">{escape(name)}</text>'
        f'<text class="what" x="{x}" y="{y + 33}" font-size="11">{escape(PURPOSE[name])}</text>'
    )


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    y, to = 16 + ROW * start[1] + HIGH, 16 + ROW * end[1]
    bend = (y + to) // 2
    curve = f"M{start[0]},{y} C{start[0]},{bend} {end[0]},{bend} {end[0]},{to}"
    return f'<path class="arrow" d="{curve}" marker-end="url(#tip)"/>'


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(drawn())


if __name__ == "__main__":
    main()
