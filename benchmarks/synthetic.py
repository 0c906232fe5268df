"""Writes a benchmark of rendered clips in the published layout of a real one, so that evaluations run without it.

    python benchmarks/synthetic.py -o DIR [--videos 125] [--seed 0] [--layout videomme]

Layouts, each as lmms-eval and `stsimdiff eval` read it:

- videomme (4 questions a video): DIR/videomme/test-00000-of-00001.parquet, DIR/data/*.mp4, DIR/subtitle/*.srt
- longvideobench (one question a video, 2 to 5 options): DIR/lvb_val.json, DIR/validation-00000-of-00001.parquet,
  DIR/videos/*.mp4, DIR/subtitles/*.json
- egoschema (one question a video, 5 options): DIR/Subset/test-00000-of-00001.parquet, DIR/videos/*.mp4

Of every five videos two are short (5 to 8 s, a clip of any rung of the ladder but `long`), two medium and one long (5
to 15 and 15 to 30 minutes, rung `long`: one to three flashes). All have 112 x 112 pixels and come from the held-out
split; 64 frames spread evenly over a video show every event. Right letters are equally frequent. The embedded model
knows every word. DIR is written whole or not at all, and a seed always gives the same videos and questions.
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
from stsimdiff_cli.evaluation.tasks.rendered import pick_questions
from stsimdiff_cli.synthetic.benchmark_prompts import LAYOUTS, NARRATION
from stsimdiff_cli.synthetic.choices import MultipleChoice, choose, rotations
from stsimdiff_cli.synthetic.clips import LEAST_FRAMES, Clip, make_clip, outline_clip
from stsimdiff_cli.synthetic.questions import GROUPS, Fact
from stsimdiff_cli.synthetic.rungs import RUNGS
from stsimdiff_cli.synthetic.video_file import write_video

#: The clips of seed s have seeds from 100 000 + 2000 s on: the held-out clips of training have lower seeds, and those
#: of `stsimdiff bench` begin at 1 000 000.
FIRST_SEED, SEEDS_APART, SEED_COUNT = 100_000, 2_000, 450
FRAMES_SEEN = 64  # that a model is expected to look at, and that clips of minutes have
SECONDS = {"short": (5.0, 8.0), "medium": (300.0, 900.0), "long": (900.0, 1800.0)}
SHORT_RUNGS = tuple(rung for rung in RUNGS if rung != "long")
LONG_FPS = 1.0  # of the files of clips of minutes, which hold each frame for seconds
LENGTHS = ("short", "medium", "short", "medium", "long")  # of every five videos
QUESTIONS = {"videomme": 4, "longvideobench": 1, "egoschema": 1}  # of each video
VIDEOS = {"videomme": 125, "longvideobench": 2, "egoschema": 2}

# lmms-eval knows only Video-MME's own domains, sub-categories and tasks: each kind of question takes the nearest task.
DOMAIN, SUB_CATEGORY = "Film & Television", "Animation"
TASKS = {
    "colour": "Attribute Perception",
    "shape": "Object Recognition",
    "count": "Counting Problem",
    "where": "Spatial Reasoning",
    "flash": "Object Reasoning",
    "vanish": "Object Reasoning",
    "appear": "Object Reasoning",
    "nothing": "Object Reasoning",
    "recolour": "Action Reasoning",
    "move": "Spatial Perception",
    "when": "Temporal Perception",
    "moment": "Temporal Perception",
    "what": "Action Recognition",
    "order": "Temporal Reasoning",
    "times": "Counting Problem",
}
# The same for LongVideoBench's categories: what is given and what is asked (scene, event, object, attribute).
CATEGORIES = {"colour": "S2A", "shape": "S2O", "count": "S2A", "where": "S2O", "when": "E2O", "moment": "E2O",
              "what": "S2E", "move": "O2E", "recolour": "O2E", "flash": "E2O", "vanish": "E2O", "appear": "E2O",
              "nothing": "E2O", "order": "E3E", "times": "S2A"}  # fmt: skip
DURATION_GROUPS = {"short": 15, "medium": 600, "long": 3600}  # of LongVideoBench

# Quick, and the same bytes every time: with macroblock trees, as in preset "slow", files of the same clip differed.
ENCODING = {"crf": "18", "preset": "veryfast", "x264-params": "no-mbtree=1"}

Row = dict[str, Any]


@dataclass(frozen=True)
class BenchmarkVideo:
    """A video of the benchmark: its number (from 1), a length of SECONDS, the clip with its seed, and the questions."""

    number: int
    length: str
    seed: int
    clip: Clip
    choices: tuple[MultipleChoice, ...]

    @property
    def seconds(self) -> float:
        """The duration."""
        return len(self.clip.frames) * self.hold / self.fps

    @property
    def fps(self) -> float:
        """Frames a second of the file."""
        return self.clip.fps if self.length == "short" else LONG_FPS

    @property
    def hold(self) -> int:
        """How many frames of the file show each frame of the clip."""
        return round(self.fps / self.clip.fps)

    @property
    def name(self) -> str:
        """The name of its file, without a suffix."""
        return f"shapes-{self.seed}"

    def write(self, folder: Path) -> None:
        """Write NAME.mp4 into the folder."""
        write_video(folder / f"{self.name}.mp4", self.clip.frames.repeat(self.hold, 0), self.fps, **ENCODING)


def find_clip(seeds: Iterator[int], length: str) -> tuple[int, dict[str, Any]]:
    """The next seed with a clip of that length, and the arguments of make_clip."""
    for seed in seeds:
        rng = np.random.default_rng([seed, 11])
        if length == "short":
            rung = SHORT_RUNGS[int(rng.integers(len(SHORT_RUNGS)))]
            frames = int(rng.integers(max(40, LEAST_FRAMES.get(rung, 0)), FRAMES_SEEN + 1))
            return seed, {"rung": rung, "frames": frames, "split": "heldout"}
        kind: dict[str, Any] = {"rung": "long", "frames": FRAMES_SEEN, "split": "heldout"}
        low, high = SECONDS[length]
        if low <= FRAMES_SEEN / outline_clip(seed, **kind).fps < high:
            return seed, kind
    raise AssertionError("seeds do not end")


def choose_facts(rng: np.random.Generator, facts: list[Fact], count: int) -> list[Fact]:
    """`count` different facts, three in four of them about events and times if there are that many."""
    shuffled = [facts[i] for i in rng.permutation(len(facts))]
    about_events = [fact for fact in shuffled if fact.kind not in (*GROUPS["static"], "nothing")]
    first = about_events[: max(1, count * 3 // 4)]
    return (first + [fact for fact in shuffled if fact not in first])[:count]


def benchmark_videos(layout: str, videos: int, seed: int) -> Iterator[BenchmarkVideo]:
    """The videos of a benchmark, one after the other."""
    limits, each = LAYOUTS[layout], QUESTIONS[layout]
    rng = np.random.default_rng([seed, sorted(LAYOUTS).index(layout)])
    sizes = [
        limits.min_options + i % (limits.max_options - limits.min_options + 1) for i in range(videos * each)
    ]  # number of options of each question
    places = [int(i) for i in rng.permutation(videos * each)]  # of the right options, dealt out to the letters in turn
    seeds = itertools.count(FIRST_SEED + SEEDS_APART * seed)
    for i in range(videos):
        length = LENGTHS[i % len(LENGTHS)]
        numbers = range(i * each, (i + 1) * each)
        choices: list[MultipleChoice] = []
        while len(choices) < each:
            clip_seed, kind = find_clip(seeds, length)
            choices = ask_choices(rng, clip_seed, kind, [(sizes[k], places[k] % sizes[k]) for k in numbers])
        yield BenchmarkVideo(i + 1, length, clip_seed, make_clip(clip_seed, **kind), tuple(choices))


def ask_choices(
    rng: np.random.Generator, seed: int, kind: dict[str, Any], wanted: list[tuple[int, int]]
) -> list[MultipleChoice]:
    """Questions about a clip with as many options, and the right one where it is, as wanted; fewer if it has fewer."""
    outline, most = outline_clip(seed, **kind), max(size for size, _ in wanted)
    facts = [fact for fact, _ in pick_questions(seed, outline)]
    facts = [fact for fact in facts if len(choose(rng, fact, outline, most).options) == most]
    chosen = choose_facts(rng, facts, len(wanted))
    turned = [rotations(choose(rng, fact, outline, size)) for fact, (size, _) in zip(chosen, wanted, strict=False)]
    return [
        next(choice for choice in each if choice.right == place)
        for each, (_, place) in zip(turned, wanted, strict=False)
    ]


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder next to `folder`, renamed to it when the block succeeds and removed when it fails.

    RequestError if the folder is there already and not empty, or if its parent is missing; StsimdiffError if the block
    cannot write.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(f"{folder} exists.", "Choose another folder, or remove it first.")
    if not folder.parent.is_dir():
        raise RequestError(f"The folder {folder.parent} does not exist.", f"mkdir -p {folder.parent}")
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
        yield temporary
        temporary.chmod(0o755)
        temporary.replace(folder)  # replaces an empty folder of that name
    except OSError as error:
        raise StsimdiffError(f"{folder} cannot be written: {error}.", "Choose another place.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_parquet(path: Path, rows: list[Row]) -> None:
    """A table whose columns are the keys of the first row. StsimdiffError without pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise StsimdiffError(
            "Benchmarks are Parquet files, and pyarrow is not installed.", "pip install pyarrow"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_readme(folder: Path, title: str, config: str, split: str, files: str) -> None:
    """README.md with the front matter from which `datasets` finds the table."""
    header = [
        "---",
        "configs:",
        f"- config_name: {config}",
        "  data_files:",
        f"  - split: {split}",
        f'    path: "{files}"',
    ]
    text = [f"# {title}", "", "Rendered clips of coloured objects with questions; written by benchmarks/synthetic.py."]
    (folder / "README.md").write_text("\n".join([*header, "---", "", *text, ""]), encoding="utf-8")


def timestamp(seconds: float, mark: str = ",") -> str:
    """01:02:03,450 as in .srt files; LongVideoBench has a point instead of the comma."""
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}{mark}{whole % 1000:03d}"


def cues(seconds: float) -> list[tuple[float, float, str]]:
    """Start, end and text of subtitles that give no answer away, one in every 2 to 20 seconds."""
    step = max(2.0, seconds / 12)
    starts = np.arange(0.0, seconds - 1.0, step)
    return [(float(t), float(min(t + step * 0.8, seconds)), NARRATION[i % 2]) for i, t in enumerate(starts)]


def write_videomme(folder: Path, videos: int, seed: int) -> int:
    """Video-MME's layout; the videos with odd numbers have subtitles. Returns the number of questions."""
    rows: list[Row] = []
    (folder / "data").mkdir()
    (folder / "subtitle").mkdir()
    for video in benchmark_videos("videomme", videos, seed):
        number = f"{video.number:03d}"
        video.write(folder / "data")
        if video.number % 2:
            lines = [
                f'{i}\n{timestamp(start)} --> {timestamp(end)}\n<font color="white" size=".72c">{text}</font>\n'
                for i, (start, end, text) in enumerate(cues(video.seconds), start=1)
            ]
            (folder / "subtitle" / f"{video.name}.srt").write_text("\n".join(lines), encoding="utf-8")
        for k, choice in enumerate(video.choices, start=1):
            rows.append({
                "video_id": number, "duration": video.length, "domain": DOMAIN, "sub_category": SUB_CATEGORY,
                "url": "", "videoID": video.name, "question_id": f"{number}-{k}", "task_type": TASKS[choice.kind],
                "question": choice.text, "options": choice.lettered_options(), "answer": choice.letter,
            })  # fmt: skip
    write_parquet(folder / "videomme" / "test-00000-of-00001.parquet", rows)
    write_readme(folder, "Shapes in the layout of Video-MME", "videomme", "test", "videomme/test-*")
    return len(rows)


def write_longvideobench(folder: Path, videos: int, seed: int) -> int:
    """LongVideoBench's layout; subtitles in both of its formats in turn, every second with times that start later.

    Returns the number of questions.
    """
    items: list[Row] = []
    (folder / "videos").mkdir()
    (folder / "subtitles").mkdir()
    for video in benchmark_videos("longvideobench", videos, seed):
        name, late = video.name, 2.5 * (video.number % 2)
        video.write(folder / "videos")
        lines: list[Row] = [
            {"start": timestamp(start + late, "."), "end": timestamp(end + late, "."), "line": text}
            if video.number % 2
            else {"timestamp": [start + late, end + late], "text": text}
            for start, end, text in cues(video.seconds)
        ]
        (folder / "subtitles" / f"{name}_en.json").write_text(json.dumps(lines), encoding="utf-8")
        for k, choice in enumerate(video.choices):
            items.append({
                "video_id": name, "question": choice.text, "question_wo_referring_query": choice.text,
                "candidates": list(choice.options), "correct_choice": choice.right, "position": [0],
                "topic_category": "LVT-Life-Vlogs", "question_category": CATEGORIES[choice.kind],
                "level": "L1-Perception", "id": f"{name}_{k}", "video_path": f"{name}.mp4",
                "subtitle_path": f"{name}_en.json", "duration_group": DURATION_GROUPS[video.length],
                "starting_timestamp_for_subtitles": late, "duration": video.seconds, "view_count": 0,
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
    """EgoSchema's layout: the subset with published answers, indices as text. Returns the number of questions."""
    rows: list[Row] = []
    (folder / "videos").mkdir()
    for video in benchmark_videos("egoschema", videos, seed):
        video.write(folder / "videos")
        for choice in video.choices:
            rows.append({
                "question_idx": str(len(rows)), "question": choice.text, "video_idx": video.name,
                "option": choice.lettered_options(), "answer": str(choice.right),
            })  # fmt: skip
    write_parquet(folder / "Subset" / "test-00000-of-00001.parquet", rows)
    write_readme(folder, "Shapes in the layout of EgoSchema", "Subset", "test", "Subset/test-*")
    return len(rows)


WRITERS = {"videomme": write_videomme, "longvideobench": write_longvideobench, "egoschema": write_egoschema}


def write(folder: Path, layout: str = "videomme", videos: int | None = None, seed: int = 0) -> int:
    """Write a benchmark and return its number of questions.

    `videos` is 125 in Video-MME's layout and 2 in the others, unless given. RequestError for a number of videos or a
    seed out of range, and as in whole_folder.
    """
    count = VIDEOS[layout] if videos is None else videos
    if not 1 <= count <= SEEDS_APART // 2:
        raise RequestError(f"--videos {count} is out of range.", f"Give a number from 1 to {SEEDS_APART // 2}.")
    if not 0 <= seed < SEED_COUNT:
        raise RequestError(f"--seed {seed} is out of range.", f"Give a number from 0 to {SEED_COUNT - 1}.")
    with whole_folder(folder) as temporary:
        return WRITERS[layout](temporary, count, seed)


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
