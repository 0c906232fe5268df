"""EgoSchema (Mangalam et al., NeurIPS 2023): five options, videos of three minutes seen by their makers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...errors import RequestError
from ...synthetic.benchmark_prompts import LAYOUTS
from .base import Benchmark, Part, Sample, letters
from .files import Published, Row, Videos, find, read_json, read_rows, unique

_SNAPSHOTS = ("", "hub/datasets--*--egoschema/snapshots/*/", "*/egoschema/")
_PATTERNS = (
    *(f"{place}Subset/test-*.parquet" for place in _SNAPSHOTS),
    "test-*.parquet",
    "questions.json",
    *(f"{place}MC/test-*.parquet" for place in _SNAPSHOTS),
)
_LABELS = "subset_answers.json"
_LETTERS = letters(5)


class EgoSchema(Benchmark):
    """Questions of config `Subset` of lmms-eval/egoschema (also lmms-lab/egoschema), or of the full set."""

    name: ClassVar[str] = "egoschema"
    title: ClassVar[str] = "EgoSchema"
    citation: ClassVar[str] = "Mangalam et al., NeurIPS 2023"
    lmms_task: ClassVar[str] = "egoschema_subset"
    max_new_tokens: ClassVar[int] = 16
    columns: ClassVar[dict[str, Part]] = {"Overall": {}}
    guesses: ClassVar[bool] = True
    no_subtitles: ClassVar[str] = "EgoSchema has no subtitles."

    def load_samples(self, data: Path) -> list[Sample]:
        """All questions: the 500 with labels if they are there by themselves, else the full set of 5031.

        In this order: the Parquet files of config Subset; Parquet files right in `data`; the original questions.json,
        of which subset_answers.json next to it labels 500; the Parquet files of config MC, which has no labels. `data`
        is a snapshot of the data set, the folder of the original files, the folder that lmms-eval has as HF_HOME (the
        snapshot is in hub/, the videos in egoschema/videos/), or one that holds OWNER/egoschema. An item's id is the
        video's, by which submissions name questions.
        """
        published = find(data, _PATTERNS, self.title, "lmms-eval/egoschema")
        videos = Videos((data, data / "egoschema", published.home, data.parent), "videos")  # data may be the folder MC
        make = self._original if published.files[0].name == "questions.json" else self._converted
        return unique(make(published, videos), published)

    def _converted(self, published: Published, videos: Videos) -> list[Sample]:
        samples = []
        for row in read_rows(published.files):
            options = row.texts("option", 5, 5)
            samples.append(_sample(row, row.text("video_idx"), options, row.letter("answer", 5), videos))
        return samples

    def _original(self, published: Published, videos: Videos) -> list[Sample]:
        labels = _labels(published.home / _LABELS)
        samples = []
        for row in read_rows(published.files):
            uid = row.text("q_uid")
            options = [f"{letter}. {row.text(f'option {i}')}" for i, letter in enumerate(letters(5))]
            answer = None if uid not in labels else letters(5)[labels[uid]]
            samples.append(_sample(row, uid, options, answer, videos))
        return samples

    def extract(self, text: str, sample: Sample) -> str:
        """The letter written as "(X)", "X " or "X."; of several the one whose last place comes first.

        If there is none, an answer of more than five words may repeat an option, letter included, in whatever case.
        """
        for mark in ",.!?;:'":
            text = text.strip(mark)
        text = f" {text} "
        forms = ("({})", "{} ", "{}.")
        places = [(text.rfind(form.format(letter)), letter) for letter in sample.letters for form in forms]
        if all(place < 0 for place, _ in places) and len(text.split()) > 5:
            lower = text.lower()
            written = zip(sample.letters, sample.options, strict=True)
            places = [(lower.rfind(f"{letter}. {option}".strip().lower()), letter) for letter, option in written]
        return min(((place, letter) for place, letter in places if place >= 0), default=(0, ""))[1]

    def submission(self, letters: Mapping[str, str]) -> dict[str, Any]:
        """The number of the chosen option, from 0 on, by the video's id; -1 for a letter that is not offered."""
        return {uid: _LETTERS.find(letter) if letter else -1 for uid, letter in letters.items()}


def _sample(row: Row, uid: str, options: list[str], answer: str | None, videos: Videos) -> Sample:
    return Sample(
        id=uid,
        video=uid,
        path=videos.find(uid),
        prompt=LAYOUTS[EgoSchema.name].prompt(row.text("question"), options),
        options=tuple(o.removeprefix(f"{x}. ") for x, o in zip(letters(5), options, strict=True)),
        answer=answer,
    )


def _labels(file: Path) -> dict[str, int]:
    """Index of the right option by question; {} if there is no such file."""
    labels: Any = read_json(file) if file.is_file() else {}
    if not isinstance(labels, dict) or not all(isinstance(i, int) and 0 <= i < 5 for i in labels.values()):
        raise RequestError(f"{file} does not name one of five options for each question.", "Download it again.")
    return labels


TASK = EgoSchema()
