"""The arithmetic of a bench: plans, intervals, fidelity, journals, and every number of a report, on made-up answers."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from stsimdiff_cli.errors import RequestError, StsimdiffError
from stsimdiff_cli.evaluation.bench_report import make_report, marks, request_of, run, same
from stsimdiff_cli.evaluation.bench_tables import tables
from stsimdiff_cli.evaluation.bootstrap import DRAWS, Bootstrap, accuracy
from stsimdiff_cli.evaluation.exams import Item
from stsimdiff_cli.evaluation.fidelity import coverage, event_recall, largest_changes
from stsimdiff_cli.evaluation.journal import Journal
from stsimdiff_cli.evaluation.plan import Plan, make_plan, parse_ratios, parse_sweep
from stsimdiff_cli.evaluation.plot import Panel, caption, panels, save_plot
from stsimdiff_cli.evaluation.sitting import Examiner, Outcome, Sitting
from stsimdiff_cli.methods import METHODS
from tests.support.references.st_simdiff import video

REQUEST = {"model": "tiny", "frames": 32, "seed": 0, "device": "cpu"}
ITEMS = (
    Item("count", "How many objects are there?", "two"),
    Item("colour", "What colour is the ring?", "red"),
    Item("what", "What happens?", "the scene changes"),
    Item("when", "When does it happen?", "end"),
    Item("nothing", "What flashes?", "nothing"),
)


def outcome(answers: list[str], **more) -> Outcome:
    figures = {"kept": 3, "coverage": 0.5, "event_recall": 0.5, "seconds": {"select": 1.0, "answer": 2.0}}
    return Outcome(answers=answers, **(figures | more))


def made_up(plan: Plan, clips: int = 12, seed: int = 0, items: tuple[Item, ...] = ITEMS) -> list[Sitting]:
    """Clips whose questions are answered rightly at random, more often at higher ratios."""
    chance = random.Random(seed)

    def answers(share: float) -> list[str]:
        return [item.answer if chance.random() < share else "a mistake" for item in items]

    return [
        Sitting(
            f"clip {i}",
            10,
            items,
            answers(0.2),
            {
                (name, ratio): outcome(
                    answers(0.3 + 0.6 * float(ratio)), coverage=chance.random(), event_recall=chance.random()
                )
                for name, ratio in plan.cells()
            },
        )
        for i in range(clips)
    ]


def rows_of(report: dict) -> dict[tuple[str, float], dict]:
    return {(row["method"], row["ratio"]): row for row in report["rows"]}


# --- plans -----------------------------------------------------------------------------------------------------------


def test_parameters_stay_with_their_method_and_vanilla_is_always_there():
    plan = make_plan("st-simdiff:tau_sim=0.7,tau_diff=p95, random:seed=3", "0.3")
    assert plan.methods == ["vanilla", "st-simdiff:tau_sim=0.7,tau_diff=p95", "random:seed=3"]
    assert list(plan.contenders) == plan.methods
    assert plan.contenders["random:seed=3"].method.parameters() == {"seed": 3}
    assert plan.cells() == [("vanilla", "1"), (plan.methods[1], "0.3"), (plan.methods[2], "0.3")]


@pytest.mark.parametrize("text", ["st-simdiff,st-simdiff:tau_sim=0.8", "vanilla,st-simdiff:events=on,st-simdiff"])
def test_a_contender_is_the_same_however_it_is_written(text):
    assert make_plan(text, "0.3").methods == ["vanilla", "st-simdiff"]


def test_all_is_the_table_of_methods():
    for text in ("all", None, " all "):
        plan = make_plan(text, "0.3")
        assert plan.methods[0] == "vanilla"
        assert sorted(plan.methods) == sorted(METHODS)
    assert make_plan(None, "0.3", ablation=True).methods == ["vanilla", "st-simdiff"]
    more = make_plan("all,st-simdiff@question", "0.3")
    assert more.methods == [*make_plan("all", "0.3").methods, "st-simdiff@question"]
    assert make_plan(None, "0.3", sweep="layer=0:1").methods == ["vanilla", "st-simdiff"]


def test_the_form_is_part_of_the_name():
    plan = make_plan("st-simdiff,st-simdiff@question,st-simdiff:layer=2@question,fastv@inside", "0.3")
    assert {name: each.form for name, each in plan.contenders.items()} == {
        "vanilla": "",
        "st-simdiff": "",
        "st-simdiff@question": "question",
        "st-simdiff:layer=2@question": "question",
        "fastv@inside": "inside",
    }
    assert plan.contenders["st-simdiff:layer=2@question"].method.layer == 2


def test_evidence_is_what_the_encoder_has_to_give():
    assert make_plan("st-simdiff,fastv,uniform", "0.3").evidence == frozenset()
    assert make_plan("all", "0.3").evidence == {"saliency", "keys"}
    assert make_plan("st-simdiff:importance=saliency,random", "0.3").evidence == {"saliency"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("st-simdif", "named 'st-simdif'"),
        ("st-simdiff:tau=0.8", "parameter of st-simdiff named 'tau'"),
        ("st-simdiff@prompt", "no form named 'prompt'"),
        ("uniform@inside", "uniform does not work inside the LLM"),
        ("random@question", "random does not look at the prompt"),
        ("st-simdiff:importance=centrality@question", "does not look at the prompt"),
        (",", "no method"),
    ],
)
def test_an_unknown_contender_is_refused_with_a_hint(text, message):
    with pytest.raises(RequestError, match=message) as caught:
        make_plan(text, "0.3")
    assert caught.value.hint


def test_ratios_are_sorted_and_once_each():
    found = parse_ratios("0.5, 0.1,1.0,.5,0.50,1")
    assert [(text, ratio.exact) for text, ratio in found.items()] == [
        ("0.1", Fraction(1, 10)),
        ("0.5", Fraction(1, 2)),
        ("1.0", Fraction(1)),
    ]
    assert make_plan("random", "0.5,0.1").cells() == [("vanilla", "1"), ("random", "0.1"), ("random", "0.5")]


def test_the_ablation_is_table_3():
    plan = make_plan(None, "0.3", ablation=True)
    methods = {label: plan.contenders[name].method for label, name in plan.ablation.items()}
    assert {label: (each.spatial, each.temporal, each.events) for label, each in methods.items()} == {
        "importance only": (False, False, False),
        "+ spatial": (True, False, False),
        "+ temporal": (False, True, False),
        "+ spatial + temporal": (True, True, False),
        "+ events": (True, True, True),
    }
    assert plan.ablation["+ events"] == "st-simdiff"
    assert set(plan.contenders) == {"vanilla", *plan.ablation.values()}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("tau_sim=0.6:0.95", ["0.60", "0.65", "0.70", "0.75", "0.80", "0.85", "0.90", "0.95"]),
        ("tau_diff=0.1:0.4:0.1", ["0.1", "0.2", "0.3", "0.4"]),
        ("tau_sim=0.5:0.69:0.1", ["0.5", "0.6"]),
        ("tau_sim=0.8:0.8", ["0.80"]),
        ("layer=0:3", ["0", "1", "2", "3"]),
        ("tau_diff=0.2|p95|p99", ["0.2", "p95", "p99"]),
        ("max_community=sqrt|none", ["sqrt", "none"]),
    ],
)
def test_a_sweep_holds_both_ends(text, values):
    ((_, found),) = parse_sweep(text).items()
    assert len(found) == len(values)
    for got, expected in zip(found, values, strict=True):
        assert got == expected or Fraction(got) == Fraction(expected)


def test_a_sweep_of_several_parameters_shares_contenders():
    plan = make_plan(None, "0.3", sweep="tau_sim=0.7:0.8:0.1,importance=llm|centrality")
    assert plan.sweep == {
        "tau_sim": {"0.7": "st-simdiff:tau_sim=0.7", "0.8": "st-simdiff"},
        "importance": {"llm": "st-simdiff", "centrality": "st-simdiff:importance=centrality"},
    }
    assert list(plan.contenders) == [
        "vanilla", "st-simdiff", "st-simdiff:tau_sim=0.7", "st-simdiff:importance=centrality",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "tau=0.6:0.9", "tau_sim", "tau_sim=", "tau_sim=0.9:0.6", "tau_sim=0.6:0.9:0", "tau_sim=0.6:0.9:-0.1",
        "tau_sim=a:b", "tau_sim=0.6:0.7:0.8:0.9", "tau_sim=nan:0.9", "tau_sim=0:inf", "tau_sim=0:1:0.001",
        "tau_sim=0.6:0.9:nan", "tau_sim=0.6:0.9:inf", "tau_sim=1e-999999999:0.9:0.3", "tau_sim=0.8:1.2",
        "layer=0:2:0.5", "importance=llm|beauty",
    ],
)  # fmt: skip
def test_a_bad_sweep_is_refused_with_a_hint(text):
    with pytest.raises(RequestError) as caught:
        parse_sweep(text)
    assert caught.value.hint


def test_a_parameter_named_twice_is_swept_over_both_ranges():
    assert parse_sweep("layer=0:1,layer=1:2") == {"layer": ["0", "1", "2"]}


# --- statistics ------------------------------------------------------------------------------------------------------


def quantile(values: list[float], part: float) -> float:
    place = part * (len(values) - 1)
    low = math.floor(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def test_the_bootstrap_is_that_of_a_plain_loop():
    right, asked = [1.0, 0.0, 3.0, 2.0, 0.0], [2.0, 0.0, 3.0, 5.0, 1.0]
    bootstrap = Bootstrap.over(5, 7)
    ratios = []
    for draw in bootstrap.weights.tolist():
        assert sum(draw) == 5 and all(times == int(times) >= 0 for times in draw)
        clips = [clip for clip, times in enumerate(draw) for _ in range(int(times))]
        if sum(asked[clip] for clip in clips):
            ratios.append(sum(right[clip] for clip in clips) / sum(asked[clip] for clip in clips))
    assert DRAWS > len(ratios) >= DRAWS - 20  # a draw of five times clip 1 asks nothing
    ratios.sort()
    found = bootstrap.ratio(np.array(right), np.array(asked))
    assert found == pytest.approx(
        {"value": 6 / 11, "low": quantile(ratios, 0.025), "high": quantile(ratios, 0.975)}, abs=1e-12
    )


def test_clips_are_drawn_with_replacement():
    weights = Bootstrap.over(20, 0).weights
    assert weights.shape == (DRAWS, 20)
    assert weights.mean(0) == pytest.approx(np.ones(20), abs=0.05)
    assert weights.var() == pytest.approx(0.95, abs=0.02)  # 1 - 1/20
    assert np.corrcoef(weights.T)[0, 1] == pytest.approx(-1 / 19, abs=0.05)


def test_the_interval_of_independent_questions_is_the_binomial_one():
    right = np.repeat([1.0, 0.0], [140, 60])
    found = accuracy(Bootstrap.over(200, 0), right, np.ones(200))
    half = 1.96 * 100 * math.sqrt(0.7 * 0.3 / 200)
    assert (found["right"], found["asked"], found["percent"]) == (140, 200, 70)
    assert (found["low"], found["high"]) == (pytest.approx(70 - half, abs=0.8), pytest.approx(70 + half, abs=0.8))


def test_more_questions_about_the_same_clips_are_no_more_certain():
    right = np.repeat([1.0, 0.0], [14, 6])
    bootstrap = Bootstrap.over(20, 0)
    once = bootstrap.ratio(right, np.ones(20))
    ten_times = bootstrap.ratio(10 * right, np.full(20, 10.0))
    assert ten_times == pytest.approx(once)
    assert once["high"] - once["low"] > 0.3


def test_the_seed_decides_the_draws():
    one, again, other = (Bootstrap.over(9, seed).weights for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()


def test_nothing_asked_is_null():
    bootstrap, nothing = Bootstrap.over(3, 0), {"right": 0, "asked": 0, "percent": None, "low": None, "high": None}
    assert accuracy(bootstrap, np.zeros(3), np.zeros(3)) == nothing
    assert accuracy(bootstrap, np.zeros(3), np.ones(3)) == nothing | {"asked": 3, "percent": 0, "low": 0, "high": 0}


def test_draws_without_a_question_say_nothing():
    one = np.array([1.0, 0.0, 0.0])
    assert Bootstrap.over(3, 0).ratio(one, one) == {"value": 1, "low": 1, "high": 1}


def test_differences_are_paired():
    plan = make_plan("st-simdiff,random,uniform", "0.5")
    sittings = made_up(plan, 30)
    for sitting in sittings:
        answers = sitting.cells["st-simdiff", "0.5"].answers
        sitting.cells["random", "0.5"] = outcome(list(answers))
        fewer = ["wrong" if item.kind == "nothing" else given for item, given in zip(ITEMS, answers, strict=True)]
        answers[-1] = "nothing"  # st-simdiff is always right there, uniform never
        sitting.cells["random", "0.5"].answers[-1] = "nothing"
        sitting.cells["uniform", "0.5"] = outcome(fewer)
    rows = rows_of(make_report(REQUEST, plan, sittings))
    assert rows["random", 0.5]["difference"] == {"percent": 0, "low": 0, "high": 0}
    assert rows["uniform", 0.5]["difference"] == pytest.approx({"percent": -20, "low": -20, "high": -20})
    spread = rows["uniform", 0.5]["accuracy"]["all"]
    assert spread["high"] - spread["low"] > 5  # of each alone
    assert rows["st-simdiff", 0.5]["difference"] is rows["vanilla", 1.0]["difference"] is None
    assert rows["vanilla", 1.0]["of_vanilla"] == {"percent": 100, "low": 100, "high": 100}


# --- fidelity --------------------------------------------------------------------------------------------------------


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a.double() @ b.double() / (a.double().norm() * b.double().norm()))


def test_coverage_is_the_mean_best_cosine_of_a_double_loop():
    features = torch.randn(4, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    flat = features.flatten(0, 2)
    kept = flat[[0, 7, 8, 31]]
    expected = sum(max(cosine(token, other) for other in kept) for token in flat) / 60
    assert 0 < expected < 0.9
    assert coverage(features, kept) == pytest.approx(expected, abs=1e-6)
    assert coverage(features, kept, rows=7) == pytest.approx(expected, abs=1e-6)
    assert coverage(3 * features, kept.bfloat16()) == pytest.approx(expected, abs=0.01)


def test_coverage_is_1_when_all_tokens_are_kept_or_have_a_twin():
    features = torch.randn(1, 3, 5, 8, generator=torch.Generator().manual_seed(0)).repeat(4, 1, 1, 1)
    assert coverage(features, features.flatten(0, 2)) == pytest.approx(1, abs=1e-6)
    assert coverage(features, features[2].flatten(0, 1)) == pytest.approx(1, abs=1e-6)
    assert coverage(features, features[2].flatten(0, 1)[1:]) < 1 - 1e-3


def test_event_recall_is_the_share_of_the_largest_changes():
    features = torch.randn(1, 3, 4, 8, generator=torch.Generator().manual_seed(1)).repeat(10, 1, 1, 1)
    constant = largest_changes(video(features))
    assert constant.tolist() == []
    assert event_recall(constant, torch.arange(120)) is None
    stays = features.clone()
    stays[5:, 1, 2] *= -1
    assert largest_changes(video(stays)).tolist() == [5 * 12 + 6]
    flash = features.clone()
    flash[5, 1, 2] *= -1
    changes = largest_changes(video(flash))
    assert changes.tolist() == [66, 78]  # it comes, it goes
    assert event_recall(changes, torch.tensor([0, 66, 119])) == 0.5
    assert event_recall(changes, torch.arange(120)) == 1
    assert event_recall(changes, torch.tensor([54, 65, 67])) == 0


def test_the_larger_change_comes_first_and_ties_go_to_the_earlier_token():
    features = torch.zeros(3, 2, 2, 2)
    features[..., 0] = 1
    features[1:, 1, 1] = torch.tensor([0.0, 1.0])
    features[2, 0, 1] = torch.tensor([-1.0, 0.0])
    assert largest_changes(video(features)).tolist() == [9]
    features[1, 0, 0] = torch.tensor([-1.0, 0.0])
    assert largest_changes(video(features)).tolist() == [4]


@pytest.mark.parametrize(
    ("shape", "count"), [((2, 1, 1), 1), ((26, 2, 2), 1), ((27, 2, 2), 2), ((8, 10, 10), 7), ((1, 3, 3), 0)]
)
def test_the_largest_changes_are_a_hundredth_rounded_up(shape, count):
    features = torch.randn(*shape, 6, generator=torch.Generator().manual_seed(2))
    found = largest_changes(video(features)).tolist()
    flat, area = features.flatten(0, 2), shape[1] * shape[2]
    order = sorted(range(area, len(flat)), key=lambda i: cosine(flat[i], flat[i - area]))
    assert found == order[:count]


# --- the journal -----------------------------------------------------------------------------------------------------


class Clip:
    def __init__(self, name: str) -> None:
        self.name = name


class Stub:
    """In place of an examiner: hands out sittings that are made already, and dies after some."""

    def __init__(self, sittings: list[Sitting], until: int = 99) -> None:
        self.sittings = {sitting.name: sitting for sitting in sittings}
        self.until = until
        self.sat: list[str] = []

    def sit(self, exam: Clip, plan: Plan) -> Sitting:
        if len(self.sat) == self.until:
            raise KeyboardInterrupt
        self.sat.append(exam.name)
        return self.sittings[exam.name]


def timeless(report: dict) -> dict:
    return {key: value for key, value in report.items() if key not in ("date", "machine")}


def test_a_torn_line_is_left_out_and_finished_clips_are_not_repeated(tmp_path):
    plan, path = make_plan("all", "0.1,0.5"), tmp_path / "r.partial"
    sittings = made_up(plan, 6)
    sittings[0] = replace(sittings[0], cells=sittings[0].cells | {("random", "0.1"): outcome(["é\n"] * 5)})
    sittings[1].cells["random", "0.1"] = outcome(["two"] * 5, event_recall=None)
    exams = [Clip(sitting.name) for sitting in sittings]
    with pytest.raises(KeyboardInterrupt):
        run(exams[:4], plan, Stub(sittings, 3), Journal(path, REQUEST))
    with path.open("a") as file:
        file.write(path.read_text().splitlines()[1][:100])
    second, steps = Stub(sittings), []
    assert run(exams[:4], plan, second, Journal(path, REQUEST), steps.append) == sittings[:4]
    assert (second.sat, steps) == (["clip 3"], [0, 1, 2, 3, 4])
    third, journal = Stub(sittings), Journal(path, REQUEST)
    found = run(exams, plan, third, journal)
    assert third.sat == ["clip 4", "clip 5"]
    expected = make_report(REQUEST, plan, run(exams, plan, Stub(sittings), Journal(None, REQUEST)))
    assert timeless(make_report(REQUEST, plan, found)) == timeless(expected)
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_of_another_request_is_refused_untouched_and_discarded_by_force(tmp_path):
    plan, path = make_plan("random", "0.5"), tmp_path / "r.partial"
    Journal(path, REQUEST).add(made_up(plan, 1)[0])
    before = path.read_bytes()
    with pytest.raises(RequestError, match="other settings") as caught:
        Journal(path, REQUEST | {"seed": 1})
    assert "--force" in caught.value.hint
    assert path.read_bytes() == before
    assert list(Journal(path, REQUEST, force=True).sittings) == ["clip 0"]  # its own it keeps
    assert Journal(path, REQUEST | {"seed": 1}, force=True).sittings == {}
    assert json.loads(path.read_text()) == REQUEST | {"seed": 1}


FOREIGN = [b"dear diary,\ntoday\n", b"dear diary", b"", b'{"some": "json"}\n', b"\xff\xfe\x00binary\n"]


@pytest.mark.parametrize("content", [*FOREIGN, json.dumps(REQUEST).encode() + b'\n{"x": 1}\n'])
def test_a_foreign_file_is_refused_untouched(tmp_path, content):
    path = tmp_path / "r.partial"
    path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        Journal(path, REQUEST)
    assert caught.value.hint
    assert path.read_bytes() == content


def test_a_folder_in_the_journals_place_is_refused(tmp_path):
    (tmp_path / "r.partial").mkdir()
    with pytest.raises(RequestError, match="no journal"):
        Journal(tmp_path / "r.partial", REQUEST)


def test_a_video_that_was_replaced_is_another_request(tmp_path):
    plan, path = make_plan("uniform", "0.5"), tmp_path / "v.mp4"
    path.write_bytes(b"one")
    first = request_of(plan, Examiner("tiny"), 8, 0, ("what?",), [path])
    assert first == request_of(plan, Examiner("tiny"), 8, 0, ("what?",), [path])
    path.write_bytes(b"three")
    assert first != request_of(plan, Examiner("tiny"), 8, 0, ("what?",), [path])


def test_a_journal_that_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(StsimdiffError, match="cannot be written") as caught:
        Journal(tmp_path / "gone" / "r.partial", REQUEST)
    assert caught.value.hint


# --- the report ------------------------------------------------------------------------------------------------------


def test_answers_are_equal_but_for_case_blanks_and_a_full_stop():
    assert same("  Red  circle. ", "red circle")
    assert not same("red circle", "red")
    assert not same("", "red")


def test_every_number_of_a_row_is_that_of_a_plain_count():
    plan = make_plan("random", "0.1,0.5")
    sittings = made_up(plan, 9)
    for number, sitting in enumerate(sittings):
        old = sitting.cells["random", "0.5"]
        recall = None if number < 4 else number / 10
        seconds = {"select": float(number**2), "answer": 10.0 - number}
        sitting.cells["random", "0.5"] = replace(old, kept=5 + number % 2, event_recall=recall, seconds=seconds)
    found = make_report(REQUEST, plan, sittings)
    row = rows_of(found)["random", 0.5]
    cells = [(sitting, sitting.cells["random", "0.5"]) for sitting in sittings]
    for key, kinds in {"static": ("count", "colour"), "event": ("what",), "kind when": ("when",)}.items():
        good = [a == i.answer for s, o in cells for i, a in zip(ITEMS, o.answers, strict=True) if i.kind in kinds]
        assert (row["accuracy"][key]["right"], row["accuracy"][key]["asked"]) == (sum(good), len(good))
        assert row["accuracy"][key]["percent"] == pytest.approx(100 * sum(good) / len(good))
    right = {name: sum(map(sum, marks(sittings, *name))) for name in plan.cells()}
    assert row["accuracy"]["all"]["right"] == right["random", "0.5"]
    assert row["of_vanilla"]["percent"] == pytest.approx(100 * right["random", "0.5"] / right["vanilla", "1"])
    assert (row["kept"], row["tokens"], row["seconds"]) == ([5, 6], [10, 10], {"select": 16.0, "answer": 6.0})
    assert row["coverage"]["percent"] == pytest.approx(100 * sum(o.coverage for _, o in cells) / 9)
    assert row["event_recall"]["percent"] == pytest.approx(60)  # of 0.4 to 0.8
    agree = [a == b for s, o in cells for a, b in zip(o.answers, s.cells["vanilla", "1"].answers, strict=True)]
    assert row["agreement"]["percent"] == pytest.approx(100 * sum(agree) / 45)
    assert (
        found["blind"]["all"]["right"]
        == sum(map(sum, marks(sittings)))
        == sum(answer != "a mistake" for sitting in sittings for answer in sitting.blind)
    )
    assert (found["clips"], found["asked"]) == (9, 45)
    for sitting, written in zip(sittings, found["sittings"], strict=True):
        others = {(name, ratio): answers for name, ratio, answers in written["other_answers"]}
        answers = sitting.cells["random", "0.1"].answers
        assert others["random", "0.1"] == {str(i): "a mistake" for i, a in enumerate(answers) if a == "a mistake"}
        assert written["questions"] == [list(item) for item in ITEMS]


def test_the_best_constant_answers_are_counted_by_kind():
    plan, items = make_plan("random", "0.5"), (*ITEMS, ITEMS[1])  # two about colours
    answers = {"count": ["two", "two", "four"], "colour": ["red", "blue", "green"], "what": ["a", "a", "a"]}
    sittings = [
        replace(sitting, items=tuple(item._replace(answer=answers.get(item.kind, "xyz")[i]) for item in items))
        for i, sitting in enumerate(made_up(plan, 3, items=items))
    ]
    found = make_report(REQUEST, plan, sittings)["constant"]
    assert found["static"] == pytest.approx(100 * (2 + 2) / 9)
    assert (found["kind count"], found["kind what"]) == (pytest.approx(200 / 3), 100)
    assert found["all"] == pytest.approx(100 * (2 + 2 + 3 + 1 + 1) / 18)


def test_without_right_answers_there_is_agreement_and_nothing_else():
    plan = make_plan("random", "0.5")
    sittings = [
        replace(sitting, items=tuple(item._replace(kind="open", answer=None) for item in ITEMS))
        for sitting in made_up(plan, 4)
    ]
    found = make_report(REQUEST, plan, sittings)
    row = rows_of(found)["random", 0.5]
    assert (found["blind"], found["constant"]) == (None, None)
    assert (row["accuracy"], row["of_vanilla"], row["difference"]) == (None, None, None)
    assert rows_of(found)["vanilla", 1.0]["agreement"] == {"percent": 100, "low": 100, "high": 100}
    assert row["agreement"]["percent"] == 100 * sum(map(sum, marks(sittings, "random", "0.5"))) / 20 < 100
    assert [grid.title.split(":")[1].split(",")[0] for grid in tables(found)] == [" without right answers"]
    assert [panel.group for panel in panels(found)] == [None] * 3


# --- tables and pictures ---------------------------------------------------------------------------------------------


def points(panel: Panel) -> dict[str, list[tuple[float, float, float, float]]]:
    return {curve.name: curve.points for curve in panel.curves}


def expected_points(found: dict, name: str, key: str, ratios: list[float]) -> list[tuple[float, ...]]:
    estimates = {ratio: rows_of(found)[name, ratio]["accuracy"][key] for ratio in ratios}
    return [(ratio, each["percent"], each["low"], each["high"]) for ratio, each in estimates.items()]


def test_a_picture_of_methods_shows_the_numbers_of_the_report(tmp_path):
    plan = make_plan("st-simdiff,random,uniform", "0.1,0.5,1")
    found = make_report(REQUEST, plan, made_up(plan))
    shown = panels(found)
    assert [panel.group for panel in shown] == ["all", "static", "event", "when"]
    for panel in shown:
        assert points(panel) == {
            name: expected_points(found, name, panel.group, [0.1, 0.5, 1.0])
            for name in ("st-simdiff", "random", "uniform")
        }
        assert panel.logarithmic
    save_plot(tmp_path / "p.svg", found)
    text = (tmp_path / "p.svg").read_text()
    assert all(word in text for word in ("What happens", "uniform", "ratio of tokens kept", "12 clips of 32 frames"))
    assert "12 clips of 32 frames, 60 questions, seed 0" in caption(found).replace("\n", " ")


def test_a_sweep_is_a_panel_a_parameter_and_a_curve_a_ratio(tmp_path):
    plan = make_plan(None, "0.1,0.5", sweep="tau_sim=0.6:0.8:0.1,importance=llm|centrality")
    found = make_report(REQUEST, plan, made_up(plan))
    first, second = panels(found)
    assert (first.x, first.marks, second.x, second.marks) == ("tau_sim", None, "importance", ["llm", "centrality"])
    for panel, places in ((first, [0.6, 0.7, 0.8]), (second, [0.0, 1.0])):
        names = list(plan.sweep[panel.x].values())
        for ratio in (0.1, 0.5):
            curve = points(panel)[f"ratio {ratio:g}"]
            assert [point[0] for point in curve] == places
            assert [point[1:] for point in curve] == [
                expected_points(found, name, "all", [ratio])[0][1:] for name in names
            ]
    save_plot(tmp_path / "p.svg", found)
    text = (tmp_path / "p.svg").read_text()
    assert "centrality" in text and "ratio 0.5" in text
    assert [grid.title.split(":")[0] for grid in tables(found)] == ["Sweep of tau_sim", "Sweep of importance"]


def test_an_ablation_alone_shows_its_rows_under_their_labels():
    plan = make_plan(None, "0.1", ablation=True)
    found = make_report(REQUEST, plan, made_up(plan))
    assert [curve.name for curve in panels(found)[0].curves] == list(plan.ablation)
    (grid,) = tables(found)
    assert [row[:2] for row in grid.rows] == [["0.1", label] for label in plan.ablation]


def test_a_glance_marks_what_lies_wholly_above_or_below_the_reference():
    plan = make_plan("st-simdiff,random,uniform,evs,vidcom2", "0.1,0.5")
    report = make_report(REQUEST, plan, made_up(plan))
    for row, (low, high) in zip(report["rows"][3:6], ((0.5, 2.0), (-2.0, -0.5), (-1.0, 1.0)), strict=True):
        row["difference"] = {"percent": (low + high) / 2, "low": low, "high": high}
    glance = tables(report)[0]
    assert glance.header == ["method", "ratio 0.1", "ratio 0.5"]
    cells = {line[0]: line[1:] for line in glance.rows}
    assert (cells["random"][0][-1], cells["random"][1][-1], cells["uniform"][0][-1]) == ("▲", "▼", ")")
    assert cells["vanilla"][0] == cells["vanilla"][1] != ""
    assert list(cells) == plan.methods
    assert "▲" not in "".join(cells["st-simdiff"])
    few = make_plan("st-simdiff,random", "0.5")
    assert len(tables(make_report(REQUEST, few, made_up(few)))) == 2


def test_a_model_that_is_never_right_has_tables_too():
    plan = make_plan("uniform", "0.5")
    sittings = [
        replace(s, cells={cell: replace(o, answers=["no idea"] * len(ITEMS)) for cell, o in s.cells.items()})
        for s in made_up(plan)
    ]
    report = make_report(REQUEST, plan, sittings)
    assert report["rows"][-1]["of_vanilla"]["percent"] is None
    assert tables(report)[0].rows[0][-2:] == ["-", "-"]


def test_a_table_shows_the_numbers_of_the_report():
    plan = make_plan("st-simdiff,random,uniform", "0.1,1")
    found = make_report(REQUEST, plan, made_up(plan))
    accuracies, figures = tables(found)
    lines = {(line[0], line[1]): line for line in accuracies.rows}
    assert list(lines)[-2:] == [("-", "no video"), ("-", "best constant answers")]
    assert len(lines) == 2 * 3 + 1 + 2
    for (name, ratio), row in rows_of(found).items():
        line = lines[f"{ratio:g}", name]
        for place, group in enumerate(("all", "static", "event", "when"), 3):
            each = row["accuracy"][group]
            low, high = math.floor(each["low"] + 1e-6), math.ceil(each["high"] - 1e-6)
            assert line[place] == f"{each['percent']:.1f} ({low}–{high})"
        assert line[2] == "3"
        assert line[7] == ("-" if name == "vanilla" else f"{row['of_vanilla']['percent']:.1f}")
        if name in ("random", "uniform"):
            assert line[8].startswith(f"{row['difference']['percent']:+.1f} (".replace("-", "−"))
        else:
            assert line[8] == "-"
    assert figures.header[2:] == ["kept", "coverage", "event recall", "same answer", "select s", "answer s"]
    written = accuracies.markdown().splitlines()
    assert len({len(line) for line in written}) == 1
    assert {line.count("|") for line in written} == {len(accuracies.header) + 1}


@pytest.mark.parametrize("text", ["vanilla", "st-simdiff@question"])
def test_few_contenders_make_tables_and_pictures_too(tmp_path, text):
    plan = make_plan(text, "0.1")
    found = make_report(REQUEST, plan, made_up(plan, 2))
    save_plot(tmp_path / "p.png", found)
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert tables(found)[0].rows
