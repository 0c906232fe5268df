"""TVQA (Lei et al., EMNLP 2018): five options, clips of six TV shows as folders of frames, 3 a second.

lmms-eval has no task for it. Its questions are asked as those that MVBench took from it (episodic_reasoning): in the
same prompt, about the frames of the moment that was marked, and without subtitles.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from .base import Part, Sample, letters
from .files import Published, Row, find, read_rows, unique
from .mvbench_rules import FRAME_RATE, MOST_OPTIONS, AskedAsMVBench, part, prompt

_PATTERNS = tuple(
    pattern
    for name in ("tvqa_val.jsonl", "tvqa_test_public.jsonl")
    for pattern in (name, f"data/{name}", f"tvqa_qa_release/{name}")
)
_FRAMES = ("", "frames_hq", "frames_fps3_hq", "tvqa/frames_fps3_hq")
_LETTERS = letters(MOST_OPTIONS)


class TVQA(AskedAsMVBench):
    """Questions of the validation set."""

    name: ClassVar[str] = "tvqa"
    title: ClassVar[str] = "TVQA"
    citation: ClassVar[str] = "Lei et al., EMNLP 2018"
    lmms_task: ClassVar[str] = "mvbench_episodic_reasoning"
    columns: ClassVar[dict[str, Part]] = {"Overall": {}}
    no_subtitles: ClassVar[str] = "TVQA is asked as in MVBench, whose prompt has no place for subtitles."

    def load_samples(self, data: Path) -> list[Sample]:
        """All questions: of tvqa_val.jsonl, or without labels of tvqa_test_public.jsonl if only that is there.

        `data` holds the file, or data/ or tvqa_qa_release/ with it. The frames of a clip are in a folder with its name,
        which is in `data`, in frames_hq/ or frames_fps3_hq/, by itself or in a folder for its show (castle_frames/).
        A time that holds nothing, as a few rows have (NaN-NaN, 0-0), means the whole clip.
        """
        published = find(data, _PATTERNS, self.title)
        clips = _Clips(data, published)
        return unique([_sample(row, clips) for row in read_rows(published.files)], published)

    def submission(self, letters: Mapping[str, str]) -> dict[str, Any]:
        """The number of the chosen option, from 0 on, by the question's id; -1 for none."""
        return {qid: _LETTERS.find(letter) if letter else -1 for qid, letter in letters.items()}


class _Clips:
    """The folders of frames; those that hold clips are listed once."""

    def __init__(self, data: Path, published: Published) -> None:
        bases = [base / frames for base in dict.fromkeys((data, published.home)) for frames in _FRAMES]
        self._folders = [folder for base in bases for folder in (base, *sorted(base.glob("*_frames")))]

    def find(self, name: str) -> Path:
        """The frames of a clip; where they belong if they are not there."""
        places = [folder / name for folder in self._folders]
        return next((place for place in places if place.is_dir()), places[0])


def _sample(row: Row, clips: _Clips) -> Sample:
    name, options = row.text("vid_name"), [row.text(f"a{i}") for i in range(MOST_OPTIONS)]
    start, end = part(*_bounds(row)) or (None, None)
    return Sample(
        id=str(row.whole("qid")),
        video=name if start is None else f"{name} from {start} to {end} s",
        path=clips.find(name),
        prompt=prompt(row.text("q"), options),
        options=tuple(options),
        answer=row.letter("answer_idx", MOST_OPTIONS),
        groups={"show": row.text("show_name")},
        source=name,
        start=start,
        end=end,
        image_fps=FRAME_RATE,
    )


def _bounds(row: Row) -> tuple[float, float]:
    try:
        start, end = (float(text) for text in row.text("ts").split("-"))
    except ValueError:
        raise row.wrong(f"has {row.text('ts')!r} in the column 'ts' instead of two times like 7.63-15.26") from None
    return start, end


TASK = TVQA()
