"""Archives in object stores, by fsspec's store in memory: the same bytes, whole or not at all, and the same log."""

from __future__ import annotations

import errno
import json

import fsspec
import pytest

from stsimdiff_cli.archive import log as log_module
from stsimdiff_cli.archive.log import Log, Row, Start, fold, log_files, read_log
from stsimdiff_cli.archive.sources import find
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.storage.stores import StorePath
from tests.support.archives import GOOD, HOSTILE, SMALL, outputs
from tests.support.commands import refused, run

ALONE = ("--workers", "0", "--checksum", *SMALL)


@pytest.fixture
def store(corpus):
    """The corpus in a store that is empty otherwise."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    system.put(str(corpus), "/bucket/videos", recursive=True)
    yield system
    system.store.clear()


def stored(system, folder="/bucket/kept") -> dict[str, bytes]:
    """The outputs in the store, by their names below the folder."""
    found = system.find(folder)
    return {name.removeprefix(f"{folder}/"): system.cat(name) for name in found if name.endswith(".safetensors")}


def compress(capsys, *more):
    code, text, err = run(
        capsys, "compress", "memory://bucket/videos", "-o", "memory://bucket/kept", *ALONE, "--json", *more
    )
    return code, json.loads(text) if text else {}, err


@pytest.mark.slow
def test_a_store_holds_what_a_folder_would(capsys, corpus, store, tmp_path):
    assert run(capsys, "compress", corpus, "-o", tmp_path / "kept", *ALONE)[0] == 1
    code, report, err = compress(capsys)
    assert (code, report["success"], report["failed"]) == (1, len(GOOD), len(HOSTILE)), err
    assert stored(store) == outputs(tmp_path / "kept")
    code, report, err = compress(capsys)
    assert (report["success"], report["done_before"], report["failed_before"]) == (0, len(GOOD), len(HOSTILE)), err
    status = json.loads(run(capsys, "status", "memory://bucket/kept", "--json")[1])
    assert (status["success"], status["failed"], status["items"]) == (len(GOOD), len(HOSTILE), report["items"])
    damaged, lost, *_ = sorted(stored(store))
    whole = stored(store)
    store.pipe(f"/bucket/kept/{damaged}", whole[damaged][:-1])
    store.rm(f"/bucket/kept/{lost}")
    assert compress(capsys)[1]["success"] == 2
    assert stored(store) == whole
    err = refused(capsys, "compress", "memory://bucket/videos", "-o", "memory://bucket/kept", *ALONE, "--frames", 5)
    assert "frames was 4, is now 5" in err


@pytest.mark.slow
def test_a_store_that_fails_for_a_moment_costs_an_attempt(capsys, store, monkeypatch):
    failed, get = [], StorePath.get

    def fails_once(self, path):
        if self.name == "b.mkv" and not failed:
            failed.append(self.name)
            raise OSError(errno.ECONNRESET, "connection reset")
        get(self, path)

    monkeypatch.setattr(StorePath, "get", fails_once)
    assert compress(capsys)[1]["success"] == len(GOOD)
    assert failed and len(stored(store)) == len(GOOD)


def test_folders_patterns_files_and_lists_name_what_is_in_a_store(store, tmp_path):
    def names(*texts, out=None):
        return [file.name for file in find(texts, out, stored=False)]

    assert set(names("memory://bucket/videos")) == {*GOOD, *HOSTILE, "twin.mp4"}
    assert set(names("memory://bucket/videos/", out=StorePath("memory://bucket/videos/deep"))) == {
        "a.mp4", "b.mkv", "twin.mp4", *HOSTILE,
    }  # fmt: skip
    assert [name.rpartition("/")[2] for name in names("memory://bucket/videos/*.mkv")] == ["b.mkv", "empty.mkv"]
    assert names("memory://bucket/videos/a.mp4") == ["memory://bucket/videos/a.mp4"]
    (tmp_path / "list.txt").write_text("memory://bucket/videos/a.mp4\nmemory://bucket/no.mp4\n")
    assert [file.size > 0 for file in find([str(tmp_path / "list.txt")], None, False)] == [True, False]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("s3://bucket/videos", "pip install 'stsimdiff[s3]'"),
        ("gs://bucket/videos", "pip install 'stsimdiff[gcs]'"),
        ("nowhere://bucket", "is in no store that is known here"),
        ("file:///tmp", "Give it as a path: /tmp"),
    ],
)
def test_a_store_that_cannot_be_reached_is_named_with_what_helps(capsys, tmp_path, monkeypatch, url, sentence):
    def missing(protocol):
        raise ImportError(f"Install what {protocol} needs")

    if url.startswith(("s3", "gs")):
        monkeypatch.setattr("fsspec.core.get_filesystem_class", missing)
    assert sentence in refused(capsys, "compress", url, "-o", tmp_path / "kept", *SMALL)


def test_the_log_in_a_store_comes_in_parts_and_reads_as_one(store, monkeypatch):
    monkeypatch.setattr(log_module, "PART_LINES", 2)
    out = StorePath("memory://bucket/log-test")
    log = Log(out)
    log.start(items=2, settings="s", shard="0/1")
    log.begin("a")
    log.begin("b")
    log.add(Row("a", "a.mp4", "success", "s", finished="1"))
    log.add(Row("b", "b.mp4", "failed", "s", finished="2"))
    assert len(log_files(out)[0]) == 2
    log.close()
    (parts,) = log_files(out)
    assert len(parts) == 3 and isinstance(next(read_log(parts)), Start)
    folded = fold(out, "s")
    assert set(folded.rows) == {"a", "b"} and folded.unended == {}


def test_a_place_without_settings_is_not_one_of_outputs(capsys, store):
    assert "memory://bucket/videos has no run.json" in refused(capsys, "status", "memory://bucket/videos")


def test_what_is_made_new_never_replaces_anything(store):
    path = StorePath("memory://bucket/new")
    path.write(b"one", new=True)
    with pytest.raises(FileExistsError):
        path.write(b"two", new=True)
    path.write(b"three")
    assert path.read_text() == "three" and path.stat().st_size == 5


def test_nothing_is_written_to_the_place_that_is_read(store):
    from stsimdiff_cli.archive.run import _check_out

    with pytest.raises(RequestError, match="is read by this command"):
        _check_out(StorePath("memory://bucket/videos"), ["memory://bucket/videos/"])
