"""Compressed files in vLLM itself, on the CPU: its answers are those of `ask`, token for token, in float32."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from stsimdiff_cli import pipeline
from stsimdiff_cli.integrations.serving import CLASSES
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.storage.writing import save_compressed
from stsimdiff_cli.video import Sampling
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.ports import free_port
from tests.support.wide_checkpoints import wide_checkpoint

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not find_spec("vllm"), reason="needs vLLM: see `make test-vllm`"),
    pytest.mark.filterwarnings("default"),  # vLLM's own are many
]
SAMPLES = Path(__file__).parents[2] / "sample_videos"
CPU = Runtime("cpu", "float32")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(pipeline.__file__).parents[1])}
SHAPES = ["What happens in this video?", "How many objects are there?", "What colour is the object?"]
#: For a machine that tests: one core, little memory.
SMALL: dict[str, Any] = {"enforce_eager": True, "max_model_len": 2048, "kv_cache_memory_bytes": 1 << 28}


def videos_of(model: str) -> list[pipeline.CompressedVideo]:
    """Two clips, each whole and with 30 % of its tokens."""
    kept = []
    for name in ("flash", "move"):
        tokens = pipeline.encode_video(SAMPLES / f"{name}.mp4", model, Sampling(frames=8), CPU)
        kept += [pipeline.all_tokens(tokens), pipeline.compress_tokens(tokens, "0.3", "uniform", CPU)]
    return kept


@pytest.mark.parametrize("name", [*CLASSES, "tiny"])
def test_answers_are_those_of_ask(tmp_path, name):
    """Two videos at two ratios and three questions, all in flight at once."""
    from stsimdiff_cli.integrations.serving.engine import Engine

    model = "tiny" if name == "tiny" else str(wide_checkpoint(name, tmp_path))
    questions = SHAPES if name == "tiny" else QUESTIONS
    videos = videos_of(model)
    expected = [pipeline.converse(video, CPU).ask_all(questions, 12) for video in videos]
    given = Engine(open_family(model), "float32", **SMALL).ask(videos, questions, 12)
    for ours, theirs in zip(expected, given, strict=True):
        assert [(answer.text, answer.tokens) for answer in theirs] == [(answer.text, answer.tokens) for answer in ours]
        assert [answer.prompt_tokens for answer in theirs] == [answer.prompt_tokens for answer in ours]
    assert len({answer.text for answers in given for answer in answers}) > 2  # else equality would say little


def test_ask_answers_with_either_engine(tmp_path):
    """Two files and two questions; stdout holds the answers alone."""
    files = []
    for number, video in enumerate(videos_of("tiny")[1::2]):
        files.append(str(tmp_path / f"{number}.safetensors"))
        save_compressed(files[-1], video)
    command = [sys.executable, "-m", "stsimdiff_cli", "ask", *files, *SHAPES[:2], "--dtype", "float32", "--json"]
    given = {}
    for engine in ("transformers", "vllm"):
        done = subprocess.run([*command, "--engine", engine], capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-3000:]
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        given[engine] = [[(a["question"], a["answer"], a["prompt_tokens"]) for a in row["answers"]] for row in rows]
    assert given["vllm"] == given["transformers"] and len(given["vllm"]) == 2


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--vllm", "--max-model-len 100000000"], 1, "vLLM did not start: "),
        (["--vllm", "--no-such-option 3"], 2, "vLLM refuses its options: "),
    ],
)
def test_a_server_that_does_not_start_ends_in_a_sentence(tmp_path, options, code, sentence):
    """No traceback, whichever of vLLM's processes fails."""
    command = [sys.executable, "-m", "stsimdiff_cli", "serve", str(tmp_path), "--model", "tiny"]
    command += ["--port", str(free_port()), *options]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr and "hint:" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


class Server:
    """`stsimdiff serve` on files, in a process of its own."""

    def __init__(self, folder: Path, *files: Path, model: str = "tiny") -> None:
        self.port = free_port()
        small = " ".join(
            f"--{key.replace('_', '-')}{'' if value is True else f' {value}'}" for key, value in SMALL.items()
        )
        self.log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "stsimdiff_cli", "serve", *map(str, files), "--model", model),
                *("--port", str(self.port), "--dtype", "float32", "--vllm", small),
            ],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
        )

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self, seconds: float = 900) -> None:
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=5)
                return
            except OSError:
                time.sleep(1)
        raise AssertionError(Path(self.log.name).read_text()[-4000:])

    def ask(self, file: str, question: str, **more: Any) -> tuple[int, dict[str, Any]]:
        """Status and answer of one request."""
        parts = [{"type": "stsimdiff", "file": file}, {"type": "text", "text": question}]
        body = {"model": "tiny", "messages": [{"role": "user", "content": parts}], "temperature": 0, "max_tokens": 12}
        request = urllib.request.Request(
            f"{self.address}/v1/chat/completions",
            json.dumps(body | more).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=300) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def metric(self, name: str) -> float:
        """The value of a counter of vLLM."""
        with urllib.request.urlopen(f"{self.address}/metrics", timeout=60) as reply:
            lines = reply.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server of a folder with four compressed files of the embedded model, a damaged one and another model's."""
    folder = tmp_path_factory.mktemp("files")
    names = ["flash-1", "flash-0.3", "move-1", "move-0.3"]
    videos = dict(zip(names, videos_of("tiny"), strict=True))
    for name, video in videos.items():
        save_compressed(folder / f"{name}.safetensors", video)
    save_compressed(folder.parent / "secret.safetensors", videos["move-1"])
    damaged = bytearray((folder / "move-1.safetensors").read_bytes())
    damaged[-100] ^= 255
    (folder / "damaged.safetensors").write_bytes(damaged)
    other = wide_checkpoint("qwen2_5_vl", tmp_path_factory.mktemp("other"))
    save_compressed(folder / "other.safetensors", videos_of(str(other))[1])
    server = Server(folder.parent, folder)
    try:
        server.wait()
        yield server, folder, videos
    finally:
        server.stop()


def answers_of(videos: dict[str, pipeline.CompressedVideo]) -> dict[tuple[str, str], str]:
    """What `ask` says about every file."""
    expected = {}
    for name, video in videos.items():
        answers = pipeline.converse(video, CPU).ask_all(SHAPES, 12)
        expected |= {(name, question): answer.text for question, answer in zip(SHAPES, answers, strict=True)}
    return expected


def test_many_clients_get_the_answers_of_ask(served):
    server, _, videos = served
    expected = answers_of(videos)
    with ThreadPoolExecutor(12) as pool:
        given = dict(zip(expected, pool.map(lambda pair: server.ask(*pair), expected), strict=True))
    for pair, (status, reply) in given.items():
        assert status == 200, reply
        assert reply["choices"][0]["message"]["content"].strip() == expected[pair]
    assert len(set(expected.values())) > 2


def test_the_second_question_about_a_file_finds_the_first_ones_prefix(served):
    server, folder, videos = served
    save_compressed(folder / "fresh.safetensors", videos["flash-1"])
    server.ask("fresh", SHAPES[0], cache_salt="one")
    before = server.metric("vllm:prefix_cache_hits_total")
    server.ask("fresh", SHAPES[1], cache_salt="one")
    hits = server.metric("vllm:prefix_cache_hits_total") - before
    assert hits >= 0.8 * len(videos["flash-1"].index)


@pytest.mark.parametrize(
    ("file", "status", "sentence"),
    [
        ("absent", 404, "no file with the id 'absent'"),
        ("../secret", 404, "no file with the id"),
        ("/etc/passwd", 404, "no file with the id"),
        ("damaged", 400, "damaged.safetensors is damaged"),
        ("other", 400, "other.safetensors was made by"),
    ],
)
def test_an_error_reaches_its_client_alone(served, file, status, sentence):
    server, folder, _ = served
    good: list[Any] = []
    client = threading.Thread(target=lambda: good.append(server.ask("flash-1", SHAPES[0])))
    client.start()
    given, reply = server.ask(file, SHAPES[0])
    client.join()
    assert given == status and sentence in reply["error"]["message"], reply
    assert str(folder.parent) not in reply["error"]["message"]
    assert good[0][0] == 200


def test_addresses_of_other_kinds_are_not_opened(served):
    server, folder, _ = served
    for url in (f"file://{folder}/flash-1.safetensors", "http://127.0.0.1:1/clip.mp4", "data:video/mp4;base64,AAAA"):
        part = {"type": "video_url", "video_url": {"url": url}}
        status, reply = server.ask("flash-1", "", messages=[{"role": "user", "content": [part]}])
        assert status == 400 and "stsimdiff:ID" in reply["error"]["message"], reply


def test_the_page_of_the_documentation_works(served, tmp_path):
    """The commands and the program with the openai client, as they stand in docs/serve.md; the server runs already."""
    server, folder, _ = served
    (tmp_path / "kept").symlink_to(folder)
    (tmp_path / "sample_videos").symlink_to(SAMPLES)
    page = fenced((Path(__file__).parents[2] / "docs" / "serve.md").read_text())
    making, asking = (block for language, block in page if language == "sh")
    (program,) = (block for language, block in page if language == "python")
    (answer,) = (block for language, block in page if language == "text")
    assert making.endswith("stsimdiff serve kept --model tiny\n")
    making = making.removesuffix("stsimdiff serve kept --model tiny\n")
    for name, script in (("make.sh", making), ("ask.sh", asking), ("ask.py", program)):
        (tmp_path / name).write_text(
            script.replace("http://127.0.0.1:8000", server.address)
            .replace("stsimdiff encode", f"{sys.executable} -m stsimdiff_cli encode")
            .replace("stsimdiff compress", f"{sys.executable} -m stsimdiff_cli compress")
        )
        command = [sys.executable] if name.endswith("py") else ["bash", "-e"]
        done = subprocess.run(
            [*command, name], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        if name.startswith("ask"):
            assert answer.strip() in done.stdout, done.stdout


def fenced(page: str) -> list[tuple[str, str]]:
    """The code blocks of a page, with their languages."""
    found, lines = [], iter(page.splitlines())
    for line in lines:
        if line.startswith("```") and len(line) > 3:
            block = list(iter(lambda: next(lines), "```"))
            found.append((line[3:], "\n".join(block) + "\n"))
    return found
