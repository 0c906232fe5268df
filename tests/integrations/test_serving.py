"""Compressed files in vLLM, as far as it goes without vLLM: ids, prompts, positions, requests and refusals."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from stsimdiff_cli import pipeline
from stsimdiff_cli.cli import output
from stsimdiff_cli.errors import FileFormatError, ModelError, RequestError
from stsimdiff_cli.integrations import serving
from stsimdiff_cli.integrations.serving import engine, server
from stsimdiff_cli.integrations.serving.door import Door, rewritten
from stsimdiff_cli.integrations.serving.library import Library, Shelf, UnknownIdError
from stsimdiff_cli.integrations.serving.prompts import VideoPrompts, laid_out
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.storage.writing import save_compressed
from stsimdiff_cli.video import Sampling
from tests.support.checkpoints import CHECKPOINTS
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.commands import refused, run
from tests.support.ports import free_port

SAMPLES = Path(__file__).parents[2] / "sample_videos"
CPU = Runtime("cpu", "float32")


def kept_of(model: str, ratio: str = "0.3") -> pipeline.CompressedVideo:
    tokens = pipeline.encode_video(SAMPLES / "flash.mp4", model, Sampling(frames=8), CPU)
    return pipeline.compress_tokens(tokens, ratio, "uniform", CPU)


@pytest.fixture(scope="module")
def talk(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("served") / "talk.safetensors"
    save_compressed(path, kept_of("tiny"))
    return path


# --- Ids --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "below" / "deep").mkdir(parents=True)
    for name in ("secret", "below/talk", "below/deep/talk"):
        (tmp_path / f"{name}.safetensors").write_text(name)
    (tmp_path / "below" / "notes.txt").write_text("no")
    (tmp_path / "below" / "out.safetensors").symlink_to(tmp_path / "secret.safetensors")
    (tmp_path / "below" / "in.safetensors").symlink_to(tmp_path / "below" / "talk.safetensors")
    (tmp_path / "below" / "up").symlink_to(tmp_path)
    return tmp_path / "below"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("talk", "talk"),
        ("talk.safetensors", "talk"),
        ("deep/talk", "deep/talk"),
        ("./talk", "talk"),
        ("in", "talk"),
    ],
)
def test_an_id_is_a_name_or_a_path_below_the_folder(folder, name, file):
    assert Library.of([folder]).path(name) == folder / f"{file}.safetensors"


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "deep", "nothing", "notes", "notes.txt", "talk\0", "a" * 5000),
        *("../secret", "deep/../../secret", "../below/talk", "..\\secret", "up/secret", "out"),
        *("/etc/passwd", "//etc/passwd", "~/x", "file:///etc/passwd"),
    ],
)
def test_no_id_leads_out_of_the_folder(folder, name):
    with pytest.raises(UnknownIdError, match="no file with the id"):
        Library.of([folder]).path(name)


def test_an_absolute_path_of_a_served_file_is_no_id(folder):
    with pytest.raises(UnknownIdError):
        Library.of([folder]).path(str(folder / "talk.safetensors"))


def test_a_single_file_serves_nothing_next_to_it(folder):
    one = Library.of([folder / "deep" / "talk.safetensors"])
    assert one.path("talk") == folder / "deep" / "talk.safetensors"
    (folder / "deep" / "other.safetensors").write_text("")
    with pytest.raises(UnknownIdError):
        one.path("other")


def test_two_files_of_one_name_are_refused(folder):
    with pytest.raises(RequestError, match="Two files have the id talk"):
        Library.of([folder / "talk.safetensors", folder / "deep" / "talk.safetensors"])


def test_files_that_come_later_are_served_and_changed_ones_are_read_again(talk, tmp_path):
    shelf = Shelf(Library.of([tmp_path]), open_family("tiny"))
    with pytest.raises(UnknownIdError):
        shelf.span("late")
    save_compressed(tmp_path / "late.safetensors", kept_of("tiny"))
    first = shelf.span("late")
    assert shelf.span("late") is first
    save_compressed(tmp_path / "late.safetensors", kept_of("tiny", "0.5"))
    assert len(shelf.span("late").ids) > len(first.ids)


def test_a_file_of_another_model_and_a_damaged_one_are_refused(talk, tmp_path):
    other = open_family(str(CHECKPOINTS["qwen2_5_vl"](tmp_path / "other")))
    with pytest.raises(RequestError, match=r"^talk.safetensors was made by tiny, and .* cannot read it"):
        Shelf(Library.of([talk]), other).span("talk")
    data = bytearray(talk.read_bytes())
    data[-100] ^= 255
    (tmp_path / "bad.safetensors").write_bytes(data)
    with pytest.raises(FileFormatError, match=r"^bad\.safetensors is damaged"):
        Shelf(Library.of([tmp_path]), open_family("tiny")).span("bad")


def test_another_process_finds_the_same_files(talk, monkeypatch):
    shelf = Shelf(Library.of([talk]), open_family("tiny"))
    for name, value in shelf.announcement().items():
        monkeypatch.setenv(name, value)
    assert Shelf.from_environment().span("talk").key == shelf.span("talk").key


# --- Prompts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", ["1", "0.3"])
@pytest.mark.parametrize("name", [*serving.CLASSES])
def test_prompt_and_span_are_the_prompt_of_ask(tmp_path, name, ratio):
    """Ids and positions, as an engine puts them together, against those that enter the LLM in `ask`."""
    family = open_family(str(CHECKPOINTS[name](tmp_path)))
    video = kept_of(family.checkpoint.id, ratio)
    prompts = VideoPrompts(family)
    span = prompts.span(video)
    language = pipeline.converse(video, CPU).language
    for question in QUESTIONS:
        expected = language.prompter.prompt(language.model, video.grid, question, video.index)
        ids = prompts.ids(video, question)
        assert ids.count(family.placeholder) == 1
        offset = ids.index(family.placeholder)
        assert [*ids[:offset], *span.ids, *ids[offset + 1 :]] == expected.ids.tolist()
        positions = laid_out(len(expected.ids), [(offset, span.positions, span.advance)])
        assert torch.equal(positions, expected.positions[-3:].expand(3, -1))
    rows = span.ids.count(family.placeholder) - (name == "llava_onevision")  # its newline has no features in the file
    assert len(span.features) == rows == len(video.index)
    assert torch.equal(span.features[:, : video.grid.width], video.embeddings.features)


def test_two_videos_follow_each_other():
    """A video of 2 tokens at positions 0 and 5, and one of 3; text around each."""
    first, second = torch.tensor([[0, 5]]).expand(3, -1), torch.arange(3).expand(3, -1)
    positions = laid_out(9, [(1, first, 6), (5, second, 4)])
    assert positions[0].tolist() == [0, 1, 6, 7, 8, 9, 10, 11, 13]


def test_equal_files_have_one_key_and_others_another(tmp_path):
    prompts = VideoPrompts(open_family("tiny"))
    video = kept_of("tiny")
    assert prompts.span(video).key == prompts.span(kept_of("tiny")).key != prompts.span(kept_of("tiny", "0.5")).key


# --- The engine's settings --------------------------------------------------------------------------------------------


def test_sections_of_the_rotary_embedding(tmp_path):
    """Of plain positions, of the embedded model, and of Qwen2.5-VL, where nothing is to be said."""
    plain = open_family(str(CHECKPOINTS["llava_onevision"](tmp_path / "plain")))
    qwen = open_family(str(CHECKPOINTS["qwen2_5_vl"](tmp_path / "qwen")))

    def said(family) -> dict:
        return engine.arguments(family)["hf_overrides"]

    assert said(plain)["text_config"]["rope_parameters"]["mrope_section"] == [2, 2, 2]
    assert said(qwen) == {"architectures": ["StSimDiffQwen25VL"]}


def test_a_family_that_is_not_served_is_refused(tmp_path):
    with pytest.raises(RequestError, match="family smolvlm, which cannot be served with vLLM yet"):
        engine.arguments(open_family(str(CHECKPOINTS["smolvlm"](tmp_path))))


def test_the_plug_in_registers_its_classes_and_no_other(monkeypatch):
    models: dict[str, str] = {}
    loaders: dict[str, object] = {}
    vllm, connector = ModuleType("vllm"), ModuleType("vllm.multimodal.media.connector")
    vllm.ModelRegistry = type("ModelRegistry", (), {"register_model": staticmethod(models.__setitem__)})
    registry = type("R", (), {"register": lambda _, name: lambda load: loaders.setdefault(name, load)})
    connector.MEDIA_CONNECTOR_REGISTRY = registry()
    media = ModuleType("vllm.multimodal.media")
    media.connector = connector
    parsers: dict[str, object] = {}
    configs, base = (
        ModuleType("vllm.transformers_utils.config"),
        ModuleType("vllm.transformers_utils.config_parser_base"),
    )
    configs.register_config_parser = lambda name: lambda parser: parsers.setdefault(name, parser)
    base.ConfigParserBase = object
    around = (ModuleType("vllm.multimodal"), ModuleType("vllm.transformers_utils"))
    for module in (vllm, *around, media, connector, configs, base):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "stsimdiff_cli.integrations.serving.configuration", raising=False)
    serving.register()
    assert set(models) == {f"StSimDiff{name}" for name in serving.CLASSES.values()}
    assert all(place.startswith("stsimdiff_cli.integrations.serving.models:") for place in models.values())
    assert list(loaders) == list(parsers) == ["stsimdiff"]


# --- Requests ---------------------------------------------------------------------------------------------------------


def request(*parts: object) -> bytes:
    return json.dumps({"model": "tiny", "messages": [{"role": "user", "content": list(parts)}]}).encode()


def test_a_content_part_of_a_file_becomes_one_of_the_engine():
    text = {"type": "text", "text": "What?"}
    given = request({"type": "stsimdiff", "file": "a b/../talk", "uuid": "x"}, text)
    part = {"type": "video_url", "video_url": {"url": "stsimdiff:a%20b%2F..%2Ftalk"}}
    assert json.loads(rewritten(given)) == json.loads(request(part, text))


def test_no_client_names_a_file_for_the_caches():
    part = {"type": "video_url", "video_url": {"url": "stsimdiff:talk"}}
    assert json.loads(rewritten(request(part | {"uuid": "mine"}))) == json.loads(request(part))


def test_a_message_without_content_hides_nothing_from_the_door():
    given = json.loads(request({"type": "stsimdiff", "file": "talk", "uuid": "x"}))
    given["messages"] = [{"role": "assistant"}, 3, *given["messages"]]
    part = json.loads(rewritten(json.dumps(given).encode()))["messages"][2]["content"][0]
    assert part == {"type": "video_url", "video_url": {"url": "stsimdiff:talk"}}


@pytest.mark.parametrize(
    "body", [b"", b"[" * 100_000, b"{", b"[]", b"null", b'{"messages": 3}', b'{"messages": [{"role": "user"}]}']
)
def test_what_is_no_request_is_left_to_vllm(body):
    assert rewritten(body) == body


def test_the_door_passes_on_what_it_has_rewritten():
    seen: list = []

    async def app(scope, receive, send):
        seen.append((dict(scope["headers"]), (await receive())["body"]))

    pieces = iter(
        [{"type": "http.request", "body": b, "more_body": m} for b, m in ((b'{"mess', True), (b'ages": []}', False))]
    )

    async def receive():
        return next(pieces)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"16")]
    asyncio.run(Door(app)({"type": "http", "headers": headers}, receive, None))
    assert seen == [(dict(headers), b'{"messages": []}')]


# --- A server that does not start, or ends ----------------------------------------------------------------------------

#: What vLLM's processes write when the engine does not start; the first error is the reason.
FAILED = """(EngineCore pid=7) ERROR 11-30 [core.py:1] EngineCore failed to start.
(EngineCore pid=7) ERROR 11-30 [core.py:1] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-30 [core.py:1] ValueError: Available memory on node 0 (2/15 GiB) is too small.
(APIServer pid=6) Traceback (most recent call last):
(APIServer pid=6) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


def run_script(script: str) -> list[str]:
    """Run a program in the place of vLLM; what happened once it answered."""
    happened: list[str] = []
    command = [sys.executable, "-c", f"import os, signal, sys, time\n{script}"]
    server.run_server(command, dict(os.environ), lambda: happened.append("ready"), live=False)
    return happened


@pytest.mark.parametrize(
    ("script", "kind", "sentence", "hint"),
    [
        (
            f"sys.stderr.write({FAILED!r}); sys.exit(1)",
            ModelError,
            r"did not start: Available memory on node 0 \(2/15 GiB\) is too small\.$",
            "--max-model-len",
        ),
        ("raise OSError('no such thing.')", ModelError, r"did not start: no such thing\.$", "--verbose"),
        (
            "raise RuntimeError(\"See root cause above. Failed core proc(s): {'EngineCore_0': -9}\")",
            ModelError,
            "EngineCore_0': -9",
            "--verbose",
        ),
        ("sys.exit(3)", ModelError, r"did not start: it ended with code 3\.$", "--verbose"),
        ("os.kill(os.getpid(), signal.SIGKILL)", ModelError, "SIGKILL ended it", "--max-model-len"),
        (
            "print('main.py: error: unrecognized arguments: --foo', file=sys.stderr); sys.exit(2)",
            RequestError,
            r"refuses its options: unrecognized arguments: --foo\.$",
            "--help",
        ),
    ],
)
def test_a_server_that_does_not_start_says_why_in_a_sentence(capfd, script, kind, sentence, hint):
    with pytest.raises(kind, match=sentence) as caught:
        run_script(script)
    assert hint in caught.value.hint
    assert capfd.readouterr() == ("", "")  # no traceback, whatever vLLM wrote


def test_what_a_server_writes_is_shown_from_its_start_on(capfd):
    script = "print('loading'); print('(APIServer pid=6) stsimdiff: ready', flush=True); print('200 OK', flush=True)"
    assert run_script(script) == ["ready"]
    for _ in range(100):  # a thread passes it on
        if err := capfd.readouterr().err:
            break
        time.sleep(0.05)
    assert err == "200 OK\n"


def test_a_server_that_breaks_down_later_is_an_error():
    with pytest.raises(ModelError, match="ended by itself, with code 1"):
        run_script("print('stsimdiff: ready', flush=True); sys.exit(1)")


def test_whoever_ends_the_command_ends_the_server(tmp_path):
    """SIGTERM reaches vLLM's process, and the command ends with the code of that signal, and without a word."""
    seen = tmp_path / "seen"
    inner = f"""
import pathlib, signal, sys, time
def leave(*_):
    pathlib.Path({str(seen)!r}).write_text("ended")
    print("leaked 64 types", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("stsimdiff: ready", flush=True)
time.sleep(60)
"""
    outer = f"""
import os, sys
from stsimdiff_cli.cli import stops
from stsimdiff_cli.integrations.serving.server import run_server
stops.install()
try:
    run_server([sys.executable, "-c", {inner!r}], dict(os.environ), lambda: print("ready", flush=True), False)
except stops.Stopped as stopped:
    stops.settle()
    sys.exit(stopped.exit_code)
"""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", outer], **pipes) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.communicate(timeout=30) == ("", "") and process.returncode == 143
    assert seen.read_text() == "ended"


#: In the place of vLLM: a server, and its engine, which does not end by itself. They hold a FIFO open while they live.
STAND_IN = """
import multiprocessing, os, signal, sys, time
from stsimdiff_cli.integrations.serving import api_server

def live(fifo):
    with open(fifo, "w") as held:
        print(os.getpid(), file=held, flush=True)
        time.sleep(120)

def engine(fifo):
    api_server.GRACE = 0.2
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    api_server.end_with_parent()
    live(fifo)

def main():
    multiprocessing.get_context("spawn").Process(target=engine, args=sys.argv[1:]).start()
    print("stsimdiff: ready", flush=True)
    live(sys.argv[1])
"""


def test_whoever_kills_the_command_ends_the_server_and_its_engine(tmp_path):
    """SIGKILL, of which the command can tell nobody."""
    (tmp_path / "vllm" / "entrypoints" / "cli").mkdir(parents=True)
    (tmp_path / "vllm" / "entrypoints" / "cli" / "main.py").write_text(STAND_IN)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    outer = f"""
import os, sys
from stsimdiff_cli.integrations.serving.server import run_server
command = [sys.executable, "-m", "stsimdiff_cli.integrations.serving.api_server", {str(fifo)!r}]
run_server(command, dict(os.environ), lambda: None, True)
"""
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    with subprocess.Popen([sys.executable, "-c", outer], env=environment) as process, fifo.open() as held:
        alive = [int(held.readline()), int(held.readline())]
        try:
            assert select.select([held], [], [], 1)[0] == []  # both live on
            process.kill()
            assert select.select([held], [], [], 30)[0] and held.read() == ""  # nobody holds it open any more
            alive = []
        finally:
            process.kill()
            for number in alive:
                os.kill(number, signal.SIGKILL)


def test_the_door_says_when_the_server_answers(capsys):
    async def app(scope, receive, send):
        await send({"type": "lifespan.startup.complete"})

    sent: list = []

    async def send(message):
        sent.append(message)

    asyncio.run(Door(app)({"type": "lifespan"}, None, send))
    assert capsys.readouterr().err == "stsimdiff: ready\n" and sent == [{"type": "lifespan.startup.complete"}]


# --- The commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch) -> list:
    """The command and the environment with which vLLM would be started; it counts as installed."""
    calls: list = []
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(server, "run_server", lambda *call: calls.append(call))
    return calls


def test_serve_starts_vllm_with_the_plug_in(capsys, talk, started):
    port = free_port()
    code, _, err = run(capsys, "serve", talk, "--port", port, "--vllm", "--max-num-seqs 4")
    assert code == 0 and f"http://127.0.0.1:{port}/v1" in err
    ((command, environment, *_),) = started
    assert command[0] == sys.executable and command[3] == "serve"
    options = dict(itertools.pairwise(command))
    assert options["--served-model-name"] == "tiny" and options["--max-num-seqs"] == "4"
    assert json.loads(options["--hf-overrides"])["architectures"] == ["StSimDiffQwen25VL"]
    assert environment["VLLM_MEDIA_CONNECTOR"] == "stsimdiff"
    assert json.loads(environment[serving.SERVED])["files"] == [str(talk)]


def test_serve_refuses_what_it_cannot_serve(capsys, talk, tmp_path, started):
    assert "There is no file" in refused(capsys, "serve", tmp_path / "absent.safetensors")
    assert "needs a model" in refused(capsys, "serve", tmp_path)
    other = CHECKPOINTS["qwen2_5_vl"](tmp_path / "other")
    assert "cannot read it" in refused(capsys, "serve", talk, "--model", other)
    assert "cannot be read" in refused(capsys, "serve", talk, "--vllm", "'open")
    assert "no chat template" in refused(
        capsys, "serve", tmp_path, "--model", CHECKPOINTS["llava_video"](tmp_path / "v")
    )
    assert started == []


def test_a_port_in_use_is_refused_before_vllm_starts(capsys, talk, started):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"Nobody can listen at 127.0.0.1, port {port}" in refused(capsys, "serve", talk, "--port", port)
    assert "Nobody can listen at" in refused(capsys, "serve", talk, "--port", port, "--host", "no.such.host.invalid")
    assert started == []


def test_a_family_that_vllm_does_not_serve_is_refused_whether_it_is_installed_or_not(capsys, tmp_path, monkeypatch):
    save_compressed(tmp_path / "one.safetensors", kept_of(str(CHECKPOINTS["smolvlm"](tmp_path / "smol"))))
    for spec in (None, object()):
        monkeypatch.setattr(engine.importlib.util, "find_spec", lambda _, spec=spec: spec)
        for command in (("serve", tmp_path / "one.safetensors"), ("ask", tmp_path / "one.safetensors", "What?")):
            options = ["--engine", "vllm"] * (command[0] == "ask")
            assert "family smolvlm, which cannot be served" in refused(capsys, *command, *options)


def test_without_vllm_both_commands_say_how_to_install_it(capsys, talk, monkeypatch):
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda _: None)
    for command in (("serve", talk), ("ask", talk, "What?", "--engine", "vllm")):
        assert "pip install 'stsimdiff[vllm]'" in refused(capsys, *command)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--engine", "vlm"], "Did you mean 'vllm'"),
        (["--engine", "vllm", "--when"], "--when and --engine vllm"),
        (["--engine", "vllm", "--positions", "packed"], "--positions and --engine vllm"),
        (["--engine", "vllm", "--device", "cpu"], "--device and --engine vllm"),
    ],
)
def test_ask_refuses_what_an_engine_cannot_do(capsys, talk, options, sentence):
    assert sentence in refused(capsys, "ask", talk, "What?", *options)


ENGINES = ("transformers", "vllm")


class StandInEngine:
    """Answers as vLLM's engine would, with transformers."""

    def __init__(self, family, *_) -> None:
        self.prompts = VideoPrompts(family)

    def ask(self, videos, questions, **generation):
        return [pipeline.converse(video, CPU).ask_all(questions, **generation) for video in videos]


@pytest.mark.parametrize("questions", [["What happens in this video?"], ["Who is the zebra?", "Is it red?"]])
def test_answers_are_shown_alike_whichever_engine_gives_them(capsys, talk, tmp_path, monkeypatch, questions):
    """On stdout and stderr, for one file and for two, as text and as JSON; a warning of unknown words included."""
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(engine, "Engine", StandInEngine)
    monkeypatch.setattr(output, "_said", set())
    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_LOGGING_LEVEL", "VLLM_LOGGING_STREAM"):
        monkeypatch.setenv(name, "")  # so that it is as before after the test
    again = tmp_path / "again.safetensors"
    again.write_bytes(talk.read_bytes())
    for files in ([talk], [talk, again]):
        given = []
        for name in ENGINES:
            output._said.clear()
            given.append(run(capsys, "ask", *files, *questions, "--engine", name, "--dtype", "float32"))
        assert (
            given[0] == given[1] and given[0][0] == 0 and len(given[0][1].splitlines()) == len(files) * len(questions)
        )
    lines = [json.loads(run(capsys, "ask", talk, *questions, "--json", "--engine", name)[1]) for name in ENGINES]
    for line in lines:
        line.pop("seconds"), line.pop("stage_seconds")
        for answer in line["answers"]:
            answer.pop("seconds"), answer.pop("first_token_seconds", None)
    assert lines[0] == lines[1]
