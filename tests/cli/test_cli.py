"""The program as people use it: its output, its manners, its exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stsimdiff_cli.cli.app import main
from tests.support.checkpoints.qwen_and_onevision import CHECKPOINTS
from tests.support.clip_factory import CLOSED_GOP, render, spoil
from tests.support.commands import refused, run

JSON_KEYS = {
    "output", "method", "ratio", "tokens", "kept", "candidates", "representatives", "events", "communities",
    "largest_community", "seconds", "bytes",
}  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return render(tmp_path_factory.mktemp("clip") / "clip.mp4", range(24))


@pytest.fixture(scope="module")
def tokens(clip, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "clip.tokens.safetensors"
    assert main(["encode", str(clip), "-o", str(path), "--frames", "8", "--evidence", "saliency,keys"]) == 0
    return path


@pytest.fixture(scope="module")
def kept(tokens, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "clip.safetensors"
    assert main(["compress", str(tokens), "-o", str(path), "--ratio", "0.3"]) == 0
    return path


def test_encode_reports_in_json(capsys, clip, tmp_path):
    code, out, _ = run(capsys, "encode", clip, "-o", tmp_path / "t.safetensors", "--frames", 5, "--json")
    data = json.loads(out)
    assert code == 0 and out.count("\n") == 1
    assert data["grid"][0] == 5 and data["tokens"] == data["grid"][0] * data["grid"][1] * data["grid"][2]
    assert data["slot_seconds"][0] == 0 and len(data["slot_seconds"]) == 5
    assert {"decode", "encode", "write", "total"} <= set(data["seconds"])
    assert data["bytes"] == (tmp_path / "t.safetensors").stat().st_size


def test_a_clip_with_fewer_frames_than_asked_gives_what_it_has(capsys, clip, tmp_path):
    _, out, _ = run(capsys, "encode", clip, "-o", tmp_path / "t.safetensors", "--frames", 100, "--json")
    assert json.loads(out)["grid"][0] == 24


def test_compress_reports_every_count_in_json(capsys, tokens, tmp_path):
    code, out, _ = run(capsys, "compress", tokens, "-o", tmp_path / "c.safetensors", "--ratio", "0.3", "--json")
    data = json.loads(out)
    assert code == 0 and set(data) >= JSON_KEYS
    assert data["kept"] == -(-3 * data["tokens"] // 10)
    assert data["candidates"] >= data["kept"] and "total" in data["seconds"]
    assert data["prompt"] == "What happens in this video?"


def test_two_runs_give_the_same_bytes(capsys, clip, tmp_path):
    for name in ("a", "b"):
        assert run(capsys, "encode", clip, "-o", tmp_path / f"{name}.t", "--frames", 8)[0] == 0
        assert run(capsys, "compress", tmp_path / f"{name}.t", "-o", tmp_path / name, "--ratio", "0.3")[0] == 0
    assert (tmp_path / "a.t").read_bytes() == (tmp_path / "b.t").read_bytes()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("method", ["random:seed=3", "uniform", "vanilla", "st-simdiff:tau_diff=p95,events=off"])
def test_every_method_compresses(capsys, tokens, tmp_path, method):
    code, out, err = run(
        capsys, "compress", tokens, "-o", tmp_path / "c.safetensors", "--ratio", "0.5", "--method", method, "--json"
    )
    data = json.loads(out)
    assert code == 0, err
    assert data["kept"] == (data["tokens"] if method == "vanilla" else -(-data["tokens"] // 2))


@pytest.mark.parametrize("importance", ["llm", "saliency", "centrality"])
def test_every_importance_works(capsys, tokens, tmp_path, importance):
    path = tmp_path / "c.safetensors"
    assert run(capsys, "compress", tokens, "-o", path, "--ratio", "0.1", "--importance", importance)[0] == 0
    code, out, _ = run(capsys, "inspect", path, "--json")
    data = json.loads(out)
    assert code == 0 and data["method"]["parameters"]["importance"] == importance
    assert (data["method"]["prompt"] is not None) == (importance == "llm")


def test_the_prompt_is_recorded_and_changes_the_importance(capsys, tokens, tmp_path):
    from safetensors.numpy import load_file

    scores = []
    for name, more in (("a", []), ("b", ["--prompt", "How many objects are there?"])):
        run(capsys, "compress", tokens, "-o", tmp_path / name, "--ratio", "0.1", *more)
        scores.append(load_file(tmp_path / name)["importance"])
    data = json.loads(run(capsys, "inspect", tmp_path / "b", "--json")[1])
    assert data["method"]["prompt"] == "How many objects are there?"
    assert scores[0].tolist() != scores[1].tolist()


def test_compress_takes_a_video_and_encodes_what_the_method_needs(capsys, clip, tmp_path):
    code, out, _ = run(
        capsys, "compress", clip, "-o", tmp_path / "c", "--ratio", "0.3", "--frames", 8, "--importance", "saliency",
        "--json",
    )  # fmt: skip
    assert code == 0 and {"decode", "encode", "graph"} <= set(json.loads(out)["seconds"])


def test_answers_go_to_stdout_and_nothing_else_does(capsys, kept):
    code, out, _ = run(capsys, "ask", kept, "How many objects are there?", "--max-new-tokens", 4)
    assert code == 0 and len(out.splitlines()) == 1 and out.strip()


def test_several_questions_equal_the_same_questions_alone(capsys, kept):
    questions = ["How many objects are there?", "What happens in this video?"]
    together = run(capsys, "ask", kept, *questions, "--max-new-tokens", 6)[1].splitlines()
    alone = [run(capsys, "ask", kept, question, "--max-new-tokens", 6)[1].strip() for question in questions]
    assert together == alone


def test_questions_come_from_stdin_one_a_line(capsys, kept, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("How many objects are there?\n\nWhat happens in this video?\n"))
    code, out, _ = run(capsys, "ask", kept, "-", "--json", "--max-new-tokens", 4)
    data = json.loads(out)
    assert code == 0 and len(data["answers"]) == 2 and data["kept"] < data["tokens"]
    assert data["answers"][0]["prompt_tokens"] < data["tokens"]


def test_a_terminal_without_a_question_gets_a_prompt(capsys, kept, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("How many objects are there?\n"))
    code, out, err = run(capsys, "ask", kept, "--max-new-tokens", 4)
    assert code == 0 and len(out.splitlines()) == 1 and "Ctrl-D" in err


def test_no_question_and_no_terminal_is_refused(capsys, kept, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert "There is no question" in refused(capsys, "ask", kept)


def test_ask_about_several_files_loads_the_llm_once(capsys, kept, tokens, monkeypatch):
    from stsimdiff_cli.models.inference import language_model as language

    loaded, real = [], language.load_language
    monkeypatch.setattr(language, "load_language", lambda *args: loaded.append(args) or real(*args))
    question = "What happens in this video?"
    code, out, err = run(capsys, "ask", kept, tokens, kept, question, "How many objects are there?")
    assert code == 0 and len(loaded) == 1
    alone = [run(capsys, "ask", one, question, "How many objects are there?")[1] for one in (kept, tokens, kept)]
    assert out == "".join(alone) and len(out.splitlines()) == 6
    assert err.count(str(kept)) == 2 and err.count(str(tokens)) == 1
    code, out, _ = run(capsys, "ask", kept, tokens, "--json", question)
    assert [json.loads(line)["file"] for line in out.splitlines()] == [str(kept), str(tokens)]


def test_a_file_that_fails_stops_no_other(capsys, kept, tmp_path):
    missing = tmp_path / "gone.safetensors"
    code, out, err = run(capsys, "ask", kept, missing, kept, "What happens in this video?")
    assert code == 1 and len(out.splitlines()) == 2
    assert f"There is no file {missing}" in " ".join(err.split()) and "1 of 3 files failed" in err


@pytest.mark.parametrize("question", ["What happens in this video? " * 50, "a/" * 3000, "what\0happens"])
def test_a_question_that_can_be_no_file_name_is_a_question(capsys, kept, question):
    code, out, _ = run(capsys, "ask", kept, question, "--max-new-tokens", "1")
    assert code == 0 and len(out.splitlines()) == 1


def test_every_file_gets_the_questions_of_stdin(capsys, kept, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("What happens in this video?\nHow many objects are there?\n"))
    code, out, _ = run(capsys, "ask", kept, kept, "-")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 4 and lines[:2] == lines[2:]


def test_ask_takes_tokens_and_videos_too(capsys, tokens, clip):
    question = "How many objects are there?"
    whole = run(capsys, "ask", tokens, question, "--max-new-tokens", 4)
    assert whole[0] == 0
    assert run(capsys, "ask", clip, question, "--frames", 8, "--max-new-tokens", 4)[:2] == whole[:2]


def test_unknown_words_get_a_hint_with_questions_that_work(capsys, kept):
    code, _, err = run(capsys, "ask", kept, "Why does the dog bark?", "--max-new-tokens", 4)
    assert code == 0 and "'dog'" in err and "What happens in this video?" in err


def test_the_embedded_model_introduces_itself_on_stderr(kept):
    done = subprocess.run(
        [sys.executable, "-m", "stsimdiff_cli", "ask", str(kept), "What happens?", "--max-new-tokens", "2"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr.count("note:") == 1 and "--model" in done.stderr


def test_a_file_of_another_model_is_refused(capsys, kept, tmp_path):
    other = CHECKPOINTS["qwen2_5_vl"](tmp_path / "other")
    assert "another model" in refused(capsys, "ask", kept, "What?", "--model", other)


def test_a_changed_model_is_refused(capsys, clip, tmp_path):
    folder = tmp_path / "model"
    CHECKPOINTS["llava_onevision"](folder)
    args = ["--model", folder, "--frames", 3]
    assert run(capsys, "encode", clip, "-o", tmp_path / "t", *args)[0] == 0
    assert run(capsys, "ask", tmp_path / "t", "w3 ?", "--max-new-tokens", 2)[0] == 0
    CHECKPOINTS["llava_onevision"](folder, seed=7)
    assert "has changed" in refused(capsys, "ask", tmp_path / "t", "w3 ?")


@pytest.mark.parametrize("family", sorted(CHECKPOINTS))
def test_half_precision_goes_all_the_way(capsys, clip, tmp_path, family):
    half = ["--dtype", "bfloat16"]
    model = CHECKPOINTS[family](tmp_path / "model")
    encode = ["encode", clip, "-o", tmp_path / "t", "--model", model, "--frames", 4, "--evidence", "saliency,keys"]
    assert json.loads(run(capsys, *encode, *half, "--json")[1])["dtype"] == "bfloat16"
    for importance in ("llm", "saliency", "centrality"):
        compress = ["compress", tmp_path / "t", "-o", tmp_path / importance, "--ratio", "0.2"]
        assert run(capsys, *compress, "--importance", importance, *half)[0] == 0
    code, out, _ = run(capsys, "ask", tmp_path / "llm", "w3 w4 ?", *half, "--max-new-tokens", 4, "--json")
    assert code == 0 and json.loads(out)["kept"] == -(-json.loads(out)["tokens"] // 5)


def test_an_existing_output_is_kept_unless_forced(capsys, clip, tokens, tmp_path):
    path = tmp_path / "out.safetensors"
    path.write_text("precious")
    assert "exists" in refused(capsys, "encode", clip, "-o", path)
    assert "exists" in refused(capsys, "compress", tokens, "-o", path, "--ratio", "0.5")
    assert path.read_text() == "precious"
    assert run(capsys, "compress", tokens, "-o", path, "--ratio", "0.5", "--method", "uniform", "--force")[0] == 0


@pytest.mark.parametrize("ratio", ["0", "1.5", "-1", "many", "nan", ""])
def test_a_bad_ratio_is_refused(capsys, tokens, tmp_path, ratio):
    refused(capsys, "compress", tokens, "-o", tmp_path / "c", f"--ratio={ratio}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["--method", "st-simdif"], "Did you mean 'st-simdiff'"),
        (["--method", "st-simdiff:tau_sym=1"], "Did you mean 'tau_sim'"),
        (["--method", "st-simdiff:tau_sim=high"], "not a number"),
        (["--method", "st-simdiff:events=maybe"], "on or off"),
        (["--method", "st-simdiff:layer=99"], "layers"),
        (["--method", "random", "--importance", "llm"], "no parameter importance"),
        (["--importance", "looks"], "not one of the choices"),
        (["--device", "cuda:77"], "not available"),
        (["--dtype", "float8"], "no dtype"),
        (["--model", "nobody/nothing/never"], "no model named"),
    ],
)
def test_a_wrong_option_is_refused(capsys, tokens, tmp_path, args, part):
    err = refused(capsys, "compress", tokens, "-o", tmp_path / "c", "--ratio", "0.1", *args)
    assert part in err and not list(tmp_path.iterdir())


def test_missing_evidence_names_the_cure(capsys, clip, tmp_path):
    run(capsys, "encode", clip, "-o", tmp_path / "t", "--frames", 4)
    err = refused(
        capsys, "compress", tmp_path / "t", "-o", tmp_path / "c", "--ratio", "0.1", "--importance", "saliency"
    )
    assert "--evidence auto --method st-simdiff:importance=saliency" in err
    assert "no evidence named" in refused(capsys, "encode", clip, "-o", tmp_path / "x", "--evidence", "salience")


def test_a_revision_is_looked_for_and_named(capsys, clip, tmp_path, monkeypatch):
    seen = []

    def download(name, revision, allow_patterns):
        seen.append((name, revision))
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    arguments = ["encode", clip, "-o", tmp_path / "t", "--revision", "v1.1"]
    err = refused(capsys, *arguments, "--model", "owner/name", code=1)
    assert "owner/name at revision v1.1 is not in the cache" in err
    assert seen == [("owner/name", "v1.1")]
    for model in ([], ["--model", "tiny"], ["--model", tmp_path]):
        assert "--revision works with Hub checkpoints only" in refused(capsys, *arguments, *model)
    assert not (tmp_path / "t").exists()


def test_evidence_auto_stores_what_a_method_needs(capsys, clip, tmp_path):
    for method, stored in [("st-simdiff:importance=saliency", ["saliency"]), ("fastv", [])]:
        arguments = ["--frames", 4, "--evidence", "auto", "--method", method, "--json", "--force"]
        _, out, _ = run(capsys, "encode", clip, "-o", tmp_path / "t", *arguments)
        assert json.loads(out)["evidence"] == stored
    for arguments in (["--evidence", "auto"], ["--method", "fastv"], ["--evidence", "keys", "--method", "fastv"]):
        assert "must be given together" in refused(capsys, "encode", clip, "-o", tmp_path / "x", *arguments)


@pytest.mark.parametrize("content", [b"", b"not a video at all", bytes(5000)])
def test_a_video_that_is_no_video_is_a_sentence(capsys, tmp_path, content):
    (tmp_path / "v.mp4").write_bytes(content)
    refused(capsys, "encode", tmp_path / "v.mp4", "-o", tmp_path / "t", code=1)
    assert not (tmp_path / "t").exists()


def test_frames_are_chosen_once_and_in_one_way(capsys, clip, tokens, kept, tmp_path):
    assert "cannot be used together" in refused(capsys, "encode", clip, "-o", tmp_path / "t", "--frames", 4, "--fps", 2)
    args = ["compress", tokens, "-o", tmp_path / "c", "--ratio", "0.5", "--frames", 4]
    assert "already encoded" in refused(capsys, *args)
    assert "already encoded" in refused(capsys, "ask", kept, "What?", "--fps", 1)


def test_missing_files_and_folders_are_refused(capsys, tmp_path):
    refused(capsys, "encode", tmp_path / "no.mp4", "-o", tmp_path / "t")
    refused(capsys, "encode", tmp_path, "-o", tmp_path / "t")
    refused(capsys, "compress", tmp_path / "no.safetensors", "-o", tmp_path / "c", "--ratio", "0.5")
    refused(capsys, "ask", tmp_path / "no.safetensors", "What?")
    refused(capsys, "inspect", tmp_path / "no.safetensors")


def test_a_damaged_file_is_a_failure_not_a_wrong_request(capsys, kept, tmp_path):
    (tmp_path / "c.safetensors").write_bytes(kept.read_bytes()[:-50])
    refused(capsys, "ask", tmp_path / "c.safetensors", "What?", code=1)


def test_a_compressed_file_is_not_compressed_again(capsys, kept, tmp_path):
    assert "already compressed" in refused(capsys, "compress", kept, "-o", tmp_path / "c", "--ratio", "0.5")


def test_inspect_shows_what_is_in_a_file(capsys, kept, tokens):
    code, out, _ = run(capsys, "inspect", kept)
    assert code == 0
    for part in ("clip.mp4", "st-simdiff", "tau_sim=0.8", "events=on", "ratio 0.3", "communities", "per slot"):
        assert part in out
    data = json.loads(run(capsys, "inspect", kept, "--json")[1])
    assert sum(data["kept_by_slot"]) == data["kept"] == sum(data["kept_by_kind"].values())
    assert json.loads(run(capsys, "inspect", tokens, "--json")[1])["tensors"] == ["features", "keys", "saliency"]


def test_methods_and_models_list_what_there_is(capsys):
    from stsimdiff_cli.methods import METHODS
    from stsimdiff_cli.models import FAMILIES

    assert [row["method"] for row in json.loads(run(capsys, "methods", "--json")[1])["methods"]] == list(METHODS)
    listed = [row["model"] for row in json.loads(run(capsys, "models", "--json")[1])["models"]]
    assert listed == ["tiny", "tiny-choice", *FAMILIES]
    assert "tau_diff" in run(capsys, "methods", "st-simdiff")[1]
    assert run(capsys, "methods", "nothing")[0] == 2


@pytest.mark.parametrize("args", [["--help"], ["methods"], ["models"], ["inspect"]])
def test_light_commands_import_neither_torch_nor_decoders(args, kept):
    args = [*args, str(kept)] if args == ["inspect"] else args
    code = (
        "import sys; from stsimdiff_cli.cli.app import main; main(sys.argv[1:]);"
        "print([m for m in ('torch', 'transformers', 'av', 'decord', 'scipy') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert done.stderr.strip().endswith("[]"), done.stderr


def test_a_known_error_shows_its_traceback_on_request(kept):
    environment = {**os.environ, "STSIMDIFF_DEBUG": "1"}
    run = [sys.executable, "-m", "stsimdiff_cli", "inspect", "no-such-file"]
    assert "Traceback" in subprocess.run(run, capture_output=True, text=True, env=environment).stderr


def test_usage_errors_exit_with_two(capsys):
    assert main(["bogus"]) == 2
    assert main(["encode", "--nonsense"]) == 2
    assert main(["--version"]) == 0


def test_frames_that_cannot_be_decoded_are_named_and_left_out(capsys, tmp_path):
    video = render(tmp_path / "v.mp4", range(48), options=CLOSED_GOP)
    spoil(video, 20)
    code, out, err = run(capsys, "encode", video, "-o", tmp_path / "t", "--frames", 48, "--json")
    data = json.loads(out)
    assert code == 0 and data["missing_seconds"]
    assert data["grid"][0] + len(data["missing_seconds"]) == 48
    assert not set(data["missing_seconds"]) & set(data["slot_seconds"])
    assert f"{data['missing_seconds'][0]:.3f}" in err
    assert f"{len(data['missing_seconds'])} frames" in run(capsys, "inspect", tmp_path / "t")[1]


def test_selecting_without_the_llm_imports_no_transformers(tokens, tmp_path):
    """Which takes longer than the selection."""
    code = (
        "import sys; from stsimdiff_cli.cli.app import main; "
        "assert main(sys.argv[1:]) == 0; print('transformers' in sys.modules)"
    )
    command = ["compress", str(tokens), "-o", str(tmp_path / "c.safetensors"), "--ratio", "0.3"]
    for importance, expected in (("centrality", "False"), ("llm", "True")):
        run = [sys.executable, "-c", code, *command, "--importance", importance, "--force"]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == expected, done.stderr
