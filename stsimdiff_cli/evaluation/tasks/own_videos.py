"""The user's own videos with open questions: nobody knows the answers, so those that all tokens give count as right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ... import pipeline, video
from ...errors import RequestError
from ...models.question import check_question
from .base import OpenQuestions, Sample


@dataclass(frozen=True)
class OwnVideos(OpenQuestions):
    """Video files, each asked all questions; without questions, the general prompt."""

    paths: tuple[Path, ...]
    questions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.paths)) < len(self.paths):
            raise RequestError("A video is named twice.", "Name each video once.")

    def load_samples(self) -> list[Sample]:
        """All questions about all videos; VideoError at once for a video that cannot be read.

        RequestError for a question that is empty or not text.
        """
        for question in self.questions:
            check_question(question)
        for path in self.paths:
            video.scan(path)
        return [
            Sample(f"{path}, question {number}", str(path), path, prompt, (), None, {"kind": "open"})
            for path in self.paths
            for number, prompt in enumerate(self.questions or (pipeline.GENERAL_PROMPT,))
        ]
