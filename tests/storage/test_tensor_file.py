"""Files larger than memory: laid out in advance, written by rows, read by rows, checked on the way."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stsimdiff_cli.errors import FileFormatError
from stsimdiff_cli.graph.centrality import centrality
from stsimdiff_cli.graph.edges import edge_weights
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import compress_tokens
from stsimdiff_cli.storage.file_features import FileFeatures
from stsimdiff_cli.storage.reading import StoredVideo
from stsimdiff_cli.storage.sinks import open_sink
from stsimdiff_cli.storage.tensor_file import TensorFileWriter, checksum
from stsimdiff_cli.storage.writing import save_compressed, save_tokens
from tests.support.tokens import file_features, make_tokens


def write(path: Path, tensors: dict[str, torch.Tensor], announced: int, step: int = 3) -> dict[str, str]:
    """Row by row, as a video is encoded; returns the checksums."""
    path.touch()
    specs = {name: (tensor.dtype, (announced, *tensor.shape[1:])) for name, tensor in tensors.items()}
    told: dict[str, str] = {}
    with closing(TensorFileWriter(path, specs, 1000)) as writer:
        for begin in range(0, len(next(iter(tensors.values()))), step):
            for name, tensor in tensors.items():
                writer.append(name, tensor[begin : begin + step])
        writer.finish(lambda checksums, _: told.update(checksums) or {"who": "we"})
    return told


def some(rows: int = 8) -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    return {
        "saliency": torch.rand((rows, 2, 3), generator=chance),
        "features": torch.randn((rows, 2, 3, 5), generator=chance).bfloat16(),
        "kind": torch.randint(0, 4, (rows,), generator=chance).to(torch.uint8),
        "index": torch.arange(rows),
    }


@pytest.mark.parametrize("announced", [8, 9, 50])
def test_the_library_reads_what_was_written_however_many_rows_were_announced(tmp_path, announced):
    checksums = write(tmp_path / "x", some(), announced)
    read = load_file(tmp_path / "x")
    assert set(read) == set(some())
    for name, tensor in some().items():
        assert torch.equal(read[name], tensor) and checksums[name] == checksum(tensor), name
    with safe_open(tmp_path / "x", "np") as file:
        assert file.metadata() == {"who": "we"}


def test_the_file_is_as_long_as_its_tensors_and_its_header(tmp_path):
    write(tmp_path / "x", some(), 50)
    data = sum(tensor.nbytes for tensor in some().values())
    assert (tmp_path / "x").stat().st_size == 8 + 1000 + data


def test_more_rows_than_announced_or_other_ones_are_refused(tmp_path):
    with pytest.raises(ValueError, match="got more"):
        write(tmp_path / "x", some(), 7)
    (tmp_path / "y").touch()
    with closing(TensorFileWriter(tmp_path / "y", {"a": (torch.float32, (4, 2))}, 100)) as writer:
        for rows in (torch.zeros(1, 3), torch.zeros(1, 2).double()):
            with pytest.raises(ValueError, match="expected rows"):
                writer.append("a", rows)


def test_a_header_that_does_not_fit_is_refused(tmp_path):
    (tmp_path / "x").touch()
    with (
        closing(TensorFileWriter(tmp_path / "x", {"a": (torch.float32, (1, 2))}, 80)) as writer,
        pytest.raises(ValueError, match="at most 80 bytes"),
    ):
        writer.finish(lambda *_: {"key": "x" * 80})


def test_only_the_rows_asked_for_are_read(tmp_path, monkeypatch):
    save_file({"a": torch.zeros(100, 10)}, tmp_path / "x")
    stored, read = file_features(tmp_path / "x", "a", checksum(torch.zeros(100, 10))), []
    list(stored.chunks())  # a pass that compares the checksum
    monkeypatch.setattr(FileFeatures, "_fill", lambda _, file, data, offset: read.append((offset, len(data))))
    wanted = torch.zeros(100, dtype=torch.bool)
    wanted[3:7] = True
    list(stored.chunks(100, wanted))
    assert read == [(120, 160)]


@pytest.mark.parametrize("step", [1, 3, 8])
def test_a_pass_over_all_rows_compares_the_checksum(tmp_path, step):
    save_file(some(), tmp_path / "x")
    stored = file_features(tmp_path / "x", "features", "00000000")
    with pytest.raises(FileFormatError, match="checksum of 'features'"):
        list(stored.chunks(step))


def test_picking_rows_checks_the_whole_tensor_once(tmp_path):
    save_file(some(), tmp_path / "x")
    wrong = file_features(tmp_path / "x", "features", "00000000")
    next(wrong.chunks(2))  # too early to tell
    with pytest.raises(FileFormatError, match="damaged"):
        wrong.gather(torch.tensor([3]))


def test_a_file_that_was_cut_short_meanwhile_is_refused(tmp_path):
    save_file(some(), tmp_path / "x")
    stored = file_features(tmp_path / "x", "features", "")
    os.truncate(tmp_path / "x", (tmp_path / "x").stat().st_size - 100)
    with pytest.raises(FileFormatError, match="truncated"):
        stored.tensor()


def test_tokens_that_stay_in_the_file_are_the_same_tokens(tmp_path):
    tokens = make_tokens(saliency=torch.rand(4, 3, 5))
    save_tokens(tmp_path / "t", tokens)
    stay = StoredVideo(tmp_path / "t").tokens(in_memory=False)
    assert stay.grid == tokens.grid and isinstance(stay.features, FileFeatures)
    assert torch.equal(stay.in_memory().features.tensor(), tokens.features.tensor())
    assert torch.equal(stay.in_memory().evidence["saliency"].tensor(), tokens.evidence["saliency"].tensor())
    save_tokens(tmp_path / "again", stay)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "t").read_bytes()


@pytest.mark.parametrize("came", [4, 3, 1])
def test_a_growing_file_holds_what_came(tmp_path, came):
    tokens = make_tokens(saliency=torch.rand(4, 3, 5))
    parts = {name: values.tensor() for name, values in tokens.tensors.items()}
    with open_sink(tmp_path / "t") as growing:
        growing.begin(tokens.grid, 4, {name: part[:1] for name, part in parts.items()})
        for slot in range(came):
            growing.append({name: part[slot : slot + 1] for name, part in parts.items()})
        source = replace(tokens.grid.source, missing_seconds=tuple(i / 3 for i in range(4 - came)))
        grid = replace(tokens.grid, shape=(came, 3, 5), seconds=tokens.grid.seconds[:came], source=source)
        growing.finish(grid)
    back = StoredVideo(tmp_path / "t").tokens()
    assert back.grid == grid
    assert torch.equal(back.features.tensor(), tokens.features.tensor()[:came])
    assert torch.equal(back.evidence["saliency"].tensor(), tokens.evidence["saliency"].tensor()[:came])


def test_a_growing_file_that_fails_leaves_nothing(tmp_path):
    tokens = make_tokens()
    with pytest.raises(RuntimeError, match="no more"), open_sink(tmp_path / "t") as growing:
        growing.begin(tokens.grid, 4, {"features": tokens.features.tensor()})
        raise RuntimeError("no more")
    assert list(tmp_path.iterdir()) == []


METHODS = [
    "st-simdiff:importance=centrality",
    "st-simdiff:importance=centrality,max_community=none",
    "st-simdiff:importance=centrality,split=space,tau_sim=0.6",
    "st-simdiff:importance=saliency,tau_diff=p90",
    "random",
    "uniform",
    "vanilla",
    "vidcom2",  # reads all at once
]


@pytest.mark.parametrize("slots", [1, 3, 1000])
@pytest.mark.parametrize("spec", METHODS)
def test_what_is_compressed_from_a_file_is_what_is_compressed_from_memory_to_the_byte(
    tmp_path, monkeypatch, spec, slots
):
    tokens = make_tokens((20, 4, 5), 32, seed=3, dtype=torch.bfloat16, saliency=torch.rand(20, 4, 5))
    save_tokens(tmp_path / "t", tokens)
    slot = 4 * 5 * 32 * 2  # bytes
    monkeypatch.setattr("stsimdiff_cli.storage.file_features.CHUNK", slots * slot)
    monkeypatch.setattr("stsimdiff_cli.storage.file_features.BLOCK", 1000)
    monkeypatch.setattr("stsimdiff_cli.storage.writing._BLOCK", 1000)
    sizes, real = [0], FileFeatures.read

    def read(self, begin, out):
        sizes.append(out.nbytes if self.name == "features" else 0)
        real(self, begin, out)

    monkeypatch.setattr(FileFeatures, "read", read)
    for ratio in ("0.1", "0.5"):
        stay = StoredVideo(tmp_path / "t").tokens(in_memory=False)
        video = compress_tokens(stay, ratio, spec, runtime=Runtime(device="cpu"))
        save_compressed(tmp_path / "file", video)
        save_compressed(tmp_path / "memory", compress_tokens(tokens, ratio, spec, runtime=Runtime(device="cpu")))
        assert (tmp_path / "file").read_bytes() == (tmp_path / "memory").read_bytes()
    whole = spec == "vidcom2" or slots == 1000
    assert 0 < max(sizes) <= (tokens.features.tensor().nbytes if whole else max(slots * slot, 1000))


@pytest.mark.parametrize("most", [1, 2, 5])
def test_communities_that_take_turns_have_the_same_centralities(monkeypatch, most):
    """However many sums are held at a time."""
    tokens = make_tokens((20, 4, 5), 32, seed=3, dtype=torch.bfloat16)
    edges = edge_weights(tokens.features)
    community = torch.arange(400) // 7 * 3 % 31  # all over the video
    community = torch.unique(community, return_inverse=True)[1]
    whole = centrality(tokens.features, community, edges.norm)
    monkeypatch.setattr("stsimdiff_cli.graph.centrality.SUMS", most * 8 * 32)
    for slots in (1, 3, 7):
        torch.testing.assert_close(centrality(tokens.features, community, edges.norm, slots), whole, rtol=0, atol=1e-12)
