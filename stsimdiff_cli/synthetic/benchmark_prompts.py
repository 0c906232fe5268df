"""The prompts in which lmms-eval asks its benchmarks, character for character.

The evaluation on the benchmarks themselves takes them from here. In those of LAYOUTS, rendered clips are asked about as
multiple choice too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

ANSWER_DIRECTLY = "Answer with the option's letter from the given choices directly."
#: Video-MME's prompt with subtitles (lmms-eval's task `videomme_w_subtitle`); the question includes its options.
WITH_SUBTITLES = "This video's subtitles are listed below: \n{subtitles}\n{question}\nThe best answer is:"
#: MVBench's prompt; an option is a line like `(A) red`.
MVBENCH = "Question:{question}\nOption:\n{options}\nOnly give the best option.\n"
NO_SUBTITLES = "No subtitles available"  # in the place of subtitles that are missing

#: Subtitles of rendered videos, which give no answer away.
NARRATION = ("this is a video of objects", "what happens in this video?")


class PromptLayout(NamedTuple):
    """What stands before the question and after the options, and how many options there may be."""

    before: str
    after: str
    min_options: int
    max_options: int

    def question(self, text: str, options: Iterable[str]) -> str:
        """The question with its options, one a line, which carry their letters: `A. red`."""
        return self.before + "\n".join((text, *options))

    def prompt(self, text: str, options: Iterable[str]) -> str:
        """The whole prompt."""
        return self.question(text, options) + self.after


LAYOUTS = {
    "videomme": PromptLayout(
        "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
        "Respond with only the letter (A, B, C, or D) of the correct option.\n",
        f"\n\n{ANSWER_DIRECTLY}",
        4,
        4,
    ),
    "longvideobench": PromptLayout("", f"\n{ANSWER_DIRECTLY}\n", 2, 5),
    "egoschema": PromptLayout("", f"\n{ANSWER_DIRECTLY}", 5, 5),
}
