"""The training recipe runs: its commands explain themselves, and an interrupted run continues."""

import sys

import pytest
import torch

from stsimdiff_cli.models.tiny import CHECKPOINT
from training.tiny import evaluate, train
from training.tiny.model import make_model


@pytest.fixture
def few_clips(monkeypatch):
    """Progress is measured on two clips instead of sixty."""
    monkeypatch.setattr(train, "TESTED", {32: 2})
    monkeypatch.setattr(train, "TESTED_LONG", 0)


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
    train.main()


def test_a_run_is_saved_continued_and_exported(tmp_path, monkeypatch, few_clips, capsys):
    work, out = tmp_path / "work", tmp_path / "out"
    run(monkeypatch, "--work", work, "--out", out, "--vision-steps", 1, "--steps", 1)
    vision = torch.load(work / "vision.pt")
    first = torch.load(work / "language.pt")
    assert (vision["step"], first["step"]) == (1, 1)
    assert "32 frames, keep 0.3: colour" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {path.name for path in CHECKPOINT.iterdir()}
    assert sorted(path.name for path in work.iterdir()) == ["language.pt", "vision.pt"]

    run(monkeypatch, "--stage", "language", "--work", work, "--steps", 2, "--resume")
    second = torch.load(work / "language.pt")
    assert second["step"] == 2
    trained = [name for name in first["model"] if not torch.equal(first["model"][name], second["model"][name])]
    assert trained
    assert not [name for name in trained if "visual" in name]  # the vision tower is frozen


def test_later_words_keep_the_start_values_of_a_checkpoint_with_fewer():
    model = make_model()
    weights = train.checkpoint_weights(model, CHECKPOINT)
    assert {name: tensor.shape for name, tensor in weights.items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(weights)


@pytest.mark.parametrize("module", [train, evaluate])
def test_commands_explain_themselves(module, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["command", "--help"])
    with pytest.raises(SystemExit) as done:
        module.main()
    assert done.value.code == 0
    assert f"python -m {module.__name__}" in capsys.readouterr().out
