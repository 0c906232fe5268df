"""The bench about rungs: every number of its report, its tables and its picture, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from stsimdiff_cli.cli import output
from stsimdiff_cli.cli.app import main
from stsimdiff_cli.evaluation.bootstrap import Bootstrap
from stsimdiff_cli.evaluation.controls import CONTROLS
from stsimdiff_cli.evaluation.plan import make_plan
from stsimdiff_cli.evaluation.run import Evaluator
from stsimdiff_cli.evaluation.rungs.plot import rung_panels, save_rung_plot
from stsimdiff_cli.evaluation.rungs.report import rungs_report
from stsimdiff_cli.evaluation.rungs.tables import BEST, LEVEL, controls_table, groups_table, ratio_table, rung_tables
from stsimdiff_cli.evaluation.tables import tables
from stsimdiff_cli.evaluation.tasks.ladder import LadderClips
from stsimdiff_cli.evaluation.text_table import TextTable
from tests.support.made_up import MISTAKE, made_up_log, respond, rows_of, timeless

REQUEST = {"model": "tiny", "frames": 24, "seed": 0, "device": "cpu"}
TASK = LadderClips(("still", "pan", "long", "several"), 6, 24, 0, pairs=True, choices="longvideobench")
PLAN = make_plan("st-simdiff,st-simdiff+,evs,random,fastv@inside", "0.1,0.5")


def share(sample, cell) -> float:
    """How likely an answer is right: rungs and methods differ."""
    name, ratio = cell
    chance = {"vanilla": 0.95, "evs": 0.6, "random": 0.4, "no video": 0.2}.get(name, 0.75)
    return chance - 0.2 * (sample.groups["rung"] == "pan") + 0.1 * float(ratio)


LOG = made_up_log(TASK, PLAN, share)
SAMPLES = TASK.load_samples()


@pytest.fixture(scope="module")
def report() -> dict:
    return rungs_report(REQUEST | TASK.request, TASK, SAMPLES, PLAN, LOG)


def right(cell: tuple[str, float], **groups: str) -> dict[str, list[bool]]:
    """In a plain way: whether each bundle of some groups is right, by cluster."""
    by_cluster: dict[str, list[bool]] = {sample.cluster: [] for sample in SAMPLES}
    for bundle in TASK.bundles(SAMPLES):
        if all(bundle.groups.get(group) == value for group, value in groups.items()):
            answers = [LOG[(*cell, sample.id)].raw == sample.answer for sample in bundle.samples]
            by_cluster[bundle.samples[0].cluster].append(False not in answers)
    return by_cluster


@pytest.mark.parametrize(
    ("column", "label", "groups"),
    [
        ("all", "all", {"form": "question"}),
        ("all", "choices", {"form": "choice"}),
        ("pan", "all", {"form": "question", "rung": "pan"}),
        ("pan", "time", {"form": "question", "rung": "pan", "group": "time"}),
        ("pan", "kind when", {"form": "question", "rung": "pan", "kind": "when"}),
        ("pan", "pairs", {"form": "pair", "rung": "pan"}),
        ("still", "pairs without", {"form": "pair", "rung": "still", "order": "without"}),
        ("still", "choices", {"form": "choice", "rung": "still"}),
        ("long", "depth start", {"form": "question", "rung": "long", "depth": "start"}),
        ("long", "5 to 10 min", {"form": "question", "rung": "long", "length": "5 to 10 min"}),
        ("several", "kind times", {"form": "question", "rung": "several", "kind": "times"}),
    ],
)
def test_every_figure_is_that_of_a_plain_count(report, column, label, groups):
    for name, ratio in (("st-simdiff", 0.1), ("vanilla", 1.0), ("no video", 0.0)):
        expected = [one for some in right((name, ratio), **groups).values() for one in some]
        found = report["controls"][name] if name == "no video" else None
        found = found or {c: each["accuracy"] for c, each in rows_of(report)[name, ratio]["rungs"].items()}
        assert (found[column][label]["right"], found[column][label]["asked"]) == (sum(expected), len(expected))
        assert len(expected) > 0


def test_intervals_are_drawn_over_seeds_and_differences_are_paired(report):
    rungs = rows_of(report)["random", 0.5]["rungs"]
    draws = Bootstrap.over(6, 0)

    def counts(cell):
        clusters = right(cell, form="question", rung="pan").values()
        return np.array([sum(each) for each in clusters], float), np.array([len(each) for each in clusters], float)

    mine, asked = counts(("random", 0.5))
    expected = draws.percent(mine, asked)
    assert (rungs["pan"]["accuracy"]["all"]["low"], rungs["pan"]["accuracy"]["all"]["high"]) == pytest.approx(
        (expected.low, expected.high)
    )
    for other, cell in {"vanilla": ("vanilla", 1.0), "evs": ("evs", 0.5), "st-simdiff": ("st-simdiff", 0.5)}.items():
        expected = draws.percent(mine - counts(cell)[0], asked)
        found = rungs["pan"]["difference"][other]["all"]
        assert found == pytest.approx({"percent": expected.percent, "low": expected.low, "high": expected.high})
    assert set(rungs["pan"]["difference"]) == {"vanilla", "evs", "st-simdiff"}
    assert set(rows_of(report)["evs", 0.5]["rungs"]["pan"]["difference"]) == {"vanilla", "st-simdiff"}
    assert report["interval"].endswith("over seeds, 10000 draws") and report["compared"] == [
        *("vanilla", "st-simdiff", "evs")
    ]


def test_one_wrong_answer_spoils_a_bundle_and_nothing_else():
    task = LadderClips(("still",), 2, 12, 0, pairs=True, choices="longvideobench")
    plan = make_plan("vanilla", "1")
    log = made_up_log(task, plan, lambda *_: 2.0)
    samples = task.load_samples()

    def percents() -> dict[str, tuple[int, int]]:
        (row,) = rungs_report(REQUEST | task.request, task, samples, plan, log)["rows"]
        accuracies = row["rungs"]["still"]["accuracy"]
        return {label: (each["right"], each["asked"]) for label, each in accuracies.items()}

    before = percents()
    assert all(one == asked for one, asked in before.values())
    choice = next(bundle for bundle in task.bundles(samples) if bundle.groups["form"] == "choice")
    log.add([respond(choice.samples[1], ("vanilla", "1"), MISTAKE)])
    after = percents()
    assert after == before | {"choices": (before["choices"][0] - 1, before["choices"][1])}
    pair = next(bundle for bundle in task.bundles(samples) if bundle.groups["form"] == "pair")
    log.add([respond(pair.samples[1], ("vanilla", "1"), MISTAKE)])  # about the twin: no question by itself
    spoilt = percents()
    assert (spoilt["all"], spoilt["pairs"][0]) == (after["all"], before["pairs"][0] - 1)


def test_a_constant_answer_is_never_right_about_a_pair_or_a_choice(report):
    for column in report["columns"]:
        assert report["constant"][column]["pairs"] == report["constant"][column]["choices"] == 0
        assert 0 < report["constant"][column]["all"] < 70


def test_the_best_is_the_best_of_those_that_do_not_read_all_tokens(report):
    rows = [row for row in report["rows"] if row["ratio"] == 0.1]
    for column in report["columns"]:
        rungs = {row["method"]: row["rungs"][column] for row in rows}
        rivals = {name: rung["accuracy"]["all"]["percent"] for name, rung in rungs.items() if "@inside" not in name}
        best = max(rivals, key=rivals.__getitem__)
        for name, percent in rivals.items():
            assert rungs[name]["from_best"]["all"]["percent"] == pytest.approx(percent - rivals[best])
        assert rungs["fastv@inside"]["from_best"] == {}
    assert rows_of(report)["vanilla", 1.0]["rungs"]["pan"]["from_best"] == {}


def test_a_table_has_methods_in_rows_and_rungs_in_columns_and_marks_the_best(report):
    table = ratio_table(report, "all", 0.1)
    assert table.header == ["method", "all", "still", "pan", "long", "several"]
    assert [line[0] for line in table.rows] == [
        *("vanilla", "st-simdiff@file", "st-simdiff+", "evs", "random", "fastv@inside")
    ]
    for name, line in zip(PLAN.variants, table.rows, strict=True):
        for column, cell in zip(table.header[1:], line[1:], strict=True):
            rung = rows_of(report)[name, 1.0 if name == "vanilla" else 0.1]["rungs"][column]
            assert cell.startswith(f"{rung['accuracy']['all']['percent']:.1f}")
            behind = rung["from_best"].get("all")
            mark = "" if behind is None else BEST * (behind["percent"] == 0) or LEVEL * (behind["high"] >= 0)
            assert cell.split()[1:] == [mark] * bool(mark)
    assert all(sum(BEST in line[place] for line in table.rows) >= 1 for place in range(1, 6))
    assert "| **st-simdiff@file** |" in table.markdown() and "| **st-simdiff+**     |" in table.markdown()
    assert "**evs" not in table.markdown()


def test_controls_stand_apart_from_methods(report):
    table = controls_table(report, "all")
    assert [line[0] for line in table.rows] == [
        "all tokens",
        *(f"control: {name}" for name, _ in CONTROLS),
        "control: best constant answers",
    ]
    assert table.rows[4][1] == f"{report['controls']['no video']['all']['all']['percent']:.1f}"
    assert not any("control" in line[0] for line in ratio_table(report, "all", 0.5).rows)
    groups = groups_table(report, "pan")
    assert [line[1].startswith("control: ") for line in groups.rows] == [False] * 11 + [True] * 5
    assert groups.header[2:] == [
        *("all", "static", "event", "time", "pairs reversed", "pairs without", "choices"),
        *("− vanilla", "− st-simdiff@file", "− evs"),
    ]


def test_all_tables_are_there_once(report):
    titles = [table.title.split(":")[0] for table in tables(report)]
    blocks = ["Controls, all tokens", "Ratio 0.1", "Ratio 0.5"]
    details = ["Needles of long clips by depth and length", "Several events by kind of question"]
    columns = ["All rungs", "Rung still", "Rung pan", "Rung long", "Rung several"]
    assert titles == [*blocks * 3, *details, *columns]
    assert [table.title.split(":")[0] for table in rung_tables(report, details=False)] == titles[:-4]


def test_a_table_that_is_too_wide_goes_on_in_the_next_one(report):
    for table in rung_tables(report):
        for width in (60, 80, 200):
            parts = table.fitted(width)
            assert [part.header[: table.left] for part in parts] == [table.header[: table.left]] * len(parts)
            assert [name for part in parts for name in part.header[table.left :]] == table.header[table.left :]
            for part in parts:
                wide = [max(map(len, column)) + 2 for column in zip(part.header, *part.rows, strict=True)]
                assert sum(wide) <= width or len(wide) == table.left + 1
    narrow = TextTable("t", ["a", "b", "c"], [["x", "1", "2"]], left=1)
    assert narrow.fitted(80) == [narrow]


def test_a_picture_shows_the_numbers_of_the_report(report, tmp_path):
    panels = rung_panels(report)
    assert [panel.title for panel in panels] == ["10 % of tokens kept", "50 % of tokens kept"]
    for panel, ratio in zip(panels, (0.1, 0.5), strict=True):
        assert [line.name for line in panel.lines if line.own] == ["st-simdiff@file", "st-simdiff+"]
        for name, line in zip(list(PLAN.variants)[1:], panel.lines, strict=True):
            rungs = rows_of(report)[name, ratio]["rungs"]
            estimates = [rungs[column]["accuracy"]["all"] for column in report["columns"]]
            assert line.points == [(each["percent"], each["low"], each["high"]) for each in estimates]
    save_rung_plot(tmp_path / "p.svg", report)
    text = (tmp_path / "p.svg").read_text()
    assert all(word in text for word in ("several", "st-simdiff+", "all tokens", "no video", "evs", "6 clips of 24"))


def test_variants_of_an_ablation_and_a_sweep_keep_their_labels():
    task = LadderClips(("pan",), 2, 12, 0)
    plan = make_plan(None, "0.1", ablation=True, sweep="tau_sim=0.7|0.9")
    log = made_up_log(task, plan, share)
    report = rungs_report(REQUEST | task.request, task, task.load_samples(), plan, log)
    labels = [line[0] for line in ratio_table(report, "all", 0.1).rows]
    assert labels == ["vanilla", "st-simdiff@file", *list(plan.ablation)[:-1], "tau_sim=0.7", "tau_sim=0.9"]
    assert report["columns"] == ["pan"]


# --- the command -----------------------------------------------------------------------------------------------------

SMALL = [
    *("--rung", "still,pan", "--clips", 2, "--frames", 12, "--methods", "random", "--ratios", "0.2"),
    *("--device", "cpu", "--max-new-tokens", 6),
]


def bench(capsys, *args: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["bench", *map(str, args)])
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The outputs of a small bench with the embedded model."""
    folder = tmp_path_factory.mktemp("rungs")
    outputs = ["-o", folder / "r.json", "--plot", folder / "r.png", "--markdown", folder / "r.md"]
    assert main(["bench", *map(str, [*SMALL, *outputs])]) == 0
    return folder


def test_one_report_holds_all_rungs_and_no_log_is_left(written):
    assert sorted(path.name for path in written.iterdir()) == ["r.json", "r.md", "r.png"]
    report = json.loads((written / "r.json").read_text())
    assert (report["rungs"], report["columns"], report["pairs"]) == (["still", "pan"], ["all", "still", "pan"], False)
    assert [(row["method"], row["ratio"]) for row in report["rows"]] == [("vanilla", 1.0), ("random", 0.2)]
    assert set(report["controls"]) == {name for name, _ in CONTROLS}
    text = (written / "r.md").read_text()
    assert all(f"\n\n| {word}" in text or f"\n| {word}" in text for word in ("method", "random", "control: no video"))
    assert (written / "r.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_controls_are_asked_about_other_tokens_than_the_video(written):
    report = json.loads((written / "r.json").read_text())
    (random,) = [row for row in report["rows"] if row["method"] == "random"]
    assert random["kept"] == [87, 87] and random["tokens"] == [432, 432]
    assert all("coverage" in row for row in report["rows"])


def test_a_killed_bench_goes_on_and_ends_as_if_nothing_had_been(capsys, monkeypatch, written, tmp_path):
    path, asked, real = tmp_path / "r.json", [], Evaluator.ask

    def ask(self, samples):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(samples[0].video)
        return real(self, samples)

    monkeypatch.setattr(Evaluator, "ask", ask)
    assert bench(capsys, *SMALL, "-o", path)[0] == 130
    assert [each.name for each in tmp_path.iterdir()] == ["r.json.partial"]
    code, out, err = bench(capsys, *SMALL, "--pairs", "-o", path)
    assert (code, out) == (2, "") and "other settings" in err
    monkeypatch.setattr(Evaluator, "ask", lambda self, samples: asked.append(samples[0].video) or real(self, samples))
    code, _, err = bench(capsys, *SMALL, "-o", path)
    assert code == 0 and "2 of 4 clips are done already" in err
    assert len(asked) == len(set(asked)) == 4
    one, other = (json.dumps(timeless(json.loads(each.read_text()))) for each in (path, written / "r.json"))
    assert one == other


def test_the_tables_are_shown_on_a_narrow_terminal(capsys, monkeypatch, written):
    report = json.loads((written / "r.json").read_text())
    monkeypatch.setattr(output, "stdout", Console(force_terminal=True, width=80, color_system=None))
    monkeypatch.setattr(Evaluator, "run", lambda *_: [])
    monkeypatch.setattr("stsimdiff_cli.evaluation.rungs.report.rungs_report", lambda *_: report)
    code, out, _ = bench(capsys, *SMALL)
    assert code == 0 and max(map(len, out.splitlines()[3:])) <= 80
    assert "\n\nControls, all tokens: % of questions right\n" in out
    assert all(word in out for word in ("control: single frame", "Ratio 0.2: % of questions", BEST, "over seeds"))
    code, out, _ = bench(capsys, *SMALL, "--json")
    assert code == 0 and set(json.loads(out)) == set(report) - {"sittings"} | {"warnings"}


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["--rung", "stil"], "no rung named 'stil'", "Did you mean 'still'?"),
        (["--rung", "still,zoom"], "no rung named 'zoom'", "several"),
        (["--rung", ""], "no rung named ''", "Known: all, still"),
        (["--rung", "all", "--frames", "20"], "--frames 20", "24 frames"),
        (["--rung", "pan", "--choices", "videom"], "'videom'", "videomme"),
        (["--rung", "pan", "clip.mp4"], "--rung", "Leave out"),
        (["--rung", "pan", "--question", "Why?"], "--rung", "Leave out"),
        (["--pairs"], "--pairs", "--rung all"),
        (["--choices", "videomme"], "--choices", "--rung all"),
    ],
)
def test_a_wrong_request_is_a_sentence_and_a_hint(capsys, args, message, hint):
    code, out, err = bench(capsys, *args)
    assert (code, out) == (2, "") and "Traceback" not in err
    error, _, advice = err.partition("hint:")
    assert message in error and hint in advice
