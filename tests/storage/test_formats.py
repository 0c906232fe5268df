"""The two file formats: what is written is read, nothing is lost, and what is wrong is refused in a sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stsimdiff_cli.errors import FileFormatError, RequestError, StsimdiffError
from stsimdiff_cli.records import FROM_CLS, RECEIVED, TRACES
from stsimdiff_cli.storage.atomic import check_output
from stsimdiff_cli.storage.reading import StoredVideo
from stsimdiff_cli.storage.tensor_file import checksum
from stsimdiff_cli.storage.writing import save_compressed, save_tokens
from tests.support.tokens import compressed, make_tokens


def metadata(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["stsimdiff"])


def rewrite(path: Path, change=lambda header: None, tensors=None) -> None:
    """Write the file anew with an edited header, as a meddler would."""
    header = metadata(path)
    change(header)
    save_file(tensors or load_file(path), path, metadata={"stsimdiff": json.dumps(header)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tokens_file_gives_back_what_was_written(tmp_path, dtype):
    tokens = make_tokens(dtype=dtype, saliency=torch.rand(4, 3, 5))
    size = save_tokens(tmp_path / "t.safetensors", tokens)
    assert size == (tmp_path / "t.safetensors").stat().st_size
    back = StoredVideo(tmp_path / "t.safetensors").tokens()
    assert back.grid == tokens.grid
    assert back.features.dtype == dtype and torch.equal(back.features.tensor(), tokens.features.tensor())
    assert torch.equal(back.evidence["saliency"].tensor(), tokens.evidence["saliency"].tensor())


def test_the_header_says_where_saliency_is_that_of_cls_and_old_files_have_what_is_received(tmp_path):
    tokens = make_tokens(saliency=torch.rand(4, 3, 5))
    for kind in (RECEIVED, FROM_CLS):
        path = tmp_path / f"{kind}.safetensors"
        save_tokens(path, replace(tokens, grid=replace(tokens.grid, saliency=kind)))
        assert metadata(path)["grid"].get("saliency") == (None if kind == RECEIVED else "cls")
        assert StoredVideo(path).tokens().grid.saliency == kind


def test_a_compressed_file_gives_back_what_was_written(tmp_path):
    video = compressed()
    save_compressed(tmp_path / "c.safetensors", video)
    back = StoredVideo(tmp_path / "c.safetensors").video()
    assert back.grid == video.grid and back.method == video.method and back.counts == video.counts
    assert torch.equal(back.features.tensor(), video.features.tensor())
    for name in ("index", "kind", "community", "importance"):
        assert torch.equal(getattr(back, name), getattr(video, name)), name
    assert set(back.traces) == set(TRACES)
    for name in TRACES:
        assert torch.equal(back.traces[name], video.traces[name]), name


def test_the_tensors_are_readable_with_the_safetensors_library_alone(tmp_path):
    video = compressed()
    save_compressed(tmp_path / "c.safetensors", video)
    tensors = load_file(tmp_path / "c.safetensors")
    traces = {"change", "regions", "whole_of", "centrality"}
    assert set(tensors) == {"features", "index", "kind", "community", "importance"} | traces
    assert torch.equal(tensors["index"], video.index)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    for name in "abcdefgh":
        save_compressed(tmp_path / name, compressed())
    assert len({(tmp_path / name).read_bytes() for name in "abcdefgh"}) == 1


def test_the_header_is_read_without_torch(tmp_path):
    save_compressed(tmp_path / "c.safetensors", compressed())
    code = (
        "import sys, pathlib; from stsimdiff_cli.storage.reading import StoredVideo;"
        "s = StoredVideo(pathlib.Path(sys.argv[1])); s.array('index'); print(s.counts['kept'], 'torch' in sys.modules)"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "c.safetensors")]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.split() == ["18", "False"]


def test_a_run_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "c.safetensors"
    save_compressed(path, compressed())
    before = path.read_bytes()
    code = f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parents[2])]!r}
from stsimdiff_cli.storage.tensor_file import TensorFileWriter
real = TensorFileWriter.append
def half(self, name, rows):
    real(self, name, rows[: len(rows) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
TensorFileWriter.append = half
from pathlib import Path
from tests.support.tokens import compressed, make_tokens
from stsimdiff_cli.storage.tensor_file import checksum
from stsimdiff_cli.storage.reading import StoredVideo
from stsimdiff_cli.storage.writing import save_compressed, save_tokens
save_compressed(Path({str(path)!r}), compressed(make_tokens(seed=9)))
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert path.read_bytes() == before
    assert StoredVideo(path).video().counts["kept"] == 18


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    save_compressed(path, compressed())
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("stsimdiff_cli.storage.tensor_file.TensorFileWriter.append", fail)
    with pytest.raises(StsimdiffError, match="cannot be written"):
        save_compressed(path, compressed())
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["c.safetensors"]


def test_a_full_disk_is_a_sentence_and_leaves_no_litter(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(StsimdiffError, match="disk is full") as caught:
            save_tokens(disk / "t.safetensors", make_tokens((32, 14, 14), 64))
        assert caught.value.hint and os.listdir(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "c.safetensors"
    size = save_compressed(path, compressed())
    os.truncate(path, int(size * share))
    with pytest.raises(FileFormatError, match="truncated"):
        StoredVideo(path)


def test_a_foreign_file_is_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "f.safetensors", metadata={"format": "pt"})
    with pytest.raises(FileFormatError, match="not written by stsimdiff"):
        StoredVideo(tmp_path / "f.safetensors")
    (tmp_path / "g.safetensors").write_text("this is not a tensor file")
    with pytest.raises(FileFormatError):
        StoredVideo(tmp_path / "g.safetensors")


def test_a_newer_format_is_refused_with_the_cure(tmp_path):
    path = tmp_path / "c.safetensors"
    save_compressed(path, compressed())
    rewrite(path, lambda header: header.update(format="stsimdiff.compressed/3"))
    with pytest.raises(FileFormatError, match="compressed/3") as caught:
        StoredVideo(path)
    assert "upgrade" in caught.value.hint


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "t.safetensors"
    save_tokens(path, make_tokens())
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="checksum of 'features'"):
        StoredVideo(path).tokens()


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("grid"),
        lambda header: header["grid"].update(shape=[4, 3]),
        lambda header: header["grid"].update(shape=[4, 3, -5]),
        lambda header: header["grid"].update(seconds=[0.0]),
        lambda header: header["grid"]["source"].update(colour="red"),
        lambda header: header.pop("checksums"),
        lambda header: header.pop("counts"),
        lambda header: header.update(format="stsimdiff.compressed"),
        lambda header: header.update(format="other/1"),
    ],
)
def test_an_edited_header_is_refused(tmp_path, change):
    path = tmp_path / "c.safetensors"
    save_compressed(path, compressed())
    rewrite(path, change)
    with pytest.raises(FileFormatError) as caught:
        StoredVideo(path).video()
    assert caught.value.hint


def test_tensors_that_do_not_fit_each_other_are_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    video = compressed()
    save_compressed(path, video)
    tensors = load_file(path)
    for bad in (video.index.flip(0), video.index + 50, video.index[:-1]):
        wrong = {**tensors, "index": bad.clone()}
        rewrite(path, lambda header: header["checksums"].update(index=checksum(wrong["index"])), wrong)  # noqa: B023
        with pytest.raises(FileFormatError, match=r"edited|cannot be used"):
            StoredVideo(path).video()


def test_outputs_are_checked_before_any_work(tmp_path):
    (tmp_path / "there").write_text("x")
    check_output(tmp_path / "new")
    check_output(tmp_path / "there", force=True)
    for path in (tmp_path / "there", tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(RequestError) as caught:
            check_output(path)
        assert caught.value.hint


def test_a_compressed_file_is_not_a_tokens_file(tmp_path):
    save_compressed(tmp_path / "c.safetensors", compressed())
    with pytest.raises(RequestError, match="already compressed"):
        StoredVideo(tmp_path / "c.safetensors").tokens()
