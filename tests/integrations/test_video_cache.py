"""The cache of videos: what is in a key, what is read again and what is made again. See also test_disk_cache.py."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stsimdiff_cli.errors import RequestError, VideoError
from stsimdiff_cli.integrations import video_cache as module
from stsimdiff_cli.integrations.video_cache import Recipe, VideoCache, default_folder
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models import EMBEDDED, FAMILIES
from stsimdiff_cli.models.loading import runtime
from stsimdiff_cli.models.loading.checkpoint import find_checkpoint
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.ratio import parse_ratio
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

    def ask(cache: VideoCache, recipe: Recipe = PLAIN):
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
        cached = VideoCache(tmp_path / "cache").video(clip, recipe)
        assert len(calls) == 1, again
        assert torch.equal(cached.features.tensor(), direct.features.tensor())
        assert torch.equal(cached.index, direct.index)
        assert (cached.grid, cached.method, cached.counts) == (direct.grid, direct.method, direct.counts)
    first, second = (VideoCache(tmp_path / "cache").tokens(clip, recipe) for _ in range(2))
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
        {"fps": 2.0, "frames": None},
        {"fps": 1.0, "frames": None},
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
    path, recipe = SAMPLES / "flash.mp4", recipe_with(CPU_8, {"fps": 1.5, "frames": None} if "fps" in change else {})
    assert recipe_with(recipe, change).video_key(path) != recipe.video_key(path)
    of_selection = {"ratio", "prompt", "quantize"} & change.keys() or change.get("method") in (
        parse_method("st-simdiff:tau_sim=0.7"),
        parse_method("fastv"),
    )
    assert (recipe_with(recipe, change).tokens_key(path) == recipe.tokens_key(path)) == bool(of_selection)


def test_who_decodes_does_not_change_the_key():
    path = SAMPLES / "flash.mp4"
    several = recipe_with(CPU_8, {"workers": 3})
    assert (several.video_key(path), several.tokens_key(path)) == (CPU_8.video_key(path), CPU_8.tokens_key(path))


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


def test_the_key_knows_what_the_saliency_of_an_encoder_is(monkeypatch):
    path, saliency = SAMPLES / "flash.mp4", replace(PLAIN, method=parse_method("fastervlm"))
    before = [recipe.video_key(path) for recipe in (saliency, PLAIN)]
    monkeypatch.setattr(FAMILIES.load(find_checkpoint(EMBEDDED).family), "class_token", True)
    after = [replace(recipe).video_key(path) for recipe in (saliency, PLAIN)]  # a copy has no key yet
    assert before[0] != after[0], "attention from [CLS] is other evidence than attention received"
    assert before[1] == after[1], "a method without saliency has the same tokens"


def test_what_changes_nothing_is_not_in_the_key():
    path = SAMPLES / "flash.mp4"
    vanilla = replace(PLAIN, method=parse_method("vanilla"))
    assert vanilla.video_key(path) == replace(vanilla, ratio=parse_ratio("0.5")).video_key(path)
    assert PLAIN.video_key(path) == recipe_with(PLAIN, {"prompt": "Why?", "quantize": "4bit"}).video_key(path)


def test_a_changed_video_is_encoded_again(tmp_path, clip, video, made):
    cache = VideoCache(tmp_path / "cache")
    video(cache)
    state = clip.stat()
    os.utime(clip, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    video(cache)
    (tmp_path / "link.mp4").symlink_to(clip)
    cache.video(tmp_path / "link.mp4", PLAIN)  # the same file
    assert len(made) == 2
    assert len(stored(cache.files.folder)) == 2


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "foreign"])
def test_a_damaged_file_is_made_again(tmp_path, video, made, harm):
    warned: list[str] = []
    cache = VideoCache(tmp_path / "cache", warn=warned.append)
    good = video(cache)
    (file,) = stored(cache.files.folder)
    data = file.read_bytes()
    flipped = data[:-1] + bytes([data[-1] ^ 1])
    file.write_bytes({"cut": data[:-9], "flip": flipped, "empty": b"", "foreign": b"no tensors" * 99}[harm])
    assert torch.equal(video(cache).features.tensor(), good.features.tensor())
    assert len(made) == 2
    assert len(warned) == 1
    assert file.read_bytes() == data
    video(cache)
    assert len(made) == 2


def test_errors_are_not_stored(tmp_path, clip):
    clip.write_bytes(b"no video" * 1000)
    cache = VideoCache(tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(VideoError):
            cache.video(clip, Recipe(runtime=Runtime("cpu")))
    with pytest.raises(RequestError, match=r"no file .*absent\.mp4"):
        cache.video(tmp_path / "absent.mp4", Recipe(runtime=Runtime("cpu")))
    assert not stored(cache.files.folder)


def test_the_folder_is_the_one_named_in_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("STSIMDIFF_CACHE", raising=False)
    assert default_folder() == tmp_path / "xdg" / "stsimdiff"
    monkeypatch.setenv("STSIMDIFF_CACHE", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own"
    (tmp_path / "own").touch()
    with pytest.raises(RequestError, match="cannot be created") as caught:
        VideoCache()
    assert "STSIMDIFF_CACHE" in caught.value.hint


def test_a_cache_of_0_bytes_needs_no_keys(tmp_path, monkeypatch, clip, video, made):
    monkeypatch.setenv("STSIMDIFF_CACHE", str(tmp_path / "own"))
    monkeypatch.setattr(Recipe, "video_key", None)
    for _ in range(2):
        video(VideoCache(limit=0))
    assert len(made) == 2
    assert not (tmp_path / "own").exists()
