"""The cache: what is found again, what is made again, what goes, and what two processes do."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from stsimdiff_cli.errors import RequestError, VideoError
from stsimdiff_cli.integrations import video_cache as module
from stsimdiff_cli.integrations.video_cache import Cache, Recipe, default_folder
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models import EMBEDDED
from stsimdiff_cli.models.loading import runtime
from stsimdiff_cli.models.loading.checkpoint import find_checkpoint
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.storage import atomic as files
from stsimdiff_cli.video import Sampling
from tests.support.clip_factory import SAMPLES
from tests.support.tokens import make_tokens

PLAIN = Recipe(runtime=Runtime("cpu"), method=parse_method("uniform"))


@pytest.fixture
def clip(tmp_path) -> Path:
    """A video of one's own, which may be changed."""
    return Path(shutil.copy(SAMPLES / "flash.mp4", tmp_path / "clip.mp4"))


@pytest.fixture
def made() -> list[int]:
    """One entry for each time that tokens were made."""
    return []


@pytest.fixture
def video(clip, made):
    """Asks a cache for a clip compressed by a recipe, from random tokens."""

    def make():
        made.append(1)
        return make_tokens()

    def ask(cache: Cache, recipe: Recipe = PLAIN):
        return cache.video(clip, recipe, tokens=make)

    return ask


def stored(folder: Path) -> set[Path]:
    return set(folder.glob("*.safetensors"))


def test_a_video_is_encoded_and_compressed_once(tmp_path, clip, monkeypatch):
    recipe = Recipe(sampling=Sampling(frames=8), runtime=Runtime("cpu"))
    direct = recipe.compress(recipe.encode(clip))
    calls, encode = [], Recipe.encode

    def counted(*given):
        calls.append(1)
        return encode(*given)

    monkeypatch.setattr(Recipe, "encode", counted)
    for again in range(3):  # another object, as in another process
        found = Cache(tmp_path / "cache").video(clip, recipe)
        assert len(calls) == 1, again
        assert torch.equal(found.features.tensor(), direct.features.tensor())
        assert torch.equal(found.index, direct.index)
        assert (found.grid, found.method, found.counts) == (direct.grid, direct.method, direct.counts)
    first, second = (Cache(tmp_path / "cache").tokens(clip, recipe) for _ in range(2))
    assert len(calls) == 2
    assert torch.equal(first.features.tensor(), second.features.tensor())


CPU_8 = Recipe(sampling=Sampling(frames=8), runtime=Runtime("cpu"))


def recipe_with(recipe: Recipe, change: dict) -> Recipe:
    """The recipe with other settings, wherever in it they are."""
    parts = {}
    for name in ("sampling", "runtime"):
        part = getattr(recipe, name)
        own = {key: value for key, value in change.items() if key in vars(part)}
        parts[name] = replace(part, **own)
        change = {key: value for key, value in change.items() if key not in own}
    return replace(recipe, **parts, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"frames": 9},
        {"fps": 2.0},
        {"fps": 1.0},
        {"decoder": "decord"},
        {"dtype": "bfloat16"},
        {"attention": "eager"},
        {"revision": "main"},
        {"method": parse_method("st-simdiff:tau_sim=0.7")},
        {"method": parse_method("st-simdiff:importance=saliency")},
        {"method": parse_method("fastv")},
        {"ratio": parse_ratio("0.5")},
        {"prompt": "What colour is it?"},
        {"quantize": "4bit"},
    ],
    ids=str,
)
def test_every_setting_changes_the_key(change):
    path, recipe = SAMPLES / "flash.mp4", recipe_with(CPU_8, {"fps": 1.5} if "fps" in change else {})
    assert recipe_with(recipe, change).video_key(path) != recipe.video_key(path)
    of_selection = {"ratio", "prompt", "quantize"} & change.keys() or change.get("method") in (
        parse_method("st-simdiff:tau_sim=0.7"),
        parse_method("fastv"),
    )
    assert (recipe_with(recipe, change).tokens_key(path) == recipe.tokens_key(path)) == bool(of_selection)


def test_machine_and_version_change_the_key(monkeypatch):
    path, recipe = SAMPLES / "flash.mp4", Recipe(runtime=Runtime("cpu", dtype="float32"))
    keys = {recipe.video_key(path)}
    monkeypatch.setattr(module, "__version__", "0.0.0")
    keys.add(replace(recipe).video_key(path))
    monkeypatch.setattr(runtime, "pick_device", lambda _: torch.device("meta"))
    keys.add(replace(recipe).video_key(path))
    assert len(keys) == 3


def test_the_key_knows_a_checkpoint_by_what_is_in_it(tmp_path):
    folder = Path(shutil.copytree(find_checkpoint(EMBEDDED).path, tmp_path / "model"))
    path, recipe = SAMPLES / "flash.mp4", Recipe(str(folder), runtime=Runtime("cpu"))
    keys = [recipe.video_key(path), replace(recipe).video_key(path)]
    with (folder / "preprocessor_config.json").open("a") as file:
        file.write("\n")
    keys.append(replace(recipe).video_key(path))
    assert keys[0] == keys[1] != keys[2]


def test_what_changes_nothing_is_not_in_the_key():
    path = SAMPLES / "flash.mp4"
    vanilla = replace(PLAIN, method=parse_method("vanilla"))
    assert vanilla.video_key(path) == replace(vanilla, ratio=parse_ratio("0.5")).video_key(path)
    assert PLAIN.video_key(path) == recipe_with(PLAIN, {"prompt": "Why?", "quantize": "4bit"}).video_key(path)
    assert recipe_with(PLAIN, {"fps": 1.0}).video_key(path) == recipe_with(PLAIN, {"fps": 1.0, "frames": 5}).video_key(
        path
    )


def test_a_changed_video_is_encoded_again(tmp_path, clip, video, made):
    cache = Cache(tmp_path / "cache")
    video(cache)
    state = clip.stat()
    os.utime(clip, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    video(cache)
    (tmp_path / "link.mp4").symlink_to(clip)
    cache.video(tmp_path / "link.mp4", PLAIN)  # the same file
    assert len(made) == 2
    assert len(stored(cache.folder)) == 2


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "foreign"])
def test_a_damaged_file_is_made_again(tmp_path, video, made, harm):
    told: list[str] = []
    cache = Cache(tmp_path / "cache", warn=told.append)
    good = video(cache)
    (file,) = stored(cache.folder)
    data = file.read_bytes()
    flipped = data[:-1] + bytes([data[-1] ^ 1])
    file.write_bytes({"cut": data[:-9], "flip": flipped, "empty": b"", "foreign": b"no tensors" * 99}[harm])
    assert torch.equal(video(cache).features.tensor(), good.features.tensor())
    assert len(made) == 2
    assert len(told) == 1
    assert file.read_bytes() == data
    video(cache)
    assert len(made) == 2


def test_the_least_recently_used_goes_first(tmp_path, video, made):
    def recipe(number):
        return replace(PLAIN, ratio=parse_ratio(Fraction(number, 1000)))  # 18 of 60 tokens for all

    cache = Cache(tmp_path / "cache")
    video(cache, recipe(291))
    (file,) = stored(cache.folder)
    size = file.stat().st_size
    cache = Cache(cache.folder, limit=3 * size + 200)  # sizes differ by a few bytes
    for number in (292, 293, 291, 294):  # 291 is used again, so that 292 is the oldest when there is one too many
        video(cache, recipe(number))
    assert len(made) == 4
    assert sum(file.stat().st_size for file in stored(cache.folder)) <= cache.limit
    for number in (291, 293, 294):
        video(cache, recipe(number))
    assert len(made) == 4
    video(cache, recipe(292))
    assert len(made) == 5


def test_a_file_larger_than_the_cache_is_not_kept_and_displaces_nothing(tmp_path, video, made):
    told: list[str] = []
    small, large = replace(PLAIN, ratio=parse_ratio(Fraction(1, 60))), replace(PLAIN, ratio=parse_ratio(1))
    cache = Cache(tmp_path / "cache")
    video(cache, small)
    kept = stored(cache.folder)
    cache = Cache(cache.folder, limit=sum(file.stat().st_size for file in kept) + 100, warn=told.append)
    for _ in range(2):
        assert len(video(cache, large).index) == 60
    assert stored(cache.folder) == kept
    assert len(made) == 3
    assert len(told) == 1  # once for both


def test_a_full_disk_is_a_warning(tmp_path, video, made, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    told: list[str] = []
    cache = Cache(tmp_path / "cache", warn=told.append)
    monkeypatch.setattr(files.os, "fsync", full)
    assert len(video(cache).index) == len(video(cache).index) == 18
    assert len(made) == 2
    assert len(told) == 1
    assert "full" in told[0]
    assert {file.suffix for file in cache.folder.iterdir()} == {".lock"}  # nothing half-written


def test_what_was_left_behind_is_swept(tmp_path, video):
    cache = Cache(tmp_path / "cache")
    for name, age in ((".old.tmp", 2 * 86400), (".new.tmp", 0)):
        (cache.folder / name).touch()
        now = (cache.folder / name).stat().st_mtime
        os.utime(cache.folder / name, (now - age, now - age))
    video(cache)
    assert [file.name for file in cache.folder.glob(".*.tmp")] == [".new.tmp"]


def test_errors_are_not_kept(tmp_path, clip):
    clip.write_bytes(b"no video" * 1000)
    cache = Cache(tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(VideoError):
            cache.video(clip, Recipe(runtime=Runtime("cpu")))
    with pytest.raises(RequestError, match=r"no file .*absent\.mp4"):
        cache.video(tmp_path / "absent.mp4", Recipe(runtime=Runtime("cpu")))
    assert not stored(cache.folder)


def test_the_folder(tmp_path, monkeypatch, video, made):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("STSIMDIFF_CACHE", raising=False)
    assert default_folder() == tmp_path / "xdg" / "stsimdiff"
    monkeypatch.setenv("STSIMDIFF_CACHE", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own"
    for _ in range(2):
        video(Cache(limit=0))
    assert len(made) == 2
    assert not (tmp_path / "own").exists()
    (tmp_path / "own").touch()
    with pytest.raises(RequestError, match="cannot be made"):
        Cache()


RACE = """
import sys, time
from pathlib import Path
from stsimdiff_cli.integrations.video_cache import Cache, Recipe
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.video import Sampling

folder, me, clip = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
encode = Recipe.encode

def slowly(*given):
    (folder / f"encoded-{me}").touch()
    while len(list(folder.glob("ready-*"))) < 2:  # until the other one is about to ask too
        time.sleep(0.01)
    time.sleep(0.5)
    return encode(*given)

Recipe.encode = slowly
recipe = Recipe(sampling=Sampling(frames=4), runtime=Runtime("cpu"), method=parse_method("uniform"))
recipe.video_key(clip)
(folder / f"ready-{me}").touch()
print(len(Cache(folder / "cache").video(clip, recipe).index))
"""


@pytest.mark.slow
def test_two_processes_encode_once(tmp_path):
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    root = str(Path(module.__file__).parents[2])
    both = [
        subprocess.Popen(
            [*command, name, str(SAMPLES / "flash.mp4")],
            env={**os.environ, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    answers = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1] != ""
    assert len(list(tmp_path.glob("encoded-*"))) == 1
