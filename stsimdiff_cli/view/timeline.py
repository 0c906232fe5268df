"""The time line under a picture: tokens kept per slot by kind, the change signal, and events."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..plotting import shades
from .paint import KIND_COLOURS
from .token_map import KINDS, TokenMap

#: The most slots with a bar each, and the most slots whose events are labelled, those with the most events.
MOST_BARS, MOST_LABELS = 2000, 100


def hexed(colour: tuple[int, int, int]) -> str:
    """A colour as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def draw_timeline(axes: Any, token_map: TokenMap, shown: list[int], top: float | None = None) -> None:
    """Draw bars of kept tokens per slot, the change signal on an axis of its own, and marks at the slots `shown`.

    Dotted lines stand at the slots that the user marked.

    `top` is the most tokens of a slot that the scale holds, for time lines that share it.
    """
    from matplotlib.patheffects import withStroke

    slots = token_map.grid.shape[0]
    x, base = np.arange(slots), np.zeros(slots, np.int64)
    for kind, count in token_map.per_slot().items():
        colour = hexed(KIND_COLOURS[kind]) if kind else "#9a9a9a"
        label = f"{KINDS[kind]} ({int(count.sum())})"
        if slots <= MOST_BARS:
            axes.bar(x, count, 0.82, bottom=base, color=colour, linewidth=0, label=label)
        else:  # one shape instead of a bar, an object of several kilobytes, for each slot
            axes.fill_between(x, base, base + count, step="mid", color=colour, linewidth=0, label=label)
        base = base + count
    top = max(float(base.max()), 1.0) if top is None else top
    axes.set_ylim(0, 1.18 * top)
    axes.set_xlim(-0.6, slots - 0.4)
    axes.set_ylabel("tokens kept per slot")
    inches = axes.get_position().width * axes.figure.get_figwidth()
    longest = len(f"{token_map.grid.seconds[-1]:.2f} s")
    ticks = even_ticks(slots, int(inches / (0.09 * longest + 0.1)))
    axes.set_xticks(ticks, [f"{slot}\n{token_map.grid.seconds[slot]:.2f} s" for slot in ticks])
    axes.set_xlabel("slot, and its time in the video")
    for place in shown:
        axes.plot(place, -0.025 * top, marker="^", color=shades().ink, markersize=5, clip_on=False, zorder=5)
    for number, slot in enumerate(token_map.marked):
        named = {} if number else {"label": f"marked ({len(token_map.marked)})"}
        axes.axvline(slot, color=shades().ink, linestyle=":", linewidth=1.4, zorder=4, **named)
    events = token_map.events()
    halo = [withStroke(linewidth=2.5, foreground=shades().paper)]
    letter = 0.09 * slots / inches  # the width of a letter, in slots
    for slot, text in event_labels(events, letter):
        axes.annotate(
            text, (slot, base[slot]), (0, 3), textcoords="offset points", ha="center", color=hexed(KIND_COLOURS[2]),
            fontsize=8, fontweight="bold", path_effects=halo, zorder=6,
        )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    if token_map.change is not None:
        _change(axes.twinx(), token_map.change)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=4,
        frameon=False,
        fontsize=8 if inches > 4 else 7,
        handlelength=1,
        columnspacing=1,
    )


def even_ticks(slots: int, most: int) -> list[int]:
    """At most `most` (at least 2) slots from 0 on, all the same round number apart: 1, 2, 5, 10, 20, 50, ..."""
    steps = (factor * 10**power for power in range(9) for factor in (1, 2, 5))
    step = next(step for step in steps if (slots - 1) // step + 1 <= max(most, 2))
    return list(range(0, slots, step))


def event_labels(events: np.ndarray, letter: float) -> list[tuple[int, str]]:
    """Which slots of (T,) are labelled with their number of events, and how; `letter` is a letter's width in slots.

    In words ("2 events"), or as numbers if words would touch. The slots with the most events come first, ties the
    earlier one; a number that would touch another is left out.
    """
    slots = [int(slot) for slot in np.argsort(-events, kind="stable")[:MOST_LABELS] if events[slot] > 0]
    words = [(slot, f"{events[slot]} event{'s' * int(events[slot] > 1)}") for slot in slots]
    apart = _apart(words, letter)
    if len(slots) > 6 or len(apart) < len(slots):
        apart = _apart([(slot, str(events[slot])) for slot in slots], letter)
    return sorted(apart)


def _apart(labels: list[tuple[int, str]], letter: float) -> list[tuple[int, str]]:
    """The labels without those that would touch one before them."""
    kept: list[tuple[int, str]] = []
    for slot, text in labels:
        if all(abs(slot - other) > letter * (len(text) + len(name) + 1) / 2 for other, name in kept):
            kept.append((slot, text))
    return kept


def _change(axes: Any, change: np.ndarray) -> None:
    colour = shades().curves[1]
    axes.plot(np.arange(len(change)), change, color=colour, linewidth=1.6, marker=".", markersize=4)
    axes.set_ylim(0, max(1.15 * float(change.max()), 0.05))
    axes.locator_params(axis="y", nbins=4)
    axes.set_ylabel("change: 1 − mean similarity\nto the slot before", color=colour, fontsize=8)
    axes.tick_params(axis="y", colors=colour)
    axes.spines[["top", "left"]].set_visible(False)
