"""What each step of a run reads of a checkpoint, and how much memory that takes, next to loading everything.

    python benchmarks/loading.py [--folder FOLDER] [--models NAME ...] [--dtype float32]

Writes random checkpoints of published sizes into FOLDER (once; default: a temporary one), then measures every part in
a process of its own: bytes of tensors read, seconds to load (the file is in the system's cache), and memory at the end
of loading and at its peak through a little work - encoding two frames, or reading a prompt with 128 visual tokens.
There are two figures for memory: *own* is what the process allocated (RssAnon, read every 2 ms); *resident* is VmHWM,
which also counts the pages of the memory-mapped file while they are in the system's cache. Both include Python and its
libraries, which are given as `imports`. In bfloat16, the dtype of the file, weights stay in the mapped file on a CPU,
so that own memory says little; float32, which stsimdiff uses on a CPU, makes a copy of everything that is read.
Prints one JSON object and a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText

from stsimdiff_cli.machine import describe
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.checkpoint import DUMMY
from stsimdiff_cli.models.loading.quiet import quiet
from stsimdiff_cli.models.loading.random_weights import random_model, write_dummy
from stsimdiff_cli.models.loading.runtime import ResolvedRuntime
from stsimdiff_cli.records import Embeddings, Sizing, Source, TokenGrid

CPU = torch.device("cpu")
MB = 1_000_000
FRAMES = 2
MEMORY = ("own, loaded", "own, peak", "resident, peak")
#: Layers of the LLM that st-simdiff needs by default: up to layer 1.
LAYERS = 2
#: Name -> preset, and what is made smaller.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llava-onevision-0.5b": ("llava-onevision-0.5b", {}),
    "qwen2.5-vl-3b, 6 of 36 layers": ("qwen2.5-vl-3b", {"text_config": {"num_hidden_layers": 6}}),
    "llava-video format, 8 layers of 1536": (
        "llava-video-7b",
        {
            "num_hidden_layers": 8, "hidden_size": 1536, "intermediate_size": 8960,
            "num_attention_heads": 12, "num_key_value_heads": 2,
        },
    ),
}  # fmt: skip


# --- checkpoints ----------------------------------------------------------------------------------------------------


def write(folder: Path, name: str) -> None:
    """A checkpoint of random bfloat16 weights in shards of 1 GB."""
    preset, changes = MODELS[name]
    write_dummy(folder, preset, **changes)
    stored = json.loads((folder / "config.json").read_text())
    stored.pop(DUMMY)
    family = open_family(str(folder))
    model = random_model(family.config, CPU, torch.bfloat16, "sdpa")
    if family.key_mapping:
        _write_authors_format(folder, model)
    else:
        model.save_pretrained(folder, max_shard_size="1GB")
    (folder / "config.json").write_text(json.dumps(stored))


def _write_authors_format(folder: Path, model: Any) -> None:
    """Tensor names as lmms-lab/LLaVA-Video-7B-Qwen2 has them."""
    names = {
        "model.language_model.": "model.",
        "model.vision_tower.": "model.vision_tower.vision_tower.vision_model.",
        "model.multi_modal_projector.linear_1.": "model.mm_projector.0.",
        "model.multi_modal_projector.linear_2.": "model.mm_projector.2.",
    }
    shards: list[dict[str, torch.Tensor]] = [{}]
    for name, tensor in model.state_dict().items():
        begin = next((begin for begin in names if name.startswith(begin)), "")
        rest = name.removeprefix(begin).removeprefix("vision_model.")
        if sum(one.nbytes for one in shards[-1].values()) > 1000 * MB:
            shards.append({})
        shards[-1][names.get(begin, "") + rest] = tensor.contiguous()
    weight_map = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


# --- parts: what a step loads, and a little of its work -------------------------------------------------------------


def everything(family: Family, dtype: torch.dtype) -> Callable[[], object]:
    """All of the checkpoint, loaded in the ordinary way."""
    names = {"config": family.config, "key_mapping": family.key_mapping} if family.key_mapping else {}
    with quiet():
        model = AutoModelForImageTextToText.from_pretrained(family.checkpoint.path, dtype=dtype, **names).eval()

    @torch.inference_mode()
    def work() -> object:
        return family.encode(model, family.preprocess(_frames(), Sizing(FRAMES), CPU))

    return work


def encode(family: Family, dtype: torch.dtype) -> Callable[[], object]:
    """`encode`."""
    encoder = VisionEncoder(family, ResolvedRuntime(CPU, dtype, "sdpa"))
    return lambda: encoder.encode(_frames())


def evidence(family: Family, dtype: torch.dtype) -> Callable[[], object]:
    """`encode --evidence saliency,keys`."""
    encoder = VisionEncoder(family, ResolvedRuntime(CPU, dtype, "sdpa"), evidence=family.evidence)
    return lambda: encoder.encode(_frames())


def importance(family: Family, dtype: torch.dtype) -> Callable[[], object]:
    """The first layers of the LLM, for `compress`."""
    language = LanguageModel(family, ResolvedRuntime(CPU, dtype, "sdpa"), layers=LAYERS, attention_rows=True)
    grid, tokens = _tokens(family)
    everywhere = torch.arange(grid.tokens)
    return lambda: language.importance(grid, tokens, everywhere, "What happens?", LAYERS - 1)


def ask(family: Family, dtype: torch.dtype) -> Callable[[], object]:
    """`ask`."""
    language = LanguageModel(family, ResolvedRuntime(CPU, dtype, "sdpa"))
    grid, tokens = _tokens(family)
    return lambda: Conversation(language, grid, tokens, torch.arange(grid.tokens)).ask(
        "What happens?", max_new_tokens=2
    )


PARTS = {"everything": everything, "encode": encode, "encode with evidence": evidence,
         "importance": importance, "ask": ask}  # fmt: skip


def _frames() -> torch.Tensor:
    return torch.randint(0, 256, (FRAMES, 360, 640, 3), dtype=torch.uint8)


def _tokens(family: Family) -> tuple[TokenGrid, Embeddings]:
    width = family.config.text_config.hidden_size
    source = Source("made", 1, "", 2.0, 1.0, 2, 1, 1, "none")
    shape = (2, 8, 8)
    grid = TokenGrid(shape, width, (0.0, 1.0), family.layout_of(shape), family.checkpoint.ref, source)
    return grid, Embeddings(torch.randn(grid.tokens, width))


# --- measuring, in a process of its own -----------------------------------------------------------------------------


class Memory:
    """Peaks of a process's own memory, seen by a thread, and of its resident memory, kept by the system."""

    def __init__(self) -> None:
        self.own = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.own = max(self.own, self.now("RssAnon"))
            time.sleep(0.002)

    @staticmethod
    def now(entry: str) -> int:
        """An entry of /proc/self/status, in bytes."""
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    """Bytes of each tensor that transformers reads out of a file."""
    read: list[int] = []
    real = transformers.modeling_utils.safe_open

    class Slice:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getitem__(self, index: Any) -> torch.Tensor:
            tensor = self.inner[index]
            read.append(tensor.nbytes)
            return tensor

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    class File:
        def __init__(self, *args: Any, **options: Any) -> None:
            self.inner = real(*args, **options)

        def get_slice(self, name: str) -> Slice:
            return Slice(self.inner.get_slice(name))

        def __exit__(self, *error: object) -> None:
            self.inner.__exit__(*error)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    transformers.modeling_utils.safe_open = File
    try:
        yield read
    finally:
        transformers.modeling_utils.safe_open = real


def measure(part: str, folder: Path, dtype: str) -> dict[str, Any]:
    """One part of one checkpoint."""
    memory = Memory()
    family = open_family(str(folder))
    _ = family.config
    gc.collect()
    imports = {"own": memory.now("RssAnon"), "resident": memory.now("VmRSS")}
    start = time.perf_counter()
    with counted() as read:
        work = PARTS[part](family, getattr(torch, dtype))
    seconds = time.perf_counter() - start
    gc.collect()
    loaded = {"own": memory.now("RssAnon"), "peak_own": memory.own, "peak_resident": memory.now("VmHWM")}
    work()
    peak = {"own": memory.own, "resident": memory.now("VmHWM")}
    return {"part": part, "tensors": len(read), "bytes_read": sum(read), "load_seconds": round(seconds, 2),
            "imports": imports, "loaded": loaded, "peak": peak}  # fmt: skip


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    heads = ["model", "part", "tensors", "read, MB", "load, s", *(f"{one}, MB" for one in MEMORY)]
    lines = [heads, ["---"] * len(heads)]
    for row in report["rows"]:
        numbers = [row["bytes_read"], row["loaded"]["own"], row["peak"]["own"], row["peak"]["resident"]]
        read, *memory = (f"{number / MB:,.0f}" for number in numbers)
        lines.append([row["model"], row["part"], str(row["tensors"]), read, f"{row['load_seconds']:.1f}", *memory])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Write what is missing, measure every part, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="where checkpoints are kept; default: a temporary folder")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="some of the names of the table")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--part", nargs=2, metavar=("PART", "FOLDER"), help="measure one part in this process")
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(measure(arguments.part[0], Path(arguments.part[1]), arguments.dtype)))
        return
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stsimdiff-")))
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for name in arguments.models:
            place = folder / name.split(",")[0].replace(" ", "-")
            if not place.is_dir():
                write(place, name)
            files = list(place.glob("*.safetensors"))
            size = sum(path.stat().st_size for path in files)
            for part in PARTS:
                for path in files:  # into the system's cache, for all parts alike
                    with path.open("rb", buffering=0) as file:
                        while file.read(16 * MB):
                            pass
                command = [sys.executable, __file__, "--dtype", arguments.dtype, "--part", part, str(place)]
                out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                rows.append({"model": name, "file_bytes": size, **json.loads(out)})
                print(f"{name}: {part}", file=sys.stderr)
    report = {"dtype": arguments.dtype, "threads": torch.get_num_threads(), "machine": describe(CPU), "rows": rows}
    print(json.dumps(report))
    print("\n" + table(report))


if __name__ == "__main__":
    main()
