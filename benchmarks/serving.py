"""Questions per second of `stsimdiff serve` at 1, 8 and 32 clients, next to `ask` alone. Needs vLLM.

    python -m benchmarks.serving [--rounds 2] [--output benchmarks/reports/serving.json]

All ways answer the same questions about the same compressed files of the embedded model, in turns, and their answers
are compared. `ask` has the LLM loaded and the files prefilled, and answers one question after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.serving_tables import FORMAT
from stsimdiff_cli import machine, pipeline
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.model_cache import ModelCache
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.storage.writing import save_compressed
from stsimdiff_cli.synthetic.questions import EXAMPLES

ROOT = Path(__file__).parents[1]
CPU = Runtime("cpu", "float32")
CLIENTS, RATIO, MODEL, NEW_TOKENS = (1, 8, 32), "0.3", "tiny", 8
#: Of vLLM, for a small machine.
OPTIONS = "--enforce-eager --max-model-len 2048 --kv-cache-memory-bytes 268435456"
Pair = tuple[str, str]  # a file's id and a question


class Server:
    """`stsimdiff serve` of a folder."""

    def __init__(self, folder: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "stsimdiff_cli", "serve", str(folder), "--model", MODEL, "--port", str(port)]
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [*command, "--dtype", "float32", "--vllm", OPTIONS], stdout=out, stderr=out, start_new_session=True
            )
        while True:
            try:
                self._get("/health")
                return
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit(log.read_text()[-3000:]) from None
                time.sleep(1)

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(self.address + path, timeout=60) as reply:
            return str(reply.read().decode())

    def ask(self, pair: Pair) -> str:
        """The answer to one question."""
        parts = [{"type": "stsimdiff", "file": pair[0]}, {"type": "text", "text": pair[1]}]
        body = {"model": MODEL, "messages": [{"role": "user", "content": parts}]}
        body |= {"temperature": 0, "max_tokens": NEW_TOKENS}
        url, head = f"{self.address}/v1/chat/completions", {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), head), timeout=600) as reply:
            return str(json.load(reply)["choices"][0]["message"]["content"]).strip()

    def prefix(self) -> tuple[float, float]:
        """Prompt tokens that were looked up in the prefix cache so far, and those that were found there."""
        lines = [line.rsplit(" ", 1) for line in self._get("/metrics").splitlines() if line.startswith("vllm:prefix_")]
        found = {name.split("{")[0]: float(value) for name, value in lines}
        return found["vllm:prefix_cache_queries_total"], found["vllm:prefix_cache_hits_total"]

    def cpu_seconds(self) -> float:
        """Of all its processes so far, from /proc."""
        session, ticks = self.process.pid, 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                values = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it ended
                continue
            if int(values[3]) == session:
                ticks += int(values[11]) + int(values[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def measure(server: Server, alone: dict[str, Conversation], pairs: list[Pair], rounds: int) -> list[dict[str, Any]]:
    """Each way's questions, seconds and CPU seconds over all rounds."""
    names = ["`ask`", *(f"{count} client{'s' * (count > 1)}" for count in CLIENTS)]
    ways = [{"name": name, "questions": 0, "seconds": 0.0, "cpu_seconds": 0.0} for name in names]
    ways = [{**way, "prefix_tokens": 0 if number else None, "prefix_hits": 0} for number, way in enumerate(ways)]
    expected = [alone[name].ask(question, NEW_TOKENS).text for name, question in pairs]
    for pair in pairs:  # everybody has seen every file once
        server.ask(pair)
    for _ in range(rounds):
        for way, clients in zip(ways, (0, *CLIENTS), strict=True):
            begin, cpu, before = time.perf_counter(), time.process_time(), server.cpu_seconds()
            if clients:
                tokens, hits = server.prefix()
                with ThreadPoolExecutor(clients) as pool:
                    answers = list(pool.map(server.ask, pairs))
            else:
                answers = [alone[name].ask(question, NEW_TOKENS).text for name, question in pairs]
            way["questions"] += len(pairs)
            way["seconds"] += time.perf_counter() - begin
            way["cpu_seconds"] += server.cpu_seconds() - before if clients else time.process_time() - cpu
            if clients:
                now = server.prefix()
                way["prefix_tokens"] += now[0] - tokens
                way["prefix_hits"] += now[1] - hits
            if answers != expected:
                raise SystemExit(f"{way['name']}: other answers than ask alone")
    return ways


def main() -> None:
    """Make the files, start the server, measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/reports/serving.json")
    given = parser.parse_args()
    context = pipeline.Context(models=ModelCache())
    alone = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "kept"
        folder.mkdir()
        for clip in sorted((ROOT / "sample_videos").glob("*.mp4"))[-4:]:
            tokens = pipeline.encode_video(clip, MODEL, runtime=CPU, context=context)
            video = pipeline.compress_tokens(tokens, RATIO, "uniform", CPU, context=context)
            save_compressed(folder / f"{clip.stem}.safetensors", video)
            alone[clip.stem] = pipeline.converse(video, CPU, context=context)
        server = Server(folder, Path(temporary) / "log")
        try:
            pairs = [(name, question) for question in EXAMPLES[:8] for name in alone]
            ways = measure(server, alone, pairs, given.rounds)
        finally:
            server.process.terminate()
            server.process.wait()
    report = {
        "format": FORMAT,
        "model": MODEL,
        "ratio": RATIO,
        "options": shlex.split(OPTIONS),
        "machine": machine.describe(),
        "load": os.getloadavg(),
        "ways": ways,
    }
    given.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(ways, indent=1))


if __name__ == "__main__":
    main()
