"""How `stsimdiff ask` shows questions and answers, whichever engine answered them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import output
from .timeline import highest, timeline

if TYPE_CHECKING:
    from ..models.inference.conversation import Answer
    from ..models.inference.prompts import Prompter
    from ..records import TokenGrid
    from ..storage.stores import AnyPath
    from ..storage.stretch import Stretch


@dataclass(frozen=True)
class AnswerPrinter:
    """Shows the answers about each file: as text, question by question, or as one JSON object at the end."""

    json: bool
    title: bool  # whether the file's name stands before its answers, on stderr
    announce: bool  # whether each question stands before its answer, on stderr
    when: bool  # whether the times that an answer looked at are shown
    stretch: Stretch | None  # the part that was asked about; None: everything
    inside: str | None  # method that pruned inside the LLM

    def file(self, file: AnyPath) -> None:
        """What follows is about this file."""
        if self.title:
            output.aside(f"[bold]{output.escape(str(file))}[/]")

    def question(self, question: str, prompter: Prompter) -> None:
        """What follows answers this question, which `prompter` writes for the model."""
        _warn_unknown_words(question, prompter)
        if self.announce:
            output.aside(f"[bold]? {output.escape(question)}[/]")

    def answer(self, answer: Answer, seconds: tuple[float, ...], streamed: bool = False) -> None:
        """An answer, or with `streamed` the end of one that stands there; `seconds` are those of the video's slots."""
        if self.json:
            return
        output.result("" if streamed else answer.text)
        if self.when and answer.slots:
            output.aside(f"[dim]{timeline(answer.slots, seconds)}[/]")

    def summary(
        self,
        file: AnyPath,
        grid: TokenGrid,
        kept: int,
        answered: Sequence[tuple[str, Answer]],
        steps: dict[str, float],
        seconds: float,
    ) -> None:
        """All that was asked about a file, as JSON; with the seconds of each step, and of all."""
        if not self.json:
            return
        output.result_json(
            {
                "file": str(file),
                "model": grid.model.id,
                "tokens": grid.tokens,
                "from": self.stretch.start if self.stretch else None,
                "to": self.stretch.end if self.stretch else None,
                "kept": kept,
                "inside": self.inside,
                "answers": [self._row(*pair, grid.seconds) for pair in answered],
                "seconds": seconds,
                "stage_seconds": steps,
            }
        )

    def _row(self, question: str, answer: Answer, seconds: tuple[float, ...]) -> dict[str, Any]:
        """An answer as JSON."""
        return {
            "question": question,
            "answer": answer.text,
            "new_tokens": answer.tokens,
            "prompt_tokens": answer.prompt_tokens,
            "seconds": answer.seconds["answer"],
            **({"first_token_seconds": answer.seconds["first_token"]} if "first_token" in answer.seconds else {}),
            **({"when": highest(answer.slots, seconds)} if self.when else {}),
            **({"live": answer.alive_per_layer} if answer.alive_per_layer else {}),
        }


def _warn_unknown_words(question: str, prompter: Prompter) -> None:
    """Warn about words that a model with a closed vocabulary does not know, and list questions it can answer."""
    unknown = prompter.unknown_words(question)
    if not unknown:
        return
    from ..synthetic.questions import EXAMPLES

    words = ", ".join(repr(word) for word in unknown)
    output.warn(f"the model does not know {words}, so its answer may be meaningless.")
    if output.first_time("questions that it can answer"):
        output.aside("[cyan]hint:[/] it can answer questions such as:")
        for example in EXAMPLES:
            output.aside(f"  {output.escape(example)}")
