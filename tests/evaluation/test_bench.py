"""The bench with the embedded model: it tells methods apart, its questions give nothing away, its runs go on."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch.nn import functional as F

from stsimdiff_cli import pipeline
from stsimdiff_cli.cli.app import main
from stsimdiff_cli.evaluation import bench_report as report
from stsimdiff_cli.evaluation.bench_tables import tables
from stsimdiff_cli.evaluation.exams import VideoFile, rendered_clips
from stsimdiff_cli.evaluation.journal import Journal
from stsimdiff_cli.evaluation.plan import Contender, Plan, make_plan
from stsimdiff_cli.evaluation.sitting import Examiner
from stsimdiff_cli.methods.base import Method, plain_selection
from stsimdiff_cli.methods.vanilla import Vanilla
from stsimdiff_cli.models import EMBEDDED
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import Context
from stsimdiff_cli.ratio import ALL
from stsimdiff_cli.synthetic.clips import render_clip
from stsimdiff_cli.synthetic.questions import EVENTS, GROUPS
from stsimdiff_cli.synthetic.shapes import token_labels
from tests.conftest import SAMPLES

PNG = b"\x89PNG\r\n\x1a\n"
SETTINGS = {"seed": 0, "device": "cpu", "model": EMBEDDED, "frames": 32}


def changed(features: torch.Tensor) -> torch.Tensor:
    """(T, H, W) bool: tokens whose cell shows something else than in the first slot."""
    unit = F.normalize(features.float(), dim=-1)
    return (unit * unit[:1]).sum(-1) < 0.8


def objects(features: torch.Tensor) -> torch.Tensor:
    """(H, W) bool: cells that in the first slot do not look like most others, which are background."""
    unit = F.normalize(features[0].float(), dim=-1)
    flat = unit.flatten(0, 1)
    middle = flat[(flat @ flat.T).sum(-1).argmax()]
    return unit @ middle < 0.5


@dataclass(frozen=True)
class EventBlind(Method):
    """All tokens but those of the event."""

    name: ClassVar[str] = "event-blind"
    keeps_all: ClassVar[bool] = True

    def select(self, tokens, ratio, importance, step):
        return plain_selection(tokens, (~changed(tokens.features.tensor())).flatten().nonzero().squeeze(1))


@dataclass(frozen=True)
class ObjectBlind(Method):
    """All tokens but those of objects that stay as they are."""

    name: ClassVar[str] = "object-blind"
    keeps_all: ClassVar[bool] = True

    def select(self, tokens, ratio, importance, step):
        static = objects(tokens.features.tensor()) & ~changed(tokens.features.tensor())
        return plain_selection(tokens, (~static).flatten().nonzero().squeeze(1))


def plan_of(*methods: Method) -> Plan:
    found = {contender.name: contender for contender in map(Contender, methods)}
    return Plan(found, {"1": ALL}, list(found))


def timeless(found: dict) -> dict:
    """A report without what differs from run to run."""
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in found["rows"]]
    return {key: value for key, value in found.items() if key not in ("date", "machine")} | {"rows": rows}


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner(EMBEDDED, Runtime("cpu"))


@pytest.fixture(scope="module")
def benches(examiner) -> tuple[dict, dict]:
    """A report of three methods on 10 clips, and one of all tokens on 20 (the same 10 and 10 more)."""
    three, one = plan_of(Vanilla(), EventBlind(), ObjectBlind()), plan_of(Vanilla())
    journal, exams = Journal(None, {}), rendered_clips(20, 32, 0)
    few = report.make_report(SETTINGS, three, report.run(exams[:10], three, examiner, journal))
    many = report.make_report(SETTINGS, one, report.run(exams, one, examiner, journal))
    return few, many


@pytest.fixture(scope="module")
def by_method(benches) -> dict[str, dict]:
    few, _ = benches
    assert Counter(each["name"].split()[-1] for each in few["sittings"]) == dict.fromkeys(EVENTS, 2)
    return {row["method"]: row for row in few["rows"]}


# --- telling methods apart -------------------------------------------------------------------------------------------


def what_lies_under(scene) -> list:
    owner = token_labels(scene)[0].flatten()
    return [None if i == -2 else "background" if i == -1 else scene[i] for i in owner]


def test_the_tokens_of_the_event_and_of_the_objects_are_those_that_the_clip_knows_of(examiner):
    found: dict[str, list[bool]] = {"changed": [], "same": [], "objects": [], "background": []}
    for exam in rendered_clips(5, 32, 0):
        tokens, _ = exam.open(EMBEDDED, runtime=Runtime("cpu"), context=Context(examiner.models))
        clip = render_clip(exam.seed, "heldout", 32, exam.event)
        first = what_lies_under(clip.scenes[0])
        for slot, scene in zip(changed(tokens.features.tensor()).flatten(1).tolist(), clip.scenes, strict=True):
            for before, now, differs in zip(first, what_lies_under(scene), slot, strict=True):
                if None in (before, now):
                    continue
                names = [thing if thing == "background" else (thing.colour, thing.name) for thing in (before, now)]
                if before == now:
                    found["same"].append(not differs)
                elif names[0] != names[1]:
                    found["changed"].append(differs)
        for thing, far in zip(first, objects(tokens.features.tensor()).flatten().tolist(), strict=True):
            if thing is not None:
                found["background" if thing == "background" else "objects"].append(far != (thing == "background"))
    shares = {name: sum(good) / len(good) for name, good in found.items()}
    assert min(map(len, found.values())) > 40
    assert min(shares.values()) > 0.85, shares
    assert min(shares["objects"], shares["background"]) > 0.95, shares


def test_a_method_that_drops_the_event_loses_the_event_and_nothing_else(by_method):
    whole, blind = (by_method[name]["accuracy"] for name in ("vanilla", "event-blind"))
    assert whole["event"]["percent"] > 80
    assert blind["event"]["percent"] < whole["event"]["percent"] - 30
    assert blind["event"]["high"] < whole["event"]["low"]
    assert abs(blind["static"]["percent"] - whole["static"]["percent"]) <= 4  # two of about 60
    assert by_method["event-blind"]["of_vanilla"]["high"] < 100
    assert by_method["event-blind"]["kept"][0] < 1152


def test_a_method_that_drops_the_objects_loses_them(by_method):
    whole, blind = (by_method[name]["accuracy"] for name in ("vanilla", "object-blind"))
    assert whole["static"]["percent"] > 80
    assert blind["static"]["percent"] < whole["static"]["percent"] - 30
    assert blind["static"]["high"] < whole["static"]["low"]


def test_event_recall_sees_which_of_the_two_dropped_the_event(by_method):
    assert by_method["vanilla"]["event_recall"]["percent"] == 100
    assert by_method["event-blind"]["event_recall"]["percent"] < by_method["object-blind"]["event_recall"]["percent"]


# --- leaks -----------------------------------------------------------------------------------------------------------

ENOUGH = 15  # questions of a kind


def most_by_chance(asked: int, constant: float) -> float:
    """Percent of so many questions that guessing with the best constant's chance p exceeds once in about 700 benches.

    Three standard deviations of a binomial above its mean: 100 (p + 3 sqrt(p (1 - p) / n)).
    """
    p = constant / 100
    return 100 * (p + 3 * math.sqrt(p * (1 - p) / asked))


def enough(found: dict) -> list[str]:
    kinds = [key for key, each in found["blind"].items() if key.startswith("kind ") and each["asked"] >= ENOUGH]
    return [*GROUPS, *kinds]


def test_the_questions_alone_are_answered_no_better_than_by_constants(benches):
    _, many = benches
    wanted = enough(many)
    assert {"kind colour", "kind shape", "kind count", "kind what", "kind when", "kind nothing"} <= set(wanted)
    for key in wanted:
        blind, constant = many["blind"][key], many["constant"][key]
        assert blind["percent"] <= most_by_chance(blind["asked"], constant), key


def test_the_video_is_what_gives_the_answers(benches):
    _, many = benches
    (row,) = many["rows"]
    assert row["accuracy"]["all"]["percent"] > 90
    for key in set(enough(many)) - {"kind nothing"}:  # whose only answer a constant gives too
        found = row["accuracy"][key]
        assert found["percent"] > most_by_chance(found["asked"], many["constant"][key]), key


# --- one clip --------------------------------------------------------------------------------------------------------


@pytest.fixture
def spied(monkeypatch):
    """An examiner whose language model only says which questions it was asked; and what it was given."""
    asked = []

    def answer(self, video, items):
        asked.append((video, items))
        return [f"{len(asked)}: {item.text}" for item in items], 0.25

    monkeypatch.setattr(Examiner, "_answer", answer)
    return Examiner(EMBEDDED, Runtime("cpu")), asked


@pytest.fixture(scope="module")
def exam():
    return rendered_clips(1, 12, 3)[0]


def test_contenders_that_keep_the_same_tokens_are_asked_once(spied, exam):
    examiner, asked = spied
    found = examiner.sit(exam, make_plan("st-simdiff,fastv,visionzip,random,uniform", "1"))
    assert len(asked) == 2  # all tokens, and none
    assert [len(video.index) for video, _ in asked] == [432, 0]
    assert len({tuple(outcome.answers) for outcome in found.cells.values()}) == 1
    asked.clear()
    found = examiner.sit(exam, make_plan("random,uniform,random:seed=1", "0.2,1"))
    assert len(asked) == len({tuple(video.index.tolist()) for video, _ in asked}) == 5
    assert found.blind[0].startswith("5: ")
    assert {outcome.answers[0][:3] for (_, ratio), outcome in found.cells.items() if ratio == "1"} == {"1: "}


@pytest.mark.parametrize("name", ["st-simdiff", "random", "uniform", "st-simdiff@question"])
def test_exactly_the_budget_is_kept(spied, exam, name):
    found = spied[0].sit(exam, make_plan(name, "0.07,0.3,0.99"))
    kept = {ratio: outcome.kept for (method, ratio), outcome in found.cells.items() if method == name}
    assert kept == {ratio: math.ceil(Fraction(ratio) * 432) for ratio in ("0.07", "0.3", "0.99")}
    assert found.tokens == found.cells["vanilla", "1"].kept == 432


def test_with_question_every_question_gets_its_own_tokens(spied, exam):
    examiner, asked = spied
    found = examiner.sit(exam, make_plan("st-simdiff,st-simdiff@question", "0.1"))
    _, together, *alone, nothing = asked
    assert together[0].method["prompt"] == pipeline.GENERAL_PROMPT
    assert (together[1], nothing[1]) == (found.items, found.items)
    assert [items for _, items in alone] == [(item,) for item in found.items]
    tokens, _ = exam.open(EMBEDDED, runtime=Runtime("cpu"), context=Context(examiner.models))
    for video, (item,) in alone:
        expected = pipeline.compress_tokens(
            tokens, "0.1", runtime=Runtime(device="cpu"), prompt=item.text, context=Context(models=examiner.models)
        )
        assert video.method["prompt"] == item.text
        assert torch.equal(video.index, expected.index)
    assert len({tuple(video.index.tolist()) for video, _ in alone}) > 1
    outcome = found.cells["st-simdiff@question", "0.1"]
    assert [answer.split(": ")[1] for answer in outcome.answers] == [item.text for item in found.items]
    assert (outcome.kept, outcome.seconds["answer"]) == (44, 0.25 * len(found.items))


def test_inside_the_llm_every_question_reads_all_tokens(examiner, exam):
    found = examiner.sit(exam, make_plan("fastv,fastv@inside", "0.2"))
    tokens, items = exam.open(EMBEDDED, runtime=Runtime("cpu"), context=Context(examiner.models))
    alone = pipeline.converse_inside(tokens, "0.2", "fastv", runtime=Runtime(device="cpu"))
    outcome = found.cells["fastv@inside", "0.2"]
    assert outcome.answers == [alone.ask(item.text, max_new_tokens=32).text for item in items]
    assert (outcome.kept, outcome.coverage, outcome.event_recall) == (87, None, None)
    report_of_it = report.make_report(SETTINGS, make_plan("fastv@inside", "0.2"), [found])
    assert report_of_it["rows"][-1]["coverage"]["percent"] is None
    assert tables(report_of_it)[1].rows[0][1:5] == ["fastv@inside", "87", "-", "-"]


def test_the_bench_answers_as_the_pipeline_does(examiner, exam):
    found = examiner.sit(exam, make_plan("uniform", "0.3"))
    tokens, items = exam.open(EMBEDDED, runtime=Runtime("cpu"), context=Context(examiner.models))
    video = pipeline.compress_tokens(tokens, "0.3", "uniform", runtime=Runtime(device="cpu"))
    alone = pipeline.converse(video, runtime=Runtime(device="cpu"), context=Context(models=examiner.models))
    assert found.cells["uniform", "0.3"].answers == [alone.ask(item.text, max_new_tokens=32).text for item in items]
    assert [item.answer for item in items] == [
        q.answer for q in render_clip(exam.seed, "heldout", 12, "flash").questions
    ]


def test_clips_of_different_seeds_are_different_and_events_equally_often():
    found = [{exam.name for exam in rendered_clips(1000, 12, seed)} for seed in (0, 1, 2)]
    assert [len(names) for names in found] == [1000] * 3
    assert len(set().union(*found)) == 3000
    assert Counter(exam.event for exam in rendered_clips(20, 12, 0)) == dict.fromkeys(EVENTS, 4)
    assert min(exam.seed for exam in rendered_clips(5, 12, 0)) > 100_000  # training's own held-out clips


# --- the command -----------------------------------------------------------------------------------------------------

SMALL = ["--frames", 12, "--clips", 3, "--methods", "random,st-simdiff", "--ratios", "0.1", "--device", "cpu"]


def bench(capsys, *args: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["bench", *map(str, args)])
    out = capsys.readouterr()
    return code, out.out, out.err


def refused(capsys, *args: object, code: int = 2) -> str:
    got, out, err = bench(capsys, *args)
    assert (got, out) == (code, "") and "error:" in err and "hint:" in err and "Traceback" not in err
    return err


@pytest.fixture
def idle(monkeypatch):
    """No clip may be looked at."""

    def sit(*_):
        raise AssertionError("work was done")

    monkeypatch.setattr(Examiner, "sit", sit)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The outputs of a small bench."""
    folder = tmp_path_factory.mktemp("bench")
    outputs = ["-o", folder / "r.json", "--plot", folder / "r.png", "--markdown", folder / "r.md"]
    assert main(["bench", *map(str, [*SMALL, *outputs])]) == 0
    return folder


def test_a_report_a_picture_and_tables_are_written_and_no_journal_is_left(written):
    assert sorted(path.name for path in written.iterdir()) == ["r.json", "r.md", "r.png"]
    assert (written / "r.png").read_bytes().startswith(PNG)
    found = json.loads((written / "r.json").read_text())
    assert [(row["method"], row["ratio"]) for row in found["rows"]] == [
        ("vanilla", 1.0), ("random", 0.1), ("st-simdiff", 0.1),
    ]  # fmt: skip
    assert (found["clips"], found["frames"], found["seed"], len(found["sittings"])) == (3, 12, 0, 3)
    text = (written / "r.md").read_text()
    accuracy = next(row for row in found["rows"] if row["method"] == "random")["accuracy"]["all"]
    assert f"{accuracy['percent']:.1f} ({accuracy['low']:.0f}–{accuracy['high']:.0f})" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == (2 + 3 + 2) + (2 + 3) and all("|" in line[-1] for line in lines)


def test_json_is_one_line_and_the_same_report_again(capsys, written):
    code, out, _ = bench(capsys, *SMALL, "--json")
    stored = json.loads((written / "r.json").read_text())
    assert code == 0 and out.count("\n") == 1
    found = json.loads(out)
    assert set(found) == set(stored) - {"sittings"}
    again, before = timeless(found), timeless(stored)
    assert again["blind"]["all"]["right"] == before["blind"]["all"]["right"]
    for row, other in zip(again["rows"], before["rows"], strict=True):
        assert row["kept"] == other["kept"]
        assert row["accuracy"]["all"] == pytest.approx(other["accuracy"]["all"], abs=1e-5)
        assert row["coverage"] == pytest.approx(other["coverage"], abs=1e-5)


def test_a_killed_bench_goes_on_and_ends_as_if_nothing_had_been(capsys, monkeypatch, written, tmp_path):
    path, sat, real = tmp_path / "r.json", [], Examiner.sit

    def sit(self, exam, plan):
        if len(sat) == 2:
            raise KeyboardInterrupt
        sat.append(exam.name)
        return real(self, exam, plan)

    monkeypatch.setattr(Examiner, "sit", sit)
    assert bench(capsys, *SMALL, "-o", path)[0] == 130
    journal = tmp_path / "r.json.partial"
    assert [each.name for each in tmp_path.iterdir()] == [journal.name]
    before = journal.read_text()
    journal.write_text(before + before.splitlines()[-1][:200])  # the power went in the middle of a line
    err = refused(capsys, *SMALL, "--seed", 1, "-o", path)
    assert "other settings" in err and journal.read_text().startswith(before)
    monkeypatch.setattr(Examiner, "sit", lambda self, exam, plan: sat.append(exam.name) or real(self, exam, plan))
    code, _, err = bench(capsys, *SMALL, "-o", path)
    assert (code, "2 of 3 clips are done" in err) == (0, True)
    assert len(sat) == len(set(sat)) == 3
    assert [each.name for each in tmp_path.iterdir()] == ["r.json"]
    assert timeless(json.loads(path.read_text())) == timeless(json.loads((written / "r.json").read_text()))


def test_the_tables_are_shown(capsys, monkeypatch, written):
    found = json.loads((written / "r.json").read_text())
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(report, "run", lambda *_: [])
    monkeypatch.setattr(report, "make_report", lambda *_: found)
    code, out, _ = bench(capsys, *SMALL)
    assert code == 0
    words = ("method", "random", "st-simdiff", "vanilla", "no video", "best constant answers", "bootstrap", "coverage")
    assert all(word in " ".join(out.split()) for word in words)


@pytest.mark.parametrize(("option", "name"), [("-o", "r.json"), ("--plot", "r.png"), ("--markdown", "r.md")])
def test_an_output_that_exists_is_kept_unless_forced(capsys, idle, written, option, name):
    before = (written / name).read_bytes()
    assert "--force" in refused(capsys, *SMALL, option, written / name)
    assert (written / name).read_bytes() == before
    with pytest.raises(AssertionError, match="work was done"):
        bench(capsys, *SMALL, "--force", option, written / name)
    (written / "r.json.partial").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--question", "What happens?"], "--question"),
        ([SAMPLES / "flash.mp4", SAMPLES / "flash.mp4"], "named twice"),
        (["--frames", "11"], "--frames 11"),
        (["--plot", "picture.txt"], "picture.txt"),
        (["-o", "no/such/report.json"], "mkdir -p"),
        (["--methods", "randon"], "Did you mean 'random'?"),
        (["--ratios", "0.5,2"], "outside (0, 1]"),
        (["--sweep", "tau_sim=0.9:0.6"], "--sweep tau_sim=0.9:0.6"),
    ],
)
def test_a_wrong_request_is_a_sentence_before_any_work(capsys, idle, args, message):
    assert message in refused(capsys, *args)


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 99, None])
def test_a_video_that_cannot_be_read_is_a_sentence(capsys, idle, tmp_path, content):
    path = tmp_path / "broken.mp4"
    if content is not None:
        path.write_bytes(content)
    code, out, err = bench(capsys, SAMPLES / "flash.mp4", path, "--frames", 8)
    assert code in (1, 2) and out == "" and "error:" in err and "broken.mp4" in err and "Traceback" not in err


def test_own_videos_are_compared_with_all_tokens_and_not_with_the_truth(capsys):
    args = [SAMPLES / "flash.mp4", "--frames", 8, "--methods", "random", "--ratios", "0.05,1", "--device", "cpu"]
    questions = ["What flashes?", "How many objects are there?"]
    code, out, _ = bench(capsys, *args, "--json", *(part for text in questions for part in ("--question", text)))
    found = json.loads(out)
    assert code == 0 and (found["clips"], found["asked"], found["questions"]) == (1, 2, questions)
    assert (found["blind"], found["constant"]) == (None, None)
    assert all(row[name] is None for row in found["rows"] for name in ("accuracy", "of_vanilla", "difference"))
    agreement = {(row["method"], row["ratio"]): row["agreement"]["percent"] for row in found["rows"]}
    assert agreement["vanilla", 1.0] == agreement["random", 1.0] == 100
    assert 0 <= agreement["random", 0.05] <= 100
    code, out, _ = bench(capsys, *args)
    assert code == 0 and "same answer" in " ".join(out.split()) and "accuracy" not in out


def test_a_video_without_a_question_gets_the_general_one(examiner):
    tokens, items = VideoFile(SAMPLES / "flash.mp4", 8, ("Why?",)).open(
        EMBEDDED, runtime=Runtime("cpu"), context=Context(examiner.models)
    )
    assert [tuple(item) for item in items] == [("open", "Why?", None)] and tokens.grid.shape[0] == 8
    from stsimdiff_cli.evaluation.exams import video_files

    (exam,) = video_files([SAMPLES / "flash.mp4"], 8, [])
    assert (exam.name, exam.questions) == (str(SAMPLES / "flash.mp4"), (pipeline.GENERAL_PROMPT,))
