"""The header of a file: every bit is protected, and what it says is checked before it is believed."""

from __future__ import annotations

import json
import random
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stsimdiff_cli.errors import FileFormatError, ModelError, RequestError
from stsimdiff_cli.records import Coverage, Layout, ModelRef, Source, TokenGrid, VideoTokens
from stsimdiff_cli.storage import schema
from stsimdiff_cli.storage.directory import ITEM_BYTES, LONGEST, read_directory
from stsimdiff_cli.storage.finite import all_finite, check_encoded
from stsimdiff_cli.storage.formats import COMPRESSED, DIGEST, KEY, TENSORS
from stsimdiff_cli.storage.header import read_header
from stsimdiff_cli.storage.stored_video import NUMPY, StoredVideo
from stsimdiff_cli.storage.tensor_file import TYPES, checksum
from stsimdiff_cli.storage.writing import save_compressed, save_tokens
from tests.support.tokens import compressed, make_tokens


@pytest.fixture
def kept(tmp_path) -> Path:
    save_compressed(tmp_path / "c.safetensors", compressed())
    return tmp_path / "c.safetensors"


def rewrite(path: Path, change=lambda header: None, metadata=lambda entries: None, tensors=None) -> None:
    """Write the file anew with another header and, unless `metadata` keeps it, the old digest."""
    entries = dict(read_directory(path).metadata)
    header = json.loads(entries[KEY])
    change(header)
    entries[KEY] = json.dumps(header)
    metadata(entries)
    save_file(tensors or load_file(path), path, metadata=entries)


def unprotected(entries: dict[str, str]) -> None:
    del entries[DIGEST]


# --- the digest -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "save", [lambda path: save_compressed(path, compressed()), lambda path: save_tokens(path, make_tokens())]
)
def test_a_flipped_bit_in_any_byte_before_the_tensors_is_noticed(tmp_path, save):
    path, chance = tmp_path / "x.safetensors", random.Random(0)
    save(path)
    good = path.read_bytes()
    start = min(entry.begin for entry in read_directory(path).tensors.values())
    for place in range(start):
        raw = bytearray(good)
        raw[place] ^= 1 << chance.randrange(8)
        path.write_bytes(raw)
        with pytest.raises(FileFormatError):
            read_header(path)


def test_the_digest_is_that_of_the_text_and_of_the_tensors_in_any_order(kept):
    """So a file that the safetensors library wrote again, with the same metadata, is still protected."""
    rewrite(kept, metadata=lambda entries: None)
    with pytest.raises(FileFormatError, match="digest"):  # json.dumps here puts spaces into the text
        read_header(kept)
    save_compressed(kept, compressed())
    save_file(load_file(kept), kept, metadata=read_directory(kept).metadata)
    assert read_header(kept).protected and StoredVideo(kept).notes == ()


def test_an_edited_header_with_the_old_digest_is_refused(kept):
    rewrite(kept, lambda header: header["method"].update(prompt="another"))
    with pytest.raises(FileFormatError, match="digest") as caught:
        StoredVideo(kept)
    assert caught.value.hint


def test_a_file_without_a_digest_opens_with_a_note(kept):
    rewrite(kept, metadata=unprotected)
    stored = StoredVideo(kept)
    assert stored.video().counts == compressed().counts
    (note,) = stored.notes
    assert str(kept) in note and note.endswith(".")


def test_a_digest_under_another_name_does_not_make_an_older_file(kept):
    rewrite(kept, metadata=lambda entries: entries.update({"stsimdiff.digesT": entries.pop(DIGEST)}))
    with pytest.raises(FileFormatError, match="no digest"):
        StoredVideo(kept)


def test_every_tensor_needs_a_checksum_and_every_checksum_a_tensor(kept):
    for change in (
        lambda header: header.update(checksums={}),
        lambda header: header["checksums"].pop("kind"),
        lambda header: header["checksums"].update(more="00000000"),
    ):
        save_compressed(kept, compressed())
        rewrite(kept, change, unprotected)
        with pytest.raises(FileFormatError, match="checksum"):
            StoredVideo(kept)


@pytest.mark.parametrize("name", [name for name in TENSORS[COMPRESSED] if name not in ("features", "deepstack")])
def test_an_array_read_without_torch_is_checked_like_a_tensor(kept, name):
    entry = read_directory(kept).tensors[name]
    raw = bytearray(kept.read_bytes())
    raw[entry.begin] ^= 1
    kept.write_bytes(raw)
    with pytest.raises(FileFormatError, match=f"checksum of '{name}'"):
        StoredVideo(kept).array(name)


def test_arrays_equal_the_tensors(kept):
    tensors = load_file(kept)
    for name in set(tensors) - {"features"}:
        assert np.array_equal(StoredVideo(kept).array(name), tensors[name].numpy()), name


# --- the schema -----------------------------------------------------------------------------------------------------

#: Where each record stands in a header.
PLACES = {
    "": schema.CompressedHeader, "grid": TokenGrid, "grid.source": Source, "grid.model": ModelRef,
    "grid.layout": Layout, "grid.coverage": Coverage, "method": schema.Choice,
}  # fmt: skip


@pytest.mark.parametrize(
    ("place", "name"), [(place, item.name) for place, kind in PLACES.items() for item in fields(kind)]
)
def test_no_field_of_a_header_takes_a_value_of_another_type(kept, place, name):
    for odd in ([[[]]], {"a": [[]]}, float("inf"), True):
        save_compressed(kept, compressed())

        def change(header, odd=odd):
            for step in filter(None, place.split(".")):
                header = header[step]
            header[name] = odd

        rewrite(kept, change, unprotected)
        with pytest.raises(FileFormatError) as caught:
            StoredVideo(kept)
        assert caught.value.hint and len(str(caught.value)) < 400 + len(str(kept))


def test_later_versions_may_add_keys_to_a_protected_header_only(kept):
    data = json.loads(read_directory(kept).metadata[KEY])
    data["grid"]["source"]["colour"] = "red"
    assert schema.read_header_as_record(data, compressed=True, strict=False).grid.source.name == "clip.mp4"
    with pytest.raises(ValueError, match="'colour'"):
        schema.read_header_as_record(data, compressed=True, strict=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda grid: grid.update(seconds=[0, 2, 1, 3]), "seconds"),
        (lambda grid: grid["layout"].update(between=[[10**9, [1]]]), "between"),
        (lambda grid: grid["layout"].update(between=[[9, [1]], [3, [1]]]), "between"),
        (lambda grid: grid["layout"].update(before=[-1]), "before"),
        (lambda grid: grid.update(shape=[4, 10**6, 10**6]), "counts.tokens"),
        (lambda grid: grid["coverage"].update(blank_columns=5), "covers nothing"),
        (lambda grid: grid["coverage"].update(left=1.0), "covers nothing"),
        (lambda grid: grid["source"].update(name="../clip.mp4"), "name of a file"),
        (lambda grid: grid["source"].update(name="/clip.mp4"), "name of a file"),
        (lambda grid: grid["source"].update(name="a\0b"), "not text"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(kept, change, said):
    rewrite(kept, lambda header: change(header["grid"]), unprotected)
    with pytest.raises(FileFormatError, match=said):
        StoredVideo(kept)


def test_a_grid_is_bounded_by_the_tokens_that_are_kept(tmp_path):
    video = replace(compressed(), traces={})
    grid = replace(video.grid, shape=(4, 3000, 3000))
    with pytest.raises(RequestError, match="too few") as caught:
        save_compressed(tmp_path / "c", replace(video, grid=grid))
    assert caught.value.hint
    save_compressed(tmp_path / "c", replace(video, counts={}))

    def claim(header):
        header["grid"]["shape"] = [4, 3000, 3000]

    rewrite(tmp_path / "c", claim, unprotected)
    with pytest.raises(FileFormatError, match="too few"):
        StoredVideo(tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "value"),
    [("kind", 4), ("community", -2), ("regions", -2), ("whole_of", -1), ("importance", float("nan"))],
)
def test_numbers_that_no_program_writes_are_refused(kept, name, value):
    tensors = load_file(kept)
    tensors[name].view(-1)[0] = value
    rewrite(kept, lambda header: header["checksums"].update({name: checksum(tensors[name])}), unprotected, tensors)
    for read in (StoredVideo(kept).video, lambda: StoredVideo(kept).array(name)):
        with pytest.raises(FileFormatError, match=name):
            read()


def test_what_could_not_be_read_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="method has no"):
        save_compressed(tmp_path / "c", replace(compressed(), method={"name": "m"}))
    tokens = make_tokens()
    backwards = replace(tokens, grid=replace(tokens.grid, seconds=(3.0, 2.0, 1.0, 0.0)))
    with pytest.raises(ValueError, match="seconds"):
        save_tokens(tmp_path / "t", backwards)
    assert list(tmp_path.iterdir()) == []


# --- safetensors ----------------------------------------------------------------------------------------------------


def safetensors(text: str, data: bytes = b"", length: int | None = None) -> bytes:
    return (len(text.encode()) if length is None else length).to_bytes(8, "little") + text.encode() + data


def entry(shape, begin: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"abc",
        b"\0" * 100,
        safetensors("{}", length=1 << 63),
        safetensors("{}", length=(1 << 64) - 1),
        safetensors("[]"),
        safetensors("{"),
        safetensors('{"a": 1}'),
        safetensors('{"a": {}}'),
        safetensors(json.dumps({"a": entry([1], 0, 4)}), b"123"),
        safetensors(json.dumps({"a": entry([1], 0, 4)}), b"12345"),
        safetensors(json.dumps({"a": entry([1], 0, 4), "b": entry([1], 2, 6)}), b"123456"),
        safetensors(json.dumps({"a": entry([1], 0, 4), "b": entry([1], 5, 9)}), b"123456789"),
        safetensors(json.dumps({"a": entry([2], 0, 4)}), b"1234"),
        safetensors(json.dumps({"a": entry([-1], 0, 4)}), b"1234"),
        safetensors(json.dumps({"a": entry([True], 0, 4)}), b"1234"),
        safetensors(json.dumps({"a": entry([1 << 40, 1 << 40], 0, 4)}), b"1234"),
        safetensors(json.dumps({"a": entry([1], 0, 4, "F99")}), b"1234"),
        safetensors(json.dumps({"a": entry([1], 0, 4, dtype=[])}), b"1234"),
        safetensors('{"__metadata__": 3}'),
        safetensors('{"__metadata__": {"a": 3}}'),
        safetensors('{"a": NaN}'),
        safetensors("{" + '"a": {' * 100000),
        safetensors('{"a": ' + "[" * 100000),
        b"\x04\0\0\0\0\0\0\0{\xff\xfe}",
    ],
    ids=lambda raw: repr(raw[:40]),
)
def test_what_is_not_safetensors_is_a_sentence(tmp_path, raw):
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(FileFormatError, match="not a safetensors file") as caught:
        StoredVideo(tmp_path / "x")
    assert caught.value.hint and len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.write((LONGEST + 1).to_bytes(8, "little"))
        file.truncate(1 << 32)  # sparse
    with pytest.raises(FileFormatError, match="longer than"):
        StoredVideo(tmp_path / "x")


def test_both_tables_of_types_hold_the_same(tmp_path):
    assert {name: dtype.itemsize for name, dtype in TYPES.items()} == ITEM_BYTES
    assert {name: np.dtype(text).itemsize for name, text in NUMPY.items()}.items() <= ITEM_BYTES.items()


# --- features that are no numbers -----------------------------------------------------------------------------------

BAD = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_one_number_that_is_not_finite_is_found_wherever_it_is(dtype):
    values = torch.randn(300).to(dtype)
    values[7] = torch.finfo(dtype).max
    assert all_finite(values) and all_finite(-values)
    for bad in BAD:
        for place in range(300):
            other = values.clone()
            other[place] = bad
            assert not all_finite(other), (bad, place)
    assert all_finite(torch.empty(0)) and all_finite(torch.arange(3))


@pytest.mark.parametrize("bad", BAD)
def test_features_that_are_not_finite_are_refused_when_they_are_read(tmp_path, bad):
    tokens = make_tokens()
    features = tokens.features.tensor().clone()
    features[2, 1, 1, 3] = bad
    save_tokens(tmp_path / "t", VideoTokens.of(tokens.grid, {"features": features}))
    with pytest.raises(FileFormatError, match="not finite") as caught:
        StoredVideo(tmp_path / "t").tokens()
    assert caught.value.hint
    stay = StoredVideo(tmp_path / "t").tokens(in_memory=False)
    for read in (
        lambda: list(stay.features.chunks(1)),
        lambda: stay.features.gather(torch.tensor([0])),
        lambda: list(stay.features.chunks(1, torch.tensor([True, False, False, False]))),
        stay.features.tensor,
    ):
        with pytest.raises(FileFormatError, match="not finite"):
            read()


def test_an_encoder_that_yields_nan_is_a_sentence():
    good = {"features": torch.zeros(2, 3)}
    check_encoded(good, (1.0, 2.0), "model")
    with pytest.raises(ModelError, match=r"model encoded the frames from 1.00 s to 2.00 s into keys") as caught:
        check_encoded({**good, "keys": torch.tensor([1.0, float("nan")])}, (1.0, 2.0), "model")
    assert "dtype" in caught.value.hint
