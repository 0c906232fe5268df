"""Runs the hostile machines and shows what they tried.

    python -m tests.hostile [--seed N] [--minutes M] [--only NAME] [--count N] [--report FILE]

A machine is a module of this folder with `trials(seed, folder, count)`: `count` trials, the first of which belongs to
`seed`, the next to the number after it. Its `COUNT`, if it has one, is how many are worth a full run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stsimdiff_cli.machine import describe
from tests.hostile.trials import Trial, tally

MACHINES = ("videos", "headers", "checkpoints", "kills", "environments")
TOLERATED = {"damaged videos": 0.1}  # share that may go untold: random bytes can be valid for a codec
ROUND = 10  # trials between two looks at the clock by a machine without COUNT
FORMAT = "stsimdiff.hostile/1"
PACKAGES = ("stsimdiff", "torch", "transformers", "av", "safetensors")


def run(name: str, seed: int, seconds: float, folder: Path, count: int | None = None) -> Iterator[Trial]:
    """The trials of one machine, until there are enough or the time is up."""
    machine = importlib.import_module(f"tests.hostile.{name}")
    end = time.monotonic() + seconds
    whole = count or getattr(machine, "COUNT", None)
    done = 0
    while time.monotonic() < end and (whole is None or done < whole):
        place = folder / f"{name}-{done}"
        place.mkdir()
        with closing(machine.trials(seed + done, place, whole or ROUND)) as trials:
            for trial in trials:
                yield trial
                if time.monotonic() > end:
                    return
        done += whole or ROUND


def report(trials: list[Trial], seed: int, seconds: float) -> dict[str, Any]:
    """What was tried where, ready for JSON."""
    return {
        "format": FORMAT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "versions": {name: version(name) for name in PACKAGES},
        "seed": seed,
        "minutes": round(seconds / 60, 1),
        "classes": [{"class": kind, "tried": n, "failed": bad} for kind, (n, bad) in tally(trials).items()],
        "failures": [{"class": t.kind, "name": t.name, "failure": t.failure} for t in trials if t.failure],
    }


def quiet() -> None:
    """No progress bars of transformers between the failures."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def heed_signals() -> None:
    """Signals act as in a terminal, also under `nohup` or in the background: programs started here inherit that."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def joined(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """The new report with the classes that only an older one of the same machine, versions and seed has."""
    if any(new[key] != old.get(key) for key in ("format", "machine", "versions", "seed")):
        return new
    tried = {row["class"] for row in new["classes"]}
    kept = {key: [row for row in old[key] if row["class"] not in tried] for key in ("classes", "failures")}
    return new | {key: [*rows, *new[key]] for key, rows in kept.items()} | {"minutes": old["minutes"] + new["minutes"]}


def main() -> int:
    """Run the machines asked for; 1 if more failed than is tolerated."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description="Try to break the program.")
    parser.add_argument("--seed", type=int, default=0, help="first seed (0)")
    parser.add_argument("--minutes", type=float, default=60, help="time for all machines together (60)")
    parser.add_argument("--only", choices=MACHINES, action="append", help="run this machine; may be repeated")
    parser.add_argument("--count", type=int, help="trials of each machine; default: as many as the time allows")
    parser.add_argument("--report", type=Path, help="JSON file to write; classes that were not run stay")
    asked = parser.parse_args()
    names = asked.only or list(MACHINES)
    quiet()
    heed_signals()
    console, trials, made = Console(), [], defaultdict(list)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        for number, name in enumerate(names):
            left = 60 * asked.minutes - (time.monotonic() - began)
            for trial in run(name, asked.seed, left / (len(names) - number), Path(folder), asked.count):
                trials.append(trial)
                made[trial.kind].append(name)
                if trial.failure:
                    console.print(f"[red]failed[/] {escape(f'{trial.kind}: {trial.name}: {trial.failure}')}")
    show(console, trials, {kind: machines[0] for kind, machines in made.items()}, asked.seed)
    data = report(trials, asked.seed, time.monotonic() - began)
    if asked.report:
        if asked.report.exists():
            data = joined(data, json.loads(asked.report.read_text(encoding="utf-8")))
        asked.report.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(
        any(failed > tried * TOLERATED.get(kind.split(",")[0], 0) for kind, (tried, failed) in tally(trials).items())
    )


def show(console: Console, trials: list[Trial], machines: dict[str, str], seed: int) -> None:
    """A row for each class, and how to repeat what failed."""
    table = Table("class", "tried", "failed", "repeat with", box=None)
    for kind, (tried, failed) in tally(trials).items():
        table.add_row(kind, str(tried), str(failed), f"python -m tests.hostile --only {machines[kind]} --seed {seed}")
    console.print(table)
    for trial in trials:
        if trial.failure:
            console.print(f"{escape(trial.kind)}: {escape(trial.name)}", soft_wrap=True)


if __name__ == "__main__":
    raise SystemExit(main())
