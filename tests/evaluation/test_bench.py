"""The bench with the embedded model: it tells methods apart, its questions give nothing away, its runs go on."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch.nn import functional as F

from stsimdiff_cli import pipeline
from stsimdiff_cli.cli import output
from stsimdiff_cli.cli.app import main
from stsimdiff_cli.evaluation import report as reports
from stsimdiff_cli.evaluation.answering import Settings
from stsimdiff_cli.evaluation.plan import Plan, make_plan
from stsimdiff_cli.evaluation.report import bench_report
from stsimdiff_cli.evaluation.run import Evaluator
from stsimdiff_cli.evaluation.samples_log import Response, SamplesLog
from stsimdiff_cli.evaluation.tables import tables
from stsimdiff_cli.evaluation.tasks.own_videos import OwnVideos
from stsimdiff_cli.evaluation.tasks.rendered_clips import RenderedClips
from stsimdiff_cli.evaluation.variants import Variant
from stsimdiff_cli.methods.base import Method, plain_selection
from stsimdiff_cli.methods.vanilla import Vanilla
from stsimdiff_cli.models import EMBEDDED
from stsimdiff_cli.models.inference.conversation import Answer
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.ratio import ALL
from stsimdiff_cli.records import FrameSize
from stsimdiff_cli.synthetic.clips import make_clip
from stsimdiff_cli.synthetic.owners import names_under
from stsimdiff_cli.synthetic.questions import GROUPS
from stsimdiff_cli.synthetic.script import EVENTS
from tests.support.clip_factory import SAMPLES
from tests.support.made_up import timeless

PNG = b"\x89PNG\r\n\x1a\n"
REQUEST = {"seed": 0, "device": "cpu", "model": EMBEDDED, "frames": 32}
SETTINGS = Settings(EMBEDDED, 32, runtime=Runtime("cpu"))


def test_bounds_of_frames_hold_for_rendered_clips_too():
    """48 x 48 pixels are 9 tokens of the embedded model; nothing that was not stated is in the report."""
    task = RenderedClips(2, 16, 0)
    settings = replace(SETTINGS, frames=16, size=FrameSize(max_pixels=2304))
    assert task.encode(task.load_samples()[0], settings, (), pipeline.Context()).grid.shape == (16, 3, 3)
    plan = make_plan("uniform", "0.3")
    requests = [reports.bench_request(plan, one, 0) for one in (settings, replace(settings, size=FrameSize()))]
    assert requests[0] == {**requests[1], "max_pixels": 2304} and "max_pixels" not in requests[1]


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
    variants = {variant.name: variant for variant in map(Variant, methods)}
    return Plan(variants, {"1": ALL}, list(variants))


@pytest.fixture(scope="module")
def benches() -> tuple[dict, dict]:
    """A report of three methods on 12 clips, and one of all tokens on 24 (the same 12 and 12 more)."""
    reports = []
    for clips, plan in ((12, plan_of(Vanilla(), EventBlind(), ObjectBlind())), (24, plan_of(Vanilla()))):
        task = RenderedClips(clips, 32, 0)
        samples, log = task.load_samples(), SamplesLog()
        Evaluator(task, plan, SETTINGS, log).run(samples)
        reports.append(bench_report(REQUEST, task, samples, plan, log))
    return reports[0], reports[1]


@pytest.fixture(scope="module")
def by_method(benches) -> dict[str, dict]:
    few, _ = benches
    assert Counter(each["name"].split()[-1] for each in few["sittings"]) == dict.fromkeys(EVENTS, 2)
    return {row["method"]: row for row in few["rows"]}


# --- telling methods apart -------------------------------------------------------------------------------------------


def encoded(task: RenderedClips, name: str):
    sample = next(sample for sample in task.load_samples() if sample.video == name)
    return task.encode(sample, SETTINGS, (), pipeline.Context())


def test_the_tokens_of_the_event_and_of_the_objects_are_those_that_the_clip_knows_of():
    found: dict[str, list[bool]] = {"changed": [], "same": [], "objects": [], "background": []}
    task = RenderedClips(6, 32, 0)
    for name in task.seeds:
        tokens, clip = encoded(task, name), task.render(name)
        first = names_under(clip, 0)
        for frame, slot in enumerate(changed(tokens.features.tensor()).flatten(1).tolist()):
            for before, now, differs in zip(first, names_under(clip, frame), slot, strict=True):
                if None not in (before, now) and (before or now or frame < clip.script.cut):
                    found["same" if before == now else "changed"].append(differs == (before != now))
        for thing, far in zip(first, objects(tokens.features.tensor()).flatten().tolist(), strict=True):
            if thing is not None:
                found["objects" if thing else "background"].append(far == bool(thing))
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
    assert by_method["event-blind"]["kept"][0] < 1568


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
    by_chance = {key: most_by_chance(row["accuracy"][key]["asked"], many["constant"][key]) for key in enough(many)}
    told = [key for key, most in by_chance.items() if most < 98]  # of others there are too few to tell
    assert len(told) >= 6
    for key in told:
        assert row["accuracy"][key]["percent"] > by_chance[key], key


# --- one clip --------------------------------------------------------------------------------------------------------


CLIP = RenderedClips(1, 12, 3)
(NAME,) = CLIP.seeds
SAMPLES_OF_CLIP = CLIP.load_samples()
PROMPTS = [sample.prompt for sample in SAMPLES_OF_CLIP]


@pytest.fixture
def asked(monkeypatch) -> list[tuple]:
    """What the language model is given, which only says in which of its conversations it is: (video, prompts)."""
    asked: list[tuple] = []

    class Conversation:
        def __init__(self, number: int) -> None:
            self.number = number

        def ask_all(self, prompts, **_):
            asked[self.number - 1][1].extend(prompts)
            return [Answer(f"{self.number}: {prompt}", 1, 1, {"share": 0.25}) for prompt in prompts]

    def converse(video, *_, **__):
        asked.append((video, []))
        return Conversation(len(asked))

    monkeypatch.setattr(pipeline, "converse", converse)
    return asked


def run_clip(methods: str, ratios: str) -> dict[tuple[str, float], list[Response]]:
    """The responses about CLIP, by method and ratio."""
    evaluator = Evaluator(CLIP, make_plan(methods, ratios), SETTINGS, SamplesLog())
    responses: dict[tuple[str, float], list[Response]] = {}
    for response in evaluator.ask(SAMPLES_OF_CLIP):
        responses.setdefault((response.method, response.ratio), []).append(response)
    return responses


def test_variants_that_keep_the_same_tokens_are_asked_once(asked):
    responses = run_clip("st-simdiff,fastv,visionzip,random,uniform", "1")
    assert [len(video.index) for video, _ in asked] == [588, 0]
    responses.pop(("no video", 0.0))
    assert len(responses) == 6
    assert len({tuple(response.raw for response in some) for some in responses.values()}) == 1
    asked.clear()
    responses = run_clip("random,uniform,random:seed=1", "0.2,1")
    assert len(asked) == len({tuple(video.index.tolist()) for video, _ in asked}) == 5
    assert responses["no video", 0.0][0].raw.startswith("5: ")
    assert {some[0].raw[:3] for (_, ratio), some in responses.items() if ratio == 1} == {"1: "}


@pytest.mark.parametrize("name", ["st-simdiff", "random", "uniform", "st-simdiff@question"])
@pytest.mark.usefixtures("asked")
def test_exactly_the_budget_is_kept(name):
    responses = run_clip(name, "0.07,0.3,0.99")
    for ratio in ("0.07", "0.3", "0.99"):
        assert {response.kept for response in responses[name, float(ratio)]} == {math.ceil(Fraction(ratio) * 588)}
    assert {response.tokens for some in responses.values() for response in some} == {588}
    assert {response.kept for response in responses["vanilla", 1.0]} == {588}


def test_with_question_every_question_gets_its_own_tokens(asked):
    responses = run_clip("st-simdiff,st-simdiff@question", "0.1")["st-simdiff@question", 0.1]
    _, together, *alone, nothing = asked
    assert together[0].method["prompt"] == pipeline.GENERAL_PROMPT
    assert together[1] == nothing[1] == PROMPTS
    assert [prompts for _, prompts in alone] == [[prompt] for prompt in PROMPTS]
    tokens = encoded(CLIP, NAME)
    for video, (prompt,) in alone:
        expected = pipeline.compress_tokens(tokens, "0.1", runtime=Runtime("cpu"), prompt=prompt)
        assert video.method["prompt"] == prompt
        assert torch.equal(video.index, expected.index)
    assert len({tuple(video.index.tolist()) for video, _ in alone}) > 1
    assert [response.raw.split(": ")[1] for response in responses] == PROMPTS
    assert [(response.kept, response.seconds["answer"]) for response in responses] == [(59, 0.25)] * len(PROMPTS)


def test_inside_the_llm_every_question_reads_all_tokens():
    responses = run_clip("fastv,fastv@inside", "0.2")["fastv@inside", 0.2]
    alone = pipeline.converse_inside(encoded(CLIP, NAME), "0.2", "fastv", runtime=Runtime("cpu"))
    assert [response.raw for response in responses] == [alone.ask(p, max_new_tokens=32).text for p in PROMPTS]
    assert {(each.kept, each.coverage, each.event_recall) for each in responses} == {(118, None, None)}
    assert [response.live for response in responses] == [[588, *[118] * 5]] * len(responses)


def test_a_figure_that_is_not_measured_is_a_dash():
    plan, log = make_plan("fastv@inside", "0.2"), SamplesLog()
    Evaluator(CLIP, plan, SETTINGS, log).run(SAMPLES_OF_CLIP)
    report = bench_report(REQUEST, CLIP, SAMPLES_OF_CLIP, plan, log)
    assert report["rows"][-1]["coverage"]["percent"] is None
    assert tables(report)[1].rows[0][1:5] == ["fastv@inside", "118", "-", "-"]


def test_the_bench_answers_as_the_pipeline_does():
    responses = run_clip("uniform", "0.3")["uniform", 0.3]
    video = pipeline.compress_tokens(encoded(CLIP, NAME), "0.3", "uniform", runtime=Runtime("cpu"))
    alone = pipeline.converse(video, runtime=Runtime("cpu"))
    assert [response.raw for response in responses] == [alone.ask(p, max_new_tokens=32).text for p in PROMPTS]
    clip = make_clip(CLIP.seeds[NAME][0], "still", "heldout", 12, "flash")
    known = {question.text: question.answer for question in clip.questions}
    assert [response.answer for response in responses] == [known[prompt] for prompt in PROMPTS]


def test_clips_of_different_seeds_are_different_and_events_equally_often():
    names = [set(RenderedClips(1000, 12, seed).seeds) for seed in (0, 1, 2)]
    assert [len(each) for each in names] == [1000] * 3
    assert len(set().union(*names)) == 3000
    clips = RenderedClips(24, 12, 0).seeds.values()
    assert Counter(event for _, event in clips) == dict.fromkeys(EVENTS, 4)
    assert min(seed for seed, _ in clips) > 100_000  # training's own held-out clips


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
    """No question may be asked."""

    def ask(*_):
        raise AssertionError("work was done")

    monkeypatch.setattr(Evaluator, "ask", ask)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The outputs of a small bench."""
    folder = tmp_path_factory.mktemp("bench")
    outputs = ["-o", folder / "r.json", "--plot", folder / "r.png", "--markdown", folder / "r.md"]
    assert main(["bench", *map(str, [*SMALL, *outputs])]) == 0
    return folder


def test_a_report_a_picture_and_tables_are_written_and_no_log_is_left(written):
    assert sorted(path.name for path in written.iterdir()) == ["r.json", "r.md", "r.png"]
    assert (written / "r.png").read_bytes().startswith(PNG)
    found = json.loads((written / "r.json").read_text())
    assert [(row["method"], row["ratio"]) for row in found["rows"]] == [
        ("vanilla", 1.0), ("random", 0.1), ("st-simdiff", 0.1),
    ]  # fmt: skip
    assert (found["clips"], found["frames"], found["seed"], len(found["sittings"])) == (3, 12, 0, 3)
    text = (written / "r.md").read_text()
    accuracy = next(row for row in found["rows"] if row["method"] == "random")["accuracy"]["all"]
    ends = math.floor(accuracy["low"]), math.ceil(accuracy["high"])  # rounded outwards
    assert "{:.1f} ({}–{})".format(accuracy["percent"], *ends) in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == (2 + 3 + 2) + (2 + 3) and all("|" in line[-1] for line in lines)


def test_json_is_one_line_and_the_same_report_again(capsys, written):
    code, out, _ = bench(capsys, *SMALL, "--json")
    stored = json.loads((written / "r.json").read_text())
    assert code == 0 and out.count("\n") == 1
    found = json.loads(out)
    assert set(found) == set(stored) - {"sittings"} | {"warnings"}
    again, before = timeless(found), timeless(stored)
    assert again["blind"]["all"]["right"] == before["blind"]["all"]["right"]
    for row, other in zip(again["rows"], before["rows"], strict=True):
        assert row["kept"] == other["kept"]
        assert row["accuracy"]["all"] == pytest.approx(other["accuracy"]["all"], abs=1e-5)
        assert row["coverage"] == pytest.approx(other["coverage"], abs=1e-5)


def test_a_killed_bench_goes_on_and_ends_as_if_nothing_had_been(capsys, monkeypatch, written, tmp_path):
    path, asked, real = tmp_path / "r.json", [], Evaluator.ask

    def ask(self, samples):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(samples[0].video)
        return real(self, samples)

    monkeypatch.setattr(Evaluator, "ask", ask)
    assert bench(capsys, *SMALL, "-o", path)[0] == 130
    log = tmp_path / "r.json.partial"
    assert [each.name for each in tmp_path.iterdir()] == [log.name]
    before = log.read_text()
    log.write_text(before + before.splitlines()[-1][:200])  # the power went in the middle of a line
    err = refused(capsys, *SMALL, "--seed", 1, "-o", path)
    assert "other settings" in err and log.read_text().startswith(before)
    monkeypatch.setattr(Evaluator, "ask", lambda self, samples: asked.append(samples[0].video) or real(self, samples))
    code, _, err = bench(capsys, *SMALL, "-o", path)
    assert (code, "2 of 3 clips are done" in err) == (0, True)
    assert len(asked) == len(set(asked)) == 3
    assert [each.name for each in tmp_path.iterdir()] == ["r.json"]
    assert timeless(json.loads(path.read_text())) == timeless(json.loads((written / "r.json").read_text()))


def test_the_tables_are_shown(capsys, monkeypatch, written):
    found = json.loads((written / "r.json").read_text())
    monkeypatch.setattr(output.stdout, "width", 150)  # not COLUMNS: the console may have read it already
    monkeypatch.setattr(Evaluator, "run", lambda *_: [])
    monkeypatch.setattr(reports, "bench_report", lambda *_: found)
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
    questions = ["What flashes?", "How many stars are there?"]
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
    assert "1 video of 8 frames, 1 question, seed 0" in " ".join(out.split())


def test_a_video_without_a_question_gets_the_general_one():
    path = SAMPLES / "flash.mp4"
    (sample,) = OwnVideos((path,), ("Why?",)).load_samples()
    assert (sample.groups, sample.prompt, sample.answer) == ({"kind": "open"}, "Why?", None)
    settings = replace(SETTINGS, frames=8)
    assert OwnVideos((path,)).encode(sample, settings, (), pipeline.Context()).grid.shape[0] == 8
    (sample,) = OwnVideos((path,)).load_samples()
    assert (sample.video, sample.prompt) == (str(path), pipeline.GENERAL_PROMPT)
