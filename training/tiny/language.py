"""Second stage of the training: the language model, on frozen features of the vision tower.

A step reads a few clips, each with several questions. The visual tokens of a clip are read once; its questions follow
as segments that see the visual tokens and themselves, but not each other, each at the positions it would have alone.
Positions are those of `Qwen2_5_VLModel.get_rope_index` for all tokens; dropped tokens leave gaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stsimdiff_cli.synthetic.choices import LAYOUTS, LETTERS, ask_in, names, pieces
from stsimdiff_cli.synthetic.clips import Clip, Fact, make_clip
from stsimdiff_cli.synthetic.long_clips import make_tale
from stsimdiff_cli.synthetic.questions import Question
from stsimdiff_cli.synthetic.shapes import SIDE, token_labels

from .model import CELLS, GRID, HIDDEN, encode, gated, linear, patches_of, rms_norm, turn
from .tokenizer import vocabulary

HEAD = ("<|im_start|>", "user", "\n", "<|vision_start|>")
TAIL = ("<|im_end|>", "\n", "<|im_start|>", "assistant", "\n")
SEGMENT, CHOICE = 22, 118  # tokens of the longest plain question, and of the longest choice, with the answer
LOOKER = 1  # the head of the third layer that finds the right option
FAST = 4.0  # positions a slot; where slots lie further apart nobody asks when something happens
_IDS = vocabulary()


@dataclass(frozen=True)
class Example:
    """features (T, 36, 192) bfloat16 of a clip, change (T, 36) of each token, and what can be asked about the clip.

    change is one minus the cosine with the token of the same cell in the slot before, 0 in the first slot.
    shift (T, 36, 2) is how far the object under a token has moved since the first frame, in tenths of the picture.
    seen are the colours and shapes of its objects.
    """

    features: Tensor
    change: Tensor
    shift: Tensor
    facts: list[Fact]
    seen: tuple[tuple[str, str], ...]


def make_example(visual: Any, seed: int, split: str, frames: int, event: str | None = None, events: int = 1) -> Example:
    """Renders the clip of a seed, a tale if it shall have several events, and encodes it."""
    clip = make_clip(seed, split, frames, event) if events == 1 else make_tale(seed, split, frames, events)
    with torch.no_grad():
        features = encode(visual, patches_of(clip.frames).bfloat16())
    unit = F.normalize(features.float(), dim=-1)
    change = torch.zeros(frames, CELLS)
    change[1:] = 1 - (unit[1:] * unit[:-1]).sum(-1)
    return Example(features, change, torch.as_tensor(shifts(clip)), clip.facts, names(clip.scenes))


def shifts(clip: Clip) -> np.ndarray:
    """(T, 36, 2) float32: x and y from the place in the first frame, in tenths of the picture; 0 without an object."""
    home = {(t.colour, t.shape): (t.x, t.y) for t in clip.things}
    known: dict[tuple, np.ndarray] = {}
    for scene in clip.scenes:
        if scene not in known:
            away = [np.subtract((t.x, t.y), home.get((t.colour, t.shape), (t.x, t.y))) * 10 / SIDE for t in scene]
            table = np.array([*away, (0, 0), (0, 0)], np.float32)  # the last two for owners -2 and -1
            known[scene] = table[token_labels(scene)[0].flatten()]
    return np.stack([known[scene] for scene in clip.scenes])


def visual_positions(slots: int, interval: float, start: int = len(HEAD)) -> Tensor:
    """(3, T * 36) time, row and column position of every visual token; interval is in positions a slot."""
    t = (torch.arange(slots) * interval).long()
    axis = torch.arange(GRID)
    return torch.stack(torch.meshgrid(t, axis, axis, indexing="ij")).reshape(3, -1) + start


def split_words(text: str) -> list[int]:
    """The ids of a text, as the tokenizer gives them."""
    return [_IDS[piece] for piece in pieces(text)]


def segment(question: Question) -> tuple[list[int], int]:
    """The ids of question, turn marks, answer and end, and how many of them belong to the prompt."""
    prompt = split_words(question.text) + [_IDS[t] for t in TAIL]
    return prompt + split_words(question.answer) + [_IDS["<|im_end|>"]], len(prompt)


def options_of(tokens: list[int]) -> list[int]:
    """For every token of a segment the option to which it belongs (0 is A), -100 outside of options."""
    letters = {_IDS[letter]: i for i, letter in enumerate(LETTERS)}
    found, now = [], -100
    for before, token in zip([-1, *tokens], tokens, strict=False):
        if token == _IDS["\n"]:
            now = -100
        elif before == _IDS["\n"]:
            now = letters.get(token, -100)
        found.append(now)
    return found


def keep_tokens(change: Tensor, ratio: float, structured: bool, generator: torch.Generator) -> Tensor:
    """(M,) sorted positions of the tokens to keep; the structured kind takes changed tokens before others."""
    score = torch.rand(change.numel(), generator=generator)
    if structured:
        score += 2.0 * (change.flatten() > 0.5)
    count = max(1, -int(-change.numel() * ratio // 1))
    return score.topk(min(count, change.numel())).indices.sort().values


@dataclass(frozen=True)
class Batch:
    """visual (B, M, 192) with positions (3, B, M); ids (B, Q, L) with positions (3, B, Q, L) and targets (B, Q, L).

    A target is the next token where that is part of an answer, -100 elsewhere. changed (B, M) marks the visual tokens
    that differ from the slot before, earlier (B, M, 192) is what was in the cell then, shift (B, M, 2) as in Example.
    options (B, Q, L) says which option a token of the text is in, -100 for none.
    """

    visual: Tensor
    places: Tensor
    ids: Tensor
    text_places: Tensor
    targets: Tensor
    changed: Tensor
    earlier: Tensor
    shift: Tensor
    options: Tensor


def make_batch(
    examples: list[Example], indices: list[Tensor], questions: list[list[Question]], interval: float
) -> Batch:
    """Examples of one length, as many kept tokens and questions for each."""
    segments = [[segment(question) for question in asked] for asked in questions]
    longest = max(SEGMENT, *(len(tokens) for asked in segments for tokens, _ in asked))
    slots = examples[0].features.shape[0]
    everywhere = visual_positions(slots, interval)
    visual = torch.stack([e.features.flatten(0, 1)[i] for e, i in zip(examples, indices, strict=True)])
    places = torch.stack([everywhere[:, i] for i in indices], 1)
    changed = torch.stack([e.change.flatten()[i] > 0.5 for e, i in zip(examples, indices, strict=True)])
    before = [(i - CELLS).clamp(min=0) for i in indices]
    earlier = torch.stack([e.features.flatten(0, 1)[i] for e, i in zip(examples, before, strict=True)])
    shift = torch.stack([e.shift.flatten(0, 1)[i] for e, i in zip(examples, indices, strict=True)])
    shape = (len(examples), len(questions[0]), longest)
    ids, targets = torch.full(shape, _IDS["<|endoftext|>"]), torch.full(shape, -100)
    options = torch.full(shape, -100)
    text = torch.zeros(shape, dtype=torch.long)
    begin = len(HEAD) + GRID + 1  # the place after <|vision_end|>
    for b, asked in enumerate(segments):
        for q, (tokens, prompt) in enumerate(asked):
            ids[b, q, : len(tokens)] = torch.tensor(tokens)
            options[b, q, :prompt] = torch.tensor(options_of(tokens[:prompt]))
            targets[b, q, prompt - 1 : len(tokens) - 1] = torch.tensor(tokens[prompt:])
            text[b, q] = begin + torch.arange(longest)  # answers go on from the prompt, as generate() has it
    return Batch(visual, places, ids, text.expand(3, *shape), targets, changed, earlier, shift, options)


def attend(q: Tensor, k: Tensor, v: Tensor, chunk: int = 128) -> Tensor:
    """Causal attention (B, h, S, d), written out in chunks of queries so that half of the scores is never made."""
    rows = []
    for a in range(0, q.shape[2], chunk):
        b = min(a + chunk, q.shape[2])
        score = q[:, :, a:b] @ k[:, :, :b].transpose(2, 3)
        mask = torch.full((b - a, b), -torch.inf, dtype=q.dtype).triu(a + 1)
        rows.append((score + mask).softmax(-1) @ v[:, :, :b])
    return torch.cat(rows, 2)


def attend_segments(q: Tensor, k: Tensor, v: Tensor, shared: int, count: int) -> tuple[Tensor, Tensor]:
    """(B, h, Q * L, d): each of the segments behind the first `shared` tokens sees those and itself, causally.

    Also (B, h, Q, L, L), how much each of its tokens looks at each.
    """
    b, h, total, d = k.shape
    length = (total - shared) // count
    own_k, own_v = (x[:, :, shared:].reshape(b, h, count, length, d) for x in (k, v))
    own_q = q.reshape(b, h, count, length, d)
    mask = torch.full((length, length), -torch.inf, dtype=q.dtype).triu(1)
    far = (q @ k[:, :, :shared].transpose(2, 3)).view(b, h, count, length, shared)
    score = torch.cat([far, own_q @ own_k.transpose(3, 4) + mask], -1).softmax(-1)
    mixed = score[..., shared:] @ own_v
    mixed = mixed.flatten(2, 3) + score[..., :shared].reshape(b, h, count * length, shared) @ v[:, :, :shared]
    return mixed, score[..., shared:]


def read(model: Any, batch: Batch, dtype: torch.dtype = torch.bfloat16, middle: list[Tensor] | None = None) -> Tensor:
    """(B, Q, L, vocabulary) logits: the sums of the language model, written out for packed questions.

    All tokens behind each of the first two layers (B, P + Q L, 192), and at what the tokens of the segments look in
    each of the others (B, h, Q, L, L), are appended to `middle`.
    """
    lm = model.model.language_model
    b, count, length = batch.ids.shape
    words = lm.embed_tokens.weight.to(dtype)
    head = words[[_IDS[t] for t in HEAD]].expand(b, -1, -1)
    close = words[_IDS["<|vision_end|>"]].expand(b, 1, -1)
    x = torch.cat([head, batch.visual.to(dtype), close, words[batch.ids].flatten(1, 2)], 1)  # (B, P + Q L, D)
    start = torch.arange(len(HEAD)).expand(3, b, -1)
    end = torch.full((3, b, 1), len(HEAD) + GRID)
    places = torch.cat([start, batch.places, end, batch.text_places.flatten(2, 3)], 2)
    cos, sin = (t[:, None] for t in lm.rotary_emb(x, places))
    shared = x.shape[1] - count * length
    for i, layer in enumerate(lm.layers):
        attn = layer.self_attn
        normed = rms_norm(layer.input_layernorm, x)
        q, k, v = (
            linear(p, normed).view(b, x.shape[1], attn.num_heads, -1).transpose(1, 2)
            for p in (attn.q_proj, attn.k_proj, attn.v_proj)
        )
        q, k = turn(q, cos, sin) * attn.scaling, turn(k, cos, sin)
        mixed, looks = attend_segments(q[:, :, shared:], k, v, shared, count)
        if i + 1 < len(lm.layers):
            front = attend(q[:, :, :shared], k[:, :, :shared], v[:, :, :shared])
            mixed = torch.cat([front, mixed], 2)
        else:
            x = x[:, shared:]  # nobody reads the visual tokens any more
        x = x + linear(attn.o_proj, mixed.transpose(1, 2).flatten(2))
        x = x + gated(layer.mlp, rms_norm(layer.post_attention_layernorm, x))
        if middle is not None:
            middle.append(x if i < 2 else looks)
    return F.linear(rms_norm(lm.norm, x), words).view(b, count, length, -1)


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


class Memory(nn.Module):
    """A reader for the training only, of visual tokens: changed? what was here before? what time is it? moved?

    Without this hint the language model takes long to find out that comparing slots is worth while. Words of options
    are asked for the letter of their option, and a head of the third layer is told to look at the right option before
    its letter is named.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changed = nn.Linear(HIDDEN, 1)
        self.earlier = nn.Linear(HIDDEN, HIDDEN)
        self.time = nn.Linear(HIDDEN, 1)
        self.shift = nn.Linear(HIDDEN, 2)
        self.letter = nn.Linear(HIDDEN, len(LETTERS))

    def forward(self, middle: list[Tensor], batch: Batch) -> Tensor:
        """The loss of the guesses on what `read` appends to `middle` (time and shift: the second layer)."""
        visual = slice(len(HEAD), len(HEAD) + batch.visual.shape[1])
        x, y = (F.rms_norm(m[:, visual].float(), (HIDDEN,)) for m in middle[:2])
        target = batch.changed.float()
        loss = F.binary_cross_entropy_with_logits(self.changed(x)[..., 0], target, pos_weight=torch.tensor(4.0))
        time = (batch.places[0] - len(HEAD)) / 32.0
        if time.max() < FAST * 2:  # no clip for which this matters is longer
            loss = loss + 3 * F.mse_loss(self.time(y)[..., 0], time)
        wrong = (self.shift(y) - batch.shift).pow(2).sum(-1)
        moved = batch.shift.abs().sum(-1) > 0
        loss = loss + 0.3 * wrong.mean() + 0.25 * wrong[moved].sum() / (1 + moved.sum())
        if batch.changed.any():
            guess = self.earlier(x[batch.changed])
            loss = loss + 1 - F.cosine_similarity(guess, batch.earlier[batch.changed].float(), dim=-1).mean()
        inside = batch.options.flatten(1) >= 0
        if inside.any():
            words = middle[0][:, -inside.shape[1] :][inside].float()
            letters = self.letter(F.rms_norm(words, (HIDDEN,)))
            loss = loss + F.cross_entropy(letters, batch.options.flatten(1)[inside])
            named = torch.isin(batch.targets, torch.tensor([_IDS[letter] for letter in LETTERS]))  # (B, Q, L)
            right = batch.options[:, :, None, :] == (batch.targets - _IDS[LETTERS[0]])[..., None]
            share = (middle[2][:, LOOKER] * (right & named[..., None])).sum(-1)[named].float()
            loss = loss - (share + 1e-3).log().mean()
        return loss


def choose_questions(rng: np.random.Generator, facts: list[Fact], count: int) -> list[Question]:
    """`count` questions: those about the events and the count, then colours and shapes, repeated if there are too few.

    Questions about what does not happen are rarer than they could be, lest `nothing` be the answer to everything.
    """
    static = [f for f in facts if f.kind in ("colour", "shape")]
    chosen = [f for f in facts if f.kind not in ("colour", "shape", "nothing")]
    nothing = [f for f in facts if f.kind == "nothing"]
    if nothing and rng.random() < 0.4:
        chosen.append(nothing[int(rng.integers(len(nothing)))])
    if len(chosen) > count:
        chosen = [chosen[i] for i in rng.permutation(len(chosen))]
    pool = [static[i] for i in rng.permutation(len(static))] or chosen
    while len(chosen) < count:
        chosen += pool
    return [f.ask(rng) for f in chosen[:count]]


def choose_choices(rng: np.random.Generator, example: Example, facts: list[Fact], count: int) -> list[Question]:
    """The same as choices, each in a layout drawn at random."""
    asked = choose_questions(rng, facts, count)
    return [ask_in(rng, question, example.seen, str(rng.choice(list(LAYOUTS)))) for question in asked]
