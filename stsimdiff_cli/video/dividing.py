"""Divides the chosen frames among workers, within a limit of memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import RequestError
from ..machine import available_memory
from .decoding import threadable
from .scanning import Scan

LEAST = 24  # packets worth a part of their own: each part costs a seek, and a packet or two are decoded twice
PARTS = 8  # parts a worker, so that the last ones end at about the same time
MOST_THREADS = 8  # of one decoder
SHARE = 4  # workers and chunks take at most a quarter of the memory that is available
PICTURES = 24  # that a decoder holds: 16 references, the ones in work and those that wait to be shown


@dataclass(frozen=True)
class Division:
    """Which chosen frames are read together, and by how many workers at once."""

    parts: tuple[range, ...]  # positions in the list of chosen frames: together all of them, in order
    workers: int
    threads: int  # of each worker's decoder
    ahead: int  # chunks that exist at a time, with the one that the consumer uses


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_for(wanted: int | None) -> int:
    """The number of workers: as asked for, or one for each core but one, which is left to the model.

    Raises RequestError for a number below 1.
    """
    if wanted is None:
        return max(cores() - 1, 1)
    if wanted < 1:
        raise RequestError(f"{wanted} workers cannot decode a video.", "Give a number of at least 1.")
    return wanted


def divide(scan: Scan, chosen: Sequence[int], chunk: int, workers: int) -> Division:
    """Divide the chosen frames (increasing, into `scan.seconds`) among at most `workers` workers.

    A part is one group of pictures or several that follow each other. Cores that no part is left for help as threads
    of the decoders. Files in which frames are counted from the beginning, or that are small, are read in one part.
    """
    whole = (range(len(chosen)),)
    if workers == 1 or len(chosen) < 2 or scan.counted:
        return Division(whole, 1, 1 if scan.counted else min(workers, MOST_THREADS), 1)
    picture = scan.width * scan.height * 3  # bytes
    memory = available_memory() // SHARE
    workers = max(min(workers, memory // 2 // (PICTURES * picture)), 1)
    ahead = max(min(2 * workers, memory // 2 // (chunk * picture)), 2)
    parts = _parts(scan, chosen, chunk, workers)
    at_once = min(workers, len(parts))
    if threadable(scan):
        # Chunks must wait for those before them: of long groups that are read densely, few can be decoded at a time.
        sizes = np.array([len(part) for part in parts])
        usual = (sizes**2).sum() / sizes.sum()  # frames in the part of a frame, on average
        at_once = max(min(at_once, int(ahead * chunk / usual)), 1)
    if at_once == 1:
        parts = whole
    return Division(parts, at_once, max(min(workers // at_once, MOST_THREADS), 1), ahead)


def _parts(scan: Scan, chosen: Sequence[int], chunk: int, workers: int) -> tuple[range, ...]:
    """Groups of pictures, joined until they are worth a part."""
    starts, ends = _groups(scan.entry[list(chosen)])
    cost = np.array([_packets(scan, chosen[a:b]) for a, b in zip(starts, ends, strict=True)])
    enough = max(LEAST, cost.sum() / (PARTS * workers))
    parts: list[range] = []
    start, spent = 0, 0
    for end, packets in zip(ends, cost, strict=True):
        spent += packets
        if spent >= enough or end - start >= chunk or end == len(chosen):
            parts.append(range(start, end))
            start, spent = end, 0
    return tuple(parts)


def _groups(entry: np.ndarray) -> tuple[list[int], list[int]]:
    """Where groups of pictures start and end among the chosen frames, of which `entry` has the key packets.

    A group is one that no frame outside of it shares a key packet with, nor lies between: keys increase from each
    group to the next.
    """
    before = np.maximum.accumulate(entry)
    after = np.minimum.accumulate(entry[::-1])[::-1]
    starts = [0, *(np.flatnonzero(after[1:] > before[:-1]) + 1).tolist()]
    return starts, [*starts[1:], len(entry)]


def _packets(scan: Scan, group: Sequence[int]) -> int:
    """How many packets are decoded for a group."""
    frames = list(group)
    return int(scan.position[frames].max() - scan.entry[frames].min()) + 2
