"""Archives in object stores, by fsspec's store in memory: the same bytes, whole or not at all, and the same log."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import fsspec
import pytest

from stsimdiff_cli.archive import log as log_module
from stsimdiff_cli.archive.log import Log, Row, Start, fold, log_files, read_log
from stsimdiff_cli.archive.sources import find
from stsimdiff_cli.errors import FileFormatError, RequestError
from stsimdiff_cli.storage.reading import load, open_stored
from stsimdiff_cli.storage.stores import BUFFER, StorePath
from stsimdiff_cli.storage.writing import save_compressed
from tests.support.archives import GOOD, HOSTILE, SMALL, outputs
from tests.support.commands import refused, run
from tests.support.tokens import compressed, make_tokens

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
    code, _, err = compress(capsys, "--frames", 5)
    assert code == 2 and "frames was 4, is now 5" in err


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


def test_a_list_in_a_store_names_what_is_next_to_it_and_elsewhere(store, corpus):
    lines = [{"path": "a.mp4", "start": 0.1}, {"path": "memory://bucket/videos/b.mkv"}, {"path": str(corpus / "a.mp4")}]
    store.pipe("/bucket/videos/list.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    found = find(["memory://bucket/videos/list.jsonl"], None, False)
    videos = "memory://bucket/videos"
    assert [file.path for file in found] == [f"{videos}/a.mp4", f"{videos}/b.mkv", str(corpus / "a.mp4")]
    assert all(file.size > 0 for file in found) and found[0].start == 0.1
    store.pipe("/bucket/videos/list.jsonl", b"{")
    with pytest.raises(RequestError, match=r"Line 1 of memory://bucket/videos/list.jsonl is not JSON"):
        find(["memory://bucket/videos/list.jsonl"], None, False)


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


@pytest.fixture
def kept(store, tmp_path) -> tuple[Path, str]:
    """A compressed file of random tokens, here and in the store."""
    here, there = tmp_path / "kept.safetensors", "memory://bucket/kept/00/kept.safetensors"
    save_compressed(here, compressed(make_tokens((9, 12, 12), 384)))
    StorePath(there).put(here)
    return here, there


def test_a_file_in_a_store_is_read_as_one_of_this_machine(kept):
    here, there = kept
    wanted, got = load(here), load(there)
    assert got.grid == wanted.grid and got.index.equal(wanted.index) and got.kind.equal(wanted.kind)
    assert got.features.tensor().equal(wanted.features.tensor())


def test_of_a_part_only_its_bytes_are_fetched(kept, monkeypatch):
    here, there = kept
    fetched: list[int] = []
    read_part = StorePath.read_part

    def counted(self, begin, end):
        data = read_part(self, begin, end)
        fetched.append(len(data))
        return data

    monkeypatch.setattr(StorePath, "read_part", counted)
    part = open_stored(StorePath(there)).part(range(3, 4))
    assert part.features.tensor().equal(open_stored(here).part(range(3, 4)).features.tensor())
    rows = part.features.tensor().nbytes
    assert fetched[-1] == rows > 0 and sum(fetched) <= rows + 2 * BUFFER < here.stat().st_size


def test_a_file_in_a_store_that_is_damaged_is_told(kept, store):
    here, there = kept
    data = bytearray(here.read_bytes())
    data[-3000] ^= 1
    store.pipe("/bucket/kept/00/kept.safetensors", bytes(data))
    with pytest.raises(FileFormatError, match=f"{there} is damaged: the checksum of"):
        load(there)
    store.pipe("/bucket/kept/00/kept.safetensors", bytes(data[:5000]))
    with pytest.raises(FileFormatError, match=f"{there} is truncated or damaged"):
        load(there)


def test_a_file_is_read_on_where_the_last_part_ended(store):
    data = bytes(range(256)) * 1000
    store.pipe("/bucket/bytes", data)
    for buffering in (0, 1000, 4096, len(data)):
        with StorePath("memory://bucket/bytes").open("rb", buffering) as file:
            read = b"".join(iter(lambda file=file: file.read(1000), b""))
            assert read == data
            file.seek(10)
            assert (file.read(2), file.tell()) == (data[10:12], 12)


@pytest.mark.slow
def test_ask_and_inspect_read_a_store_as_they_read_a_folder(capsys, store, tmp_path):
    question = "What happens in this video?"
    for name in ("a.mp4", "b.mkv"):
        out = tmp_path / "kept" / f"{name}.safetensors"
        assert run(capsys, "compress", f"memory://bucket/videos/{name}", "-o", tmp_path / "one", *ALONE)[0] == 0
        out.parent.mkdir(exist_ok=True)
        next((tmp_path / "one").glob(f"??/{name[0]}-*")).rename(out)
    store.put(str(tmp_path / "kept"), "/bucket/kept", recursive=True)

    def asked(place):
        code, text, err = run(capsys, "ask", place, question)
        assert code == 0, err
        lines = [json.loads(line) for line in text.splitlines()]
        return [(line["file"].rpartition("/")[2], line["kept"], line["answers"][0]["answer"]) for line in lines]

    assert asked("memory://bucket/kept") == asked(tmp_path / "kept") and len(asked("memory://bucket/kept")) == 2
    one, there = tmp_path / "kept" / "a.mp4.safetensors", "memory://bucket/kept/a.mp4.safetensors"
    for more in ((), ("--from", "0", "--to", "0.1")):
        assert run(capsys, "ask", there, question, *more)[:2] == run(capsys, "ask", one, question, *more)[:2]
    seen, wanted = (json.loads(run(capsys, "inspect", place, "--json")[1]) for place in (there, one))
    assert {name for name in seen if seen[name] != wanted[name]} == {"file", "reader"}
    assert run(capsys, "ask", "memory://bucket/videos/a.mp4", question, "--frames", "4")[0] == 0
    assert "There is no file memory://bucket/no" in refused(capsys, "ask", "memory://bucket/no", question)
    assert "memory://bucket/kept is a folder" in refused(capsys, "inspect", "memory://bucket/kept")
