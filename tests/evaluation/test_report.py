"""Every number of a bench's report, table and picture, on made-up answers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from stsimdiff_cli.evaluation.controls import NO_VIDEO
from stsimdiff_cli.evaluation.plan import make_plan
from stsimdiff_cli.evaluation.plot import Panel, caption, forests, panels, save_plot
from stsimdiff_cli.evaluation.tables import inside_table, tables
from stsimdiff_cli.evaluation.variants import parse_variant
from stsimdiff_cli.methods.spec import shown
from tests.support.made_up import MISTAKE, QUESTIONS, MadeUp, rows_of


def test_differences_are_paired():
    bench = MadeUp(make_plan("st-simdiff,random,uniform", "0.5"), 30)
    for clip in bench.clips:
        answers = bench.raws(("st-simdiff", "0.5"), clip)[:-1]
        right = [*answers, "nothing"]  # st-simdiff and random are always right there, uniform never
        bench.set(clip, ("st-simdiff", "0.5"), right)
        bench.set(clip, ("random", "0.5"), right)
        bench.set(clip, ("uniform", "0.5"), [*answers, "wrong"])
    rows = rows_of(bench.report())
    assert rows["random", 0.5]["difference"] == {"percent": 0, "low": 0, "high": 0}
    assert rows["uniform", 0.5]["difference"] == pytest.approx({"percent": -20, "low": -20, "high": -20})
    spread = rows["uniform", 0.5]["accuracy"]["all"]
    assert spread["high"] - spread["low"] > 5  # of each alone
    assert rows["st-simdiff", 0.5]["difference"] is rows["vanilla", 1.0]["difference"] is None
    assert rows["vanilla", 1.0]["of_vanilla"] == {"percent": 100, "low": 100, "high": 100}


def test_answers_are_equal_but_for_case_blanks_and_a_full_stop():
    same = MadeUp.task.same
    assert same("  Red  circle. ", "red circle")
    assert not same("red circle", "red")
    assert not same("", "red")


def test_every_number_of_a_row_is_that_of_a_plain_count():
    bench, cell = MadeUp(make_plan("random", "0.1,0.5"), 9), ("random", "0.5")
    for number, clip in enumerate(bench.clips):
        recall = None if number < 4 else number / 10
        seconds = {"encode": 7.0, "select": float(number**2), "prefill": 5.0 - number, "answer": 1.0}
        bench.change(clip, cell, kept=5 + number % 2, event_recall=recall, seconds=seconds)
    report = bench.report()
    row = rows_of(report)[cell[0], 0.5]
    for key, kinds in {"static": ("count", "colour"), "event": ("what",), "kind when": ("when",)}.items():
        asked = zip(bench.raws(cell), bench.samples, strict=True)
        good = [raw == sample.answer for raw, sample in asked if sample.groups["kind"] in kinds]
        assert (row["accuracy"][key]["right"], row["accuracy"][key]["asked"]) == (sum(good), len(good))
        assert row["accuracy"][key]["percent"] == pytest.approx(100 * sum(good) / len(good))
    right = {each: bench.right(each) for each in bench.cells}
    assert row["accuracy"]["all"]["right"] == right[cell]
    assert row["of_vanilla"]["percent"] == pytest.approx(100 * right[cell] / right["vanilla", "1"])
    assert (row["kept"], row["tokens"], row["seconds"]) == ([5, 6], [10, 10], {"select": 16.0, "answer": 6.0})
    coverage = [bench.responses(cell, clip)[0].coverage for clip in bench.clips]
    assert row["coverage"]["percent"] == pytest.approx(100 * sum(coverage) / 9)
    assert row["event_recall"]["percent"] == pytest.approx(60)  # of 0.4 to 0.8
    agree = [a == b for a, b in zip(bench.raws(cell), bench.raws(("vanilla", "1")), strict=True)]
    assert row["agreement"]["percent"] == pytest.approx(100 * sum(agree) / 45)
    blind = sum(raw != MISTAKE for raw in bench.raws(NO_VIDEO))
    assert report["blind"]["all"]["right"] == right[NO_VIDEO] == blind
    assert (report["clips"], report["asked"]) == (9, 45)
    for clip, written in zip(bench.clips, report["sittings"], strict=True):
        others = {(name, ratio): answers for name, ratio, answers in written["other_answers"]}
        answers = bench.raws(("random", "0.1"), clip)
        assert others["random", "0.1"] == {str(i): MISTAKE for i, raw in enumerate(answers) if raw == MISTAKE}
        assert written["questions"] == [list(question) for question in QUESTIONS]


def test_questions_with_tokens_of_their_own_count_them_all():
    bench, cell = MadeUp(make_plan("st-simdiff@question", "0.5"), 3), ("st-simdiff@question", "0.5")
    for number, clip in enumerate(bench.clips):
        for place, sample in enumerate(clip):
            bench.change([sample], cell, coverage=number / 10 + place / 100, event_recall=None if place else 0.5)
    row = rows_of(bench.report())["st-simdiff@question", 0.5]
    assert row["seconds"] == {"select": 5.0, "answer": 10.0}  # selected and prefilled once for each of five questions
    assert row["coverage"]["percent"] == pytest.approx(100 * (0.02 + 0.12 + 0.22) / 3)
    assert row["event_recall"]["percent"] == 50  # the mean of the questions that have it
    assert rows_of(bench.report())["vanilla", 1.0]["seconds"] == {"select": 1.0, "answer": 6.0}


def test_the_best_constant_answers_are_counted_by_kind():
    questions = (*QUESTIONS, QUESTIONS[1])  # two about colours
    answers = {"count": ["two", "two", "four"], "colour": ["red", "blue", "green"], "what": ["a", "a", "a"]}
    bench = MadeUp(make_plan("random", "0.5"), 3, questions)
    bench.samples = [
        replace(sample, answer=answers.get(sample.groups["kind"], "xyz")[i])
        for i, clip in enumerate(bench.clips)
        for sample in clip
    ]
    constant = bench.report()["constant"]
    assert constant["static"] == pytest.approx(100 * (2 + 2) / 9)
    assert (constant["kind count"], constant["kind what"]) == (pytest.approx(200 / 3), 100)
    assert constant["all"] == pytest.approx(100 * (2 + 2 + 3 + 1 + 1) / 18)


def test_without_right_answers_there_is_agreement_and_nothing_else():
    bench = MadeUp(make_plan("random", "0.5"), 4, [("open", text, None) for _, text, _ in QUESTIONS])
    report = bench.report()
    row = rows_of(report)["random", 0.5]
    assert (report["blind"], report["constant"]) == (None, None)
    assert (row["accuracy"], row["of_vanilla"], row["difference"]) == (None, None, None)
    assert rows_of(report)["vanilla", 1.0]["agreement"] == {"percent": 100, "low": 100, "high": 100}
    agree = [a == b for a, b in zip(bench.raws(("random", "0.5")), bench.raws(("vanilla", "1")), strict=True)]
    assert row["agreement"]["percent"] == 100 * sum(agree) / 20 < 100
    assert [table.title.split(":")[1].split(",")[0] for table in tables(report)] == [" without right answers"]
    assert [panel.group for panel in panels(report)] == [None] * 3


def test_tables_say_which_form_a_row_is_in_words_that_are_read_back():
    specs = ["fastv", "fastv:k=3", "fastv@inside", "st-simdiff@question", "random", "vanilla"]
    assert [shown(parse_variant(spec).name) for spec in specs] == [
        *("fastv@file", "fastv:k=3@file", "fastv@inside", "st-simdiff@question", "random", "vanilla")
    ]
    for spec in specs:
        variant = parse_variant(spec)
        assert parse_variant(shown(variant.name)) == variant


def test_a_form_inside_the_llm_stands_beside_its_file_at_equal_count_and_at_equal_compute():
    """Of 10 tokens 3 are kept, after 10 in the first of four layers: 4.75 alive, as in a file of ratio 0.475."""
    inside, low, high = (("fastv@inside", "0.3"), ("fastv", "0.3"), ("fastv", "0.5"))
    bench = MadeUp(make_plan("st-simdiff,fastv,fastv@inside", "0.3,0.5"))
    for number, clip in enumerate(bench.clips):
        bench.change(clip, inside, live=[10, 3, 3, 3 + number % 2])
    report = bench.report()
    rows = rows_of(report)
    row = rows["fastv@inside", 0.3]
    assert row["live"] == [10, 3, 3, 3.5]
    assert row["compute"] == pytest.approx((10 + 3 + 3 + 3.5) / 4 / 10)
    assert rows["fastv", 0.3]["live"] is None and rows["fastv", 0.3]["compute"] == pytest.approx(0.3)
    assert rows["fastv@inside", 0.5]["live"] is rows["fastv@inside", 0.5]["compute"] is None  # an older log has none
    own, reference = row["same_compute"]
    assert (own["method"], reference["method"], own["between"]) == ("fastv", "st-simdiff", [0.3, 0.5])
    part = (0.4875 - 0.3) / 0.2
    expected = (1 - part) * bench.right(low) + part * bench.right(high)
    assert own["accuracy"]["percent"] == pytest.approx(100 * expected / 60)
    assert own["difference"]["percent"] == pytest.approx(100 * (bench.right(inside) - expected) / 60)
    assert own["difference"]["low"] < own["difference"]["percent"] < own["difference"]["high"]
    table = inside_table(report)
    assert [line[:4] for line in table.rows] == [
        ["0.3", "fastv@inside", "10, 3 x 2, 4", "48.8"],
        ["0.5", "fastv@inside", "-", "-"],
    ]
    assert table.rows[0][5] == next(line[3] for line in tables(report)[0].rows if line[:2] == ["0.3", "fastv@file"])
    assert table.rows[1][6:] == ["-"] * 4
    assert inside_table(MadeUp(make_plan("fastv", "0.3")).report()) is None


def points(panel: Panel) -> dict[str, list[tuple[float, float, float, float]]]:
    return {curve.name: curve.points for curve in panel.curves}


def expected_points(found: dict, name: str, key: str, ratios: list[float]) -> list[tuple[float, ...]]:
    estimates = {ratio: rows_of(found)[name, ratio]["accuracy"][key] for ratio in ratios}
    return [(ratio, each["percent"], each["low"], each["high"]) for ratio, each in estimates.items()]


def test_a_picture_of_methods_shows_the_numbers_of_the_report(tmp_path):
    plan = make_plan("st-simdiff,random,uniform", "0.1,0.5,1")
    found = MadeUp(plan).report()
    drawn = panels(found)
    assert [panel.group for panel in drawn] == ["all", "static", "event", "when"]
    for panel in drawn:
        assert points(panel) == {
            shown(name): expected_points(found, name, panel.group, [0.1, 0.5, 1.0])
            for name in ("st-simdiff", "random", "uniform")
        }
        assert panel.logarithmic
    save_plot(tmp_path / "p.svg", found)
    text = (tmp_path / "p.svg").read_text()
    assert all(word in text for word in ("What happens", "uniform", "ratio of tokens kept", "12 clips of 32 frames"))
    assert "12 clips of 32 frames, 60 questions, seed 0" in caption(found).replace("\n", " ")


def test_a_forest_a_ratio_shows_every_interval_the_best_first(tmp_path):
    found = MadeUp(make_plan("st-simdiff,random,uniform", "0.1,0.5,1")).report()
    drawn = forests(found)
    assert [forest.ratio for forest in drawn] == [0.1, 0.5]
    for forest in drawn:
        names = ("st-simdiff", "random", "uniform")
        expected = {shown(name): expected_points(found, name, "all", [forest.ratio])[0][1:] for name in names}
        assert {name: tuple(rest) for name, *rest in forest.rows} == expected
        assert [row[1] for row in forest.rows] == sorted((row[1] for row in forest.rows), reverse=True)
    save_plot(tmp_path / "p.svg", found)
    assert "All questions, ratio 0.5" in (tmp_path / "p.svg").read_text()
    assert forests(MadeUp(make_plan(None, "0.1", sweep="tau_sim=0.6:0.8:0.1")).report()) == []


def test_a_sweep_is_a_panel_a_parameter_and_a_curve_a_ratio(tmp_path):
    plan = make_plan(None, "0.1,0.5", sweep="tau_sim=0.6:0.8:0.1,importance=llm|centrality")
    found = MadeUp(plan).report()
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
    found = MadeUp(plan).report()
    assert [curve.name for curve in panels(found)[0].curves] == list(plan.ablation)
    (grid,) = tables(found)
    assert [row[:2] for row in grid.rows] == [["0.1", label] for label in plan.ablation]


def test_a_glance_marks_what_lies_wholly_above_or_below_the_reference():
    plan = make_plan("st-simdiff,random,uniform,evs,vidcom2", "0.1,0.5")
    report = MadeUp(plan).report()
    for row, (low, high) in zip(report["rows"][3:6], ((0.5, 2.0), (-2.0, -0.5), (-1.0, 1.0)), strict=True):
        row["difference"] = {"percent": (low + high) / 2, "low": low, "high": high}
    glance = tables(report)[0]
    assert glance.header == ["method", "ratio 0.1", "ratio 0.5"]
    cells = {line[0]: line[1:] for line in glance.rows}
    assert (cells["random"][0][-1], cells["random"][1][-1], cells["uniform"][0][-1]) == ("▲", "▼", ")")
    assert cells["vanilla"][0] == cells["vanilla"][1] != ""
    assert list(cells) == [shown(name) for name in plan.methods]
    assert "▲" not in "".join(cells["st-simdiff@file"])
    few = make_plan("st-simdiff,random", "0.5")
    assert len(tables(MadeUp(few).report())) == 2


def test_a_model_that_is_never_right_has_tables_too():
    bench = MadeUp(make_plan("uniform", "0.5"))
    for clip in bench.clips:
        for cell in bench.plan.cells():
            bench.set(clip, cell, ["no idea"] * len(clip))
    report = bench.report()
    assert report["rows"][-1]["of_vanilla"]["percent"] is None
    assert tables(report)[0].rows[0][-2:] == ["-", "-"]


def test_a_table_shows_the_numbers_of_the_report():
    plan = make_plan("st-simdiff,random,uniform", "0.1,1")
    found = MadeUp(plan).report()
    accuracies, figures = tables(found)
    lines = {(line[0], line[1]): line for line in accuracies.rows}
    assert list(lines)[-2:] == [("-", "no video"), ("-", "best constant answers")]
    assert len(lines) == 2 * 3 + 1 + 2
    for (name, ratio), row in rows_of(found).items():
        line = lines[f"{ratio:g}", shown(name)]
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
def test_few_variants_make_tables_and_pictures_too(tmp_path, text):
    plan = make_plan(text, "0.1")
    found = MadeUp(plan, 2).report()
    save_plot(tmp_path / "p.png", found)
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert tables(found)[0].rows
