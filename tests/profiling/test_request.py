"""What a user may ask to have measured, and how a wrong request is refused before any work."""

from __future__ import annotations

import pytest

from stsimdiff_cli import plotting
from stsimdiff_cli.cli import app
from stsimdiff_cli.cli.app import main
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.models.loading.presets import PRESETS
from stsimdiff_cli.profiling.cell import method_of
from stsimdiff_cli.profiling.request import parse_frames, parse_methods
from tests.support.profile_jobs import make_job


def test_numbers_of_frames_are_read_once_each():
    assert parse_frames("32, 64,32") == [32, 64]


@pytest.mark.parametrize("text", ["", "four", "8,", "8,0", "-1", "2.5"])
def test_a_bad_list_of_frames_is_refused(text):
    with pytest.raises(RequestError, match="--frames"):
        parse_frames(text)


def test_parameters_stay_with_their_method():
    text = "vanilla, st-simdiff:tau_sim=0.7,tau_diff=p95,st-simdiff,vanilla"
    assert parse_methods(text) == ["vanilla", "st-simdiff:tau_sim=0.7,tau_diff=p95", "st-simdiff"]


def test_methods_are_read_as_tables_write_them():
    assert parse_methods("fastv@file,fastv,st-simdiff:layer=2@file") == ["fastv", "st-simdiff:layer=2"]
    for other in ("evs@file", "fastv@inside"):
        with pytest.raises(RequestError):
            parse_methods(other)


def test_importance_suits_only_methods_that_rank():
    assert parse_methods("vanilla,st-simdiff", "saliency") == ["vanilla", "st-simdiff"]
    assert method_of(make_job(method="st-simdiff", importance="centrality")).parameters()["importance"] == "centrality"
    assert method_of(make_job(importance="centrality")).name == "vanilla"
    with pytest.raises(RequestError, match="ranks"):
        parse_methods("vanilla", "saliency")
    with pytest.raises(RequestError, match="choices"):
        parse_methods("st-simdiff", "beauty")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "x"], "--frames x"),
        (["--ratio", "1.5"], "outside (0, 1]"),
        (["--methods", "vanila"], "Did you mean 'vanilla'?"),
        (["--dummy-weights", "qwen-7b"], "Did you mean 'qwen2.5-vl-7b'?"),
        (["--dummy-weights", "qwen2.5-vl-3b", "--model", "tiny"], "cannot be used together"),
        (["nowhere.mp4"], "nowhere.mp4"),
        (["--plot", "picture.txt"], ".png"),
        (["-o", "no/such/folder.json"], "mkdir -p"),
    ],
)
def test_a_wrong_request_is_a_sentence_and_a_hint(arguments, message, capsys):
    assert main(["profile", *arguments]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "hint:" in shown.err
    assert shown.out == ""


def test_the_help_names_every_preset(capsys):
    assert main(["profile", "--help"]) == 0
    text = "".join(capsys.readouterr().out.replace("│", "").split())
    assert all(preset in text for preset in PRESETS)
    assert app.profile


def test_a_picture_without_matplotlib_is_refused_with_the_way_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(plotting, "find_spec", lambda _: None)
    with pytest.raises(RequestError) as caught:
        plotting.check_plot(tmp_path / "profile.png")
    assert caught.value.hint == "pip install 'stsimdiff[plot]'"
