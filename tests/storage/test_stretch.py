"""Questions about a part: its times, its slots, its bytes, and the answers from it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import FileFormatError, RequestError
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import compress_tokens, encode_video
from stsimdiff_cli.records import CompressedVideo, VideoTokens
from stsimdiff_cli.storage.directory import read_directory
from stsimdiff_cli.storage.file_features import FileFeatures
from stsimdiff_cli.storage.reading import StoredVideo, load
from stsimdiff_cli.storage.stretch import Stretch, clock, parse_stretch, parse_time
from stsimdiff_cli.storage.writing import save_compressed, save_tokens
from tests.support.commands import refused, run
from tests.support.tokens import make_tokens

CPU = Runtime(device="cpu")
QUESTION = "What appears for a moment?"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90.5", 90.5), ("1:30", 90), ("90:00", 5400), ("1:02:03.5", 3723.5), (" 0 ", 0)]
)
def test_times_are_read_in_three_ways(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:60", "1:60:00", "a", "1:2:3:4", "nan", "1e3", "1:", ":5"])
def test_what_is_not_a_time_is_refused(text):
    with pytest.raises(RequestError) as caught:
        parse_time(text)
    assert "mm:ss" in caught.value.hint


def test_clocks_read_back():
    for seconds in (0, 5.5, 59.9, 60, 90, 3599.96, 3723.5, 36000):
        assert parse_time(clock(seconds)) == pytest.approx(seconds, abs=0.051)


def test_a_slot_is_shown_until_the_next_one():
    grid = make_tokens().grid  # 0, 0.25, 0.5, 0.75
    for start, end, slots in [
        (None, None, range(4)), (0.3, 0.3, range(1, 2)), (0.25, 0.5, range(1, 3)), (0.9, None, range(3, 4)),
        (0, 0, range(1)), (None, 0.1, range(1)), (0.2, 99, range(4)), (1.0, 2, range(3, 4)),
    ]:  # fmt: skip
        assert Stretch(start, end).slots(grid) == slots, (start, end)
    late = replace(grid, seconds=(10.0, 11.0, 12.0, 13.0))
    for outside in (Stretch(14.1, None), Stretch(None, 9), Stretch(2, 3), Stretch(20, 30)):
        with pytest.raises(RequestError, match="tokens are from 0:10 to 0:14"):
            outside.slots(late)


@pytest.mark.parametrize("store", [None, "bfloat16", "int4"])
@pytest.mark.parametrize("kind", ["tokens", "compressed"])
def test_a_part_is_that_of_the_whole_and_only_its_features_are_read(tmp_path, monkeypatch, store, kind):
    tokens = make_tokens(shape=(20, 3, 5), saliency=torch.rand(20, 3, 5))
    path, slots = tmp_path / "t", range(7, 12)
    if kind == "tokens":
        save_tokens(path, tokens, store)
        whole = load(path)
        features, index = whole.features.tensor().flatten(0, 2), torch.arange(20 * 15)
    else:
        save_compressed(path, compress_tokens(tokens, "0.3", "random", CPU), store=store)
        whole = load(path)
        features, index = whole.features.tensor(), whole.index
    inside = (index >= 7 * 15) & (index < 12 * 15)
    read: list[tuple[int, int]] = []
    real = FileFeatures._fill
    monkeypatch.setattr(
        FileFeatures,
        "_fill",
        lambda self, file, data, offset: (
            read.append((self._start + offset, len(data))) or real(self, file, data, offset)
        ),
    )
    part = StoredVideo(path).part(slots)
    assert isinstance(part, CompressedVideo) and part.grid == tokens.grid
    assert torch.equal(part.features.tensor(), features[inside]) and torch.equal(part.index, index[inside])
    entries = read_directory(path).tensors
    names = [name for name in entries if name.startswith("features")]
    rows = {name: entries[name].shape[0] for name in names}
    count = len(slots) if kind == "tokens" else int(inside.sum())
    expected = sum((entries[name].end - entries[name].begin) // rows[name] * count for name in names)
    assert sum(size for _, size in read) == expected
    places = [(entries[name].begin, entries[name].end) for name in names]
    assert all(any(low <= begin and begin + size <= high for low, high in places) for begin, size in read)


def test_a_part_with_nan_is_refused_and_damage_elsewhere_does_not_matter(tmp_path):
    save_tokens(tmp_path / "t", make_tokens(shape=(20, 3, 5)))
    entry = read_directory(tmp_path / "t").tensors["features"]
    raw = bytearray((tmp_path / "t").read_bytes())
    raw[entry.begin : entry.begin + 4] = torch.tensor([math.nan]).view(torch.uint8).numpy().tobytes()
    (tmp_path / "t").write_bytes(raw)
    stored = StoredVideo(tmp_path / "t")
    assert stored.part(range(5, 6)).features.tensor().isfinite().all()
    with pytest.raises(FileFormatError, match="not finite"):
        stored.part(range(1))


def test_deepstack_features_come_along(tmp_path):
    tokens = make_tokens()
    deep = torch.randn(4, 3, 5, 2, 16)
    given = VideoTokens.of(tokens.grid, {"features": tokens.features.tensor(), "deepstack": deep})
    save_tokens(tmp_path / "t", given)
    part = StoredVideo(tmp_path / "t").part(range(1, 3))
    assert torch.equal(part.deepstack.tensor(), deep[1:3].flatten(0, 2))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Tokens and kept tokens of the sample clip."""
    folder = tmp_path_factory.mktemp("files")
    tokens = encode_video("sample_videos/flash.mp4", runtime=CPU)
    save_tokens(folder / "t.safetensors", tokens)
    save_compressed(folder / "c.safetensors", compress_tokens(tokens, "0.3", runtime=CPU))
    return SimpleNamespace(tokens=folder / "t.safetensors", kept=folder / "c.safetensors", grid=tokens.grid)


@pytest.mark.parametrize("kind", ["tokens", "kept"])
def test_an_answer_is_that_from_the_same_tokens_of_the_whole_file(capsys, files, kind):
    path, span = getattr(files, kind), (files.grid.seconds[8], files.grid.seconds[23])
    whole = load(path)
    video = whole if kind == "kept" else pipeline.all_tokens(whole)
    inside = ((video.index >= 8 * 49) & (video.index < 24 * 49)).nonzero().squeeze(1)
    picked = replace(
        video,
        features=video.features.gather(inside),
        index=video.index[inside],
        kind=video.kind[inside],
        community=video.community[inside],
        importance=None,
        traces={},
    )
    expected = pipeline.converse(picked, CPU).ask(QUESTION)
    code, out, _ = run(capsys, "ask", path, QUESTION, "--from", span[0], "--to", span[1], "--json")
    got = json.loads(out)
    assert code == 0 and got["kept"] == len(inside) and (got["from"], got["to"]) == pytest.approx(span)
    assert (got["answers"][0]["answer"], got["answers"][0]["prompt_tokens"]) == (expected.text, expected.prompt_tokens)


def test_of_a_video_only_the_part_is_encoded(capsys, files):
    code, out, _ = run(capsys, "ask", "sample_videos/flash.mp4", QUESTION, "--from", "1", "--to", "0:02", "--json")
    tokens = encode_video("sample_videos/flash.mp4", sampling=pipeline.Sampling(start=1.0, end=2.0), runtime=CPU)
    assert code == 0 and json.loads(out)["tokens"] == tokens.grid.tokens
    assert all(1 <= second <= 2 for second in tokens.grid.seconds)


def test_a_part_that_is_not_there_is_refused(capsys, files):
    assert "after --to" in refused(capsys, "ask", files.kept, QUESTION, "--from", "22:00", "--to", "12:00")
    assert "nothing from 12:00 to 22:00" in refused(
        capsys, "ask", files.kept, QUESTION, "--from", "720", "--to", "22:00"
    )
    assert "not a time" in refused(capsys, "ask", files.tokens, QUESTION, "--to", "noon")
    whole = ("--inside", "fastv", "--ratio", "0.3")
    assert "--inside" in refused(capsys, "ask", files.tokens, QUESTION, "--from", "1", *whole)


def test_a_part_of_which_nothing_was_kept_is_refused(capsys, tmp_path):
    save_compressed(tmp_path / "c.safetensors", compress_tokens(make_tokens((40, 1, 1)), "0.05", "uniform", CPU))
    assert "was kept from 0:01 to 0:01.2" in refused(
        capsys, "ask", tmp_path / "c.safetensors", QUESTION, "--from", "1", "--to", "1.2"
    )
    assert parse_stretch(None, None) is None
