"""Measures what fewer bits cost, and writes the tables into the pages.

python -m benchmarks.bits [--model tiny] [--clips 30] [--rung-clips 3] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks import tables
from stsimdiff_cli.models import EMBEDDED

from . import answers, families, files
from .picture import save_picture


def main() -> None:
    """Measure, and write report, picture and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--clips", type=int, default=30)
    parser.add_argument("--rung-clips", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    report = answers.measure(
        given.model, given.clips, given.rung_clips, given.seed, lambda text: print(text, file=sys.stderr)
    )
    report |= {"families": families.measure(), "files": files.measure()}
    folder = tables.REPORTS / "bits"
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report) + "\n")
    save_picture(folder / "bytes.png", report)
    tables.main()


if __name__ == "__main__":
    main()
