"""LongVideoBench (Wu et al., NeurIPS 2024): two to five options, questions that refer to a moment of the video."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from ...synthetic.benchmark_prompts import LAYOUTS
from .base import Benchmark, Part, Sample, letters
from .files import Row, Videos, find, read_rows, unique

_CACHE = "datasets/longvideobench"
_PATTERNS = tuple(
    pattern
    for split, original in (("validation", "lvb_val.json"), ("test", "lvb_test_wo_gt.json"))
    for pattern in (
        f"{split}-*.parquet",
        f"data/{split}-*.parquet",
        original,
        f"hub/datasets--*--LongVideoBench/snapshots/*/{split}-*.parquet",
        f"*/LongVideoBench/{split}-*.parquet",
    )
)
_ABSENT = "N/A"  # an option that a row of the Parquet files does not have
#: Categories of level 1; those of level 2 relate two moments.
_PERCEPTION = frozenset(("S2E", "S2O", "S2A", "E2O", "O2E", "T2E", "T2O", "T2A"))
_RELATION = frozenset(("E3E", "O3O", "SSS", "SOS", "SAA", "T3E", "T3O", "TOS", "TAA"))
#: Cut out of an answer one after the other, since their capitals are not options ("Best" would be B).
_PHRASES = (
    *("The best answer is", "The correct answer is", "The answer is", "The answer"),
    *("The best option is", "The correct option is", "Best answer:", "Best option:"),
)


class LongVideoBench(Benchmark):
    """Questions of the validation set of longvideobench/LongVideoBench, without subtitles."""

    name: ClassVar[str] = "longvideobench"
    title: ClassVar[str] = "LongVideoBench"
    citation: ClassVar[str] = "Wu et al., NeurIPS 2024"
    lmms_task: ClassVar[str] = "longvideobench_val_v"
    max_new_tokens: ClassVar[int] = 32
    columns: ClassVar[dict[str, Part]] = {
        "Relation": {"level": ("relation",)},
        "Perception": {"level": ("perception",)},
        "Overall": {},
    }
    guesses: ClassVar[bool] = True
    no_subtitles: ClassVar[str] = (
        "LongVideoBench puts subtitles between its frames, which a compressed video does not have any more."
    )

    def load_samples(self, data: Path) -> list[Sample]:
        """All questions: of the validation set, or without labels of the test set if only that is there.

        Of each set the Parquet files are taken before the original JSON (lvb_val.json, lvb_test_wo_gt.json). `data` is
        a snapshot of the data set, the folder of its files, the folder that lmms-eval has as HF_HOME (the snapshot is
        in hub/, the videos in datasets/longvideobench/videos/), or one that holds OWNER/LongVideoBench.
        """
        published = find(data, _PATTERNS, self.title, "longvideobench/LongVideoBench")
        videos = Videos((data, data / _CACHE, published.home), "videos")
        return unique([self._sample(row, videos) for row in read_rows(published.files)], published)

    def _sample(self, row: Row, videos: Videos) -> Sample:
        options = _options(row)
        lines = (f"{letter}. {option}" for letter, option in zip(letters(len(options)), options, strict=True))
        prompt = LAYOUTS[self.name].prompt(row.text("question"), lines)
        category = row.text("question_category")
        if category not in _PERCEPTION | _RELATION:
            raise row.wrong(f"has the question category {category!r}, which is none of the 17 published ones")
        return Sample(
            id=row.text("id"),
            video=row.text("video_id"),
            path=videos.find(Path(row.text("video_path")).stem),
            prompt=prompt,
            options=tuple(options),
            answer=row.letter("correct_choice", len(options)),
            groups={
                "level": "perception" if category in _PERCEPTION else "relation",
                "duration": str(row.values.get("duration_group")),
                "category": category,
            },
        )

    def extract(self, text: str, sample: Sample) -> str:  # noqa: ARG002
        """The first capital from A to E anywhere, also within a word, once some usual phrases are cut out."""
        for phrase in _PHRASES:
            text = text.replace(phrase, "")
        capital = re.search("[A-E]", text)
        return capital[0] if capital else ""


def _options(row: Row) -> list[str]:
    """The options, in whichever way the row has them: one list, or five columns of which some hold N/A."""
    if "option0" not in row.values:
        return row.texts("candidates", 2, 5)
    options = [row.text(f"option{i}") for i in range(5)]
    given = [option for option in options if option != _ABSENT]
    if len(given) < 2 or options[: len(given)] != given:
        raise row.wrong("has fewer than two options, or a gap between them")
    return given


TASK = LongVideoBench()
