"""A budget in bytes: how it is written, and that files are as large as they may be, and no larger."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import compress_to
from stsimdiff_cli.storage.byte_budget import ByteBudget, covered_seconds, parse_bytes
from stsimdiff_cli.storage.reading import StoredVideo, load
from stsimdiff_cli.storage.writing import compressed_size, save_compressed, save_tokens
from tests.support.commands import refused, run
from tests.support.tokens import compressed, make_tokens

CPU = Runtime(device="cpu")
METHODS = ["uniform", "st-simdiff:importance=centrality", "evs", "downsample"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2MB", 2_000_000), (" 1.5 MiB", 1_572_864), ("300000", 300_000), ("0.5kb", 500), ("7 B", 7), ("1tb", 10**12)],
)
def test_sizes_are_read_with_their_units(text, expected):
    assert parse_bytes(text) == ByteBudget(expected)


@pytest.mark.parametrize("text", ["", "MB", "2 apples", "-1MB", "0.1", "1e6", "nan", "9" * 40, "2 M B"])
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(RequestError) as caught:
        parse_bytes(text)
    assert "2MB" in caught.value.hint


def test_a_minute_is_one_of_the_slots_not_of_the_whole_file():
    grid = make_tokens().grid  # four slots, a quarter of a second apart
    assert covered_seconds(grid) == 1.0 and parse_bytes("60kB", a_minute=True).of(grid) == 1000
    late = replace(grid, seconds=tuple(100 + second for second in grid.seconds))
    assert covered_seconds(late) == 1.0
    one = replace(grid, shape=(1, 3, 5), seconds=(7.0,), source=replace(grid.source, seconds=3.0))
    assert covered_seconds(one) == 3.0


@pytest.mark.parametrize("store", [None, "float32", "bfloat16", "int8", "int4", "int3"])
def test_the_size_is_known_before_a_file_is_written(tmp_path, store):
    video = compressed()
    size = compressed_size(video, store=store)
    assert size.total == save_compressed(tmp_path / "c", video, store=store) == (tmp_path / "c").stat().st_size


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("store", [None, "int8"])
def test_files_are_as_large_as_they_may_be(tmp_path, method, store):
    tokens = make_tokens(shape=(12, 4, 4), width=64)
    last = 0
    for most in range(4000, 60_000, 4999):
        fitted = compress_to(tokens, ByteBudget(most), method, store, runtime=CPU)
        size = save_compressed(tmp_path / "c", fitted.video, store=fitted.store)
        assert size <= most
        kept = len(fitted.video.index)
        if kept < tokens.grid.tokens:
            assert fitted.store in (store, "int4")
            token = compressed_size(fitted.video, store=fitted.store).token
            assert most - size < token + 16, "another token would fit"  # 16: padding, and digits of counts
        assert kept >= last
        last = kept if fitted.store == (store or "int4") else 0
    fitted = compress_to(tokens, ByteBudget(10**9), method, store, runtime=CPU)
    assert len(fitted.video.index) == tokens.grid.tokens and fitted.store == store


def test_bits_are_as_many_as_fit_once_all_tokens_do():
    tokens = make_tokens(shape=(12, 4, 4), width=64)
    stores = []
    for most in range(10_000, 70_000, 1000):
        fitted = compress_to(tokens, ByteBudget(most), "uniform", runtime=CPU)
        if len(fitted.video.index) == tokens.grid.tokens:
            stores.append(fitted.store)
    assert list(dict.fromkeys(stores)) == ["int4", "int8", "bfloat16", None]


def test_packed_tokens_never_get_more_bits_than_they_have(tmp_path):
    save_tokens(tmp_path / "t", make_tokens(shape=(12, 4, 4), width=64), "int8")
    tokens = load(tmp_path / "t")
    fitted = compress_to(tokens, ByteBudget(10**9), "uniform", runtime=CPU)
    save_compressed(tmp_path / "c", fitted.video, store=fitted.store)
    assert fitted.store is None and StoredVideo(tmp_path / "c").packing.bits == 8


@pytest.mark.parametrize("method", ["uniform", "vanilla"])
def test_too_few_bytes_are_refused_with_the_least(method):
    with pytest.raises(RequestError, match=r"100 bytes are too few: the smallest file .* has [0-9]{4}"):
        compress_to(make_tokens(), ByteBudget(100), method, runtime=CPU)


def test_the_command_takes_exactly_one_of_three(tmp_path, capsys):
    tokens, kept = tmp_path / "t.safetensors", tmp_path / "c.safetensors"
    save_tokens(tokens, make_tokens(shape=(12, 4, 4), width=64))
    base = ("compress", tokens, "-o", kept, "--method", "uniform")
    assert "One of" in refused(capsys, *base)
    assert "Only one of" in refused(capsys, *base, "--ratio", "0.3", "--bytes", "2MB")
    assert "too few" in refused(capsys, *base, "--bytes", "20") and not kept.exists()
    code, out, _ = run(capsys, *base, "--bytes", "10kB", "--json")
    assert code == 0 and kept.stat().st_size == json.loads(out)["bytes"] <= 10_000
    assert json.loads(out)["store"] == "int4" and 0 < json.loads(out)["ratio"] < 1
    code, out, _ = run(capsys, *base, "--bytes-per-minute", "200kB", "--store", "int8", "--force", "--json")
    assert code == 0 and 9_900 <= json.loads(out)["bytes"] <= 10_000 and json.loads(out)["store"] == "int8"


def test_many_videos_get_a_budget_each(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for number in (1, 2):
        save_tokens(tmp_path / f"in/{number}.safetensors", make_tokens((12, 4, 4), 64, number))
    base = ("compress", tmp_path / "in", "-o", tmp_path / "out", "--method", "uniform", "--workers", "0")
    assert run(capsys, *base, "--bytes", "9kB")[0] == 0
    sizes = [path.stat().st_size for path in (tmp_path / "out").rglob("*.safetensors")]
    assert len(sizes) == 2 and all(8800 < size <= 9000 for size in sizes)
    assert "bytes was '9000 bytes', is now '8000 bytes'" in refused(capsys, *base, "--bytes", "8kB")
