"""`stsimdiff compress`: what it writes, reports and refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from safetensors.numpy import load_file

from tests.support.checkpoints import CHECKPOINTS
from tests.support.commands import refused, run

JSON_KEYS = {
    "output", "method", "ratio", "tokens", "kept", "candidates", "representatives", "events", "communities",
    "largest_community", "seconds", "bytes",
}  # fmt: skip


@pytest.fixture
def report(capsys, tokens, tmp_path):
    """The JSON report of a compression to 0.3."""
    arguments = ("-o", tmp_path / "c.safetensors", "--ratio", "0.3", "--method", "st-simdiff", "--json")
    code, out, _ = run(capsys, "compress", tokens, *arguments)
    assert code == 0
    return json.loads(out)


# --- What it reports --------------------------------------------------------------------------------------------------


def test_the_json_report_has_every_count(report):
    assert set(report) >= JSON_KEYS


def test_exactly_the_ratio_is_kept_rounded_up(report):
    assert report["kept"] == -(-3 * report["tokens"] // 10)


def test_there_are_candidates_for_all_that_is_kept(report):
    assert report["candidates"] >= report["kept"]


def test_the_time_has_a_total(report):
    assert report["seconds"] >= sum(report["stage_seconds"].values()) > 0


def test_the_general_prompt_is_the_default(report):
    assert report["prompt"] == "What happens in this video?"


def test_two_runs_give_the_same_bytes(capsys, tokens, tmp_path):
    for name in ("a", "b"):
        assert run(capsys, "compress", tokens, "-o", tmp_path / name, "--ratio", "0.3")[0] == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# --- Methods and their inputs -----------------------------------------------------------------------------------------


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
    method = json.loads(run(capsys, "inspect", path, "--json")[1])["method"]
    assert method["parameters"]["importance"] == importance
    assert (method["prompt"] is not None) == (importance == "llm")


def test_the_prompt_is_recorded(capsys, tokens, tmp_path):
    question = "How many stars are there?"
    run(capsys, "compress", tokens, "-o", tmp_path / "c", "--ratio", "0.1", "--prompt", question)
    assert json.loads(run(capsys, "inspect", tmp_path / "c", "--json")[1])["method"]["prompt"] == question


def test_the_default_asks_no_llm_unless_importance_or_a_prompt_is_asked_for(capsys, tokens, tmp_path):
    for name, more, method in (
        ("a", [], "st-simdiff+"),
        ("b", ["--prompt", "What flashes?"], "st-simdiff"),
        ("c", ["--importance", "centrality"], "st-simdiff"),
    ):
        code, out, err = run(capsys, "compress", tokens, "-o", tmp_path / name, "--ratio", "0.1", *more, "--json")
        assert (code, json.loads(out)["method"]) == (0, method), err


def test_an_option_that_changes_nothing_is_noted(capsys, tokens, tmp_path):
    for option, value in (("--prompt", "What flashes?"), ("--importance", "llm")):
        arguments = ("-o", tmp_path / option, "--ratio", "0.1", "--method", "st-simdiff+", option, value)
        code, _, err = run(capsys, "compress", tokens, *arguments)
        assert code == 0 and f"so {option} changes nothing" in err


def test_the_prompt_changes_the_importance(capsys, tokens, tmp_path):
    scores = []
    for name, more in (("a", ["--method", "st-simdiff"]), ("b", ["--prompt", "How many stars are there?"])):
        run(capsys, "compress", tokens, "-o", tmp_path / name, "--ratio", "0.1", *more)
        scores.append(load_file(tmp_path / name)["importance"].tolist())
    assert scores[0] != scores[1]


def test_a_video_is_encoded_with_what_the_method_needs(capsys, clip, tmp_path):
    code, out, _ = run(
        capsys, "compress", clip, "-o", tmp_path / "c", "--ratio", "0.3", "--frames", 8, "--importance", "saliency",
        "--json",
    )  # fmt: skip
    assert code == 0
    assert {"decode", "encode", "graph"} <= set(json.loads(out)["stage_seconds"])


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
    assert code == 0
    assert json.loads(out)["kept"] == -(-json.loads(out)["tokens"] // 5)


@pytest.mark.slow
@pytest.mark.parametrize(("importance", "imported"), [("centrality", "False"), ("llm", "True")])
def test_transformers_is_imported_only_if_the_llm_ranks(tokens, tmp_path, importance, imported):
    """The import takes longer than the selection."""
    code = (
        "import sys; from stsimdiff_cli.cli.app import main; "
        "assert main(sys.argv[1:]) == 0; print('transformers' in sys.modules)"
    )
    command = ["compress", str(tokens), "-o", str(tmp_path / "c"), "--ratio", "0.3", "--importance", importance]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == imported, done.stderr


# --- What it refuses --------------------------------------------------------------------------------------------------


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
        (["--method", "st-simdiff", "--model", "nobody/nothing/never"], "no model named"),
    ],
)
def test_a_wrong_option_is_refused(capsys, tokens, tmp_path, args, part):
    err = refused(capsys, "compress", tokens, "-o", tmp_path / "c", "--ratio", "0.1", *args)
    assert part in err
    assert not list(tmp_path.iterdir())


def test_missing_evidence_names_the_cure(capsys, clip, tmp_path):
    run(capsys, "encode", clip, "-o", tmp_path / "t", "--frames", 4)
    err = refused(
        capsys, "compress", tmp_path / "t", "-o", tmp_path / "c", "--ratio", "0.1", "--importance", "saliency"
    )
    assert "--evidence auto --method st-simdiff:importance=saliency" in err


def test_an_existing_output_is_kept_unless_forced(capsys, tokens, tmp_path):
    path = tmp_path / "out.safetensors"
    path.write_text("precious")
    arguments = ["compress", tokens, "-o", path, "--ratio", "0.5", "--method", "uniform"]
    assert "exists" in refused(capsys, *arguments)
    assert path.read_text() == "precious"
    assert run(capsys, *arguments, "--force")[0] == 0
    assert path.stat().st_size > len("precious")


def test_the_frames_of_a_tokens_file_are_fixed(capsys, tokens, tmp_path):
    err = refused(capsys, "compress", tokens, "-o", tmp_path / "c", "--ratio", "0.5", "--frames", 4)
    assert "already encoded" in err


def test_a_compressed_file_is_not_compressed_again(capsys, kept, tmp_path):
    assert "already compressed" in refused(capsys, "compress", kept, "-o", tmp_path / "c", "--ratio", "0.5")


def test_a_missing_file_is_refused(capsys, tmp_path):
    refused(capsys, "compress", tmp_path / "no.safetensors", "-o", tmp_path / "c", "--ratio", "0.5")


# --- What it shares with encode and the other commands ----------------------------------------------------------------


def test_a_part_of_a_video_is_compressed_as_encode_would_store_it(capsys, clip, tmp_path):
    part = ("--start", 0.2, "--end", 0.6, "--frames", 4, "--decoder", "pyav")
    assert run(capsys, "encode", clip, "-o", tmp_path / "t", *part)[0] == 0
    for number, source in enumerate(((clip, *part), (tmp_path / "t",))):
        assert (
            run(capsys, "compress", *source, "-o", tmp_path / f"{number}", "--ratio", 0.5, "--method", "uniform")[0]
            == 0
        )
    held = [json.loads(run(capsys, "inspect", tmp_path / name, "--json")[1]) for name in ("0", "1")]
    assert held[0]["slot_seconds"] == held[1]["slot_seconds"] and held[0]["slot_seconds"][0] >= 0.2


@pytest.mark.parametrize(
    ("command", "options", "names"),
    [
        ("compress", ["--start", 1], "--start and --end"),
        ("compress", ["--revision", "v1"], "--revision"),
        ("ask", ["--revision", "v1"], "--revision"),
        ("ask", ["--fps", 1], "--frames and --fps"),
    ],
)
def test_what_is_fixed_in_a_file_cannot_be_chosen(capsys, tokens, tmp_path, command, options, names):
    more = ["-o", tmp_path / "c", "--ratio", 0.5] if command == "compress" else ["Why?"]
    assert f"Leave out {names}." in refused(capsys, command, tokens, *more, *options)


def test_options_are_taken_by_their_plural_and_singular(capsys, tokens, tmp_path):
    for number, words in enumerate((("--ratio", "--method", "--prompt"), ("--ratios", "--methods", "--question"))):
        values = zip(words, ("0.5", "uniform", "Why?"), strict=True)
        given = [part for pair in values for part in pair]
        assert run(capsys, "compress", tokens, "-o", tmp_path / f"{number}", *given)[0] == 0
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()
    for command in (["bench", "--method", "x"], ["eval", "videomme", "--data", ".", "--method", "x"]):
        assert "no method named 'x'" in refused(capsys, *command)
    assert "'x'" in refused(capsys, "profile", "--method", "x")
