"""Checkpoints that are missing or incomplete, that carry code, or that are not the one that made a file."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants, errors
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import ModelError, RequestError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.inference.prompts import Prompter
from stsimdiff_cli.models.loading.checkpoint import find_checkpoint
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.models.loading.weights import load_language
from stsimdiff_cli.storage.writing import save_compressed
from stsimdiff_cli.video import Sampling
from tests.support.checkpoints import CHECKPOINTS
from tests.support.clip_factory import render
from tests.support.commands import refused, run
from tests.support.runtimes import FP32

NAME, REVISION = "somebody/a-model", "v1.2"


# --- folders --------------------------------------------------------------------------------------------------------


def test_the_fingerprint_follows_the_weights_and_not_the_folder(checkpoint, family, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    assert find_checkpoint(str(copy)).fingerprint == family.checkpoint.fingerprint
    other = CHECKPOINTS[family.name](tmp_path / "other", seed=5)
    assert find_checkpoint(str(other)).fingerprint != family.checkpoint.fingerprint


def test_an_incomplete_checkpoint_is_refused(checkpoint, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    shard = sorted(copy.rglob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(ModelError, match=shard.name):
        _ = find_checkpoint(str(copy)).fingerprint


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nowhere/at/all", "no model named"),
        ("./missing", "no model named"),
        ("no-such-owner/no-such-model", "could not be downloaded"),
    ],
)
def test_a_missing_model_is_a_sentence_and_a_hint(name, part):
    with pytest.raises((RequestError, ModelError), match=part) as caught:
        find_checkpoint(name)
    assert caught.value.hint


def test_a_checkpoint_of_an_unknown_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(RequestError, match="bert"):
        find_checkpoint(str(tmp_path))


# --- the hub --------------------------------------------------------------------------------------------------------


def failing(monkeypatch, kind: type[Exception], text: str = "GET https://hub/api: trouble\nmore of it") -> None:
    """Make the hub raise an error, without the answer of a server that it usually carries."""

    def download(*_args, **_options):
        error = kind.__new__(kind)
        Exception.__init__(error, text)
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


@pytest.mark.parametrize(("kind", "reason", "hint"), [
    (errors.GatedRepoError, "its owner grants access only on request", "hf auth login"),
    (errors.RepositoryNotFoundError, "no such model", "Check the name"),
    (errors.RevisionNotFoundError, "not this revision", "--revision"),
    (errors.LocalEntryNotFoundError, "cannot be reached", "--model FOLDER"),
    (ConnectionError, "cannot be reached", "--model FOLDER"),
    (OSError, "OSError: GET https://hub/api: trouble.", "--model FOLDER"),
])  # fmt: skip
def test_every_failure_of_the_hub_says_what_is_missing_and_what_to_do(kind, reason, hint, monkeypatch):
    failing(monkeypatch, kind)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ModelError) as caught:
        find_checkpoint(NAME, REVISION)
    text = str(caught.value)
    assert f"{NAME} at revision {REVISION}" in text and str(constants.HF_HUB_CACHE) in text
    assert reason in text and hint in caught.value.hint and "\n" not in text


def test_offline_the_command_line_says_so_and_names_the_way_out(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    clip = render(tmp_path / "clip.mp4", range(4))
    err = refused(capsys, "encode", clip, "-o", tmp_path / "t", "--model", NAME, "--revision", REVISION, code=1)
    words = " ".join(err.split())
    assert "HF_HUB_OFFLINE" in words and f"{NAME} at revision {REVISION}" in words
    assert f"hf download {NAME}" in words and "--model FOLDER" in words


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def snapshot(tmp_path, monkeypatch) -> Path:
    """The cache's own layout: a snapshot of a commit, and a branch that points to it. Returns the snapshot's folder."""
    home = tmp_path / f"models--{NAME.replace('/', '--')}"
    CHECKPOINTS["llava_onevision"](tmp_path / "model")
    folder = home / "snapshots" / COMMIT
    shutil.copytree(tmp_path / "model", folder)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    real = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *args, **options: real(*args, cache_dir=tmp_path, **options)
    )
    return folder


@pytest.fixture
def looked_up(monkeypatch) -> list[str]:
    """The hosts that are looked up, as if the computer had no network; HF_HUB_OFFLINE is not set."""
    hosts: list[str] = []

    def lookup(host, *_args, **_options):
        hosts.append(str(host))
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return hosts


@pytest.mark.usefixtures("snapshot")
def test_a_model_in_the_cache_needs_no_network():
    for revision in (None, "main", COMMIT):
        checkpoint = find_checkpoint(NAME, revision)
        assert (checkpoint.id, checkpoint.revision) == (NAME, COMMIT)
    with pytest.raises(ModelError, match="at revision other"):
        find_checkpoint(NAME, "other")


@pytest.mark.usefixtures("snapshot")
def test_a_commit_that_is_in_the_cache_needs_no_request(looked_up):
    assert find_checkpoint(NAME, COMMIT).revision == COMMIT and looked_up == []
    find_checkpoint(NAME, "main")  # which may have moved
    assert looked_up


@pytest.mark.parametrize("lost", ["model-00001-*", "tokenizer_config.json", "*processor_config.json"])
def test_a_snapshot_that_is_not_whole_is_completed(lost, snapshot, monkeypatch):
    for path in snapshot.glob(lost):
        path.unlink()
    local, asked = huggingface_hub.snapshot_download, []

    def download(*args, local_files_only=False, **options):
        asked.append(local_files_only)
        return local(*args, local_files_only=True, **options)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    find_checkpoint(NAME, COMMIT)
    assert asked == [True, False]


# --- code in a checkpoint -------------------------------------------------------------------------------------------


@pytest.fixture
def armed(checkpoint, tmp_path, monkeypatch) -> tuple[Path, Path]:
    """A checkpoint that wants code of its own to be run for everything, and the file that this code would make."""
    folder, mark = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(checkpoint, folder)
    (folder / "evil.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    kinds = ("Config", "Model", "ModelForImageTextToText", "ModelForCausalLM", "Processor", "ImageProcessor")
    classes = {f"Auto{kind}": f"evil.{kind}" for kind in kinds} | {"AutoTokenizer": ["evil.Tokenizer"] * 2}
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "generation_config.json"):
        path = folder / name
        content = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(content | {"auto_map": classes}))

    def ask(*_):
        raise AssertionError("the user was asked whether code may run")

    monkeypatch.setattr("builtins.input", ask)
    return folder, mark


def test_code_in_a_checkpoint_is_never_run_and_nobody_is_asked(armed, tmp_path):
    folder, mark = armed
    clip = render(tmp_path / "clip.mp4", range(6))
    tokens = pipeline.encode_video(clip, str(folder), sampling=Sampling(frames=4), runtime=Runtime(device="cpu"))
    video = pipeline.compress_tokens(tokens, "0.3", "st-simdiff:tau_sim=0.95", runtime=Runtime(device="cpu"))
    assert pipeline.converse(video, runtime=Runtime(device="cpu")).ask("what happens ?", max_new_tokens=2).tokens > 0
    assert not mark.exists()


def test_a_tokenizer_that_is_a_program_is_replaced_by_a_known_one_or_refused(armed):
    folder, mark = armed
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "Tokenizer"}))
    try:
        prompter = Prompter(open_family(str(folder)))
    except ModelError as error:
        assert "never run" in str(error) and error.hint
    else:
        assert type(prompter.tokenizer).__module__.startswith("transformers.")
    assert not mark.exists()


def test_weights_in_a_pickle_are_not_opened(checkpoint, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    tensors = {}
    for file in folder.rglob("*.safetensors*"):
        tensors |= load_file(file) if file.suffix == ".safetensors" else {}
        file.unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_language(open_family(str(folder)), FP32)


# --- another model --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint in the LLaVA-Video authors' format, and a compressed file of its tokens."""
    folder = tmp_path_factory.mktemp("made")
    model = CHECKPOINTS["llava_video"](folder / "model")
    clip = render(folder / "clip.mp4", range(8))
    tokens = pipeline.encode_video(clip, str(model), sampling=Sampling(frames=4), runtime=Runtime(device="cpu"))
    save_compressed(folder / "kept", pipeline.compress_tokens(tokens, "0.5", "uniform", runtime=Runtime(device="cpu")))
    return model, folder / "kept"


def test_the_model_itself_reads_its_file_from_wherever_it_lies(made, capsys, tmp_path):
    model, kept = made
    shutil.copytree(model, tmp_path / "elsewhere")
    for more in ([], ["--model", str(tmp_path / "elsewhere")]):
        code, out, err = run(capsys, "ask", kept, "what happens ?", "--max-new-tokens", "2", *more, "--json")
        assert code == 0, err
        assert json.loads(out)["answers"][0]["new_tokens"] > 0


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl"])
def test_a_model_of_another_family_cannot_read_a_file(family, made, capsys, tmp_path):
    other = CHECKPOINTS[family](tmp_path / "other")
    err = refused(capsys, "ask", made[1], "what ?", "--model", other)
    assert "another model and cannot read them" in " ".join(err.split())


@pytest.mark.parametrize("name", sorted(CHECKPOINTS))
def test_other_weights_of_the_same_architecture_cannot_read_a_file(name, tmp_path, capsys):
    model = CHECKPOINTS[name](tmp_path / "model")
    clip = render(tmp_path / "clip.mp4", range(8))
    tokens = pipeline.encode_video(clip, str(model), sampling=Sampling(frames=4), runtime=Runtime(device="cpu"))
    save_compressed(
        tmp_path / "kept", pipeline.compress_tokens(tokens, "0.5", "uniform", runtime=Runtime(device="cpu"))
    )
    other = CHECKPOINTS[name](tmp_path / "other", seed=3)
    err = refused(capsys, "ask", tmp_path / "kept", "what ?", "--model", other)
    assert "another model and cannot read them" in " ".join(err.split())
    shutil.rmtree(model)
    shutil.copytree(other, model)  # a later revision in the same folder
    err = refused(capsys, "ask", tmp_path / "kept", "what ?")
    assert "has changed since" in " ".join(err.split())


@pytest.mark.parametrize("entry", [{"mm_spatial_pool_mode": "average"}, {"mm_spatial_pool_stride": 3}])
def test_the_same_weights_with_another_pooling_cannot_read_a_file(entry, made, capsys, tmp_path):
    model, kept = made
    other = tmp_path / "other"
    shutil.copytree(model, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | entry))
    err = refused(capsys, "ask", kept, "what ?", "--model", other)
    assert "another model and cannot read them" in " ".join(err.split())


def test_other_preprocessing_of_the_same_model_reads_a_file(tmp_path, capsys):
    """Preprocessing has no effect once a file is written, so it does not make another model."""
    model = CHECKPOINTS["llava_onevision"](tmp_path / "model")
    before = find_checkpoint(str(model)).fingerprint
    path = model / "video_preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_mean": [0.4, 0.4, 0.4]}))
    assert find_checkpoint(str(model)).fingerprint == before


@pytest.mark.parametrize(("change", "sentence"), [
    ("stsimdiff.compressed/3", "this version reads up to"),
    ("somebody.compressed/1", "unknown format"),
    (None, "was not written by stsimdiff"),
])  # fmt: skip
def test_a_newer_or_foreign_format_is_refused_by_ask_and_inspect(change, sentence, made, capsys, tmp_path):
    with safe_open(made[1], framework="pt") as file:
        header = json.loads(file.metadata()["stsimdiff"])
    metadata = {} if change is None else {"stsimdiff": json.dumps(header | {"format": change})}
    path = tmp_path / "other.safetensors"
    save_file(load_file(made[1]), path, metadata)
    for command in (["ask", path, "what ?"], ["inspect", path]):
        assert sentence in " ".join(refused(capsys, *command, code=1).split())


def test_inspect_says_who_can_read_a_file(made, capsys):
    model, kept = made
    _, out, _ = run(capsys, "inspect", kept)
    line = next(line for line in out.splitlines() if line.startswith("reader"))
    assert str(model) in line and "family llava_video" in line and f"stsimdiff ask {kept}" in line
    reader = json.loads(run(capsys, "inspect", kept, "--json")[1])["reader"]
    assert reader == {
        "id": str(model),
        "family": "llava_video",
        "revision": None,
        "fingerprint": find_checkpoint(str(model)).fingerprint,
        "command": f"stsimdiff ask {kept}",
    }
