"""examples/: the script compresses a folder and goes on after a stop; the notebook's cells run in order."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import stsimdiff_cli as st
from tests.support.clip_factory import SAMPLES

EXAMPLES = SAMPLES.parent / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SAMPLES.parent), "MPLBACKEND": "agg"}


def compress_folder(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLES / "compress_folder.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=ENVIRONMENT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips, one file that is not a video by its name, and one by its name only."""
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(SAMPLES / "flash.mp4", folder / "a.mp4")
    shutil.copy(SAMPLES / "move.mp4", folder / "c.mp4")
    (folder / "b.mp4").write_bytes(b"not a video")
    (folder / "notes.txt").write_text("not a video either")
    return folder


def test_every_video_of_a_folder_is_compressed_and_one_that_fails_is_named(folder, tmp_path):
    done = compress_folder(folder, tmp_path / "kept", "--frames", 4, "--method", "fastervlm", "--ratio", 0.3)
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["a.mp4", "c.mp4"]
    assert done.stderr.startswith("b.mp4: ")
    assert "Traceback" not in done.stderr
    written = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert written == ["a.mp4.safetensors", "c.mp4.safetensors"]
    for name in written:
        video = st.load(tmp_path / "kept" / name)
        assert video.method["name"] == "fastervlm"
        assert len(video.index) == st.parse_ratio("0.3").budget(video.grid.tokens)


def test_a_second_run_does_only_what_is_missing(folder, tmp_path):
    (folder / "b.mp4").unlink()
    arguments = (folder, tmp_path / "kept", "--frames", 4, "--method", "uniform")
    assert compress_folder(*arguments).returncode == 0
    untouched = tmp_path / "kept" / "a.mp4.safetensors"
    untouched.write_bytes(b"as it was")
    (tmp_path / "kept" / "c.mp4.safetensors").unlink()
    done = compress_folder(*arguments)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "a.mp4: there already"
    assert done.stdout.splitlines()[1].startswith("c.mp4: kept ")
    assert untouched.read_bytes() == b"as it was"
    assert (tmp_path / "kept" / "c.mp4.safetensors").exists()


def test_a_wrong_method_ends_the_script_with_a_sentence(folder, tmp_path):
    done = compress_folder(folder, tmp_path / "kept", "--method", "unifrom")
    assert done.returncode == 1
    assert done.stderr.strip() == "There is no method named 'unifrom'. Did you mean 'uniform'?"


#: Runs the code cells of a notebook in order, in one namespace; shows which cell failed.
EXECUTOR = """
import json, sys
scope = {"__name__": "__main__"}
for number, cell in enumerate(json.load(open(sys.argv[1]))["cells"]):
    if cell["cell_type"] == "code":
        print(f"--- cell {number}", flush=True)
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), scope)
"""


def test_the_cells_of_the_notebook_run_in_order(tmp_path):
    pytest.importorskip("matplotlib")
    notebook = EXAMPLES / "first_steps.ipynb"
    environment = {**ENVIRONMENT, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", EXECUTOR, notebook]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=EXAMPLES)
    assert done.returncode == 0, done.stderr
    assert "How many cyan rings are there? -> two" in done.stdout
    kept = next(line for line in done.stdout.splitlines() if line.startswith("M = "))
    budget, count = (int(word) for word in kept.split() if word.isdigit())
    assert budget == st.parse_ratio("0.3").budget(count)
    assert len(list(tmp_path.glob("*/kept.png"))) == 1


def test_the_notebook_is_stored_without_outputs():
    cells = json.loads((EXAMPLES / "first_steps.ipynb").read_text())["cells"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if "outputs" in cell)
