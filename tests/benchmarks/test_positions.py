"""The table of what other positions cost, from the answers in a report."""

from __future__ import annotations

from benchmarks import positions

FORMS = ("", "@slots", "@packed")


def sitting(name: str, questions: int, wrong: tuple[int, int, int]) -> dict:
    """A clip about which as many answers are wrong with each numbering."""
    return {
        "name": f"{name}: flash",
        "questions": [["what", f"{i}?", "yes"] for i in range(questions)],
        "other_answers": [
            [f"evs{form}", "0.3", {str(i): "no" for i in range(count)}]
            for form, count in zip(FORMS, wrong, strict=True)
        ],
    }


REPORT = {
    "rungs": ["still", "pan"],
    "seed": 0,
    "cells": [["vanilla", "1"], *([f"evs{form}", "0.3"] for form in FORMS)],
    "sittings": [
        {**each, "other_answers": [["vanilla", "1", {}], *each["other_answers"]]}
        for each in (
            sitting("still 1", 4, (0, 1, 4)),
            sitting("still 2", 4, (0, 1, 4)),
            sitting("pan 1", 2, (1, 1, 1)),
            sitting("pan 2", 2, (1, 1, 1)),
        )
    ],
}


def test_differences_are_paired_and_counted_over_questions():
    table = positions.table(REPORT)
    assert table.header == ["ratio", "method", "original", "@slots − original", "@packed − original"]
    everything, still, pan = table.rows
    assert everything[:3] == ["0.3", "evs", f"{100 * 10 / 12:.1f}"]
    assert everything[3].startswith(f"−{100 * 2 / 12:.1f}") and everything[4].startswith(f"−{100 * 8 / 12:.1f}")
    assert still == ["0.3", "mean, rung still", "100.0", "−25.0 (−25.0 to −25.0)", "−100.0 (−100.0 to −100.0)"]
    assert pan[2:] == ["50.0", "+0.0 (+0.0 to +0.0)", "+0.0 (+0.0 to +0.0)"]


def test_only_reports_with_other_numberings_have_the_table():
    assert positions.has_positions(REPORT)
    assert not positions.has_positions({**REPORT, "cells": [["evs", "0.3"]]})
