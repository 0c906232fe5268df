"""How long work takes (stopwatch.py), and which thread does what when (spans.py)."""

from .stopwatch import OUTSIDE, Stopwatch, selection_seconds

__all__ = ["OUTSIDE", "Stopwatch", "selection_seconds"]
