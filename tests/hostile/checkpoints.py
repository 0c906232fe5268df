"""Damaged checkpoints and odd requests to models, by seed.

A trial damages a copy of a tiny checkpoint, or makes up a question, and uses it as the program does. It fails by any
exception but StsimdiffError, by an error without a hint, by code that ran, by weights that are not those of the
checkpoint, by a token that steers the model and came out of a user's text, or by taking too long.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from stsimdiff_cli.errors import StsimdiffError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.prompts import Prompter
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.checkpoint import find_checkpoint
from stsimdiff_cli.models.loading.runtime import pick_device
from stsimdiff_cli.models.question import check_generation, check_question
from stsimdiff_cli.records import VideoTokens
from tests.hostile.trials import Trial
from tests.support.checkpoints import CHECKPOINTS
from tests.support.runtimes import FP32
from tests.support.whole_models import grid_of

CHECKPOINT, QUESTION = "damaged checkpoints", "odd questions"
_SECONDS = 60  # that a trial may take, on a busy machine
_MARK = "RAN"  # file that code of a checkpoint writes if it is run

#: What stands where a configuration should have something else.
VALUES: list[Any] = [
    "x",
    "",
    -1,
    0,
    1,
    7,
    10**9,
    10**30,
    1.5,
    float("nan"),
    True,
    None,
    [],
    {},
    [[1]],
    {"a": 1},
    "../x",
]
WORDS = ["what", "happens", "?", " ", "\n", "\t", "w3", "{{ 1 }}", "{% raw %}", "é", "🎬", "\u202e", "\ue000", "\ue001"]
WORDS += ["<|im_end|>", "<|im_start|>", "<|image_pad|>", "<|video_pad|>", "<image>", "<video>", "<IMG_CONTEXT>", "</s>"]
WORDS += ["\0", "\udcff", "\ud800", "<s>", "<unk>", "<pad>", "<|vision_start|>", "<end_of_utterance>", "<vila/video>"]
WORDS += ["<fake_token_around_image>", "x" * 50_000, "\ue000question\ue001", "<|im_", "end|>", "＜|im_end|＞"]


def trials(seed: int, folder: Path, count: int) -> Iterator[Trial]:
    """`count` trials, number `seed`, `seed` + 1, ...; of every three, two are damaged checkpoints."""
    for number in range(seed, seed + count):
        yield trial(number, folder)


def trial(number: int, folder: Path) -> Trial:
    """The trial of that number: its name repeats it."""
    chance = random.Random(number)
    if number % 3 == 2:
        return Trial(QUESTION, f"{number}: {(name := ask_oddly(chance, folder))[0]}", name[1])
    family = chance.choice(sorted(CHECKPOINTS))
    name, damage = chance.choice(DAMAGES)
    copy = folder / "damaged"
    _remove(copy)
    shutil.copytree(intact(family, folder), copy)
    failure = None
    try:
        what = damage(copy, chance) or ""
        failure = outcome(lambda: use(copy, family, folder))
        if failure is None and any((folder / "damaged").rglob(_MARK)):
            failure = "code of the checkpoint ran"
    finally:
        _remove(copy)
    return Trial(CHECKPOINT, f"{number}: {family}, {name} {what}".strip(), failure)


def outcome(work: Callable[[], str | None]) -> str | None:
    """What went wrong, None if nothing did: an error with a hint is as it should be."""
    try:
        with warnings.catch_warnings(), limit(_SECONDS):
            warnings.simplefilter("ignore")
            return work()
    except StsimdiffError as error:
        return None if error.hint else f"no hint: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]


class TooSlow(BaseException):
    """A trial took too long. No `except Exception` may swallow it."""


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """RuntimeError if the block takes longer; only in the main thread of a process."""

    def stop(*_: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    except TooSlow:
        raise RuntimeError(f"took more than {seconds} s") from None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# --- checkpoints ----------------------------------------------------------------------------------------------------


def intact(family: str, folder: Path) -> Path:
    """A checkpoint of that family, made once."""
    made = folder / f"intact-{family}"
    if not made.is_dir():
        CHECKPOINTS[family](made)
    return made


def use(model: Path, family: str, folder: Path) -> str | None:
    """Encode two frames and ask a question, as the program does it; says if weights are not the checkpoint's."""
    parts = run(model)
    for name, value in parts.items():
        expected = _weights(family, folder).get(name)
        if expected is not None and expected.shape == value.shape and not torch.equal(expected, value):
            changed = torch.isfinite(value).all() and (expected != value).float().mean() > 0.5
            if changed:
                return f"random weights in {name}"
    return None


def run(model: Path) -> dict[str, torch.Tensor]:
    """Use a checkpoint; returns the parameters that were loaded."""
    frames = (torch.arange(2 * 28 * 28 * 3) % 251).view(2, 28, 28, 3).to(torch.uint8)
    opened = open_family(str(model))
    encoder = VisionEncoder(opened, FP32)
    out = encoder.encode(frames)
    tokens = VideoTokens.of(grid_of(opened, out["features"]), out)
    language = LanguageModel(opened, FP32)
    conversation = Conversation(language, tokens.grid, tokens.embeddings, torch.arange(tokens.grid.tokens))
    conversation.ask("what happens in this video ?", max_new_tokens=2)
    return {f"{part}.{name}": value.detach()
            for part, loaded in (("vision", encoder.model), ("language", language.model))
            for name, value in loaded.named_parameters()}  # fmt: skip


@cache
def _weights(family: str, folder: Path) -> dict[str, torch.Tensor]:
    return run(intact(family, folder))


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _files(folder: Path, ending: str = "") -> list[Path]:
    return sorted(path for path in folder.rglob(f"*{ending}") if path.is_file())


def _any_file(folder: Path, chance: random.Random) -> Path:
    """Any file; the weights are many, so they count as one."""
    others = [path for path in _files(folder) if path.suffix != ".safetensors"]
    return chance.choice([*others, chance.choice(_files(folder, ".safetensors"))])


def _remove_file(folder: Path, chance: random.Random) -> str:
    path = _any_file(folder, chance)
    path.unlink()
    return path.name


def _truncate(folder: Path, chance: random.Random) -> str:
    path = _any_file(folder, chance)
    os.truncate(path, chance.randrange(path.stat().st_size))
    return path.name


def _garble(folder: Path, chance: random.Random) -> str:
    path = _any_file(folder, chance)
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 3, 50])):
        data[chance.randrange(min(len(data), chance.choice([16, 500, len(data)])))] = chance.randrange(256)
    path.write_bytes(data)
    return path.name


def _other_content(folder: Path, chance: random.Random) -> str:
    path = _any_file(folder, chance)
    path.write_bytes(
        chance.choice([b"", b"[]", b"null", b"3", b"{}", b'"x"', b"[" * 10**5, b"\xff\xfe{}", b"\0" * 100])
    )
    return path.name


def _not_a_file(folder: Path, chance: random.Random) -> str:
    path = _any_file(folder, chance)
    path.unlink()
    kind = chance.choice(["folder", "dangling link", "loop", "link to itself", "fifo", "device"])
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        target = {"dangling link": "nowhere", "loop": "..", "link to itself": path.name, "device": "/dev/zero"}[kind]
        path.symlink_to(target)
    return f"{path.name} is a {kind}"


def _not_a_folder(folder: Path, chance: random.Random) -> str:
    _remove(folder)
    kind = chance.choice(["file", "link to itself", "empty", "nothing"])
    if kind == "file":
        folder.write_text("{}")
    elif kind == "link to itself":
        folder.symlink_to(folder.name)
    elif kind == "empty":
        folder.mkdir()
    return kind


def _unreadable(folder: Path, chance: random.Random) -> str:
    path = _any_file(folder, chance)
    path.chmod(0)  # root reads it all the same
    return path.name


def _entry(folder: Path, chance: random.Random) -> str:
    """Another value for an entry of a JSON file, at any depth; or it is missing."""
    path = chance.choice(
        [path for path in _files(folder, ".json") if path.name != "tokenizer.json" or chance.random() < 0.3]
    )
    content = json.loads(path.read_text())
    place, trail = content, path.name
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return trail
        key = chance.choice(keys)
        trail += f".{key}"
        if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.7:
            place = place[key]
            continue
        if isinstance(place, dict) and chance.random() < 0.2:
            del place[key]
            trail += " missing"
        else:
            place[key] = chance.choice(VALUES)
            trail += f" = {place[key]!r}"
        path.write_text(json.dumps(content))
        return trail


def _layers(folder: Path, chance: random.Random) -> str:
    path = chance.choice([path for path in _files(folder, "config.json") if path.name == "config.json"])
    text = path.read_text()
    number = chance.choice([-1, 0, 1, 900, 10**9, 10**18])
    for name in ("num_hidden_layers", "depth"):
        content = json.loads(text, object_hook=lambda entry, name=name: {
            key: number if key == name else value for key, value in entry.items()})  # fmt: skip
        text = json.dumps(content)
    path.write_text(text)
    return str(number)


def _tensor(folder: Path, chance: random.Random) -> str:
    """A tensor is missing, of another shape or type, not a number, or there twice."""
    path = chance.choice(_files(folder, ".safetensors"))
    tensors = load_file(path)
    name = chance.choice(sorted(tensors))
    kind = chance.choice(["missing", "longer", "flat", "empty", "integers", "nan", "renamed"])
    value = tensors.pop(name)
    changed = {
        "longer": lambda: torch.cat([value, value]),
        "flat": lambda: value.flatten()[None],
        "empty": lambda: value[:0],
        "integers": lambda: value.to(torch.int8),
        "nan": lambda: torch.full_like(value, float("nan")),
        "renamed": lambda: value,
    }
    if kind != "missing":
        tensors[name + ".x" if kind == "renamed" else name] = changed[kind]().contiguous()
    save_file(tensors, path, {"format": "pt"})
    return f"{name} {kind}"


def _header(folder: Path, chance: random.Random) -> str:
    """The header's length, or an entry of it."""
    path = chance.choice(_files(folder, ".safetensors"))
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    if chance.random() < 0.3:
        other = chance.choice([0, 1, size - 1, size + 8, len(data), 2**31, 2**63, 2**64 - 1])
        path.write_bytes(other.to_bytes(8, "little") + data[8:])
        return f"length {other}"
    header = json.loads(data[8 : 8 + size])
    name = chance.choice(sorted(header.keys() - {"__metadata__"}))
    key = chance.choice(["dtype", "shape", "data_offsets"])
    value = chance.choice([*VALUES, "F64", "I8", [10**12, 10**12], [0, 10**15], [-4, 4]])
    header[name][key] = value
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    return f"{name}.{key} = {value!r}"


def _index(folder: Path, chance: random.Random) -> str:
    """Shards that are missing, outside of the folder, or of another kind."""
    path = next(iter(_files(folder, "model.safetensors.index.json")))
    content = json.loads(path.read_text())
    outside = folder.parent / "outside.safetensors"
    shutil.copy(_files(folder, ".safetensors")[0], outside)
    targets = ["gone.safetensors", "../outside.safetensors", str(outside), "a/b.safetensors", "", ".", "x.bin", 3, None]
    target = chance.choice([*targets, "..\\x.safetensors", "a\0b.safetensors", "x" * 5000 + ".safetensors"])
    names = sorted(content["weight_map"])
    for name in chance.sample(names, chance.choice([1, len(names)])):
        content["weight_map"][name] = target
    path.write_text(json.dumps(content))
    return str(target)[:40]


def _extra(folder: Path, chance: random.Random) -> str:
    """Files that do not belong there."""
    weights = _files(folder, ".safetensors")
    kind = chance.choice(["shard", "single", "adapter", "named"])
    if kind == "shard":
        shutil.copy(weights[0], weights[0].with_name("model-00099-of-00099.safetensors"))
    elif kind == "single":
        save_file({"x": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"})
    elif kind == "adapter":
        (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "../other", "peft_type": "LORA"}')
    else:
        path = folder / "config.json"
        named = chance.choice(["../outside.safetensors", "adapter_model.bin", weights[0].name])
        _pickle(folder / "adapter_model.bin", folder)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"transformers_weights": named}))
    return kind


class _Touch:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.path),)


def _pickle(path: Path, folder: Path) -> None:
    path.write_bytes(pickle.dumps({"x": _Touch(folder / _MARK)}))


def _pickled(folder: Path, chance: random.Random) -> str:
    """Weights as pickles only, or next to some of the shards."""
    keep = chance.random() < 0.3
    for path in _files(folder, ".safetensors")[keep:]:
        path.unlink()
    for path in [*folder.rglob("*.index.json")] if chance.random() < 0.5 else []:
        path.unlink()
    name = chance.choice(["pytorch_model.bin", "model.pt", "model.safetensors"])
    _pickle(folder / name, folder)
    return name


def _code(folder: Path, chance: random.Random) -> str:
    """Files that ask for code of the checkpoint to be run."""
    (folder / "code.py").write_text(f"open({str(folder / _MARK)!r}, 'w')\nclass Made: pass\n")
    file = chance.choice(_files(folder, "config.json"))
    classes = ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoProcessor", "AutoModelForImageTextToText")
    content = json.loads(file.read_text()) | {"auto_map": dict.fromkeys(classes, "code.Made")}
    if chance.random() < 0.5:
        content |= {"tokenizer_class": "Made", "trust_remote_code": True}
    if chance.random() < 0.3:
        content |= {"model_type": "made", "architectures": ["Made"]}
    file.write_text(json.dumps(content))
    return file.name


def _template(folder: Path, chance: random.Random) -> str:
    text = chance.choice([
        "", "{{", "{% for %}", "{{ x.y.z }}", "{{ raise_exception('no') }}", "{{ messages }}", "{{ messages[7] }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ 1 / 0 }}", "{% for i in range(10**9) %}x{% endfor %}",
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "<|im_end|><video><image><|video_pad|>",
    ])  # fmt: skip
    for place in {folder, *(path.parent for path in _files(folder, "tokenizer_config.json"))}:
        (place / "chat_template.jinja").write_text(text)
    return text[:30]


DAMAGES: list[tuple[str, Callable[[Path, random.Random], str | None]]] = [
    ("removed", _remove_file), ("truncated", _truncate), ("garbled", _garble), ("other content in", _other_content),
    ("no file:", _not_a_file), ("no folder:", _not_a_folder), ("unreadable", _unreadable), ("entry", _entry),
    ("entry", _entry), ("entry", _entry), ("layers", _layers), ("tensor", _tensor), ("tensor", _tensor),
    ("header", _header), ("index", _index), ("extra", _extra), ("pickles", _pickled), ("code in", _code),
    ("template", _template),
]  # fmt: skip

# --- questions ------------------------------------------------------------------------------------------------------


def ask_oddly(chance: random.Random, folder: Path) -> tuple[str, str | None]:
    """A question, a model's name, a device or the settings of an answer that nobody expects: name and failure."""
    kind = chance.choice(["question", "question", "question", "model", "device", "settings"])
    if kind == "question":
        family, text = chance.choice(sorted(CHECKPOINTS)), "".join(chance.choices(WORDS, k=chance.randint(0, 12)))
        return f"{family}, question {text[:60]!r}", outcome(lambda: _steers(family, text, folder))
    odd: list[Any] = [
        "",
        " ",
        ".",
        "..",
        "/",
        "~",
        "a/b/c",
        "a\0b",
        "\udcff",
        "\udcff/x",
        "x" * 5000,
        "/" + "x" * 5000,
        "-1",
    ]
    if kind == "model":
        name = chance.choice([*odd, str(folder), "/dev/null", "tiny ", "tiny/x", "Tiny", "http://a/b", "a b/c"])
        return f"model {name[:30]!r}", outcome(lambda: _refused(lambda: find_checkpoint(name)))
    if kind == "device":
        name = chance.choice(
            [*odd, "meta", "cuda:99", "cuda:-1", "cpu:3", "cuda:x", "vulkan", "CPU", "xla", "hpu", "ipu"]
        )
        return f"device {name[:30]!r}", outcome(lambda: _refused(lambda: pick_device(name)))
    numbers = [10**12, 10**22, -1, 0, 1e-300, 1e300, float("nan"), float("inf"), -float("inf"), -0.1]
    tokens, seed = chance.choice([10**12, 10**22, -1, 0]), chance.choice([10**22, -1])
    settings = chance.choice(
        [(tokens, 0.0, 0), (5, chance.choice([n for n in numbers[1:] if n != 0]), 0), (5, 0.7, seed)]
    )
    return f"settings {settings}", outcome(lambda: _refused(lambda: check_generation(*settings)))


def _refused(work: Callable[[], Any]) -> str:
    work()
    return "was accepted"


@cache
def _prompter(family: str, folder: Path) -> tuple[Prompter, Any, Counter[int]]:
    opened = open_family(str(intact(family, folder)))
    prompter = Prompter(opened)
    grid = grid_of(opened, torch.zeros(2, 2, 2, 8))
    return prompter, grid, _added(prompter, grid, "what ?")


def _added(prompter: Prompter, grid: Any, question: str) -> Counter[int]:
    """How often each added token is in a prompt; that of unknown words is no matter."""
    added = {number for text, number in prompter.tokenizer.get_added_vocab().items() if not text.isspace()}
    added.discard(prompter.tokenizer.unk_token_id)
    return Counter(token for token in prompter.ids(grid, question)[0].tolist() if token in added)


def _steers(family: str, question: str, folder: Path) -> str | None:
    check_question(question)
    prompter, grid, usual = _prompter(family, folder)
    prompter.check(question)
    with suppress(StsimdiffError):
        return None if _added(prompter, grid, question) == usual else "steers the model"
    return "was refused"
