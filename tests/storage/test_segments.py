"""A folder of segments is read as the one file that it could be, and anything else in it is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from stsimdiff_cli.errors import FileFormatError, RequestError
from stsimdiff_cli.storage.atomic import growing_folder
from stsimdiff_cli.storage.formats import COMPRESSED, TOKENS
from stsimdiff_cli.storage.reading import StoredSegments, StoredVideo, is_stored, load, open_stored
from stsimdiff_cli.storage.segment_writer import open_segments
from stsimdiff_cli.storage.stored_segments import joined_grid
from stsimdiff_cli.storage.writing import save_tokens
from stsimdiff_cli.token_features import DenseFeatures
from tests.support.commands import refused, run
from tests.support.segments import save_segments, stretch_of
from tests.support.tokens import make_tokens

LENGTHS = [7, 1, 9, 3]


@pytest.fixture
def tokens():
    return make_tokens(shape=(20, 3, 5), saliency=torch.rand(20, 3, 5))


@pytest.mark.parametrize("store", [None, "bfloat16", "int4"])
def test_a_folder_holds_what_one_file_holds(tmp_path, tokens, store):
    save_tokens(tmp_path / "one", tokens, store)
    one, folder = StoredVideo(tmp_path / "one"), open_stored(save_segments(tmp_path / "many", tokens, LENGTHS, store))
    assert folder.grid == one.grid and folder.packing == one.packing and set(folder.names()) == set(one.names())
    for in_memory in (True, False):
        whole, joined = one.tokens(), folder.tokens(in_memory)
        assert torch.equal(joined.features.tensor(), whole.features.tensor())
        assert torch.equal(joined.evidence["saliency"].tensor(), whole.evidence["saliency"].tensor())
    for slots in (range(20), range(3, 4), range(6, 9), range(8, 20), range(19, 20)):
        ours, theirs = folder.part(slots), one.part(slots)
        assert ours.grid == theirs.grid and torch.equal(ours.index, theirs.index)
        assert torch.equal(ours.features.tensor(), theirs.features.tensor())


@pytest.mark.parametrize("rows", [1, 2, 6, 8, 20, None])
def test_chunks_do_not_depend_on_segments(tmp_path, tokens, rows):
    joined = open_stored(save_segments(tmp_path / "many", tokens, LENGTHS)).tokens(in_memory=False).features
    plain = DenseFeatures(tokens.features.tensor())
    wanted = torch.zeros(20, dtype=torch.bool)
    wanted[[4, 7, 8, 18]] = True
    for mask in (None, wanted):
        expected = [(begin, chunk.clone()) for begin, chunk in plain.chunks(rows, mask)]
        got = [(begin, chunk.clone()) for begin, chunk in joined.chunks(rows, mask)]
        assert [begin for begin, _ in got] == [begin for begin, _ in expected]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(got, expected, strict=True))


@pytest.mark.parametrize("store", [None, "int8"])
def test_gathered_tokens_are_those_of_one_file(tmp_path, tokens, store):
    joined = open_stored(save_segments(tmp_path / "many", tokens, LENGTHS, store)).tokens(in_memory=False).features
    plain = load(tmp_path / "many").features
    for index in ([0], [299], list(range(0, 300, 7)), [104, 105, 119, 120], []):
        at = torch.tensor(index, dtype=torch.int64)
        assert torch.equal(joined.gather(at).tensor(), plain.gather(at).tensor()), index
    twice = joined.gather(torch.arange(0, 300, 2)).gather(torch.arange(0, 150, 3))
    assert torch.equal(twice.tensor(), plain.gather(torch.arange(0, 300, 6)).tensor())


def test_a_part_opens_only_the_segments_that_it_needs(tmp_path, tokens):
    folder = open_stored(save_segments(tmp_path / "many", tokens, LENGTHS))
    for number in (0, 1, 3):
        (tmp_path / "many" / f"00000{number}.safetensors").unlink()
    assert torch.equal(folder.part(range(9, 12)).features.tensor(), tokens.features.tensor()[9:12].flatten(0, 2))


def test_layouts_of_all_families_are_those_of_the_whole(family):
    grid = make_tokens(shape=(9, 3, 5)).grid
    pieces = []
    for begin, end in ((0, 4), (4, 5), (5, 9)):
        piece = stretch_of(make_tokens(shape=(9, 3, 5)), begin, end).grid
        pieces.append(replace(piece, layout=family.layout_of(piece.shape)))
    border = next((ids for place, ids in family.layout_of((2, 3, 5)).between if place == 15), ())
    assert joined_grid(pieces, border) == replace(grid, layout=family.layout_of((9, 3, 5)))


# --- what is refused --------------------------------------------------------------------------------------------------


def _missing(folder):
    (folder / "000001.safetensors").unlink()


def _swapped(folder):
    shutil.copy(folder / "000000.safetensors", folder / "000001.safetensors")


def _other_model(folder):
    other = stretch_of(make_tokens(shape=(20, 3, 5)), 7, 8)
    model = replace(other.grid.model, fingerprint="1" * 32)
    save_tokens(folder / "000001.safetensors", replace(other, grid=replace(other.grid, model=model)))


def _cut_short(folder):
    path = folder / "000001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def _edited(folder):
    text = (folder / "index.json").read_text()
    (folder / "index.json").write_text(text.replace('"slots": 9', '"slots": 8'))


def _half(folder):
    text = (folder / "index.json").read_text()
    (folder / "index.json").write_text(text[: len(text) // 2])


def _newer(folder):
    text = (folder / "index.json").read_text()
    (folder / "index.json").write_text(text.replace("segments/1", "segments/9"))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_missing, "000001.safetensors is missing"), (_swapped, "000001.safetensors is not the segment"),
        (_other_model, "000001.safetensors was made by another model"), (_cut_short, "truncated"),
        (_edited, "digest does not match"), (_half, "damaged or was edited"), (_newer, "segments/9"),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_whole_is_refused(tmp_path, tokens, capsys, harm, words):
    folder = save_segments(tmp_path / "many", tokens, LENGTHS)
    harm(folder)
    with pytest.raises(FileFormatError, match=words):
        open_stored(folder)
    assert words in refused(capsys, "inspect", folder, code=1).replace("\n", "")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    if harm in (_edited, _half, _newer):
        with pytest.raises(FileFormatError):
            save_segments(folder, tokens, [1])
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_every_flipped_bit_of_an_index_is_noticed(tmp_path, tokens):
    folder = save_segments(tmp_path / "many", tokens, [12, 8])
    path = folder / "index.json"
    good, chance = path.read_bytes(), np.random.default_rng(3)
    for place in chance.choice(len(good), 60, replace=False):
        bad = bytearray(good)
        bad[place] ^= 1 << int(chance.integers(8))
        path.write_bytes(bytes(bad))
        try:
            same = json.loads(bad) == json.loads(good)
        except ValueError:
            same = False
        if same:  # white space
            continue
        with pytest.raises((FileFormatError, RequestError)):
            StoredSegments(folder)


def test_damage_inside_a_segment_is_found_by_the_pass_that_reads_it(tmp_path, tokens):
    folder = save_segments(tmp_path / "many", tokens, LENGTHS)
    data = bytearray((folder / "000002.safetensors").read_bytes())
    data[-70] ^= 1
    (folder / "000002.safetensors").write_bytes(data)
    stored = open_stored(folder)
    for read in (stored.check, stored.tokens, lambda: list(stored.tokens(in_memory=False).in_memory().tensors)):
        with pytest.raises(FileFormatError, match="000002"):
            read()
    features = stored.tokens(in_memory=False).tensors
    with pytest.raises(FileFormatError, match="000002"):
        for values in features.values():
            values.gather(torch.tensor([130]))  # of the slots 8 to 16 that the segment has


def test_a_leftover_is_overwritten_and_never_read(tmp_path, tokens):
    folder = save_segments(tmp_path / "many", tokens, [7])
    (folder / "000001.safetensors").write_bytes(b"what a killed program left")
    assert open_stored(folder).grid.shape[0] == 7
    save_segments(folder, tokens, [13])
    assert torch.equal(load(folder).features.tensor(), tokens.features.tensor())


def test_one_process_writes_at_a_time_and_only_to_a_folder_of_its_kind(tmp_path, tokens):
    folder = save_segments(tmp_path / "many", tokens, [7])
    model = tokens.grid.model.fingerprint
    with growing_folder(folder), pytest.raises(RequestError, match="Another process"):
        save_segments(folder, tokens, [13])
    for kind, model_, settings, words in (
        (COMPRESSED, model, {"store": "auto"}, "holds all tokens"),
        (TOKENS, "1" * 32, {"store": "auto"}, "another model"),
        (TOKENS, model, {"store": "int8"}, "store auto, not int8"),
        (TOKENS, model, {}, "store auto, not none"),
    ):
        with pytest.raises(RequestError, match=words), open_segments(folder, kind, model_, settings):
            pass
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"x")
    with pytest.raises(RequestError, match=r"other files, such as me\.jpg"):
        save_segments(tmp_path / "photos", tokens, [7])
    assert is_stored(folder)


def test_inspect_shows_a_folder_as_one_video(tmp_path, tokens, capsys):
    folder = save_segments(tmp_path / "many", tokens, LENGTHS)
    code, out, _ = run(capsys, "inspect", folder, "--json")
    data = json.loads(out)
    assert (
        code == 0
        and data["grid"] == [20, 3, 5]
        and data["complete"]
        and data["bytes"] == sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    )
    assert [segment["slots"] for segment in data["segments"]] == LENGTHS
    assert "4 of up to 9 slots; complete" in run(capsys, "inspect", folder)[1]
