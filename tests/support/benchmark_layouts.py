"""Writes data sets in the layouts that lmms-eval's own video tasks expect, so that these run unchanged and offline.

Everything is in one folder, in which lmms-eval must be started with `environment(folder)`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """A question about a video, its options without letters, and the index of the right one."""

    video: Path
    question: str
    options: tuple[str, ...]
    answer: int


def environment(folder: Path) -> dict[str, str]:
    """Environment variables that make lmms-eval find the data sets without asking the Hub."""
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"), "1")
    return {**os.environ, **offline, "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}


def write_videomme(folder: Path, items: Iterable[Asked]) -> str:
    """Video-MME: 4 options each. Returns the task's name."""
    rows = []
    for number, item in enumerate(items):
        _place(item.video, folder / "hf/videomme/data")
        rows.append(
            {
                "video_id": f"{number:03}",
                "duration": "short",
                "domain": "Knowledge",
                "sub_category": "Astronomy",
                "url": "",
                "videoID": item.video.stem,
                "question_id": f"{number:03}-1",
                "task_type": "Counting Problem",
                "question": item.question,
                "options": _lettered(item.options),
                "answer": "ABCD"[item.answer],
            }
        )
    (folder / "hf/videomme/subtitle").mkdir(parents=True, exist_ok=True)
    _write(folder / "lmms-eval/Video-MME", "videomme", "videomme/test-00000-of-00001.parquet", "test", rows)
    return "videomme"


def write_longvideobench(folder: Path, items: Iterable[Asked]) -> str:
    """LongVideoBench with whole videos: up to 5 options. Returns the task's name."""
    rows = []
    for number, item in enumerate(items):
        _place(item.video, folder / "hf/datasets/longvideobench/videos")
        options = [*item.options, *["N/A"] * (5 - len(item.options))]
        rows.append(
            {
                "video_id": item.video.stem,
                "question": item.question,
                "question_wo_referring_query": item.question,
                "correct_choice": item.answer,
                "position": [0],
                "topic_category": "NP-News-Programs",
                "question_category": "S2E",
                "level": "L1-Perception",
                "id": f"{item.video.stem}_{number}",
                "video_path": item.video.name,
                "subtitle_path": f"{item.video.stem}_en.json",
                "duration_group": 15,
                "starting_timestamp_for_subtitles": 0,
                "duration": 10.0,
                "view_count": 0,
                **{f"option{i}": option for i, option in enumerate(options)},
            }
        )
    root = folder / "longvideobench/LongVideoBench"
    _write(root, "default", "validation-00000-of-00001.parquet", "validation", rows)
    return "longvideobench_val_v"


def write_egoschema(folder: Path, items: Iterable[Asked]) -> str:
    """The subset of EgoSchema: 5 options each. Returns the task's name."""
    rows = []
    for number, item in enumerate(items):
        _place(item.video, folder / "hf/egoschema/videos")
        rows.append(
            {
                "question_idx": str(number),
                "question": item.question,
                "video_idx": item.video.stem,
                "option": _lettered(item.options),
                "answer": str(item.answer),
            }
        )
    _write(folder / "lmms-eval/egoschema", "Subset", "Subset/test-00000-of-00001.parquet", "test", rows)
    return "egoschema_subset"


def _lettered(options: tuple[str, ...]) -> list[str]:
    return [f"{'ABCDE'[i]}. {option}" for i, option in enumerate(options)]


def _place(video: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(video, folder / video.name)


def _write(root: Path, config: str, file: str, split: str, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    (root / file).parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / file)
    (root / "README.md").write_text(
        f"---\nconfigs:\n- config_name: {config}\n  data_files:\n  - split: {split}\n    path: {file}\n---\n"
    )
