"""The table of benchmarks. A benchmark is one file here and one line below; `TASKS.load(name)` is its Task."""

from __future__ import annotations

from ...registry import Entry, Table

_BASE = "stsimdiff_cli.evaluation.tasks"

TASKS = Table(
    "benchmark",
    {
        "videomme": Entry(
            f"{_BASE}.videomme:TASK",
            "2700 questions about 900 videos of all kinds, 11 seconds to an hour",
            citation="Fu et al., CVPR 2025",
        ),
        "longvideobench": Entry(
            f"{_BASE}.longvideobench:TASK",
            "questions that refer to a moment of a video, 8 seconds to an hour",
            citation="Wu et al., NeurIPS 2024",
        ),
        "egoschema": Entry(
            f"{_BASE}.egoschema:TASK",
            "questions about the whole of a three-minute video seen by its maker",
            citation="Mangalam et al., NeurIPS 2023",
        ),
        "mvbench": Entry(
            f"{_BASE}.mvbench:TASK",
            "20 subtasks of 200 questions about what happens in short videos",
            citation="Li et al., CVPR 2024",
        ),
        "tvqa": Entry(
            f"{_BASE}.tvqa:TASK",
            "questions about moments of TV shows, as folders of frames",
            citation="Lei et al., EMNLP 2018",
        ),
    },
)
