"""Writes a benchmark of rendered clips in the published layout of a real one, so that evaluations run without it.

    python benchmarks/synthetic.py -o DIR [--videos 125] [--seed 0] [--layout videomme]

Layouts, each as lmms-eval and `stsimdiff eval` read it:

- videomme (4 questions a video): DIR/videomme/test-00000-of-00001.parquet, DIR/data/*.mp4, DIR/subtitle/*.srt
- longvideobench (one question a video, 2 to 5 options): DIR/lvb_val.json, DIR/validation-00000-of-00001.parquet,
  DIR/videos/*.mp4, DIR/subtitles/*.json
- egoschema (one question a video, 5 options): DIR/Subset/test-00000-of-00001.parquet, DIR/videos/*.mp4

Of five videos two are short (4 to 16 s, one event), two medium (30 to 60 s, 2 or 3 events) and one long (2 to 4
minutes, 3 to 6 events): 8 frames a second, 96 x 96, of the held-out split. Everything that happens shows in 64 frames
spread evenly over the video; a flash may be missed with fewer. Right letters are equally frequent. DIR is written whole
or not at all, and a seed always gives the same videos and questions. The embedded model knows every word.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stsimdiff_cli.errors import RequestError, StsimdiffError
from stsimdiff_cli.synthetic.choices import LAYOUTS, Choice, choose, names
from stsimdiff_cli.synthetic.clips import FPS, Clip, Fact, make_clip
from stsimdiff_cli.synthetic.long_clips import make_tale
from stsimdiff_cli.synthetic.questions import EVENTS
from stsimdiff_cli.synthetic.samples import write_video

#: The clips of seed s have seeds from 100 000 + 2000 s on: those of training's own tests lie below, those of
#: `stsimdiff bench` begin at 1 000 000.
FIRST, APART, SEEDS = 100_000, 2_000, 450
SEEN = 64  # frames that a model is expected to look at
SECONDS = {"short": (4.0, 16.0), "medium": (30.0, 60.0), "long": (120.0, 240.0)}
HAPPENINGS = {"short": (1, 1), "medium": (2, 3), "long": (3, 6)}  # number of events, both ends included
LENGTHS = ("short", "medium", "short", "medium", "long")  # of every five videos
QUESTIONS = {"videomme": 4, "longvideobench": 1, "egoschema": 1}  # of each video
VIDEOS = {"videomme": 125, "longvideobench": 2, "egoschema": 2}

# lmms-eval knows Video-MME's own domains, sub-categories and tasks only: kinds of question take the nearest task.
DOMAIN, SUB_CATEGORY = "Film & Television", "Animation"
TASKS = {
    "colour": "Attribute Perception",
    "shape": "Object Recognition",
    "count": "Counting Problem",
    "flash": "Object Reasoning",
    "vanish": "Object Reasoning",
    "nothing": "Object Reasoning",
    "recolour": "Action Reasoning",
    "move": "Spatial Perception",
    "when": "Temporal Perception",
    "what": "Action Recognition",
}
# The same for LongVideoBench's categories: what is given and what is asked (scene, event, object, attribute).
CATEGORIES = {"colour": "S2A", "shape": "S2O", "count": "S2A", "when": "E2O", "what": "S2E", "move": "O2E",
              "recolour": "O2E", "flash": "E2O", "vanish": "E2O", "nothing": "E2O"}  # fmt: skip
GROUPS = {"short": 15, "medium": 60, "long": 600}  # LongVideoBench's duration_group
NARRATION = ("this is a video of objects", "what happens in this video?")  # tells nothing about the answers

# Quick, and the same bytes every time: with macroblock trees, which preset "slow" has, files of one clip differed.
ENCODING = {"crf": "18", "preset": "veryfast", "x264-params": "no-mbtree=1"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Film:
    """A video of the benchmark: its number (from 1), one of SECONDS, the seed of its clip, the clip and its choices."""

    number: int
    length: str
    seed: int
    clip: Clip
    choices: tuple[Choice, ...]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.clip.frames) / self.clip.fps


def shoot(seed: int, length: str) -> Clip:
    """The clip of a seed."""
    rng = np.random.default_rng([seed, 11])
    frames = round(rng.uniform(*SECONDS[length]) * FPS)
    low, high = HAPPENINGS[length]
    events = int(rng.integers(low, high + 1))
    if events > 1:
        return make_tale(seed, "heldout", frames, events, frames / SEEN)
    event = EVENTS[int(rng.integers(len(EVENTS)))]
    return make_clip(seed, "heldout", min(frames, SEEN) if event == "flash" else frames, event)


def pick_facts(rng: np.random.Generator, facts: list[Fact], count: int) -> list[Fact]:
    """`count` facts, up to three in four of them about events where there are that many, no wording asked twice."""
    mixed = [facts[i] for i in rng.permutation(len(facts))]
    told = [f for f in mixed if f.kind not in ("colour", "shape", "count", "nothing")]
    first = told[: max(1, count * 3 // 4)]
    return (first + [f for f in mixed if f not in first])[:count]


def films(layout: str, videos: int, seed: int) -> Iterator[Film]:
    """The videos of a benchmark, one after the other."""
    frame, each = LAYOUTS[layout], QUESTIONS[layout]
    rng = np.random.default_rng([seed, sorted(LAYOUTS).index(layout)])
    sizes = [frame.fewest + i % (frame.most - frame.fewest + 1) for i in range(videos * each)]
    places = [int(i) for i in rng.permutation(videos * each)]  # dealt out in turn to the letters of a question
    seeds = itertools.count(FIRST + APART * seed)
    for i in range(videos):
        length = LENGTHS[i % len(LENGTHS)]
        facts: list[Fact] = []
        while len(facts) < each:
            own = next(seeds)
            clip = shoot(own, length)
            facts = pick_facts(rng, clip.facts, each)
        choices = []
        for k, fact in enumerate(facts, start=i * each):
            question = fact.ask(rng)
            choices.append(choose(rng, question, names(clip.scenes), sizes[k], places[k] % sizes[k]))
        yield Film(i + 1, length, own, clip, tuple(choices))


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name when the block ends well, and is removed otherwise."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(f"{folder} exists.", "Choose another folder, or remove it first.")
    if not folder.parent.is_dir():
        raise RequestError(f"The folder {folder.parent} does not exist.", f"mkdir -p {folder.parent}")
    fresh: Path | None = None
    try:
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
        yield fresh
        fresh.chmod(0o755)
        fresh.replace(folder)  # an empty folder of that name gives way
    except OSError as error:
        raise StsimdiffError(f"{folder} cannot be written: {error}.", "Choose another place.") from error
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)


def write_parquet(path: Path, rows: list[Row]) -> None:
    """A table whose columns are the keys of the first row."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise StsimdiffError("Benchmarks are parquet files, and pyarrow is missing.", "pip install pyarrow") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_readme(folder: Path, title: str, config: str, split: str, files: str) -> None:
    """README.md with the front matter by which `datasets` finds the table."""
    header = [
        "---",
        "configs:",
        f"- config_name: {config}",
        "  data_files:",
        f"  - split: {split}",
        f'    path: "{files}"',
    ]
    text = [f"# {title}", "", "Rendered clips of coloured shapes with questions; written by benchmarks/synthetic.py."]
    (folder / "README.md").write_text("\n".join([*header, "---", "", *text, ""]), encoding="utf-8")


def clock(seconds: float, mark: str = ",") -> str:
    """01:02:03,450 as in .srt files; LongVideoBench has a point for the comma."""
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}{mark}{whole % 1000:03d}"


def cues(seconds: float) -> list[tuple[float, float, str]]:
    """Begin, end and text of lines that say nothing about the answers, one in every 2 to 20 seconds."""
    step = max(2.0, seconds / 12)
    begins = np.arange(0.0, seconds - 1.0, step)
    return [(float(t), float(min(t + step * 0.8, seconds)), NARRATION[i % 2]) for i, t in enumerate(begins)]


def write_videomme(folder: Path, videos: int, seed: int) -> int:
    """Video-MME's layout; every second video has subtitles. Returns the number of questions."""
    rows: list[Row] = []
    (folder / "data").mkdir()
    (folder / "subtitle").mkdir()
    for film in films("videomme", videos, seed):
        number, name = f"{film.number:03d}", f"shapes-{film.seed}"
        write_video(folder / "data" / f"{name}.mp4", film.clip.frames, film.clip.fps, **ENCODING)
        if film.number % 2:
            lines = [
                f'{i}\n{clock(begin)} --> {clock(end)}\n<font color="white" size=".72c">{text}</font>\n'
                for i, (begin, end, text) in enumerate(cues(film.seconds), start=1)
            ]
            (folder / "subtitle" / f"{name}.srt").write_text("\n".join(lines), encoding="utf-8")
        for k, choice in enumerate(film.choices, start=1):
            rows.append({
                "video_id": number, "duration": film.length, "domain": DOMAIN, "sub_category": SUB_CATEGORY,
                "url": "", "videoID": name, "question_id": f"{number}-{k}", "task_type": TASKS[choice.kind],
                "question": choice.text, "options": choice.lines(), "answer": choice.letter,
            })  # fmt: skip
    write_parquet(folder / "videomme" / "test-00000-of-00001.parquet", rows)
    write_readme(folder, "Shapes in the layout of Video-MME", "videomme", "test", "videomme/test-*")
    return len(rows)


def write_longvideobench(folder: Path, videos: int, seed: int) -> int:
    """LongVideoBench's layout; subtitles come in its two ways of writing, some with another beginning of time."""
    items: list[Row] = []
    (folder / "videos").mkdir()
    (folder / "subtitles").mkdir()
    for film in films("longvideobench", videos, seed):
        name, late = f"shapes-{film.seed}", 2.5 * (film.number % 2)
        write_video(folder / "videos" / f"{name}.mp4", film.clip.frames, film.clip.fps, **ENCODING)
        lines: list[Row] = [
            {"start": clock(begin + late, "."), "end": clock(end + late, "."), "line": text}
            if film.number % 2
            else {"timestamp": [begin + late, end + late], "text": text}
            for begin, end, text in cues(film.seconds)
        ]
        (folder / "subtitles" / f"{name}_en.json").write_text(json.dumps(lines), encoding="utf-8")
        for k, choice in enumerate(film.choices):
            items.append({
                "video_id": name, "question": choice.text, "question_wo_referring_query": choice.text,
                "candidates": list(choice.options), "correct_choice": choice.right, "position": [0],
                "topic_category": "LVT-Life-Vlogs", "question_category": CATEGORIES[choice.kind],
                "level": "L1-Perception", "id": f"{name}_{k}", "video_path": f"{name}.mp4",
                "subtitle_path": f"{name}_en.json", "duration_group": GROUPS[film.length],
                "starting_timestamp_for_subtitles": late, "duration": film.seconds, "view_count": 0,
            })  # fmt: skip
    (folder / "lvb_val.json").write_text(json.dumps(items, indent=1), encoding="utf-8")
    rows = []
    for item in items:
        row = {key: value for key, value in item.items() if key != "candidates"}
        options = [*item["candidates"], *["N/A"] * 5][:5]
        rows.append(row | {f"option{i}": option for i, option in enumerate(options)})
    write_parquet(folder / "validation-00000-of-00001.parquet", rows)
    write_readme(folder, "Shapes in the layout of LongVideoBench", "default", "validation", "validation-*")
    return len(rows)


def write_egoschema(folder: Path, videos: int, seed: int) -> int:
    """EgoSchema's layout, the subset with published answers, which are indices as text."""
    rows: list[Row] = []
    (folder / "videos").mkdir()
    for film in films("egoschema", videos, seed):
        name = f"shapes-{film.seed}"
        write_video(folder / "videos" / f"{name}.mp4", film.clip.frames, film.clip.fps, **ENCODING)
        for choice in film.choices:
            rows.append({
                "question_idx": str(len(rows)), "question": choice.text, "video_idx": name,
                "option": choice.lines(), "answer": str(choice.right),
            })  # fmt: skip
    write_parquet(folder / "Subset" / "test-00000-of-00001.parquet", rows)
    write_readme(folder, "Shapes in the layout of EgoSchema", "Subset", "test", "Subset/test-*")
    return len(rows)


WRITERS = {"videomme": write_videomme, "longvideobench": write_longvideobench, "egoschema": write_egoschema}


def write(folder: Path, layout: str = "videomme", videos: int | None = None, seed: int = 0) -> int:
    """Write a benchmark and return its number of questions; RequestError for numbers that are not possible."""
    count = VIDEOS[layout] if videos is None else videos
    if not 1 <= count <= APART // 2:
        raise RequestError(f"{count} videos are not possible.", f"Give a number from 1 to {APART // 2}.")
    if not 0 <= seed < SEEDS:
        raise RequestError(f"The seed {seed} is not possible.", f"Give a number from 0 to {SEEDS - 1}.")
    with whole_folder(folder) as fresh:
        return WRITERS[layout](fresh, count, seed)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to write, new or empty")
    parser.add_argument("--videos", type=int, help="125 in Video-MME's layout, 2 in the others")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layout", choices=tuple(WRITERS), default="videomme")
    options = parser.parse_args()
    try:
        count = write(options.out, options.layout, options.videos, options.seed)
    except StsimdiffError as error:
        print(f"Error: {error}", error.hint or "", sep="\n", file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"{options.out}: {count} questions")


if __name__ == "__main__":
    main()
