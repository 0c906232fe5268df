"""What a shell offers as the value of an option, by Typer's own mechanism, and that it is what the program takes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from stsimdiff_cli.archive.run import EXECUTORS
from stsimdiff_cli.cli import completion
from stsimdiff_cli.cli.app import main
from stsimdiff_cli.cli.ask_vllm import VLLM
from stsimdiff_cli.cli.common import TRANSFORMERS
from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.models.loading import quantize, runtime
from stsimdiff_cli.storage.packing import parse_store
from stsimdiff_cli.video.reading import READERS


def offered(capsys, monkeypatch, line: str) -> list[str]:
    """What bash is told for a line, whose last word is not finished."""
    words = [word for part in line.split(" ") for word in re.split("([:=]+)", part) if word or not part]
    monkeypatch.setenv("_STSIMDIFF_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert main([]) == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("stsimdiff encode a.mp4 --decoder p", ["pyav"]),
        ("stsimdiff encode a.mp4 --model tiny", ["tiny"]),
        ("stsimdiff compress a.mp4 --method fastv", ["fastv", "fastvid"]),
        ("stsimdiff compress a.mp4 --importance ", ["llm", "saliency", "centrality"]),
        ("stsimdiff bench --methods uniform,ran", ["uniform,random"]),
        ("stsimdiff bench --rung pan,sh", ["pan,shake"]),
        ("stsimdiff eval vid", ["videomme"]),
        ("stsimdiff profile --dummy-weights qwen3", ["qwen3-vl-8b"]),
        ("stsimdiff methods prumerge", ["prumerge", "prumerge+"]),
        ("stsimdiff --json encode a.mp4 --dtype b", ["bfloat16"]),
        ("stsimdiff encode a.mp4 --device cuda:", ["0", "1"]),
        ("stsimdiff compress a.mp4 --method st-simdiff:tau", ["tau_sim=", "tau_diff="]),
        ("stsimdiff compress a.mp4 --method=st-simdiff:tau", ["tau_sim=", "tau_diff="]),
        ("stsimdiff compress a.mp4 --method st-simdiff:far=1,importance=s", ["saliency"]),
        ("stsimdiff compress --ratio=0.3 a.mp4 --method st-simdiff:events=", ["on", "off"]),
    ],
)
def test_values_are_offered(capsys, monkeypatch, line, values):
    assert offered(capsys, monkeypatch, line) == values


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_ends_a_word_that_is_whole_and_no_other(capsys, tmp_path):
    """In a real bash, with the script that the program prints. A stand-in for the program tells what it was given."""
    if subprocess.run(["bash", "-c", "help compopt"], capture_output=True).returncode:
        pytest.skip("this bash has no compopt")
    assert main(["--show-completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    run = f'exec "{sys.executable}" -m stsimdiff_cli'
    (tmp_path / "stsimdiff").write_text(f'#!/bin/sh\n[ -z "$_STSIMDIFF_COMPLETE" ] || {run}\necho "=$*="\n')
    (tmp_path / "stsimdiff").chmod(0o755)
    typed = "stsimdiff compress a.mp4 --method st-simdiff:tau_d\t0.1 --decoder pya\t--force"
    setup = f"PATH={tmp_path}:$PATH; . {tmp_path}/script\n"
    shell, terminal = os.openpty()
    bash = ["bash", "--norc", "--noprofile", "-i"]
    with subprocess.Popen(bash, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True) as process:
        os.close(terminal)
        os.write(shell, f"{setup}{typed}\nexit\n".encode())
        said = b"".join(iter(lambda: _read(shell), b"")).decode()
        process.wait(timeout=60)
    os.close(shell)
    assert "=compress a.mp4 --method st-simdiff:tau_diff=0.1 --decoder pyav --force=" in said, said


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


def test_parameters_of_a_method_are_offered():
    assert completion.method("st-simdiff:tau") == ["st-simdiff:tau_sim=", "st-simdiff:tau_diff="]
    assert completion.method("st-simdiff:far=1,importance=s") == ["st-simdiff:far=1,importance=saliency"]
    assert completion.method("st-simdiff:events=o") == ["st-simdiff:events=on", "st-simdiff:events=off"]
    assert completion.method("bogus:x") == completion.method("uniform:x") == completion.method("fastv:x=1") == []
    assert completion.method("") == list(METHODS)


def test_the_lists_are_those_of_the_modules():
    assert set(completion.DECODERS) == {"auto", *READERS}
    assert completion.DTYPES == runtime.DTYPES
    assert completion.ATTENTION[0] == "auto" and completion.ATTENTION[1:] == tuple(runtime.ATTENTION)
    assert list(completion.QUANTIZE) == list(quantize._SETTINGS)
    assert set(completion.EXECUTORS) == set(EXECUTORS)
    assert completion.ENGINES == (TRANSFORMERS, VLLM)
    assert [parse_store(name) for name in completion.STORES[1:]] == list(completion.STORES[1:])
    assert set(completion.IMPORTANCE) == set(
        METHODS.load("st-simdiff").__dataclass_fields__["importance"].metadata["choices"]
    )


def test_names_are_offered_without_torch():
    code = (
        "import sys; from stsimdiff_cli.cli import completion as c; c.method(''); c.model(''); c.benchmark('');"
        "c.rung(''); c.preset(''); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
