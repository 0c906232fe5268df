"""Questions and the settings of answers: what cannot work is refused at the door, in a sentence with a hint."""

from __future__ import annotations

import pytest
import torch

from stsimdiff_cli.errors import RequestError, StsimdiffError
from stsimdiff_cli.models.loading import memory
from stsimdiff_cli.models.question import check_generation, check_question, check_text
from tests.support.commands import refused

QUESTIONS = {"": "empty", " \n": "empty", "a\0b": "NUL", "caf\udce9": "UTF-8", "\ud83d": "UTF-8"}
SETTINGS = [
    (["--temperature", "1e-300"], "temperature"),
    (["--temperature", "inf"], "temperature"),
    (["--temperature", "1e300"], "temperature"),
    (["--seed", "-1"], "seed"),
    (["--seed", str(10**22)], "seed"),
    (["--max-new-tokens", str(10**12)], "tokens"),
    (["--model", ""], "--model is empty"),
    (["--device", "meta"], "not available here"),
    (["--device", "cpu:3"], "not available here"),
]


@pytest.fixture
def untouched(monkeypatch):
    """Fails the test if a video is opened."""

    def opened(*_, **__):
        raise AssertionError("a video was opened for a request that cannot work")

    monkeypatch.setattr("stsimdiff_cli.pipeline.open_stream", opened)
    monkeypatch.setattr("stsimdiff_cli.video.scan", opened)


@pytest.mark.parametrize("text", QUESTIONS, ids=repr)
def test_what_is_not_a_question_is_refused_before_any_work(text, untouched, capsys, tmp_path):
    (clip := tmp_path / "clip.mp4").touch()
    for command in (
        ["ask", clip, text],
        ["ask", clip, "What happens?", text],
        ["compress", clip, "-o", tmp_path / "out", "--ratio", "0.5", "--prompt", text],
        ["bench", clip, "--question", text, "--methods", "uniform"],
    ):
        assert QUESTIONS[text] in refused(capsys, *command)


@pytest.mark.parametrize(
    ("options", "part"), SETTINGS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_settings_that_cannot_work_are_refused_before_any_work(options, part, untouched, capsys, tmp_path):
    (clip := tmp_path / "clip.mp4").touch()
    assert part in " ".join(refused(capsys, "ask", clip, "What happens?", *options).split())


def test_a_question_longer_than_the_context_is_refused_before_any_work(untouched, capsys, tmp_path):
    (clip := tmp_path / "clip.mp4").touch()
    err = " ".join(refused(capsys, "ask", clip, "what " * 40_000).split())
    assert "has 40,000 tokens, and the context of tiny has 32,768" in err and "shorter" in err


def test_lines_of_stdin_that_are_not_text_are_refused(monkeypatch, capsys, tmp_path):
    import io
    import sys

    from stsimdiff_cli.cli.ask import _lines

    for data in (b"caf\xe9 ?\n", b"a\0b\n"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        with pytest.raises(RequestError):
            list(_lines())


def test_ordinary_questions_and_settings_pass():
    for text in ("What happens?", "<|im_end|>", "视频里发生了什么？", "🎬 ", "x" * 100_000):
        assert check_question(text) == text
    assert check_text("") == ""
    for settings in ((1, 0.0, 0), (128, 0.7, 3), (1_000_000, 1e6, 2**63 - 1), (5, 1e-6, 0)):
        check_generation(*settings)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_lack_of_memory_is_a_sentence_that_says_what_to_lower(error):
    with (
        pytest.raises(StsimdiffError, match=r"not enough .*memory to read") as caught,
        memory.enough_memory("read", "Less."),
    ):
        raise error
    assert caught.value.hint == "Less." and caught.value.exit_code == 1


def test_other_errors_stay_what_they_are():
    for error in (ValueError("x"), RuntimeError("shape"), OSError(2, "gone"), RequestError("no")):
        with pytest.raises(type(error)) as caught, memory.enough_memory("read", "Less."):
            raise error
        assert caught.value is error
