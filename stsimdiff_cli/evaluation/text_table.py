"""Tables as rows of text, for a terminal or as Markdown, and how estimates are written in them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..storage.atomic import whole_file

_ROUNDING = 1e-6  # percent; 100 x (a / b) is not always whole where it should be


@dataclass(frozen=True)
class TextTable:
    """A table: a title, a header and rows of cells; the first `left` columns hold words, the others numbers.

    Words that are in `strong` are bold in Markdown.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    left: int = 2
    strong: frozenset[str] = frozenset()

    def fitted(self, width: int) -> list[TextTable]:
        """Tables with some of the columns each that fit a terminal, the first `left` in all of them."""
        columns = list(zip(self.header, *self.rows, strict=True))
        wide = [max(map(len, column)) + 2 for column in columns]
        parts: list[list[int]] = []
        for i in range(self.left, len(columns)):
            used = sum(wide[: self.left]) + sum(wide[j] for j in parts[-1]) if parts else width
            if used + wide[i] > width:
                parts.append([])
            parts[-1].append(i)
        return [self._part(f"{self.title}{', continued' * bool(i)}", part) for i, part in enumerate(parts)]

    def _part(self, title: str, columns: list[int]) -> TextTable:
        """The table with some of its columns of numbers."""
        chosen = [*range(self.left), *columns]
        rows = [[row[i] for i in chosen] for row in self.rows]
        return replace(self, title=title, header=[self.header[i] for i in chosen], rows=rows)

    def markdown(self) -> str:
        """The table in Markdown, columns aligned; words to the left, numbers to the right."""
        rows = [[f"**{c}**" if c in self.strong and i < self.left else c for i, c in enumerate(r)] for r in self.rows]
        lines = [self.header, *rows]
        width = [max(len(line[i]) for line in lines) for i in range(len(self.header))]

        def written(cells: list[str]) -> str:
            padded = [
                c.ljust(w) if i < self.left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, width, strict=True))
            ]
            return f"| {' | '.join(padded)} |"

        rule = ["-" * w if i < self.left else "-" * (w - 1) + ":" for i, w in enumerate(width)]
        return "\n".join([written(self.header), f"| {' | '.join(rule)} |", *map(written, rows)])


def save_markdown(path: Path, tables: Iterable[TextTable]) -> None:
    """Write tables under their titles, at once or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text("\n\n".join(f"{table.title}\n\n{table.markdown()}" for table in tables) + "\n")


def interval(estimate: dict[str, Any]) -> str:
    """A percentage with its interval in whole percent, rounded outwards: `96.8 (95–98)`; alone if it has none."""
    if estimate["percent"] is None:
        return "-"
    if estimate["low"] is None:
        return f"{estimate['percent']:.1f}"
    low, high = math.floor(estimate["low"] + _ROUNDING), math.ceil(estimate["high"] - _ROUNDING)
    return f"{estimate['percent']:.1f} ({low}–{high})"


def difference(estimate: dict[str, Any] | None) -> str:
    """A difference of percentages with its interval: `−1.5 (−3.2 to +0.1)`."""
    if estimate is None:
        return "-"
    text = f"{estimate['percent']:+.1f}"
    if estimate["low"] is not None:
        text += f" ({estimate['low']:+.1f} to {estimate['high']:+.1f})"
    return text.replace("-", "−")


def span(numbers: list[int]) -> str:
    """A number, or the lowest and the highest: `120 to 144`."""
    low, high = numbers
    return f"{low}" if low == high else f"{low} to {high}"
