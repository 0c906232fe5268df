"""Batches of the language stage: the visual tokens of each clip once, and its questions packed after them.

Questions are segments that see the visual tokens and themselves but not each other, each at the positions that it would
have alone. Positions are those of `Qwen2_5_VLModel.get_rope_index` for all tokens; dropped tokens leave gaps.

    position   0 ... 3 | time, row and column of each visual token |  10  | 11 12 13 ...
    tokens      HEAD   |   kept visual tokens of the clip          | end  | question 1, TAIL, answer, end
                                                                          | question 2, TAIL, answer, end   (also at 11)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stsimdiff_cli.synthetic.choices import LETTERS, split_words
from stsimdiff_cli.synthetic.questions import Question

from .examples import Example
from .tokenizer import vocabulary
from .vision_tower import CELLS, GRID

HEAD = ("<|im_start|>", "user", "\n", "<|vision_start|>")
TAIL = ("<|im_end|>", "\n", "<|im_start|>", "assistant", "\n")
QUESTION_LENGTH, CHOICE_LENGTH = 22, 118  # tokens of the longest plain question and choice, with their answers
IDS = vocabulary()


@dataclass(frozen=True)
class Batch:
    """B clips with M kept tokens and Q questions of up to L tokens each.

    visual (B, M, 192) at visual_positions (3, B, M): time, row, column; ids (B, Q, L) at text_positions (3, B, Q, L).
    targets (B, Q, L): the next token where that is part of an answer, -100 elsewhere.
    changed (B, M): visual tokens that differ from the slot before. earlier (B, M, 192): what was in the cell then.
    displacement (B, M, 2): as in Example. options (B, Q, L): which option a token of the text is in, -100 for none.
    """

    visual: Tensor
    visual_positions: Tensor
    ids: Tensor
    text_positions: Tensor
    targets: Tensor
    changed: Tensor
    earlier: Tensor
    displacement: Tensor
    options: Tensor


def make_batch(
    examples: list[Example], indices: list[Tensor], questions: list[list[Question]], interval: float
) -> Batch:
    """Examples of one length, with as many kept tokens and questions for each; interval is in positions a slot."""
    segments = [[segment(question) for question in asked] for asked in questions]
    longest = max(QUESTION_LENGTH, *(len(tokens) for asked in segments for tokens, _ in asked))
    everywhere = grid_positions(examples[0].features.shape[0], interval)
    pairs = list(zip(examples, indices, strict=True))
    visual = torch.stack([e.features.flatten(0, 1)[i] for e, i in pairs])
    visual_positions = torch.stack([everywhere[:, i] for i in indices], 1)
    changed = torch.stack([e.change.flatten()[i] > 0.5 for e, i in pairs])
    earlier = torch.stack([e.features.flatten(0, 1)[(i - CELLS).clamp(min=0)] for e, i in pairs])
    displacement = torch.stack([e.displacement.flatten(0, 1)[i] for e, i in pairs])
    shape = (len(examples), len(questions[0]), longest)
    ids, targets = torch.full(shape, IDS["<|endoftext|>"]), torch.full(shape, -100)
    options = torch.full(shape, -100)
    for b, asked in enumerate(segments):
        for q, (tokens, prompt) in enumerate(asked):
            ids[b, q, : len(tokens)] = torch.tensor(tokens)
            options[b, q, :prompt] = torch.tensor(options_of(tokens[:prompt]))
            targets[b, q, prompt - 1 : len(tokens) - 1] = torch.tensor(tokens[prompt:])
    begin = len(HEAD) + GRID + 1  # the position after <|vision_end|>
    text = (begin + torch.arange(longest)).expand(3, *shape)  # answers continue the prompt, as in generate()
    return Batch(visual, visual_positions, ids, text, targets, changed, earlier, displacement, options)


def grid_positions(slots: int, interval: float, start: int = len(HEAD)) -> Tensor:
    """(3, T * 36): time, row and column position of every visual token; interval is in positions a slot."""
    t = (torch.arange(slots) * interval).long()
    axis = torch.arange(GRID)
    return torch.stack(torch.meshgrid(t, axis, axis, indexing="ij")).reshape(3, -1) + start


def token_ids(text: str) -> list[int]:
    """The ids of a text, as the tokenizer gives them. KeyError for an unknown word."""
    return [IDS[word] for word in split_words(text)]


def segment(question: Question) -> tuple[list[int], int]:
    """The ids of question, chat template, answer and end, and how many of them belong to the prompt."""
    prompt = token_ids(question.text) + [IDS[token] for token in TAIL]
    return prompt + token_ids(question.answer) + [IDS["<|im_end|>"]], len(prompt)


def options_of(tokens: list[int]) -> list[int]:
    """For every token of a segment the option to which it belongs (0 is A), -100 outside of options."""
    letters = {IDS[letter]: i for i, letter in enumerate(LETTERS)}
    options, current = [], -100
    for before, token in zip([-1, *tokens], tokens, strict=False):
        if token == IDS["\n"]:
            current = -100
        elif before == IDS["\n"]:
            current = letters.get(token, -100)
        options.append(current)
    return options
