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


def draw_timeline(axes: Any, token_map: TokenMap, shown: list[int]) -> None:
    """Draw bars of kept tokens per slot, the change signal on an axis of its own, and marks at the slots `shown`."""
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
    top = max(float(base.max()), 1.0)
    axes.set_ylim(0, 1.18 * top)
    axes.set_xlim(-0.6, slots - 0.4)
    axes.set_ylabel("tokens kept per slot")
    ticks = np.unique(np.linspace(0, slots - 1, min(slots, 9)).round().astype(int))
    axes.set_xticks(ticks, [f"{slot}\n{token_map.grid.seconds[slot]:.2f} s" for slot in map(int, ticks)])
    axes.set_xlabel("slot, and its time in the video")
    for place in shown:
        axes.plot(place, -0.025 * top, marker="^", color=shades().ink, markersize=5, clip_on=False, zorder=5)
    events = token_map.events()
    halo = [withStroke(linewidth=2.5, foreground=shades().paper)]
    for slot in sorted(map(int, np.argsort(-events, kind="stable")[: min((events > 0).sum(), MOST_LABELS)])):
        many = int(events[slot])
        axes.annotate(
            f"{many} event" + "s" * (many > 1) if (events > 0).sum() <= 6 else str(many),
            (slot, base[slot]), (0, 3), textcoords="offset points", ha="center", color=hexed(KIND_COLOURS[2]),
            fontsize=8, fontweight="bold", path_effects=halo, zorder=6,
        )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    if token_map.change is not None:
        _change(axes.twinx(), token_map.change)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, fontsize=8, handlelength=1)


def _change(axes: Any, change: np.ndarray) -> None:
    colour = shades().curves[1]
    axes.plot(np.arange(len(change)), change, color=colour, linewidth=1.6, marker=".", markersize=4)
    axes.set_ylim(0, max(1.15 * float(change.max()), 0.05))
    axes.locator_params(axis="y", nbins=4)
    axes.set_ylabel("change: 1 − mean similarity\nto the slot before", color=colour, fontsize=8)
    axes.tick_params(axis="y", colors=colour)
    axes.spines[["top", "left"]].set_visible(False)
