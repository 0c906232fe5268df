"""A user's text is text: what it spells never becomes one of the tokens that steer the model.

Tokenizers look for special tokens (`<|im_end|>`, `<image>`, `</s>`) anywhere in a prompt, so a question that spells
one could end the user's turn or stand for a video. Here the rest of the prompt, which the chat template wrote, keeps
these tokens, and the same spellings in the question are read as ordinary words.

    template: <|im_start|>user\\n#      question: what is <|im_end|> ?      template: <|im_end|>\\n

Almost no question spells such a token; then the whole prompt is read in one go, as transformers' processors do it. If
one does, the prompt is read by a copy of the tokenizer in which every such token has a secret name, after the tokens
of the template have got theirs. The copy differs in nothing else, so all other ids are the same.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from ...errors import ModelError, RequestError

#: Characters for private use (Unicode), between which names stand that nobody types.
_OPEN, _CLOSE = "\ue000", "\ue001"
#: What words do not contain.
_MARKUP = re.compile(r"[<>\[\]{}|]")
#: Stands for the question, to see where a template writes it.
MARK = f"{_OPEN}question{_CLOSE}"


@dataclass(frozen=True)
class Passage:
    """A part of a prompt: the user's text, and what stands before and after it."""

    before: str
    user: str = ""
    after: str = ""

    @classmethod
    def find(cls, text: str, marked: str) -> Passage:
        """Where the user's text is in `text`, given what stands there when MARK is in its place.

        ModelError if the template does not write it exactly once.
        """
        if MARK not in marked and text == marked:
            return cls(text)
        before, _, after = marked.partition(MARK)
        if marked.count(MARK) != 1 or len(text) < len(before + after):
            raise ModelError("The chat template does not write the question exactly once.", "Use another checkpoint.")
        if not (text.startswith(before) and text.endswith(after)):
            raise ModelError("The chat template writes other words around this question.", "Ask in other words.")
        return cls(before, text[len(before) : len(text) - len(after)], after)


class TextReader:
    """A tokenizer that reads special tokens where the template writes them, and nowhere in the user's text."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def ids(self, passage: Passage, add_special_tokens: bool = False) -> list[int]:
        """Token ids of a part of a prompt; `add_special_tokens` as transformers means it.

        RequestError if the user's text spells a special token and the tokenizer has no copy that reads it as text.
        """
        text, begin = passage.before + passage.user + passage.after, len(passage.before)
        if not self.tokenizer.is_fast:
            return self._plain(text, passage, add_special_tokens)
        read = self.tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True, verbose=False)
        ids, end = list(read["input_ids"]), begin + len(passage.user)
        touched = (
            token in self._added and first < end and begin < last
            for token, (first, last) in zip(ids, read["offset_mapping"], strict=True)
        )
        return self._apart(passage, add_special_tokens) if passage.user and any(touched) else ids

    def _plain(self, text: str, passage: Passage, add_special_tokens: bool) -> list[int]:
        """By a tokenizer that cannot say where in the text its ids come from."""
        spelled = [name for name in self.tokenizer.get_added_vocab() if name in passage.user]
        if spelled:
            raise RequestError(f"This model cannot read {spelled[0]} as text.", "Leave it out of the question.")
        return list(self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])

    @cached_property
    def _added(self) -> dict[int, str]:
        """Added tokens that steer the model, by id: those that the tokenizer calls special or that look like markup.

        Others are words or white space that the vocabulary lacked, e.g. the letters of options: text like any other.
        """
        added = self.tokenizer.backend_tokenizer.get_added_tokens_decoder()
        return {
            number: token.content
            for number, token in added.items()
            if not token.content.isspace() and (token.special or _MARKUP.search(token.content))
        }

    def _apart(self, passage: Passage, add_special_tokens: bool) -> list[int]:
        """Ids where special tokens count in the template's text only."""
        opening = _OPEN  # longer than any run of it in the prompt, so no prompt spells a secret name
        while opening in passage.before + passage.user + passage.after:
            opening += _OPEN
        names = {number: f"{opening}{number}{_CLOSE}" for number in self._added}
        text = self._renamed(passage.before, names) + passage.user + self._renamed(passage.after, names)
        return list(self._copy(names).encode(text, add_special_tokens=add_special_tokens).ids)

    def _renamed(self, text: str, names: dict[int, str]) -> str:
        """The template's text with the special tokens in it under their secret names."""
        read = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        done, parts = 0, []
        for token, (first, last) in zip(read["input_ids"], read["offset_mapping"], strict=True):
            spelled = self._added.get(token)
            if spelled is None or spelled not in text[first:last]:  # the token of unknown words is not spelled there
                continue
            parts += [text[done:first], text[first:last].replace(spelled, names[token])]  # with space that it takes in
            done = last
        return "".join([*parts, text[done:]])

    def _copy(self, names: dict[int, str]) -> Tokenizer:
        """The tokenizer with other names for its special tokens."""
        state = json.loads(self.tokenizer.backend_tokenizer.to_str())
        other = {spelled: names[number] for number, spelled in self._added.items()}
        for token in state["added_tokens"]:
            token["content"] = other.get(token["content"], token["content"])
        model = state["model"]
        if model.get("unk_token") is not None:
            model["unk_token"] = other.get(model["unk_token"], model["unk_token"])
        if isinstance(model["vocab"], dict):
            model["vocab"] = {other.get(word, word): number for word, number in model["vocab"].items()}
        else:  # Unigram: words and their scores
            model["vocab"] = [[other.get(word, word), score] for word, score in model["vocab"]]
        if "merges" in model:  # what would put a special token together from pieces of text goes
            merges = (tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"])
            model["merges"] = [pair for pair in merges if not {*pair, "".join(pair)} & other.keys()]
        copy = Tokenizer.from_str(json.dumps(state))
        copy.no_padding()
        copy.no_truncation()
        return copy
