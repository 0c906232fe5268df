"""`stsimdiff eval`: answers of every method on disk, scores with intervals, and what a stopped run keeps."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from stsimdiff_cli import pipeline
from stsimdiff_cli.cli.app import main
from stsimdiff_cli.evaluation import paper_results as published
from stsimdiff_cli.evaluation.answering import Settings
from stsimdiff_cli.evaluation.plan import make_plan
from stsimdiff_cli.evaluation.report import eval_report, save_results
from stsimdiff_cli.evaluation.run import Failure
from stsimdiff_cli.evaluation.samples_log import ITEMS, Response, SamplesLog
from stsimdiff_cli.evaluation.tables import (
    EVAL,
    EXAMPLE,
    compared_table,
    groups_table,
    inside_table,
    paper_table,
    scores_table,
)
from stsimdiff_cli.evaluation.tasks import TASKS
from stsimdiff_cli.evaluation.tasks.base import Benchmark, Sample
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.video import Sampling

SAMPLES = Path(__file__).parents[2] / "sample_videos"
CLIPS = ("flash", "move", "vanish", "recolour")


def write_data(folder: Path, clips: tuple[str, ...] = CLIPS, copies: int = 1) -> Path:
    """LongVideoBench's own layout with two questions about each clip, under as many names as there are copies."""
    (folder / "videos").mkdir(parents=True)
    rows = []
    for clip in clips:
        for copy in range(copies):
            name = f"{clip}{copy}"
            shutil.copy(SAMPLES / f"{clip}.mp4", folder / "videos" / f"{name}.mp4")
            for category, question in (("S2E", "How many stars are there?"), ("SOS", "What colour is the star?")):
                rows.append(
                    {
                        "id": f"{name}_{category}",
                        "video_id": name,
                        "video_path": f"{name}.mp4",
                        "question": question,
                        "candidates": ["two", "red", "four"],
                        "correct_choice": len(rows) % 3,
                        "question_category": category,
                        "level": {"S2E": "L1-Perception", "SOS": "L2-Relation"}[category],
                        "duration_group": 15,
                    }
                )
    (folder / "lvb_val.json").write_text(json.dumps(rows))
    return folder


def evaluate(capsys, *args: object) -> tuple[int, str, str]:
    code = main(["eval", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *args: object) -> str:
    code, out, err = evaluate(capsys, *args)
    assert (code, out) == (2, "") and "error:" in err and "hint:" in err and "Traceback" not in err
    return " ".join(err.split())


def stored(folder: Path) -> list[dict]:
    return [json.loads(row) for row in (folder / ITEMS).read_text().splitlines()]


def timeless(rows: list[dict]) -> list[dict]:
    return sorted(
        ({k: v for k, v in row.items() if k != "seconds"} for row in rows),
        key=lambda row: (row["id"], row["method"], row["ratio"]),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "lvb")


SMALL = ("--frames", 8, "--methods", "random,st-simdiff", "--ratios", "0.3", "--device", "cpu")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    """The folder of a whole run."""
    folder = tmp_path_factory.mktemp("run") / "new" / "out"
    args = ["eval", "longvideobench", "--data", data, *SMALL, "-o", folder]
    assert main([*map(str, args)]) == 0
    return folder


# --- what a run leaves -----------------------------------------------------------------------------------------------


def test_every_answer_is_a_line_that_says_how_it_came_about(finished, data):
    rows = stored(finished)
    cells = Counter((row["method"], row["ratio"]) for row in rows)
    assert cells == {("vanilla", 1.0): 8, ("random", 0.3): 8, ("st-simdiff", 0.3): 8}
    samples = {sample.id: sample for sample in TASKS.load("longvideobench").load_samples(data)}
    for row in rows:
        sample = samples[row["id"]]
        assert (row["prompt"], row["answer"], row["video"]) == (sample.prompt, sample.answer, sample.video)
        assert row["tokens"] == 8 * 49 and row["kept"] == (392 if row["method"] == "vanilla" else 118)
        assert row["right"] is (row["parsed"] == row["answer"]) and row["parsed"] in sample.letters
        assert set(row["seconds"]) == {"encode", "select", "prefill", "answer"} and row["seconds"]["answer"] > 0


def test_answers_are_those_of_the_pipeline(finished, data):
    row = next(row for row in stored(finished) if row["method"] == "st-simdiff" and row["id"] == "move0_S2E")
    tokens = pipeline.encode_video(
        data / "videos" / "move0.mp4", "tiny", sampling=Sampling(frames=8), runtime=Runtime(device="cpu")
    )
    conversation = pipeline.converse(
        pipeline.compress_tokens(tokens, "0.3", runtime=Runtime(device="cpu")), runtime=Runtime(device="cpu")
    )
    assert conversation.ask(row["prompt"], max_new_tokens=32).text == row["raw"]


def test_the_report_and_the_tables_are_of_these_answers(finished):
    report = json.loads((finished / "report.json").read_text())
    rows = stored(finished)
    for row in report["rows"]:
        mine = [each for each in rows if each["method"] == row["method"]]
        found = row["accuracy"]
        assert (found["Overall"]["right"], found["Overall"]["asked"]) == (sum(r["right"] for r in mine), 8)
        part = [each for each in mine if each["id"].endswith("SOS")]
        assert (found["Relation"]["right"], found["Relation"]["asked"]) == (sum(r["right"] for r in part), 4)
        assert row["groups"]["category"]["SOS"]["right"] == found["Relation"]["right"]
    text = (finished / "tables.md").read_text()
    for row in report["rows"]:
        assert f"| {row['accuracy']['Overall']['percent']:.1f}" in text.replace("|  ", "| ")
    assert text.count("\n\n|") == 4 and "published" in text


def test_the_same_command_again_asks_nothing(capsys, finished, data, monkeypatch):
    def encode(*_, **__):
        raise AssertionError("work was done")

    monkeypatch.setattr(pipeline, "encode_video", encode)
    before = (finished / ITEMS).read_bytes()
    code, out, err = evaluate(capsys, "longvideobench", "--data", data, *SMALL, "-o", finished, "--json")
    assert code == 0 and "4 of 4 videos are done already" in err
    assert (finished / ITEMS).read_bytes() == before
    assert json.loads(out)["rows"][0]["accuracy"]["Overall"]["asked"] == 8


def test_a_method_added_later_is_all_that_is_asked(capsys, finished, data, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    args = ("--frames", 8, "--methods", "random,uniform,st-simdiff", "--ratios", "0.3", "--device", "cpu")
    assert evaluate(capsys, "longvideobench", "--data", data, *args, "-o", folder, "--limit", 3)[0] == 0
    new = stored(folder)[24:]
    assert [(row["method"], row["video"]) for row in new] == [("uniform", "flash0")] * 2 + [("uniform", "move0")]
    assert stored(folder)[:24] == stored(finished)


# --- stopped, torn, changed ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(capsys, finished, tmp_path):
    folder = tmp_path / "out"
    data = write_data(tmp_path / "lvb", copies=6)
    command = ["eval", "longvideobench", "--data", str(data), *map(str, SMALL), "-o", str(folder)]
    code = "import sys; from stsimdiff_cli.cli.app import main; sys.exit(main(sys.argv[1:]))"
    running = subprocess.Popen([sys.executable, "-c", code, *command], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / ITEMS).exists() or len(stored(folder)) < 6:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    done = len({row["video"] for row in stored(folder)})
    assert 1 <= done < 24
    assert main(command) == 0
    assert f"{done} of 24 videos are done already" in capsys.readouterr().err
    rows = stored(folder)
    assert len(rows) == 24 * 2 * 3 == len({(row["id"], row["method"]) for row in rows})
    same = ("id", "method", "prompt", "raw", "kept")
    first = [[row[name] for name in same] for row in timeless(rows) if row["video"].endswith("0")]
    assert first == [[row[name] for name in same] for row in timeless(stored(finished))]


def test_a_torn_line_is_asked_again(capsys, finished, data, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    text = (folder / ITEMS).read_text()
    (folder / ITEMS).write_text(text[:-30])
    code, _, err = evaluate(capsys, "longvideobench", "--data", data, *SMALL, "-o", folder)
    assert code == 0 and "3 of 4 videos" in err
    assert timeless(stored(folder)) == timeless(stored(finished))


def test_other_settings_and_other_questions_are_refused(capsys, finished, data, tmp_path):
    before = (finished / ITEMS).read_bytes()
    err = refused(capsys, "longvideobench", "--data", data, *SMALL, "--frames", 9, "-o", finished)
    assert "frames (8, now 9)" in err
    assert "max_pixels" in refused(
        capsys, "longvideobench", "--data", data, *SMALL, "--max-pixels", 2304, "-o", finished
    )
    changed = write_data(tmp_path / "lvb")
    text = (changed / "lvb_val.json").read_text()
    (changed / "lvb_val.json").write_text(text.replace("How many", "Count how many"))
    assert "another question" in refused(capsys, "longvideobench", "--data", changed, *SMALL, "-o", finished)
    assert (finished / ITEMS).read_bytes() == before
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    again = ("--frames", 9, "--limit", 1, "--force")
    assert evaluate(capsys, "longvideobench", "--data", data, *SMALL, *again, "-o", folder)[0] == 0
    assert len(stored(folder)) == 3


def test_bounds_of_frames_decide_how_many_tokens_are_asked_about(capsys, data, tmp_path):
    """48 x 48 pixels are 9 tokens of the embedded model."""
    small = ("--frames", 8, "--methods", "random", "--ratios", "0.3", "--device", "cpu", "--limit", 1)
    folder = tmp_path / "out"
    assert evaluate(capsys, "longvideobench", "--data", data, *small, "--max-pixels", 2304, "-o", folder)[0] == 0
    assert {row["tokens"] for row in stored(folder)} == {8 * 9}
    wrong = refused(capsys, "longvideobench", "--data", data, *small, "--max-pixels", "many")
    assert "is not a number of pixels" in wrong


def test_a_folder_of_something_else_is_left_alone(capsys, data, tmp_path):
    (tmp_path / ITEMS).write_text("mine\n")
    assert "next to it" in refused(capsys, "longvideobench", "--data", data, *SMALL, "-o", tmp_path)
    (tmp_path / "request.json").write_text("[]")
    assert "not what this program wrote" in refused(capsys, "longvideobench", "--data", data, *SMALL, "-o", tmp_path)
    (tmp_path / "file").write_text("")
    assert "folder" in refused(capsys, "longvideobench", "--data", data, *SMALL, "-o", tmp_path / "file")
    assert (tmp_path / ITEMS).read_text() == "mine\n"


def test_missing_and_broken_videos_are_named_and_left_out(capsys, tmp_path):
    data = write_data(tmp_path / "lvb")
    (data / "videos" / "move0.mp4").unlink()
    (data / "videos" / "vanish0.mp4").write_bytes(b"no video")
    folder = tmp_path / "out"
    code, out, err = evaluate(capsys, "longvideobench", "--data", data, *SMALL, "-o", folder, "--json")
    text = " ".join(err.split())
    assert code == 1 and "2 of 4 videos could not be used" in text
    assert "move0.mp4 does not exist. 2 questions are left out" in text and '{"warning": "vanish0:' in text
    report = json.loads(out)
    assert [failure["video"] for failure in report["failures"]] == ["move0", "vanish0"]
    assert (report["questions"], report["answered"], report["videos"]) == (8, 4, 2)
    assert {row["accuracy"]["Overall"]["asked"] for row in report["rows"]} == {4}
    shutil.copy(SAMPLES / "move.mp4", data / "videos" / "move0.mp4")
    shutil.copy(SAMPLES / "vanish.mp4", data / "videos" / "vanish0.mp4")
    code, out, err = evaluate(capsys, "longvideobench", "--data", data, *SMALL, "-o", folder, "--json")
    assert (code, json.loads(out)["answered"]) == (0, 8) and "2 of 4 videos are done already" in err


def test_parts_of_videos_and_folders_of_frames_are_shown_as_mvbench_names_them(tmp_path, capsys):
    data, clip = tmp_path / "MVBench", SAMPLES / "flash.mp4"
    question = {"candidates": ["two", "red", "four"], "answer": "red", "question": "What colour is the star?"}
    rows = {
        "action_sequence": [
            question | {"video": "flash.mp4", "start": start, "end": end} for start, end in ((2.0, 3.5), (90, 95))
        ],
        "episodic_reasoning": [question | {"video": "show_clip_01", "start": 1.0, "end": 2.9}],
    }
    for subtask, content in rows.items():
        (data / "json").mkdir(parents=True, exist_ok=True)
        (data / "json" / f"{subtask}.json").write_text(json.dumps(content))
    (data / "video/star/Charades_v1_480").mkdir(parents=True)
    shutil.copy(clip, data / "video/star/Charades_v1_480")
    frames = data / "video/tvqa/frames_fps3_hq/show_clip_01"
    frames.mkdir(parents=True)
    with av.open(str(clip)) as file:
        for number, frame in enumerate(itertools.islice(file.decode(video=0), 12), 1):
            frame.to_image().save(frames / f"{number:05}.png")

    how = ("--frames", 4, "--methods", "random", "--ratios", "0.3", "--device", "cpu", "--json")
    code, out, err = evaluate(capsys, "mvbench", "--data", data, "-o", tmp_path / "out", *how)
    assert code == 1 and "The start of 90 s is after the end of the clip. 1 questions are left out" in err
    assert (json.loads(out)["answered"], json.loads(out)["title"]) == (2, "MVBench")
    assert {row["tokens"] for row in stored(tmp_path / "out")} == {4 * 49}

    task, runtime = TASKS.load("mvbench"), Runtime(device="cpu")
    part, _, episode = task.load_samples(data)
    tokens = [task.encode(s, Settings("tiny", 4, runtime=runtime), (), pipeline.Context()) for s in (part, episode)]
    (tmp_path / "list.txt").write_text("".join(f"{frames}/{number:05}.png\n" for number in range(4, 10)))
    expected = [
        pipeline.encode_video(clip, "tiny", Sampling(frames=4, start=2, end=3.5), runtime),
        pipeline.encode_video(tmp_path / "list.txt", "tiny", Sampling(frames=4), runtime),
    ]
    for mine, theirs in zip(tokens, expected, strict=True):
        assert torch.equal(mine.features.tensor(), theirs.features.tensor())
    assert tokens[1].grid.seconds[0] == pytest.approx(1) and tokens[1].grid.seconds[-1] == pytest.approx(8 / 3)


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("videome",), "Did you mean 'videomme'?"),
        (("videomme",), "no questions"),
        (("longvideobench", "--methods", "st-simdif"), "st-simdiff"),
        (("longvideobench", "--ratios", "0"), "ratio"),
        (("longvideobench", "--subtitles"), "subtitles"),
        (("longvideobench", "--quantize", "3bit"), "4bit"),
    ],
)
def test_bad_requests_are_sentences(capsys, data, args, word):
    assert word.lower() in refused(capsys, *args, "--data", data).lower()


# --- scores of made-up answers ---------------------------------------------------------------------------------------


class Made(Benchmark):
    """Some questions about each of many videos."""

    name, title, citation, lmms_task, max_new_tokens = "egoschema", "Made", "", "", 1
    columns = {"Even": {"parity": ("0",)}, "Overall": {}}  # noqa: RUF012
    guesses = False

    def load_samples(self, data: Path) -> list[Sample]:
        return []

    def extract(self, text: str, sample: Sample) -> str:
        return text


REQUEST = {
    "format": EVAL,
    "benchmark": "egoschema",
    "device": "cpu",
    "frames": 64,
    "paper_model": "LLaVA-Video-7B",
    "model": "owner/name",
}
PLAN = make_plan("st-simdiff,random", "0.3")


def made(right: dict[str, np.ndarray], repeated: int = 1, labelled: bool = True) -> dict:
    """A report in which each method has the given videos right, with `repeated` equal questions a video."""
    count = len(next(iter(right.values())))
    samples = [
        Sample(f"{v}-{q}", str(v), Path("x"), "p", ("a", "b"), "A" if labelled else None, {"parity": str(v % 2)})
        for v in range(count)
        for q in range(repeated)
    ]
    log = SamplesLog()
    for method, ratio in PLAN.cells():
        for sample in samples:
            good = bool(right[method][int(sample.video)])
            log.add([_response(sample, method, float(ratio), "A" if good else "B")])
    return eval_report(REQUEST, Made(), samples, PLAN, log, [])


def _response(sample: Sample, method: str, ratio: float, letter: str) -> Response:
    seconds = {"encode": 1.0, "select": 0.1, "prefill": 0.2, "answer": 0.3}
    right = None if sample.answer is None else letter == sample.answer
    said = ("p", letter, letter, True)
    return Response(sample.id, sample.video, method, ratio, *said, sample.answer, right, 3, 10, seconds)


def drawn(seed: int, share: float, count: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).random(count) < share


def test_intervals_count_videos_and_not_questions():
    right = {"vanilla": drawn(0, 0.8), "st-simdiff": drawn(1, 0.7), "random": drawn(2, 0.5)}
    once, often = made(right), made(right, repeated=5)
    for row, other in zip(once["rows"], often["rows"], strict=True):
        a, b = row["accuracy"]["Overall"], other["accuracy"]["Overall"]
        assert (a["percent"], a["low"], a["high"]) == pytest.approx((b["percent"], b["low"], b["high"]))
        assert b["asked"] == 5 * a["asked"] == 1000
        share = a["percent"] / 100
        normal = 1.96 * 100 * (share * (1 - share) / 200) ** 0.5
        assert (a["high"] - a["low"]) / 2 == pytest.approx(normal, rel=0.1)


def test_differences_are_paired():
    same = drawn(0, 0.6)
    other = same.copy()
    other[same.argmax()] = False  # one video more is wrong
    rows = made({"vanilla": same, "st-simdiff": same, "random": other})["rows"]
    mine, theirs = rows[1], rows[2]
    assert mine["difference"]["vanilla"] == {"percent": 0, "low": 0, "high": 0}
    assert mine["of_vanilla"] == {"percent": 100, "low": 100, "high": 100}
    found = theirs["difference"]["st-simdiff"]
    assert found["percent"] == pytest.approx(-0.5) and -2 < found["low"] < -0.5 and found["high"] <= 0
    assert theirs["difference"]["vanilla"] == found
    assert rows[0]["difference"] == {} and rows[0]["of_vanilla"] is None


def test_columns_are_parts_of_the_questions():
    even = np.arange(200) % 2 == 0
    (row, *_) = made({"vanilla": even, "st-simdiff": even, "random": even})["rows"]
    assert row["accuracy"]["Even"]["percent"] == 100 and row["accuracy"]["Overall"]["percent"] == 50
    assert [row["groups"]["parity"][value]["percent"] for value in "01"] == [100, 0]


def test_the_paper_stands_beside_ours_with_the_difference():
    right = dict.fromkeys(("vanilla", "st-simdiff", "random"), np.arange(200) % 2 == 0)
    report = made(right)
    table = {(line[1], line[2]): line[3:] for line in paper_table(report).rows}
    known = {row.method: row.scores["egoschema"]["Overall"] for row in published.rows(*EXAMPLE) if row.ratio != "0.5"}
    assert table["st-simdiff@file", "published"] == ["-", f"{known['st-simdiff']:.1f}"]
    assert table["st-simdiff@file", "measured"] == ["100.0", "50.0"]
    assert table["st-simdiff@file", "difference"] == ["-", f"−{known['st-simdiff'] - 50:.1f}"]
    assert ("random", "measured") in table and ("random", "published") not in table
    other = paper_table({**report, "paper_model": None})
    assert "no differences" in other.title and not [line for line in other.rows if line[2] == "difference"]
    assert "no differences" in paper_table({**report, "frames": 63}).title
    named = paper_table({**report, "model": "owner/name:pool=average,times=off"}).title
    assert "measured with pool=average, times=off" in named and "measured with" not in paper_table(report).title


def test_rows_of_forms_inside_the_llm_are_in_every_table(monkeypatch):
    names = ["fastv", "fastv@inside", "fastv:k=3@inside", "st-simdiff@inside"]
    monkeypatch.setattr(f"{__name__}.PLAN", make_plan(",".join(names), "0.3"))
    report = made(dict.fromkeys(["vanilla", *names], np.arange(200) % 2 == 0))
    written = {"fastv@file", *names[1:]}
    for table in (scores_table(report), compared_table(report), paper_table(report)):
        assert {line[1] for line in table.rows} - {"vanilla"} == written
    shown_beside = {(line[1], line[2]) for line in paper_table(report).rows}
    for name in written:
        assert {(name, what) for what in ("measured", "published", "difference")} <= shown_beside
    assert {line[1] for line in inside_table(report).rows} == set(names[1:])
    assert all(f"{name} 0.3" in groups_table(report).header for name in written)


def test_one_video_has_no_interval():
    one = np.array([True])
    report = made({"vanilla": one, "st-simdiff": one, "random": ~one}, repeated=3)
    assert report["rows"][0]["accuracy"]["Overall"] == {
        "right": 3, "asked": 3, "percent": 100, "low": None, "high": None,
    }  # fmt: skip
    assert scores_table(report).rows[0][-1] == "100.0"


def test_without_labels_there_are_submissions_and_no_scores(tmp_path):
    task = TASKS.load("egoschema")
    samples = [Sample(f"v{i}", f"v{i}", Path("x"), "p", tuple("abcde"), None) for i in range(3)]
    log = SamplesLog()
    for method, ratio in PLAN.cells():
        log.add(_response(sample, method, float(ratio), letter) for sample, letter in zip(samples, "CAE", strict=True))
    report = eval_report(REQUEST, task, samples, PLAN, log, [Failure("v9", "gone", 1)])
    assert report["rows"][1]["accuracy"] is None and groups_table(report) is None
    save_results(tmp_path, report, task, samples, PLAN, log)
    assert json.loads((tmp_path / "submission-st-simdiff-0.3.json").read_text()) == {"v0": 2, "v1": 0, "v2": 4}
    assert len(list(tmp_path.glob("submission-*.json"))) == 3


def test_unlabelled_questions_need_a_folder(capsys, tmp_path):
    row = {"q_uid": "u", "question": "What?", **{f"option {i}": "x" for i in range(5)}}
    (tmp_path / "questions.json").write_text(json.dumps([row]))
    assert "-o" in refused(capsys, "egoschema", "--data", tmp_path)


def test_a_guess_is_the_same_in_every_run():
    task = TASKS.load("longvideobench")
    samples = [Sample(str(i), "v", Path("x"), "p", tuple("abcd"), "A") for i in range(400)]
    drawn = [task.parse("", sample) for sample in samples]
    assert drawn == [task.parse("no", replace(sample, prompt="other")) for sample in samples]
    counts = Counter(drawn)
    assert set(counts) == set("ABCD") and min(counts.values()) > 60


def test_off_a_terminal_progress_is_lines(capsys, finished, data, monkeypatch):
    from stsimdiff_cli.cli import output

    monkeypatch.setattr(output, "LOG_SECONDS", 0.0)
    code, _, err = evaluate(capsys, "longvideobench", "--data", data, *SMALL, "--limit", 2)
    assert code == 0 and "0 of 1 videos" in err and "1 of 1 videos, " in err and " left" in err
