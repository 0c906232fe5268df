"""The training recipe runs: its commands explain themselves, and an interrupted run continues."""

import sys

import pytest
import torch

from stsimdiff_cli.models.tiny import CHECKPOINT
from training.tiny import evaluate, language_stage, train, vision_stage
from training.tiny.model import make_model


@pytest.fixture
def few_clips(monkeypatch):
    """Progress is measured on a clip instead of dozens."""
    monkeypatch.setattr(vision_stage, "TESTED", ("still",))
    monkeypatch.setattr(language_stage, "TESTED", 1)
    monkeypatch.setattr(language_stage, "RUNGS", ("still",))


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
    train.main()


@pytest.mark.usefixtures("few_clips")
def test_a_run_is_saved_continued_and_exported(tmp_path, monkeypatch, capsys):
    work, out = tmp_path / "work", tmp_path / "out"
    small = ("--work", work, "--vision-steps", 1, "--batch", 4, "--budget", 600)
    run(monkeypatch, *small, "--steps", 1, "--out", out)
    vision, first = (torch.load(work / f"{name}.pt") for name in ("vision", "language"))
    assert (vision["step"], first["step"]) == (1, 1)
    assert "held out, 2 frames, keep 0.3: still" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {path.name for path in CHECKPOINT.iterdir()}
    assert sorted(path.name for path in work.iterdir()) == ["language.pt", "vision.pt"]

    run(monkeypatch, *small, "--stage", "language", "--steps", 2, "--resume")
    second = torch.load(work / "language.pt")
    assert second["step"] == 2
    trained = [name for name in first["model"] if not torch.equal(first["model"][name], second["model"][name])]
    assert trained
    assert not [name for name in trained if "visual" in name]  # the vision tower is frozen


@pytest.mark.slow
def test_a_stopped_run_ends_as_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(language_stage, "report", lambda *_: None)
    monkeypatch.setattr(language_stage, "learning_rate", lambda step, steps, peak: peak)  # of whole runs alone
    ends = []
    for work, stops in ((tmp_path / "whole", [3]), (tmp_path / "parts", [1, 3])):
        work.mkdir()
        torch.save({"model": make_model().state_dict()}, work / "vision.pt")
        for steps in stops:
            options = ("--stage", "language", "--budget", 600, "--steps", steps, "--resume")
            run(monkeypatch, "--work", work, *options)
        ends.append(torch.load(work / "language.pt")["model"])
    for name, tensor in ends[0].items():
        assert torch.allclose(tensor, ends[1][name], atol=1e-6), name


@pytest.mark.parametrize("module", [train, evaluate])
def test_commands_explain_themselves(module, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["command", "--help"])
    with pytest.raises(SystemExit) as done:
        module.main()
    assert done.value.code == 0
    assert f"python -m {module.__name__}" in capsys.readouterr().out
