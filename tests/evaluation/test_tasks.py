"""Benchmarks: questions found in every published layout, prompts and letters as lmms-eval has them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.evaluation.tasks import TASKS
from stsimdiff_cli.evaluation.tasks.base import Sample
from stsimdiff_cli.evaluation.tasks.mvbench import SUBTASKS
from stsimdiff_cli.evaluation.tasks.subtitles import NONE, Cue, read_cues, shown
from tests.support.clip_factory import render

VIDEOMME, LONGVIDEOBENCH, EGOSCHEMA, MVBENCH, TVQA = (
    TASKS.load(name) for name in ("videomme", "longvideobench", "egoschema", "mvbench", "tvqa")
)
POST = "Answer with the option's letter from the given choices directly."
PRE = (
    "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
    "Respond with only the letter (A, B, C, or D) of the correct option.\n"
)
VIDEOMME_ROWS = [
    {
        "video_id": "001",
        "duration": duration,
        "domain": "Knowledge",
        "sub_category": "Geography",
        "videoID": video,
        "question_id": question,
        "task_type": "OCR Problems",
        "question": "What does the sign say?",
        "options": ["A. Stop.", "B. Go.", "C. Wait: there is more.", "D. B. as in bee."],
        "answer": answer,
    }
    for question, video, duration, answer in (
        ("001-1", "-fFUm_0aX.Y", "short", "C"),
        ("001-2", "-fFUm_0aX.Y", "short", "A"),
        ("002-1", "b2", "long", "D"),
    )
]
LVB_ROWS = [
    {
        "id": f"v{i}_0",
        "video_id": f"v{i}",
        "video_path": f"v{i}.mp4",
        "question": "After the door opens, who comes in?",
        "candidates": candidates,
        "correct_choice": answer,
        "question_category": category,
        "level": level,
        "duration_group": duration,
    }
    for i, (candidates, answer, category, level, duration) in enumerate(
        (
            (["a cat", "a man", "nobody", "a dog", "N. N."], 4, "S2E", "L1-Perception", 15),
            (["first", "second", "third", "fourth"], 1, "E3E", "L2-Relation", 3600),
        )
    )
]
EGO_ROWS = [
    {
        "q_uid": f"0000-{i}",
        "google_drive_id": "x",
        "question": "What is C doing overall?",
        **{f"option {k}": text for k, text in enumerate(options)},
    }
    for i, options in enumerate(
        (
            ("C reads a book", "C rides a bike", "C rides", "a man rides a bike to the park", "C sleeps"),
            ("one", "two", "three", "four", "five"),
        )
    )
]
#: By subtask, as the revision `main` has them.
MVBENCH_ROWS = {
    "action_antonym": {
        "video": "166583.webm",
        "question": "What is the action?",
        "candidates": ["not sure", "Book falling", "Book rising"],
        "answer": "Book falling",
    },
    "action_sequence": {
        "video": "ZS9XR.mp4",
        "question": "What happened after the person took the food?",
        "candidates": ["Ate the medicine.", "Tidied up the blanket.", "Put down the cup.", "Took the box."],
        "answer": "Ate the medicine.",
        "start": 1.2999999999999998,
        "end": 15.4,
    },
    "episodic_reasoning": {
        "video": "s01e01_seg02_clip_07",
        "question": "What did {he} hold?",
        "candidates": ["A cup", "A lamp", "A chair", "A {book}", "A map"],
        "answer": "A map",
        "start": 0.5,
        "end": 2.0,
        "fps": 3,
    },
    "moving_count": {
        "video": "video_10009.mp4",
        "question": "How many move?",
        "candidates": ["1", "2"],
        "answer": "1",
    },
}
TVQA_ROWS = [
    {
        **{f"a{i}": text for i, text in enumerate(("A cup", "A lamp. ", "A chair", "A book", "A map"))},
        "answer_idx": 3,
        "q": "What does she hold?",
        "qid": qid,
        "show_name": show,
        "ts": times,
        "vid_name": name,
    }
    for qid, show, times, name in (
        (7, "How I Met Your Mother", "0.4-1.5", "met_s06e22_seg01_clip_02"),
        (12, "How I Met Your Mother", "NaN-NaN", "met_s06e22_seg01_clip_02"),
        (9, "The Big Bang Theory", "0-0", "s04e06_seg02_clip_05"),
    )
]


def lvb_parquet_row(row: dict, labels: bool = True) -> dict:
    """As the Parquet files have it: a column an option."""
    columns = {f"option{i}": (row["candidates"] + ["N/A"] * 5)[i] for i in range(5)}
    dropped = {"candidates", *(() if labels else ("correct_choice",))}
    return {key: value for key, value in row.items() if key not in dropped} | columns


def ego_parquet_row(row: dict, answer: str | None) -> dict:
    """As the Parquet files have it: a list of options with letters."""
    options = [f"{letter}. {row[f'option {k}']}" for k, letter in enumerate("ABCDE")]
    return {
        "question_idx": "7",
        "video_idx": row["q_uid"],
        "question": row["question"],
        "option": options,
        "answer": answer,
    }


def write_parquet(path: Path, rows: list[dict]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"-")
    return path


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("questions", "video"),
    [
        ("videomme/test-00000-of-00001.parquet", "data/b2.mp4"),
        ("videomme/test-00000-of-00001.parquet", "video/b2.mkv"),
        ("test-00000-of-00001.parquet", "b2.MP4"),
        ("lmms-eval/Video-MME/videomme/test-00000-of-00001.parquet", "lmms-eval/Video-MME/data/b2.webm"),
        (
            "hub/datasets--lmms-eval--Video-MME/snapshots/1a2b/videomme/test-00000-of-00001.parquet",
            "videomme/data/b2.mp4",
        ),
    ],
)
def test_videomme(tmp_path, questions, video):
    write_parquet(tmp_path / questions, VIDEOMME_ROWS)
    path = touch(tmp_path / video)
    items = VIDEOMME.load_samples(tmp_path)
    assert [(item.id, item.video, item.answer) for item in items] == [
        ("001-1", "-fFUm_0aX.Y", "C"),
        ("001-2", "-fFUm_0aX.Y", "A"),
        ("002-1", "b2", "D"),
    ]
    assert items[2].path == path and not items[0].path.exists() and items[0].path.name == "-fFUm_0aX.Y.mp4"
    assert items[2].options == ("Stop.", "Go.", "Wait: there is more.", "B. as in bee.") and items[2].letters == "ABCD"
    options = "A. Stop.\nB. Go.\nC. Wait: there is more.\nD. B. as in bee."
    assert items[2].prompt == f"{PRE}What does the sign say?\n{options}\n\n{POST}"
    assert items[2].groups == {
        "duration": "long",
        "domain": "Knowledge",
        "sub_category": "Geography",
        "task_type": "OCR Problems",
    }


@pytest.mark.parametrize(
    ("questions", "video"),
    [
        ("validation-00000-of-00001.parquet", "videos/v1.mp4"),
        ("lvb_val.json", "videos/v1.mkv"),
        (
            "hub/datasets--longvideobench--LongVideoBench/snapshots/1a2b/validation-00000-of-00001.parquet",
            "datasets/longvideobench/videos/v1.mp4",
        ),
    ],
)
def test_longvideobench(tmp_path, questions, video):
    if questions.endswith("json"):
        write_json(tmp_path / questions, LVB_ROWS)
        write_json(tmp_path / "lvb_test_wo_gt.json", LVB_ROWS[:1])
    else:
        write_parquet(tmp_path / questions, [lvb_parquet_row(row) for row in LVB_ROWS])
        write_json(tmp_path / "lvb_test_wo_gt.json", LVB_ROWS[:1])
    path = touch(tmp_path / video)
    first, second = LONGVIDEOBENCH.load_samples(tmp_path)
    assert (first.id, first.video, first.answer, first.letters) == ("v0_0", "v0", "E", "ABCDE")
    assert (second.answer, second.letters, second.path) == ("B", "ABCD", path)
    assert first.path == path.with_name("v0.mp4")
    assert first.groups == {"level": "perception", "duration": "15", "category": "S2E"}
    assert second.groups == {"level": "relation", "duration": "3600", "category": "E3E"}
    options = "A. first\nB. second\nC. third\nD. fourth"
    assert second.prompt == f"After the door opens, who comes in?\n{options}\n{POST}\n"


def test_longvideobench_without_labels(tmp_path):
    write_parquet(tmp_path / "test-00000-of-00001.parquet", [lvb_parquet_row(row, labels=False) for row in LVB_ROWS])
    assert [item.answer for item in LONGVIDEOBENCH.load_samples(tmp_path)] == [None, None]


def test_egoschema_takes_the_labelled_subset_first(tmp_path):
    write_parquet(tmp_path / "MC/test-00000-of-00001.parquet", [ego_parquet_row(row, None) for row in EGO_ROWS])
    assert [item.answer for item in EGOSCHEMA.load_samples(tmp_path)] == [None, None]
    write_json(tmp_path / "questions.json", EGO_ROWS)
    write_json(tmp_path / "subset_answers.json", {"0000-1": 4})
    original = EGOSCHEMA.load_samples(tmp_path)
    assert [(item.id, item.answer) for item in original] == [("0000-0", None), ("0000-1", "E")]
    write_parquet(tmp_path / "Subset/test-00000-of-00001.parquet", [ego_parquet_row(EGO_ROWS[1], "4")])
    path = touch(tmp_path / "videos/0000-1.mp4")
    (item,) = EGOSCHEMA.load_samples(tmp_path)
    assert item.prompt == f"What is C doing overall?\nA. one\nB. two\nC. three\nD. four\nE. five\n{POST}"
    assert item == replace(original[1], path=path)


def write_mvbench(folder: Path, rows: dict[str, dict] = MVBENCH_ROWS) -> None:
    for subtask, row in rows.items():
        write_json(folder / f"{subtask}.json", [row])


def test_mvbench_shows_parts_of_the_whole_videos_of_revision_main(tmp_path):
    write_mvbench(tmp_path / "json")
    write_json(tmp_path / "json/notes.json", {"not": "questions"})
    whole = touch(tmp_path / "video/star/Charades_v1_480/ZS9XR.mp4")
    frames = touch(tmp_path / "video/tvqa/frames_fps3_hq/s01e01_seg02_clip_07/00001.jpg").parent
    webm, more = touch(tmp_path / "video/ssv2_video/166583.webm"), "data0613/clevrer/video_validation/video_10009.mp4"
    more = touch(tmp_path / "video" / more)
    antonym, sequence, episode, count = MVBENCH.load_samples(tmp_path)
    assert sequence.prompt == (
        "Question:What happened after the person took the food?\nOption:\n(A) Ate the medicine.\n"
        "(B) Tidied up the blanket.\n(C) Put down the cup.\n(D) Took the box.\nOnly give the best option.\n"
    )
    shown = [(s.path, s.start, s.end, s.image_fps) for s in (antonym, sequence, episode, count)]
    assert shown == [
        (webm, None, None, None),
        (whole, 1.2999999999999998, 15.4, None),
        (frames, 0.5, 2.0, 3.0),
        (more, None, None, None),
    ]
    assert [(s.id, s.answer, s.letters) for s in (antonym, episode)] == [
        ("action_antonym-0", "B", "ABC"),
        ("episodic_reasoning-0", "E", "ABCDE"),
    ]
    assert episode.groups == {"subtask": "episodic_reasoning"} and sequence.source == "star/ZS9XR"
    assert sequence.video == "star/Charades_segment/ZS9XR.mp4 from 1.2999999999999998 to 15.4 s"


@pytest.mark.parametrize("names", ["main", "video"])
def test_mvbench_shows_the_whole_of_videos_that_are_cut(tmp_path, names):
    """As lmms-eval has them, by rows of either revision. A whole video next to them is not taken."""
    cut = "ZS9XR_1.2999999999999998_15.4.mp4"
    rows = dict(MVBENCH_ROWS)
    if names == "video":
        rows["action_sequence"] = rows["action_sequence"] | {"video": cut}
        rows["action_antonym"] = rows["action_antonym"] | {"video": "166583.mp4"}
    write_mvbench(tmp_path / "hub/datasets--OpenGVLab--MVBench/snapshots/1a2b/json", rows)
    touch(tmp_path / "mvbench_video/star/Charades_v1_480/ZS9XR.mp4")
    cut_to = touch(tmp_path / "mvbench_video/star/Charades_segment" / cut)
    converted = touch(tmp_path / "mvbench_video/ssv2_video_mp4/166583.mp4")
    antonym, sequence, episode, _ = MVBENCH.load_samples(tmp_path)
    assert (sequence.path, sequence.start, sequence.end, sequence.source) == (cut_to, None, None, "star/ZS9XR")
    assert antonym.path == converted and not episode.path.exists() and episode.image_fps is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"answer": "nothing"}, "Row 1 of .*has 'nothing' in the column 'answer', which is none of its options"),
        ({"candidates": list("abcdef")}, "has 6 texts in the column 'candidates' instead of 2 to 5"),
        ({"start": "soon"}, "has no number of seconds in the column 'start'"),
    ],
)
def test_malformed_rows_of_mvbench(tmp_path, change, sentence):
    write_mvbench(tmp_path, {"action_sequence": MVBENCH_ROWS["action_sequence"] | change})
    with pytest.raises(RequestError, match=sentence):
        MVBENCH.load_samples(tmp_path)


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows))


@pytest.mark.parametrize(
    ("questions", "frames"),
    [
        ("tvqa_val.jsonl", "frames_hq/met_frames"),
        ("data/tvqa_val.jsonl", "met_frames"),
        ("tvqa_qa_release/tvqa_val.jsonl", "frames_fps3_hq"),
    ],
)
def test_tvqa(tmp_path, questions, frames):
    write_lines(tmp_path / questions, TVQA_ROWS)
    shown = touch(tmp_path / frames / "met_s06e22_seg01_clip_02/00001.jpg").parent
    first, whole, empty = TVQA.load_samples(tmp_path)
    assert (first.id, first.answer, first.path, first.start, first.end) == ("7", "D", shown, 0.4, 1.5)
    assert [(s.start, s.end, s.image_fps) for s in (whole, empty)] == [(None, None, 3.0)] * 2
    assert first.video != whole.video and first.cluster == whole.cluster and not empty.path.exists()
    assert first.groups == {"show": "How I Met Your Mother"}
    assert first.prompt == (
        "Question:What does she hold?\nOption:\n(A) A cup\n(B) A lamp. \n(C) A chair\n(D) A book\n(E) A map\n"
        "Only give the best option.\n"
    )


def test_tvqa_without_labels(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "answer_idx"} for row in TVQA_ROWS]
    write_lines(tmp_path / "data/tvqa_test_public.jsonl", rows)
    assert [sample.answer for sample in TVQA.load_samples(tmp_path)] == [None] * 3
    assert TVQA.submission({"7": "D", "9": "", "12": "A"}) == {"7": 3, "9": -1, "12": 0}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (json.dumps(TVQA_ROWS[0] | {"ts": "late"}), "has 'late' in the column 'ts' instead of two times"),
        (json.dumps(TVQA_ROWS[0] | {"qid": "x"}), "has no whole number in the column 'qid'"),
        ("{", "is not JSON in every line"),
        ("[1]", "is not a list of questions"),
    ],
)
def test_malformed_rows_of_tvqa(tmp_path, text, sentence):
    (tmp_path / "tvqa_val.jsonl").write_text(text)
    with pytest.raises(RequestError, match=sentence):
        TVQA.load_samples(tmp_path)


def test_no_questions(tmp_path):
    files = {VIDEOMME: "test-*.parquet", LONGVIDEOBENCH: "validation-*.parquet", EGOSCHEMA: "test-*.parquet"}
    files |= {MVBENCH: "json/*.json", TVQA: "tvqa_val.jsonl"}
    for task, pattern in files.items():
        with pytest.raises(RequestError, match=f"no questions of {task.title}") as caught:
            task.load_samples(tmp_path)
        hint = str(caught.value.hint)
        assert pattern in hint and ("hf download" in hint) is (task is not TVQA)  # TVQA's are not there
        with pytest.raises(RequestError, match="no folder"):
            task.load_samples(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"candidates": None}, r"Row 2 of .*lvb_val.json has no list of texts in the column 'candidates'"),
        ({"candidates": ["one"]}, "Row 2 of .* has 1 texts in the column 'candidates' instead of 2 to 5"),
        ({"correct_choice": 4}, "Row 2 of .* has 4 in the column 'correct_choice', which is none of its 4 options"),
        ({"question": 5}, "Row 2 of .* has no text in the column 'question'"),
        ({"question_category": "X2Y"}, "Row 2 of .* 'X2Y'"),
        ({"id": "v0_0"}, "two questions with the id 'v0_0'"),
    ],
)
def test_malformed_rows(tmp_path, change, sentence):
    write_json(tmp_path / "lvb_val.json", [LVB_ROWS[0], LVB_ROWS[1] | change])
    with pytest.raises(RequestError, match=sentence):
        LONGVIDEOBENCH.load_samples(tmp_path)


def test_files_of_the_wrong_kind(tmp_path):
    write_json(tmp_path / "questions.json", EGO_ROWS)
    write_json(tmp_path / "subset_answers.json", {"0000-1": 5})
    with pytest.raises(RequestError, match=r"subset_answers.json does not name one of five options"):
        EGOSCHEMA.load_samples(tmp_path)
    write_json(tmp_path / "subset_answers.json", {"0000-1": 4})
    (tmp_path / "questions.json").write_text("[{")
    with pytest.raises(RequestError, match=r"questions.json is not JSON"):
        EGOSCHEMA.load_samples(tmp_path)
    pytest.importorskip("pyarrow")
    touch(tmp_path / "videomme/test-00000-of-00001.parquet")
    with pytest.raises(RequestError, match="not a Parquet file"):
        VIDEOMME.load_samples(tmp_path)


def test_json_needs_no_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    write_json(tmp_path / "lvb_val.json", LVB_ROWS)
    assert len(LONGVIDEOBENCH.load_samples(tmp_path)) == 2
    touch(tmp_path / "validation-00000-of-00001.parquet")
    with pytest.raises(RequestError, match="pyarrow is needed") as caught:
        LONGVIDEOBENCH.load_samples(tmp_path)
    assert caught.value.hint == "pip install 'stsimdiff[eval]'"


# --- subtitles ------------------------------------------------------------------------------------------------------

FONT = '<font color="white" size=".72c">{}</font>'


def write_subtitles(path: Path, cues: list[tuple[str, str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = [f"{i}\n{start} --> {end}\n{text}\n" for i, (start, end, text) in enumerate(cues, 1)]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path


CUES = [
    ("00:00:00,000", "00:00:02,500", FONT.format("Good evening.")),
    ("00:00:02,500", "00:00:02,550", FONT.format("(a door)")),  # between two of the frames
    ("00:00:03,000", "00:00:04,000", FONT.format("Two lines,\nhe said.")),
    ("00:00:05,000", "00:00:06,000", FONT.format("once") + FONT.format("twice")),
    ("00:00:07,100", "00:00:09,000", FONT.format("Señor, 你好")),
    ("00:00:07,100", "00:00:09,000", FONT.format("the same time again")),
]
SAID = ["Good evening.", "Two lines, he said.", "once", "the same time again"]


def test_subtitles_cover_sampled_frames(tmp_path):
    cues = read_cues(
        write_subtitles(tmp_path / "a.srt", [*CUES, ("noon", "one", "x"), ("0:0:9,0", "0:0:10,0", "bare")])
    )
    assert shown(cues, 300, 30.0) == [*SAID, "bare"]
    ten = [Cue(float(second), second + 1.0, str(second)) for second in range(10)]
    assert shown(ten, 100, 10.0, sampled=3) == ["0", "4", "9"]  # frames 0, 49 and 99


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])  # a Matroska header does not count frames
def test_prompt_with_subtitles(tmp_path, suffix):
    write_parquet(tmp_path / "test-0.parquet", VIDEOMME_ROWS)
    render(tmp_path / f"b2.{suffix}", range(300))
    write_subtitles(tmp_path / "subtitle/b2.srt", CUES)
    without, _, item = VIDEOMME.load_with_subtitles(tmp_path)
    lines, options = "\n".join(SAID), "\n".join(VIDEOMME_ROWS[2]["options"])
    question = f"{PRE}What does the sign say?\n{options}\nThe best answer is:"
    assert item.prompt == f"This video's subtitles are listed below: \n{lines}\n{question}"
    assert without.prompt == f"This video's subtitles are listed below: \n{NONE}\n{question}"


def test_benchmarks_without_subtitles(tmp_path):
    for task in (LONGVIDEOBENCH, EGOSCHEMA, MVBENCH, TVQA):
        with pytest.raises(RequestError, match="subtitles"):
            task.load_with_subtitles(tmp_path)


# --- letters --------------------------------------------------------------------------------------------------------


def item(*options: str) -> Sample:
    return Sample("q", "v", Path("v.mp4"), "", options, None)


FOUR, FIVE = item("Stop.", "Go.", "Wait.", "Run."), item("reads a book", "rides a bike to work", "rides", "x", "y")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *((text, "B") for text in ("B", "B.", "(B)", "The answer is (B).", " B\n", "'B'")),
        *((text, "C") for text in ("Answer: C", "**C**", "C. A car.", "Based on the video, the best answer is C.")),
        ("I think it is D", "D"),
        *(("A bike is shown", "A"), ("A or B? B", "A")),  # the beginning is trusted most
        ("The best answer is D because A is wrong", "A"),
        ("It is A) or B: the rest", "B"),  # a colon is trusted more than a bracket
        ("XAX", "A"),  # within a word only if there is nothing else
        ("答案是C呢", "C"),
        *((text, "") for text in ("b", "None of these", "", " \n", "...")),
    ],
)
def test_videomme_letter(text, letter):
    assert VIDEOMME.extract(text, FOUR) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *(("B", "B"), ("(C)", "C"), ("The answer is (B).", "B"), ("because C", "C")),
        *(("Based on the clip, D", "B"), ("Answer: E", "A"), ("The best answer is D", "D"), ("E", "E")),
        *(("none", ""), ("a", ""), ("", "")),
    ],
)
def test_longvideobench_letter(text, letter):
    assert LONGVIDEOBENCH.extract(text, FOUR) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *(("The answer is D", "D"), ("A man rides; C", "A"), ("B.", "B"), ("(E) it is", "E")),
        ("B or A or B", "A"),  # the last B comes after the last A
        ("he says b. rides a bike to work", "B"),
        ("he says b. rides a bike", ""),
        *(("none", ""), ("", ""), ("d", "")),
    ],
)
def test_egoschema_letter(text, letter):
    assert EGOSCHEMA.extract(text, FIVE) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *(
            (text, "B")
            for text in ("B", "b", "B.", "(B)", "(b) rides", "B. rides", "b.rides", "Best option:(B)", "[B]")
        ),
        *(("the answer is c)", "C"), ("A man rides", "A"), ("It is B or C.", "B"), ("**D**", "D"), ("D/E", "D")),
        ("A cat. B", "A"),  # the first, whatever it means
        *(("not (yes (B) at all", "B"), ("see (x(B", ""), ("1,000 x_B_", "")),  # marks that join what they parted
        *(("xBx", ""), ("F", ""), ("none", ""), ("", "")),
    ],
)
def test_mvbench_letter(text, letter):
    assert MVBENCH.extract(text, FIVE) == TVQA.extract(text, FIVE) == letter
    assert MVBENCH.parse(text, FIVE) == letter  # none is a wrong answer


# --- the same as lmms-eval ------------------------------------------------------------------------------------------

#: Run by a Python that has lmms-eval: reads answers and rows as JSON, writes what its own functions make of them.
LMMS = """
import json, random, sys
from pathlib import Path
import yaml
random.choice = lambda _: ""
from lmms_eval.tasks.egoschema import utils as ego
from lmms_eval.tasks.longvideobench import utils as lvb
from lmms_eval.tasks.mvbench import utils as mvb
from lmms_eval.tasks.videomme import utils as mme

yaml.SafeLoader.add_constructor("!function", lambda loader, node: None)

def settings(module, name):
    text = (Path(module.__file__).parent / f"{name}.yaml").read_text()
    return yaml.safe_load(text)["lmms_eval_specific_kwargs"]["default"]

given = json.loads(sys.stdin.read())
names = ("videomme", "longvideobench", "egoschema", "mvbench")
out = {"letters": {name: [] for name in names}, "prompts": {}, "paths": {}}
for text, options in given["answers"]:
    doc = {"option": options}
    choices = ego.get_multi_choice_info(doc)
    out["letters"]["videomme"].append(mme.extract_characters_regex(text))
    out["letters"]["longvideobench"].append(lvb.parse_multi_choice_response(text, list("ABCDE"), {}))
    out["letters"]["egoschema"].append(ego.parse_multi_choice_response(text, choices[1], choices[0])[0])
    out["letters"]["mvbench"].append("".join(letter for letter in "ABCDE" if mvb.mcq_acc(letter, text)))
for name, make, kwargs in (
    ("videomme", mme.videomme_doc_to_text, settings(mme, "videomme")),
    ("subtitles", mme.videomme_doc_to_text_subtitle, settings(mme, "videomme_w_subtitle")),
    ("longvideobench", lvb.longvideobench_doc_to_text, settings(lvb, "longvideobench_val_v")),
    ("egoschema", ego.egoschema_doc_to_text, settings(ego, "egoschema_subset")),
):
    out["prompts"][name] = [make(row, kwargs) for row in given["rows"][name]]
for subtask, row in given["rows"]["mvbench"].items():
    kwargs = settings(mvb, f"mvbench_{subtask}")
    out["prompts"][subtask] = mvb.mvbench_doc_to_text(row, kwargs)
    (out["paths"][subtask],) = mvb.mvbench_doc_to_visual(row, kwargs)
out["right"] = mvb.mvbench_process_results(row, [f"({'ABCDE'[row['candidates'].index(row['answer'])]})"])
Path(given["out"]).write_text(json.dumps(out))
"""
PIECES = [
    *"ABCDEFabcde",
    *("(A)", "(B)", "(C)", "(D)", "(E)", "B.", "C:", "D)", "A,", "E.", "**C**", "'D'", '"B"', "[A]", "\\boxed{C}", "x"),
    *(".", ",", ":", ";", "!", "?", "'", '"', "(", ")", "-", "\n", "\t", "  ", "。", "：", "İ", "ẞ", "é", "你好", "1"),
    *("the answer is", "The answer is", "THE ANSWER IS", "The best answer is", "Best answer:", "Best option:"),
    *(
        "the correct option is",
        "The correct answer is",
        "my choice is",
        "I choose",
        "I pick",
        "answer is",
        "best option is",
    ),
    *("i select", "the correct choice is", "choice is", "my answer is", "The best option is", "The correct option is"),
    *("답:", "답은", "정답은", "옵션", "选", "答案为", "答案是", "答えは", "The answer", "The ", "correct"),
    *("1,000", "3.5", "/", "\\", "=", "+", "_", "<", ">", "@", "`", "{", "}", "[", "A. B", "a.\n"),
    *("A man", "Because", "Can", "Dogs", "Every", "none", "of these", "based on the video", "rides", "so", "or", "and"),
]
OPTIONS = [
    ["A. reads a book", "B. rides", "C. rides a bike", "D. so", "E. none of these"],
    ["A. a", "B. b", "C. Every man", "D. dogs or cats ", "E. é"],
]


def random_answers(count: int) -> list[tuple[str, list[str]]]:
    """Answers put together from pieces, with options whose texts are pieces too."""
    draw = random.Random(0)
    answers = []
    for _ in range(count):
        options = draw.choice(OPTIONS)
        pieces = [*draw.choices(PIECES, k=6), draw.choice(options), draw.choice(options).lower()]
        chosen = draw.choices(draw.choice((pieces, PIECES, PIECES[6:11] + PIECES[-12:])), k=draw.randint(0, 9))
        answers.append((draw.choice(("", " ")).join(chosen) if draw.random() < 0.5 else " ".join(chosen), options))
    return answers


@pytest.mark.lmms
@pytest.mark.skipif(
    "STSIMDIFF_LMMS" not in os.environ, reason="STSIMDIFF_LMMS names no Python that has lmms-eval and decord"
)
def test_the_same_as_lmms_eval(tmp_path):
    home = tmp_path / "videomme"  # of HF_HOME
    render_home(home)
    write_parquet(home / "test-0.parquet", VIDEOMME_ROWS)
    answers = random_answers(6000)
    rows = {
        "videomme": VIDEOMME_ROWS,
        "subtitles": VIDEOMME_ROWS,
        "longvideobench": [lvb_parquet_row(row) for row in LVB_ROWS],
        "egoschema": [ego_parquet_row(row, "0") for row in EGO_ROWS],
        "mvbench": dict.fromkeys(SUBTASKS, MVBENCH_ROWS["moving_count"]),
    }
    for subtask, folder in SUBTASKS.items():
        write_json(tmp_path / f"mvbench_video/json/{subtask}.json", [rows["mvbench"][subtask]])
        touch(tmp_path / "mvbench_video" / folder / rows["mvbench"][subtask]["video"])
    given = json.dumps({"answers": answers, "rows": rows, "out": str(tmp_path / "out.json")})
    subprocess.run(
        [os.environ["STSIMDIFF_LMMS"], "-c", LMMS],
        input=given,
        text=True,
        check=True,
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
    )
    theirs = json.loads((tmp_path / "out.json").read_text())
    for task in (VIDEOMME, LONGVIDEOBENCH, EGOSCHEMA, MVBENCH):
        count = 4 if task is VIDEOMME else 5
        for (text, options), letter in zip(answers, theirs["letters"][task.name], strict=True):
            bare = [option[3:] for option in options[:count]]
            assert task.extract(text, item(*bare)) == letter, (task.name, text)
        found = [bool(letter) for letter in theirs["letters"][task.name]]
        assert 0.02 < sum(found) / len(found) < 0.98  # both kinds of answers were compared

    write_json(tmp_path / "lvb/lvb_val.json", LVB_ROWS)
    write_json(tmp_path / "ego/questions.json", EGO_ROWS)
    ours = {
        "videomme": VIDEOMME.load_samples(home),
        "subtitles": VIDEOMME.load_with_subtitles(home),
        "longvideobench": LONGVIDEOBENCH.load_samples(tmp_path / "lvb"),
        "egoschema": EGOSCHEMA.load_samples(tmp_path / "ego"),
    }
    for name, items in ours.items():
        assert [i.prompt for i in items] == theirs["prompts"][name]
    mvbench = {sample.groups["subtask"]: sample for sample in MVBENCH.load_samples(tmp_path)}
    assert len(mvbench) == 20 and theirs["right"]["mvbench_accuracy"]["score"] == 1
    for subtask, sample in mvbench.items():
        assert (sample.prompt, str(sample.path)) == (theirs["prompts"][subtask], theirs["paths"][subtask])


def render_home(home: Path) -> None:
    """Video-MME's folder of lmms-eval with one video of 10 seconds and its subtitles."""
    (home / "data").mkdir(parents=True)
    render(home / "data/b2.mp4", range(300))
    write_subtitles(home / "subtitle/b2.srt", CUES)
