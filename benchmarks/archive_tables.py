"""The reports of archives.py and schedule.py as tables."""

from __future__ import annotations

from typing import Any

from stsimdiff_cli.evaluation.text_table import TextTable

Json = dict[str, Any]
FORMATS = ("stsimdiff.benchmark.archives/1", "stsimdiff.benchmark.schedule/1")
_WAYS = {
    "serial": "one process",
    "local": "two worker processes",
    "shards": "3 shards; a quarter lost; 5 shards",
    "killed": "two workers, {} SIGKILLs",
    "ray": "Ray, three nodes",
}


def reads(report: Json) -> bool:
    """Whether a report is one of these scripts."""
    return report["format"] in FORMATS


def tables(report: Json) -> list[TextTable]:
    """All tables of a report."""
    if report["format"] == FORMATS[1]:
        return [_simulation(report)]
    return [_ways(report), _cost(report)]


def _ways(report: Json) -> TextTable:
    rows = []
    for name, text in _WAYS.items():
        way = report["ways"].get(name)
        if way is None:
            continue
        same = {None: "(reference)", True: "yes", False: "NO"}[way["as_serial"]]
        counts = [way["outputs"], way["done_twice"], way["transient_failures"], way["left_over"]]
        text = text.format(sum(way.get("kills", {}).values()))
        rows.append([text, same, *map(str, counts), "yes" if way["failed_as_hostile"] else "NO"])
    header = [
        "way",
        "same bytes",
        "outputs",
        "done twice",
        "attempts lost",
        "left over",
        "failed: the hostile, no other",
    ]
    return TextTable(f"Ways to do {report['clips']} videos, {report['hostile']} of them hostile", header, rows)


def _cost(report: Json) -> TextTable:
    ways, clips = report["ways"], report["clips"]
    rows = []
    for name in ("again", "finished"):
        if name in ways:
            text = f"second start, {ways[name]['done_before']} items done"
            rows.append([text, f"{ways[name]['own_cpu_seconds']:.1f} s of CPU", f"{ways[name]['seconds']:.0f} s"])
    if {"again", "local"} <= set(ways):
        own = ways["local"]["own_cpu_seconds"] - ways["again"]["own_cpu_seconds"]
        rows.append(["program besides its workers, an item", f"{1000 * own / clips:.1f} ms of CPU", "-"])
    if "work" in ways:
        work = ways["work"]
        for name in ("decode", "encode", "whole"):
            each = 1000 * work[f"{name}_cpu_seconds"] / work["clips"]
            rows.append([f"{name}, an item", f"{each:.1f} ms of CPU", "-"])
        rows.append(["whole / (decode + encode)", f"{work['whole_to_sum']:.2f}", "-"])
        rows.append(["two workers / the larger of both", f"{work['two_workers_to_larger']:.2f}", "-"])
    return TextTable("What it costs", ["what", "CPU", "by the clock"], rows, left=1)


def _simulation(report: Json) -> TextTable:
    rows = [
        ["items, workers", f"{report['items']}, {report['workers']}"],
        ["ended well, failed", f"{report['success']}, {report['failed']}"],
        [
            "attempts lost with a worker, too late",
            f"{report['attempts']['LostError']}, {report['attempts']['LateError']}",
        ],
        ["time without a single wait or failure", f"{report['ideal_seconds']} s"],
        ["nothing is waiting any more after", f"{report['queue_empty_seconds']} s"],
        ["everything is finished after", f"{report['seconds']} s"],
        ["longest item", f"{report['longest_item_seconds']} s"],
        ["CPU of schedule and loop, an item", f"{report['cpu_microseconds_an_item']:.0f} µs"],
        ["memory of the schedule, an item", f"{report['schedule_bytes_an_item']} bytes"],
    ]
    return TextTable("A million items on paper", ["what", "value"], rows, left=1)
