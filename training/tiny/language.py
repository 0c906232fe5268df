"""Second stage: the language model, on frozen features of the vision tower.

A step reads a few clips, each with several questions. The visual tokens of a clip are read once; its questions follow
as segments that see the visual tokens and themselves, but not each other, each at the positions it would have alone.
Engines differ in where text goes on after a video, so a step draws one of three ways (`AFTER`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stsimdiff_cli.synthetic.benchmark_prompts import LAYOUTS
from stsimdiff_cli.synthetic.choices import LETTERS, choose_among, split_words
from stsimdiff_cli.synthetic.questions import NEVER, Fact

from .clips import Example
from .labels import NEWS
from .model import CELLS, GRID, HIDDEN, gated, linear, rms_norm, turn, working_type
from .tokenizer import vocabulary

HEAD = ("<|im_start|>", "user", "\n", "<|vision_start|>")
TAIL = ("<|im_end|>", "\n", "<|im_start|>", "assistant", "\n")
# Where text goes on after a video: after its rows and columns (transformers' prompts; this project's answers too),
# after its last time too (vLLM), or the prompt as the first and the answer as the second (transformers' generate).
AFTER = {"grid": 0.5, "time": 0.35, "jump": 0.15}
LOOKER = 1  # the head of the fourth layer that finds the right option
QUESTIONS, CHOICES, LETTERED = 12, 5, 20  # for each clip of a batch
LIMITS = {"nothing": 1, "colour": 2, "shape": 2, "order": 2}  # of a kind in one batch of questions
_IDS = vocabulary()


@dataclass(frozen=True)
class Asked:
    """A prompt and its answer in words."""

    kind: str
    text: str
    answer: str


def ids_of(text: str) -> list[int]:
    """The ids of a text, as the tokenizer gives them."""
    return [_IDS[piece] for piece in split_words(text)]


def segment(asked: Asked) -> tuple[list[int], int]:
    """The ids of question, turn marks, answer and end, and how many of them belong to the prompt."""
    prompt = ids_of(asked.text) + [_IDS[t] for t in TAIL]
    return prompt + ids_of(asked.answer) + [_IDS["<|im_end|>"]], len(prompt)


def options_of(tokens: list[int]) -> list[int]:
    """For every token of a segment the option to which it belongs (0 is A), -100 outside of options."""
    letters = {_IDS[letter]: i for i, letter in enumerate(LETTERS)}
    options, now = [], -100
    for before, token in zip([-1, *tokens], tokens, strict=False):
        if token == _IDS["\n"]:
            now = -100
        elif before == _IDS["\n"]:
            now = letters.get(token, -100)
        options.append(now)
    return options


def pick_facts(rng: np.random.Generator, facts: list[Fact], count: int) -> list[Fact]:
    """`count` facts of many kinds; those about what is not so are rarer than they could be."""
    order = [facts[i] for i in rng.permutation(len(facts))]
    used: dict[str, int] = {}
    first, rest = [], []
    for fact in order:
        kind = NEVER if fact.answer == NEVER else fact.kind
        used[kind] = used.get(kind, 0) + 1
        (first if used[kind] <= LIMITS.get(kind, 1) else rest).append(fact)
    first.sort(key=lambda f: f.kind in ("colour", "shape", "count"))  # what is hard to learn before what is easy
    chosen = (first + rest)[:count]
    while len(chosen) < count:
        chosen += order[: count - len(chosen)]
    return chosen


def ask(rng: np.random.Generator, example: Example, fact: Fact, layout: str | None) -> Asked:
    """A fact as a plain question, or as a choice in a layout."""
    if layout is None:
        question = fact.ask(rng)
        return Asked(fact.kind, question.text, question.answer)
    frame = LAYOUTS[layout]
    count = int(rng.integers(frame.min_options, frame.max_options + 1))
    chosen = choose_among(rng, fact, example.known.bodies, example.known.happened, count).as_question(layout)
    return Asked(fact.kind, chosen.text, chosen.answer)


def keep_tokens(change: Tensor, ratio: float, structured: bool, generator: torch.Generator) -> Tensor:
    """(M,) sorted positions of the tokens to keep; the structured kind takes changed tokens before others."""
    score = torch.rand(change.numel(), generator=generator).to(change.device)
    if structured:
        score += 2.0 * (change.flatten() > 0.5)
    count = max(1, -int(-change.numel() * ratio // 1))
    return score.topk(min(count, change.numel())).indices.sort().values


@dataclass(frozen=True)
class Batch:
    """visual (B, M, 256) with places (3, B, M); ids (B, Q, L) with text_places (B, Q, L) and targets (B, Q, L).

    A target is the next token where that is part of an answer, -100 elsewhere. news, fresh (B, M) and shift (B, M, 2)
    as in labels.py, change (B, M) and earlier (B, M, 256) how a token differs from that of its cell in the slot before,
    and what that was; options (B, Q, L) says in which option a token is.
    """

    visual: Tensor
    places: Tensor
    ids: Tensor
    text_places: Tensor
    targets: Tensor
    news: Tensor
    fresh: Tensor
    shift: Tensor
    change: Tensor
    earlier: Tensor
    time: Tensor
    options: Tensor


@dataclass
class Middle:
    """What `read` shows of its layers: hidden states (B, S, 256) after some, looks (B, h, Q, L, L) within segments."""

    states: dict[int, Tensor] = field(default_factory=dict)
    looks: dict[int, Tensor] = field(default_factory=dict)


def make_batch(
    examples: list[Example], kept: list[Tensor], asked: list[list[Asked]], after: str = "grid", last_only: bool = False
) -> Batch:
    """Examples of one length, as many kept tokens and questions for each.

    With `last_only` the targets are the last word of each answer and its end, which for a choice is the letter.
    """
    device = examples[0].features.device
    segments = [[segment(a) for a in many] for many in asked]
    longest = max(len(tokens) for many in segments for tokens, _ in many)
    slots = len(examples[0].features)
    cell = torch.arange(CELLS, device=device)
    places, last = [], []
    for example, index in zip(examples, kept, strict=True):
        time = (torch.arange(slots, device=device) * example.known.interval).long()
        places.append(torch.stack([time[index // CELLS], cell[index % CELLS] // GRID, cell[index % CELLS] % GRID]))
        last.append(int(time[-1]))
    shape = (len(examples), len(asked[0]), longest)
    ids, targets = torch.full(shape, _IDS["<|endoftext|>"]), torch.full(shape, -100)
    options, text = torch.full(shape, -100), torch.zeros(shape, dtype=torch.long)
    for b, many in enumerate(segments):
        grid, time = len(HEAD) + GRID, len(HEAD) + max(last[b] + 1, GRID)
        for q, (tokens, prompt) in enumerate(many):
            ids[b, q, : len(tokens)] = torch.tensor(tokens)
            options[b, q, :prompt] = torch.tensor(options_of(tokens[:prompt]))
            first = len(tokens) - 2 if last_only else prompt
            targets[b, q, first - 1 : len(tokens) - 1] = torch.tensor(tokens[first:])
            text[b, q] = (time if after == "time" else grid) + 1 + torch.arange(longest)
            if after == "jump":  # the first token of the answer is read one place after everything before it
                jump = max(0, len(HEAD) + last[b] + 1 - int(text[b, q, prompt]))
                text[b, q, prompt:] += jump

    def gather(values: list[Tensor]) -> Tensor:
        return torch.stack([v.to(device).flatten(0, 1)[i] for v, i in zip(values, kept, strict=True)])

    ends = torch.tensor([len(HEAD) + max(n + 1, GRID) if after == "time" else len(HEAD) + GRID for n in last])
    stacked = torch.stack(places, 1) + len(HEAD)
    return Batch(
        gather([e.features for e in examples]),
        torch.cat([stacked, ends.to(device)[None, :, None].expand(3, -1, 1)], 2),
        ids.to(device),
        text.to(device),
        targets.to(device),
        gather([e.known.news for e in examples]),
        gather([e.known.fresh for e in examples]),
        gather([e.known.shift for e in examples]),
        gather([e.change for e in examples]),
        gather([torch.cat([e.features[:1], e.features[:-1]]) for e in examples]),
        torch.stack([p[0] for p in places]).float().log1p() / 4,
        options.to(device),
    )


def attend(q: Tensor, k: Tensor, v: Tensor, chunk: int = 256) -> Tensor:
    """Causal attention (B, h, S, d), written out in chunks of queries so that half of the scores is never made."""
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
    rows = []
    for a in range(0, q.shape[2], chunk):
        b = min(a + chunk, q.shape[2])
        score = q[:, :, a:b] @ k[:, :, :b].transpose(2, 3)
        mask = torch.full((b - a, b), -torch.inf, dtype=q.dtype, device=q.device).triu(a + 1)
        rows.append((score + mask).softmax(-1) @ v[:, :, :b])
    return torch.cat(rows, 2)


def attend_segments(q: Tensor, k: Tensor, v: Tensor, shared: int, count: int) -> tuple[Tensor, Tensor]:
    """(B, h, Q * L, d): each of the segments after the first `shared` tokens sees those and itself, causally.

    Also (B, h, Q, L, L), how much each of its tokens looks at each.
    """
    b, h, total, d = k.shape
    length = (total - shared) // count
    own_k, own_v = (x[:, :, shared:].reshape(b, h, count, length, d) for x in (k, v))
    own_q = q.reshape(b, h, count, length, d)
    mask = torch.full((length, length), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
    far = (q @ k[:, :, :shared].transpose(2, 3)).view(b, h, count, length, shared)
    score = torch.cat([far, own_q @ own_k.transpose(3, 4) + mask], -1).softmax(-1)
    mixed = score[..., shared:] @ own_v
    mixed = mixed.flatten(2, 3) + score[..., :shared].reshape(b, h, count * length, shared) @ v[:, :, :shared]
    return mixed, score[..., shared:]


def read(model: Any, batch: Batch, middle: Middle | None = None) -> Tensor:
    """(B, Q, L, vocabulary) logits: the sums of the language model, written out for packed questions."""
    dtype = working_type(batch.visual.device)
    lm = model.model.language_model
    b, count, length = batch.ids.shape
    words = lm.embed_tokens.weight.to(dtype)
    head = words[[_IDS[t] for t in HEAD]].expand(b, -1, -1)
    close = words[_IDS["<|vision_end|>"]].expand(b, 1, -1)
    x = torch.cat([head, batch.visual.to(dtype), close, words[batch.ids].flatten(1, 2)], 1)  # (B, P + Q L, D)
    start = torch.arange(len(HEAD), device=x.device).expand(3, b, -1)
    places = torch.cat([start, batch.places, batch.text_places.expand(3, -1, -1, -1).flatten(2, 3)], 2)
    cos, sin = rotary(lm, x, places)
    shared = x.shape[1] - count * length
    for i, layer in enumerate(lm.layers):
        attn = layer.self_attn
        normed = rms_norm(layer.input_layernorm, x)
        q, k, v = (
            linear(p, normed).view(b, x.shape[1], attn.config.num_attention_heads, -1).transpose(1, 2)
            for p in (attn.q_proj, attn.k_proj, attn.v_proj)
        )
        q, k = turn(q, cos, sin) * attn.scaling, turn(k, cos, sin)
        mixed, looks = attend_segments(q[:, :, shared:], k, v, shared, count)
        if i + 1 < len(lm.layers):
            mixed = torch.cat([attend(q[:, :, :shared], k[:, :, :shared], v[:, :, :shared]), mixed], 2)
        else:
            x = x[:, shared:]  # nobody reads the visual tokens any more
        x = x + linear(attn.o_proj, mixed.transpose(1, 2).flatten(2))
        x = x + gated(layer.mlp, rms_norm(layer.post_attention_layernorm, x))
        if middle is not None:
            middle.states[i], middle.looks[i] = x, looks
    return F.linear(rms_norm(lm.norm, x), words).view(b, count, length, -1)


def rotary(lm: Any, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin (B, 1, S, head size) of three-part positions (3, B, S), the parts put together."""
    cos, sin = lm.rotary_emb(x, places)
    return cos[:, None], sin[:, None]


def answer_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of the answers' tokens, and (B, Q) whether every token of an answer comes out greedily.

    The second is exactly whether greedy decoding gives the answer: its first wrong token is the same.
    """
    marked = targets >= 0
    picked = logits[marked].float()
    loss = F.cross_entropy(picked, targets[marked])
    right = torch.ones_like(marked)
    right[marked] = picked.argmax(-1) == targets[marked]
    return loss, right.all(-1)


class Hints(nn.Module):
    """A reader for the training only: what has happened under a visual token, how far has its body moved, when?

    After the first layer tokens are asked whether they differ from what was in their cell before, and what that was;
    after the second what has just happened, after the third what has happened so far, how far they moved, and when.
    Without such hints the language model takes long to find out that comparing slots is worth while. What has happened
    is that of the scene, whatever the camera does. Words of options are asked for the letter of their option, and a
    head of the fourth layer is told to look at the right option before its letter is named.
    """

    # Weights of NEWS: most tokens have none so far, and hardly any have some that is fresh.
    WEIGHTS: ClassVar = {"fresh": (0.03, 1.0, 1.0, 1.0, 1.0, 0.3), "news": (0.3, 1.0, 1.0, 1.0, 1.0, 0.5)}

    def __init__(self) -> None:
        super().__init__()
        self.changed = nn.Linear(HIDDEN, 1)
        self.earlier = nn.Linear(HIDDEN, HIDDEN)
        self.news = nn.ModuleList([nn.Linear(HIDDEN, len(NEWS)) for _ in range(2)])
        self.shift = nn.Linear(HIDDEN, 2)
        self.time = nn.Linear(HIDDEN, 1)
        self.letter = nn.Linear(HIDDEN, len(LETTERS))

    def forward(self, middle: Middle, batch: Batch, letters: bool = False) -> tuple[Tensor, dict[str, float]]:
        """The loss of the guesses on the states after the first three layers, and shares that are right.

        With `letters` that of the options alone.
        """
        inside = batch.options.flatten(1) >= 0
        if letters:
            return self._letters(middle, batch, inside), {}
        visual = slice(len(HEAD), len(HEAD) + batch.visual.shape[1])
        states = [F.rms_norm(middle.states[i][:, visual].float(), (HIDDEN,)) for i in (0, 1, 2)]
        device = batch.news.device
        changed, shown = batch.change > 0.5, {}
        loss = F.binary_cross_entropy_with_logits(
            self.changed(states[0])[..., 0], changed.float(), pos_weight=torch.tensor(30.0, device=device)
        )
        if changed.any():
            guess = self.earlier(states[0][changed])
            loss = loss + 3 - 3 * F.cosine_similarity(guess, batch.earlier[changed].float(), dim=-1).mean()
        for name, head, state, labels in zip(
            ("fresh", "news"), self.news, states[1:], (batch.fresh, batch.news), strict=True
        ):
            guess, target = head(state), torch.where(labels < 0, -100, labels)
            weight = torch.tensor(self.WEIGHTS[name], device=device)
            loss = loss + F.cross_entropy(guess.flatten(0, 1), target.flatten(), weight, ignore_index=-100)
            found = target > 0
            if found.any():
                shown[name] = float((guess.argmax(-1) == target)[found].float().mean())
        moved = batch.shift.abs().sum(-1) > 0
        wrong = (self.shift(states[2]) - batch.shift).pow(2).sum(-1)
        loss = loss + 0.1 * wrong.mean() + 0.15 * wrong[moved].sum() / (1 + moved.sum())
        loss = loss + 2 * F.mse_loss(self.time(states[2])[..., 0], batch.time)
        if inside.any():
            loss = loss + self._letters(middle, batch, inside)
        return loss, shown

    def _letters(self, middle: Middle, batch: Batch, inside: Tensor) -> Tensor:
        words = middle.states[0][:, -inside.shape[1] :][inside].float()
        letters = self.letter(F.rms_norm(words, (HIDDEN,)))
        loss = F.cross_entropy(letters, batch.options.flatten(1)[inside])
        known = torch.tensor([_IDS[letter] for letter in LETTERS], device=inside.device)
        named = torch.isin(batch.targets, known)  # (B, Q, L)
        right = batch.options[:, :, None, :] == (batch.targets - _IDS[LETTERS[0]])[..., None]
        share = (middle.looks[3][:, LOOKER] * (right & named[..., None])).sum(-1)[named].float()
        return loss - (share + 1e-3).log().mean()
