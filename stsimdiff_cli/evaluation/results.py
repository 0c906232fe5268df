"""What a finished run leaves in its folder: the report, the tables, and what is sent to a benchmark's server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..storage.atomic import save_json, whole_file
from .plan import Plan
from .samples_log import Lines
from .tables import tables
from .tasks.base import Item, Task

REPORT, TABLES = "report.json", "tables.md"


def save_results(folder: Path, report: dict[str, Any], task: Task, items: list[Item], plan: Plan, lines: Lines) -> None:
    """Write report.json, tables.md and, where labels are not public, submission files. Nothing leaves the machine."""
    save_json(folder / REPORT, report, indent=2)
    with whole_file(folder / TABLES) as temporary:
        temporary.write_text("\n\n".join(f"{grid.title}\n\n{grid.markdown()}" for grid in tables(report)) + "\n")
    if all(item.answer is not None for item in items):
        return
    for method, ratio in plan.cells():
        found = [lines[key] for item in items if (key := (method, float(ratio), item.id)) in lines]
        name = re.sub(r"[^\w.+-]+", "-", f"submission-{method}-{ratio}")
        save_json(folder / f"{name}.json", task.submission({line.id: line.parsed for line in found}))
