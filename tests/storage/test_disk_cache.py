"""The cache of files: what is read again, what is made again, what is removed, and what two processes do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest

from stsimdiff_cli.errors import FileFormatError, RequestError
from stsimdiff_cli.storage import atomic
from stsimdiff_cli.storage.disk_cache import DiskCache

SUFFIX = ".txt"


def read(file: Path) -> str:
    text = file.read_text()
    if not text.endswith("."):
        raise FileFormatError(f"{file} is truncated.")
    return text


def write(file: Path, text: str) -> int:
    with atomic.whole_file(file) as temporary:
        temporary.write_text(text)
    return file.stat().st_size


@pytest.fixture
def made() -> list[str]:
    """The keys of what was made, in order."""
    return []


@pytest.fixture
def get(made) -> Callable[..., str]:
    """Asks a cache for the text under a key: 10 bytes unless another size is asked for."""

    def ask(cache: DiskCache, key: str = "a", size: int = 10) -> str:
        def make() -> str:
            made.append(key)
            return key * (size - 1) + "."

        return cache.get(key, read, make, write)

    return ask


def stored(cache: DiskCache) -> set[str]:
    return {file.stem for file in cache.folder.glob(f"*{SUFFIX}")}


def test_a_value_is_made_once(tmp_path, get, made):
    for _ in range(3):
        assert get(DiskCache(tmp_path, 100, SUFFIX)) == "aaaaaaaaa."  # another object, as in another process
    assert made == ["a"]
    assert stored(DiskCache(tmp_path, 100, SUFFIX)) == {"a"}


def test_keys_do_not_share_values(tmp_path, get, made):
    cache = DiskCache(tmp_path, 100, SUFFIX)
    assert [get(cache, key) for key in "abab"] == ["aaaaaaaaa.", "bbbbbbbbb."] * 2
    assert made == ["a", "b"]


def test_a_damaged_file_is_made_again_with_a_warning(tmp_path, get, made):
    warned: list[str] = []
    cache = DiskCache(tmp_path, 100, SUFFIX, warned.append)
    for _ in range(2):
        (tmp_path / f"a{SUFFIX}").write_text("aaa")
        assert get(cache) == "aaaaaaaaa."
    assert made == ["a", "a"]
    assert len(warned) == 1  # once for each reason
    assert "truncated" in warned[0]
    assert (tmp_path / f"a{SUFFIX}").read_text() == "aaaaaaaaa."


def test_the_least_recently_used_is_removed_first(tmp_path, get, made):
    cache = DiskCache(tmp_path, 30, SUFFIX)
    for key in "abcad":  # a is used again, so that b is the oldest when there is one too many
        get(cache, key)
    assert made == list("abcd")
    assert stored(cache) == set("acd")


def test_as_many_are_removed_as_must_be(tmp_path, get):
    cache = DiskCache(tmp_path, 30, SUFFIX)
    for key, size in (("a", 10), ("b", 10), ("c", 10), ("d", 20)):
        get(cache, key, size)
    assert stored(cache) == {"c", "d"}


def test_a_file_larger_than_the_cache_is_not_stored_and_displaces_nothing(tmp_path, get, made):
    warned: list[str] = []
    cache = DiskCache(tmp_path, 30, SUFFIX, warned.append)
    get(cache, "a")
    for _ in range(2):
        assert len(get(cache, "b", 31)) == 31
    assert stored(cache) == {"a"}
    assert made == ["a", "b", "b"]
    assert len(warned) == 1  # once for both


def test_a_full_disk_is_a_warning(tmp_path, get, made, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    warned: list[str] = []
    cache = DiskCache(tmp_path, 100, SUFFIX, warned.append)
    monkeypatch.setattr(atomic.os, "fsync", full)
    assert get(cache) == get(cache) == "aaaaaaaaa."
    assert made == ["a", "a"]
    assert len(warned) == 1
    assert "full" in warned[0]
    assert {file.suffix for file in tmp_path.iterdir()} == {".lock"}  # nothing half-written


def test_without_locks_the_value_is_made_with_a_warning(tmp_path, get, monkeypatch):
    def refuse(_):
        raise NotImplementedError("no locks here")

    warned: list[str] = []
    monkeypatch.setattr(filelock, "FileLock", refuse)
    cache = DiskCache(tmp_path, 100, SUFFIX, warned.append)
    assert get(cache) == "aaaaaaaaa."
    assert stored(cache) == {"a"}
    assert "no locks here" in warned[0]


@pytest.mark.parametrize("suffix", [".tmp", ".lock"])
def test_what_crashes_left_over_is_removed_after_a_day(tmp_path, get, suffix):
    for name, age in (("old", 2 * 86400), ("new", 0)):
        file = tmp_path / f".{name}{suffix}"
        file.touch()
        now = file.stat().st_mtime
        os.utime(file, (now - age, now - age))
    get(DiskCache(tmp_path, 100, SUFFIX))
    assert [file.name for file in tmp_path.glob(f".*{suffix}")] == [f".new{suffix}"]


def test_an_error_is_raised_and_nothing_is_stored(tmp_path):
    def fail() -> str:
        raise ZeroDivisionError

    cache = DiskCache(tmp_path, 100, SUFFIX)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            cache.get("a", read, fail, write)
    assert not stored(cache)


def test_a_deleted_folder_is_created_again(tmp_path, get):
    cache = DiskCache(tmp_path / "cache", 100, SUFFIX)
    get(cache)
    for file in cache.folder.iterdir():
        file.unlink()
    cache.folder.rmdir()
    get(cache)
    assert stored(cache) == {"a"}


def test_with_a_limit_of_0_nothing_is_stored(tmp_path, get, made):
    for _ in range(2):
        get(DiskCache(tmp_path / "cache", 0, SUFFIX))
    assert made == ["a", "a"]
    assert not (tmp_path / "cache").exists()


def test_a_negative_limit_is_refused(tmp_path):
    with pytest.raises(RequestError, match="-1 bytes"):
        DiskCache(tmp_path, -1)


def test_a_folder_that_cannot_be_created_is_refused_with_the_hint(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="cannot be created") as caught:
        DiskCache(tmp_path / "file", 100, hint="Elsewhere.")
    assert caught.value.hint == "Elsewhere."


RACE = """
import sys, time
from pathlib import Path
from stsimdiff_cli.storage.disk_cache import DiskCache

folder, name = Path(sys.argv[1]), sys.argv[2]

def slowly():
    (folder / f"made-{name}").touch()
    while len(list(folder.glob("ready-*"))) < 2:  # until the other one is about to ask too
        time.sleep(0.01)
    time.sleep(0.5)
    return "text"

(folder / f"ready-{name}").touch()
cache = DiskCache(folder / "cache", 100)
print(cache.get("key", lambda file: file.read_text(), slowly, lambda file, text: file.write_text(text)))
print("torch" in sys.modules)
"""


def test_two_processes_make_a_value_once_and_need_no_torch(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path), name], env=environment, stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    answers = [process.communicate(timeout=60)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers == [["text", "False"]] * 2
    assert len(list(tmp_path.glob("made-*"))) == 1
