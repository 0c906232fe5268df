"""What lies under every token of a clip, for the training only: bodies, events so far, how far bodies have moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stsimdiff_cli.synthetic.clips import Clip
from stsimdiff_cli.synthetic.draw import coverage, visible
from stsimdiff_cli.synthetic.owners import GRID, NONE, UNDECIDED, owners, shares
from stsimdiff_cli.synthetic.world import COLOURS, SHAPES, SIDE, Body

# What a token shows that the first frame did not: nothing, a new body, one of another colour, one elsewhere, the place
# of one that has gone, another scene.
NEWS = ("same", "new", "turned", "moved", "gone", "scene")


@dataclass(frozen=True)
class Labels:
    """Arrays (T, 49): colour, shape (indices; -1 nothing, -2 undecided), copies (1 to 4; 0 none, -2 undecided), news.

    centre (T, 49, 2) is y and x of the body under the token in parts of the picture; shift (T, 49, 2) how far it has
    moved since the first frame, in tenths of the picture, however the camera moves; outline (T, 112, 112) the coverage
    by any body, or None.
    """

    owner: np.ndarray
    colour: np.ndarray
    shape: np.ndarray
    copies: np.ndarray
    news: np.ndarray
    centre: np.ndarray
    shift: np.ndarray
    outline: np.ndarray | None = None


def label_clip(clip: Clip, outline: bool = False) -> Labels:
    """The labels of every frame; frames that look alike are computed once."""
    first = clip.script.scenes[0]
    known: dict[tuple, tuple] = {}
    rows, masks = [], []
    homes = {e.to: e.body for e in clip.script.events if e.kind in ("move", "carry")}
    turned = {e.to for e in clip.script.events if e.kind == "recolour"}
    for frame in range(clip.script.frames):
        scene = clip.script.scenes[frame]
        late = frame >= clip.script.cut
        key = (scene, late, clip.view.front[frame], *clip.view.camera[frame])
        if key not in known:
            known[key] = _frame(clip, frame, first, late, homes, turned)
        *row, mask = known[key]
        rows.append(row)
        masks.append(mask)
    columns = [np.stack(c) for c in zip(*rows, strict=True)]
    return Labels(*columns, outline=np.stack(masks) if outline else None)


def fresh_news(clip: Clip, news: np.ndarray) -> np.ndarray:
    """(T, 49) what has just happened under each token, in the slot of an event or the one after it; 0 nothing.

    `news` (T, 49) is what has happened since the first frame. What ends without leaving news is gone.
    """
    fresh = np.zeros_like(news)
    for t in range(1, len(news)):
        if any(e.first <= t <= e.last + 1 for e in clip.script.events):
            ended = (news[t] == 0) & (news[t - 1] > 0)
            fresh[t] = np.where(news[t] != news[t - 1], np.where(ended, NEWS.index("gone"), news[t]), 0)
            fresh[t] = np.where(news[t - 1] < 0, np.minimum(fresh[t], UNDECIDED), fresh[t])
    return fresh


def _frame(clip: Clip, frame: int, first: tuple, late: bool, homes: dict, turned: set) -> tuple:
    scene, view = clip.script.scenes[frame], clip.view
    seen = visible(clip.script, view, frame)
    share, mask = shares(seen)
    owner = owners(share)
    names = [(b.colour, b.shape) for b in seen]
    plain = [c != "grey" for c, _ in names]
    faint = [b.opacity < 0.6 or 0.3 < b.mix < 0.7 for b in seen]
    colour = [COLOURS.index(c) if p else NONE for (c, _), p in zip(names, plain, strict=True)]
    colour = [COLOURS.index(b.turning) if b.mix >= 0.7 else c for b, c in zip(seen, colour, strict=True)]
    shape = [SHAPES.index(s) if p else NONE for (_, s), p in zip(names, plain, strict=True)]
    colour, shape = ([UNDECIDED if f else v for f, v in zip(faint, values, strict=True)] for values in (colour, shape))
    many = [names.count(n) for n in names]
    copies = [(m if m <= 4 else UNDECIDED) if p else 0 for m, p in zip(many, plain, strict=True)]
    behind = len(view.behind[int(late)])
    news, shift = np.zeros(len(seen), int), np.zeros((len(seen), 2), np.float32)
    starts = {(b.x, b.y, b.shape): b for b in first}
    for i, body in enumerate(scene):
        home = next(
            (b for b in first if b.shape == body.shape and b in homes.values() and _on_way(body, b, homes)), None
        )
        if late:
            news[behind + i] = NEWS.index("scene")
        elif home is not None:
            shift[behind + i] = np.array([body.y - home.y, body.x - home.x]) * 10 / SIDE
            news[behind + i] = NEWS.index("moved") if np.abs(shift[behind + i]).max() > 0.3 else 0
        elif (body.x, body.y, body.shape) not in starts:
            news[behind + i] = NEWS.index("new")
        elif body in turned or body.mix > 0.5:
            news[behind + i] = NEWS.index("turned")
    news_of = np.array([*news, -2, NEWS.index("scene") if late else 0])[owner]
    if not late:  # the places that somebody has left
        here = {(b.x, b.y) for b in scene}
        left = [view.look(b, frame) for b in first if (b.x, b.y) not in here]
        for body in left:
            place = coverage(body).reshape(GRID, 16, GRID, 16).mean((1, 3)).ravel() > 0.2
            news_of = np.where(place & (owner == NONE), NEWS.index("gone"), news_of)
    centre = np.array([*[(b.y / SIDE, b.x / SIDE) for b in seen], (0, 0), (0, 0)], np.float32)[owner]
    moved = np.array([*shift, (0, 0), (0, 0)], np.float32)[owner]  # the last two for owners -2 and -1
    return (
        owner,
        np.array([*colour, UNDECIDED, NONE])[owner],
        np.array([*shape, UNDECIDED, NONE])[owner],
        np.array([*copies, UNDECIDED, 0])[owner],
        news_of,
        centre,
        moved,
        mask,
    )


def _on_way(body: Body, home: Body, homes: dict) -> bool:
    """Whether a body is the one of `home`, there or on its way."""
    to = next(t for t, h in homes.items() if h == home)
    between = abs(home.x - body.x) + abs(body.x - to.x) + abs(home.y - body.y) + abs(body.y - to.y)
    return between <= abs(home.x - to.x) + abs(home.y - to.y) + 1e-6
