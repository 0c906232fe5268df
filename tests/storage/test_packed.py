"""Features in few bits: what is lost is small, what is kept is kept exactly, and anybody can undo it."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stsimdiff_cli.errors import FileFormatError, RequestError
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import compress_tokens
from stsimdiff_cli.records import VideoTokens
from stsimdiff_cli.storage import packed
from stsimdiff_cli.storage.directory import read_directory
from stsimdiff_cli.storage.file_features import FileFeatures
from stsimdiff_cli.storage.formats import DIGEST, KEY
from stsimdiff_cli.storage.header import read_header
from stsimdiff_cli.storage.packed import PackedFeatures, pack, unpack
from stsimdiff_cli.storage.packing import BITS, FLOATS, Packing, parse_store
from stsimdiff_cli.storage.reading import StoredVideo, load
from stsimdiff_cli.storage.sinks import Destination, open_sink
from stsimdiff_cli.storage.tensor_file import checksum
from stsimdiff_cli.storage.writing import save_compressed, save_tokens
from tests.support.commands import refused, run
from tests.support.tokens import compressed, make_tokens

CPU = Runtime(device="cpu")
#: Relative errors of normal numbers. The best uniform quantisers have 0.107 at 4 bits and 0.194 at 3 (Max, 1960).
MOST = {"int8": 0.009, "int4": 0.112, "int3": 0.2}
#: What NumPy makes of a file by the lines in the docs.
RECIPE = re.findall(r"```python\n(.*?)```", Path("docs/files.md").read_text(), re.S)[-1]


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.float() - expected.float()).norm() / expected.float().norm())


def by_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The features of folder/packed.safetensors as the docs' lines find them, which import nothing of this package."""
    assert "stsimdiff_cli" not in RECIPE
    names: dict = {}
    monkeypatch.chdir(folder)
    exec(RECIPE, names)
    return names["features"]


@pytest.mark.parametrize("store", BITS)
@pytest.mark.parametrize("width", [1, 2, 7, 16, 100, 192, 896])
def test_the_lines_in_the_docs_undo_every_packing(tmp_path, monkeypatch, store, width):
    tokens = make_tokens(width=width)
    save_tokens(tmp_path / "packed.safetensors", tokens, store)
    ours = load(tmp_path / "packed.safetensors").features.tensor()
    np.testing.assert_allclose(ours, by_recipe(tmp_path, monkeypatch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("store", BITS)
def test_little_is_lost_even_where_a_few_channels_are_large(store):
    values = torch.randn(500, 1536, generator=torch.Generator().manual_seed(0))
    packing = Packing(BITS[store], "float32", 0)
    assert error(unpack(*pack(values, packing), 1536, packing), values) < MOST[store]
    values[:, [3, 700]] *= 50
    assert error(unpack(*pack(values, packing), 1536, packing), values) < 1.1 * MOST[store]


@pytest.mark.parametrize("width", [1, 3, 8, 24])
def test_the_rotation_is_the_matrix_of_its_definition(width):
    size = 1 << (width.bit_length() - 1)
    hadamard = np.array([[(-1.0) ** (i & j).bit_count() for j in range(size)] for i in range(size)]) / size**0.5
    matrix = np.eye(width)
    for step in range(2 if size < width else 1):
        block = np.eye(width)
        part = slice(0, size) if step == 0 else slice(width - size, width)
        block[part, part] = hadamard
        matrix = matrix @ np.diag(packed._signs(width, 5, step).numpy()) @ block
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(width), atol=1e-12)
    values = torch.randn(6, width)
    np.testing.assert_allclose(packed._rotated(values, 5), values.double().numpy() @ matrix, atol=1e-5)
    torch.testing.assert_close(packed._rotated(packed._rotated(values, 5), 5, back=True), values)


def test_zeros_stay_zeros_and_the_type_is_the_one_before(tmp_path):
    tokens = make_tokens(dtype=torch.bfloat16)
    tokens.features.tensor()[1] = 0
    save_tokens(tmp_path / "t", tokens, "int4")
    again = load(tmp_path / "t").features
    assert again.dtype == torch.bfloat16 and not again.tensor()[1].any() and again.tensor()[0].any()


@pytest.mark.parametrize("store", FLOATS)
def test_floats_are_rounded_once_and_need_no_new_format(tmp_path, store):
    tokens = make_tokens(saliency=torch.rand(4, 3, 5))
    save_tokens(tmp_path / "t", tokens, store)
    again = load(tmp_path / "t")
    assert torch.equal(again.features.tensor(), tokens.features.tensor().to(getattr(torch, store)))
    assert again.evidence["saliency"].dtype == torch.float32
    assert read_header(tmp_path / "t").data["format"].endswith("/1")


def test_numbers_that_float16_cannot_hold_are_refused_and_nothing_is_written(tmp_path):
    tokens = make_tokens()
    tokens.features.tensor()[2, 1, 1, 3] = 1e5
    (tmp_path / "t").write_text("before")
    with pytest.raises(RequestError, match="too large for float16"):
        save_tokens(tmp_path / "t", tokens, "float16")
    assert [path.name for path in tmp_path.iterdir()] == ["t"] and (tmp_path / "t").read_text() == "before"


@pytest.mark.parametrize("store", BITS)
def test_tokens_that_arrive_slot_by_slot_make_the_same_file(tmp_path, store):
    tokens = make_tokens(saliency=torch.rand(4, 3, 5))
    save_tokens(tmp_path / "at once", tokens, store)
    with open_sink(Destination(tmp_path / "by slot", store)) as sink:
        whole = {name: values.tensor() for name, values in tokens.tensors.items()}
        sink.begin(tokens.grid, 4, {name: values[:1] for name, values in whole.items()})
        for t in range(4):
            sink.append({name: values[t : t + 1] for name, values in whole.items()})
        sink.finish(tokens.grid)
    one, other = (load_file(tmp_path / name) for name in ("at once", "by slot"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stay", [True, False])
@pytest.mark.parametrize("method", ["st-simdiff:importance=centrality", "evs"])
def test_packed_tokens_are_picked_without_another_loss(tmp_path, method, stay):
    save_tokens(tmp_path / "t", make_tokens(), "int4")
    tokens = StoredVideo(tmp_path / "t").tokens(in_memory=not stay)
    video = compress_tokens(tokens, "0.3", method, CPU)
    save_compressed(tmp_path / "c", video)
    again = load(tmp_path / "c")
    assert torch.equal(again.features.tensor(), tokens.features.tensor().flatten(0, 2)[video.index])
    codes, kept = load_file(tmp_path / "t")["features"], load_file(tmp_path / "c")["features"]
    assert kept.dtype == torch.uint8 and torch.equal(kept, codes.flatten(0, 2)[video.index])


def test_another_form_is_packed_anew_and_merged_features_are_floats(tmp_path):
    save_tokens(tmp_path / "t", make_tokens(), "int8")
    video = compress_tokens(load(tmp_path / "t"), "0.3", "uniform", CPU)
    for store, dtype in {"int4": torch.uint8, "bfloat16": torch.bfloat16}.items():
        save_compressed(tmp_path / "c", video, store=store)
        assert load_file(tmp_path / "c")["features"].dtype == dtype
    assert StoredVideo(tmp_path / "t").packing == Packing(8, "float32", 0)
    merged = compress_tokens(load(tmp_path / "t"), "0.3", "downsample", CPU)
    save_compressed(tmp_path / "c", merged)
    assert load_file(tmp_path / "c")["features"].dtype == torch.float32


def test_a_pass_unpacks_few_rows_at_a_time_and_leaves_out_the_unwanted(tmp_path, monkeypatch):
    save_tokens(tmp_path / "t", make_tokens(shape=(40, 2, 2)), "int4")
    monkeypatch.setattr(packed, "CHUNK", 4 * 2 * 2 * 16 * 3)  # three slots
    features, sizes = StoredVideo(tmp_path / "t").tokens(in_memory=False).features, []
    real = packed.unpack
    monkeypatch.setattr(packed, "unpack", lambda codes, *rest: sizes.append(len(codes)) or real(codes, *rest))
    whole = features.tensor()
    assert max(sizes) == 3 and sum(sizes) == 40
    assert isinstance(features, PackedFeatures) and isinstance(features.codes, FileFeatures)
    wanted = torch.zeros(40, dtype=torch.bool)
    wanted[[7, 8, 30]] = True
    parts = dict(features.chunks(10, wanted))
    assert list(parts) == [7, 30] and torch.equal(parts[7], whole[7:9])


# --- what is wrong --------------------------------------------------------------------------------------------------


def meddle(path: Path, change=lambda header: None, tensors=lambda tensors: None, digest: bool = False) -> None:
    """Write the file anew with an edited header or tensors and, unless `digest`, without one."""
    entries, held = dict(read_directory(path).metadata), load_file(path)
    header = json.loads(entries[KEY])
    tensors(held)
    header["checksums"] = {name: checksum(tensor) for name, tensor in held.items()}
    change(header)
    entries[KEY] = json.dumps(header)
    if not digest:
        del entries[DIGEST]
    save_file(held, path, metadata=entries)


@pytest.mark.parametrize(
    ("change", "tensors", "match"),
    [
        (lambda header: header["packing"].update(bits=8), lambda held: None, "shape"),
        (lambda header: header["packing"].update(bits=99), lambda held: None, "header.packing is"),
        (lambda header: header["packing"].update(dtype="eight"), lambda held: None, "dtype is 'eight'"),
        (lambda header: header["packing"].update(seed=-1), lambda held: None, "header.packing is"),
        (lambda header: header.pop("packing"), lambda held: None, "no packing"),
        (lambda header: header.update(format="stsimdiff.compressed/1"), lambda held: None, "has a packing"),
        (lambda header: None, lambda held: held.pop("features.scale"), "no tensor 'features.scale'"),
        (lambda header: None, lambda held: held.update(features=held["features"].to(torch.int32)), "type I32"),
    ],
)
def test_an_edited_packing_is_refused(tmp_path, change, tensors, match):
    save_compressed(tmp_path / "c", compressed(), store="int4")
    meddle(tmp_path / "c", change, tensors)
    with pytest.raises(FileFormatError, match=match):
        load(tmp_path / "c")


def test_scales_that_are_not_finite_are_refused(tmp_path):
    save_compressed(tmp_path / "c", compressed(), store="int4")
    meddle(tmp_path / "c", tensors=lambda held: held["features.scale"].fill_(float("inf")))
    with pytest.raises(FileFormatError, match="not finite"):
        load(tmp_path / "c")


def test_a_flipped_bit_anywhere_is_noticed(tmp_path):
    path, chance = tmp_path / "c", random.Random(0)
    save_compressed(path, compressed(), store="int3")
    good = path.read_bytes()
    for place in range(0, len(good), 7):
        raw = bytearray(good)
        raw[place] ^= 1 << chance.randrange(8)
        path.write_bytes(raw)
        with pytest.raises(FileFormatError):
            load(path)


def test_an_unknown_form_is_refused_with_a_hint():
    assert parse_store("auto") is None and parse_store("int4") == "int4"
    with pytest.raises(RequestError) as caught:
        parse_store("int5")
    assert "'int" in str(caught.value.hint)


# --- commands -------------------------------------------------------------------------------------------------------


def test_every_command_takes_packed_files(tmp_path, capsys):
    tokens, kept, floats = (str(tmp_path / name) for name in ("t.safetensors", "c.safetensors", "f.safetensors"))
    assert run(capsys, "encode", "sample_videos/flash.mp4", "-o", tokens, "--store", "int8")[0] == 0
    code, out, _ = run(capsys, "compress", tokens, "-o", kept, "--ratio", "0.3", "--store", "int4", "--json")
    assert code == 0 and json.loads(out)["store"] == "int4"
    assert run(capsys, "compress", "sample_videos/flash.mp4", "-o", floats, "--ratio", "0.3")[0] == 0
    assert Path(kept).stat().st_size < 0.3 * Path(floats).stat().st_size
    code, out, _ = run(capsys, "ask", kept, "What appears for a moment?")
    assert (code, out) == (0, "black square\n")
    code, out, _ = run(capsys, "inspect", kept)
    assert code == 0 and "4 bits a number" in out
    assert json.loads(run(capsys, "inspect", tokens, "--json")[1])["packing"]["bits"] == 8
    assert run(capsys, "view", kept, "-o", str(tmp_path / "page.html"))[0] == 0
    assert "int4" in refused(capsys, "compress", tokens, "-o", kept, "--ratio", "0.3", "--store", "int44", "--force")


def test_deepstack_features_are_packed_too(tmp_path):
    tokens = make_tokens()
    deep = torch.randn(4, 3, 5, 2, 16)
    given = VideoTokens.of(tokens.grid, {"features": tokens.features.tensor(), "deepstack": deep})
    save_tokens(tmp_path / "t", given, "int4")
    again = StoredVideo(tmp_path / "t").tokens(in_memory=False)
    assert error(again.deepstack.tensor(), deep) < 0.15 and again.deepstack.shape == deep.shape
    video = compress_tokens(again, "0.5", "random", CPU)
    save_compressed(tmp_path / "c", replace(video))
    assert torch.equal(load(tmp_path / "c").deepstack.tensor(), again.deepstack.tensor().flatten(0, 2)[video.index])
