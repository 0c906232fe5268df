"""Video-MME (Fu et al., CVPR 2025): four options, videos from 11 seconds to an hour in three groups of length."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ...synthetic.benchmark_prompts import LAYOUTS, WITH_SUBTITLES
from .base import Benchmark, Part, Sample, letters
from .files import Row, Videos, find, read_rows, unique
from .subtitles import Subtitles

_PATTERNS = (
    "videomme/test-*.parquet",
    "test-*.parquet",
    "hub/datasets--*--Video-MME/snapshots/*/videomme/test-*.parquet",
    "*/Video-MME/videomme/test-*.parquet",
)
_GROUPS = ("duration", "domain", "sub_category", "task_type")
#: Ways to write the letter X, and how much each is trusted; among equals the last in the answer counts.
_WRITTEN = {"({})": 6, "{}.": 5, "{}:": 4, "{})": 3, "{} ": 2}
_PHRASE, _START, _END = 7, 10, 9
#: After each of these (where it first occurs in the answer, whatever its case) the next X counts too.
_PHRASES = (
    *("answer is", "the answer is", "correct answer is", "the correct answer is", "best answer is"),
    *("the best answer is", "my answer is"),
    *("correct option is", "the correct option is", "best option is", "the best option is"),
    *("choice is", "the choice is", "correct choice is", "the correct choice is", "my choice is"),
    *("i choose", "i select", "i pick"),
    *("답:", "답은", "정답은", "옵션", "选", "答案为", "答案是", "答えは"),
)


class VideoMME(Benchmark):
    """Questions of config `videomme`, split `test`, of lmms-eval/Video-MME (also published as lmms-lab/Video-MME)."""

    name: ClassVar[str] = "videomme"
    title: ClassVar[str] = "Video-MME"
    citation: ClassVar[str] = "Fu et al., CVPR 2025"
    lmms_task: ClassVar[str] = "videomme"
    max_new_tokens: ClassVar[int] = 16
    columns: ClassVar[dict[str, Part]] = {
        "Short": {"duration": ("short",)},
        "Medium": {"duration": ("medium",)},
        "Long": {"duration": ("long",)},
        "Overall": {},
    }
    guesses: ClassVar[bool] = False

    def load_samples(self, data: Path) -> list[Sample]:
        """All questions, from Parquet.

        `data` is a snapshot of the data set, the folder of its Parquet files, the folder that lmms-eval has as
        HF_HOME (the snapshot is in hub/, the videos in videomme/data/), or one that holds OWNER/Video-MME. Videos are
        named <videoID>.mp4, subtitles subtitle/<videoID>.srt, as the published archives unpack.
        """
        return self._load(data, subtitles=False)

    def load_with_subtitles(self, data: Path) -> list[Sample]:
        """The same in the prompt of lmms-eval's task `videomme_w_subtitle`; see subtitles.py."""
        return self._load(data, subtitles=True)

    def _load(self, data: Path, subtitles: bool) -> list[Sample]:
        published = find(data, _PATTERNS, self.title, "lmms-eval/Video-MME")
        bases = (data, data / "videomme", published.home)
        videos = Videos(bases, "data")
        said = Subtitles([base / "subtitle" for base in bases]) if subtitles else None
        return unique([self._sample(row, videos, said) for row in read_rows(published.files)], published)

    def _sample(self, row: Row, videos: Videos, subtitles: Subtitles | None) -> Sample:
        video, options = row.text("videoID"), row.texts("options", 4, 4)
        path = videos.find(video)
        layout, question = LAYOUTS[self.name], row.text("question")
        if subtitles is None:
            prompt = layout.prompt(question, options)
        else:
            said = subtitles.during(video, path)
            prompt = WITH_SUBTITLES.format(subtitles=said, question=layout.question(question, options))
        return Sample(
            id=row.text("question_id"),
            video=video,
            path=path,
            prompt=prompt,
            options=tuple(o.removeprefix(f"{x}. ") for x, o in zip(letters(4), options, strict=True)),
            answer=row.letter("answer", 4),
            groups={group: row.text(group) for group in _GROUPS},
        )

    def extract(self, text: str, sample: Sample) -> str:
        """The letter that is written in the most trusted way, and of several such the one that stands last.

        Most trusted is a letter that begins the answer (and is not part of a word), then one that ends it. A letter
        written in none of these ways counts only if there is nothing else.
        """
        text = text.strip()
        for mark in ",.!?;:'\"":
            text = text.strip(mark)
        bare, text = text.strip(), f" {text} "
        written: list[tuple[int, int, str]] = []  # trust, place, letter
        lower = text.lower()
        starts = [lower.find(phrase) + len(phrase) for phrase in _PHRASES if phrase in lower]
        for letter in sample.letters:
            places = {trust: text.rfind(form.format(letter)) for form, trust in _WRITTEN.items()}
            written += [(trust, place, letter) for trust, place in places.items() if place >= 0]
            after = [text.find(letter, start) for start in starts]
            written += [(_PHRASE, place, letter) for place in after if place >= 0]
            if bare.startswith(letter) and not bare[1:2].isalpha():
                written.append((_START, 0, letter))
            if bare.endswith(letter) and not bare[-2:-1].isalpha():
                written.append((_END, len(text), letter))
        if not written:
            written = [(0, text.rfind(letter), letter) for letter in sample.letters if letter in text]
        return max(written)[2] if written else ""


TASK = VideoMME()
