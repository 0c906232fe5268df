"""Measures everything of the rung `real` again, and writes its tables into the pages.

python -m benchmarks.real [--cache build/real]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from benchmarks import tables
from stsimdiff_cli.methods.spec import split_methods
from stsimdiff_cli.ratio import parse_ratio

from . import coverage, cuts, features


def main() -> None:
    """Measure with the defaults, and write reports and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=features.CACHE)
    cache = parser.parse_args().cache
    ratios = [parse_ratio(text) for text in coverage.RATIOS.split(",")]
    folder = tables.REPORTS / "real"
    folder.mkdir(exist_ok=True)
    with torch.inference_mode():
        reports = {
            "coverage": coverage.measure(
                features.features(cache), split_methods(coverage.METHODS), ratios, coverage.DRAWS
            ),
            "cuts": cuts.measure(cache, cuts.JOINED, cuts.SEED),
        }
    for name, report in reports.items():
        (folder / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    tables.main()


if __name__ == "__main__":
    main()
