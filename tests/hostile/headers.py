"""Damaged and edited tokens files and compressed files: every command refuses them in a sentence, or works.

    flipped bits       one bit anywhere in the file: whoever reads the byte must refuse the file
    cut files          shorter or longer than written: always refused
    edited headers     values of wrong types, out of range, missing, nested: with a fresh digest or none the file may be
                       read, with the old digest it must be refused
    edited tensors     numbers that no program writes, with the right checksums

A failure is a traceback, a run of more than LONGEST seconds, memory beyond MOST bytes, or damage that nobody notices.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import signal
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from stsimdiff_cli.cli.app import main
from stsimdiff_cli.models.inference.model_cache import ModelCache
from stsimdiff_cli.records import Coverage, Source
from stsimdiff_cli.storage.directory import read_directory
from stsimdiff_cli.storage.formats import DIGEST, KEY
from stsimdiff_cli.storage.header import digest
from stsimdiff_cli.storage.schema import CompressedHeader
from stsimdiff_cli.storage.stored_video import NUMPY
from tests.hostile.trials import Trial

#: Seconds and bytes (beyond those before) that one command may take.
LONGEST, MOST = 60, 3 << 30
#: What each command reads of a file besides its header; `view` reads all but the features.
_SHOWN = {"index", "kind", "community"}
_FEATURES = {"features", "features.scale", "deepstack", "deepstack.scale"}

# --- the files ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whole:
    """A good file, in parts: both levels of its JSON, and the bytes of its tensors."""

    path: Path
    header: dict[str, Any]
    tensors: dict[str, dict[str, Any]]  # as in the file
    data: bytes

    @property
    def compressed(self) -> bool:
        return "method" in self.header

    def read_by(self, command: str, name: str) -> bool:
        """Whether a command reads a tensor."""
        if command == "inspect":
            return self.compressed and name in _SHOWN
        if command == "view":
            return name not in _FEATURES
        return command == "ask" or name in (
            "features",
            "features.scale",
        )  # compress: the evidence that its method needs, here none


def make_files(folder: Path) -> list[Whole]:
    """Tokens with evidence, and two compressed files of them: one with traces, one packed and without."""
    import torch

    import stsimdiff_cli as sd
    from stsimdiff_cli.records import VideoTokens
    from tests.support.clip_factory import SAMPLES

    encoded = sd.encode_video(SAMPLES / "flash.mp4", sampling=sd.Sampling(frames=4), evidence=["saliency"])
    source = replace(encoded.grid.source, missing_seconds=(1.5,), notes=("a note",))
    coverage = Coverage(0.1, 0.2, 0.9, 0.8, 1)
    grid = replace(encoded.grid, source=source, coverage=coverage)
    tokens = VideoTokens(grid, encoded.features, encoded.evidence)
    torch.set_num_threads(1)
    sd.save_tokens(folder / "tokens.safetensors", tokens)
    kept = sd.compress_tokens(tokens, "0.1", "st-simdiff:importance=centrality")
    sd.save_compressed(folder / "kept.safetensors", kept)
    sd.save_compressed(folder / "even.safetensors", sd.compress_tokens(tokens, "0.05", "uniform"), store="int4")
    return [take_apart(folder / f"{name}.safetensors") for name in ("tokens", "kept", "even")]


def take_apart(path: Path) -> Whole:
    """A file in its parts."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    outer = json.loads(raw[8 : 8 + length])
    header = json.loads(outer.pop("__metadata__")[KEY])
    return Whole(path, header, outer, raw[8 + length :])


def put_together(header: str, tensors: str, data: bytes, sealed: bool) -> bytes:
    """A file of a header and the entries of the tensors, both as JSON texts, with or without a digest."""
    metadata = {KEY: header}
    if sealed:
        with contextlib.suppress(ValueError, RecursionError):
            metadata[DIGEST] = digest(header, json.loads(tensors))
    text = json.dumps({"__metadata__": metadata})[:-1] + (", " + tensors[1:] if len(tensors) > 2 else "}")
    raw = text.encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw + data


# --- one run --------------------------------------------------------------------------------------------------------


class _TooLongError(BaseException):
    """Not an Exception, so that nothing on the way catches it."""


def _too_long(*_: Any) -> None:
    raise _TooLongError


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Bounds time and memory of a block."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with Path("/proc/self/statm").open() as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    old = signal.signal(signal.SIGALRM, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST, before[1]))
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
        resource.setrlimit(resource.RLIMIT_AS, before)


def run(args: list[str]) -> tuple[int | None, str]:
    """The exit code of a command and what it printed, or None and the end of its traceback."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), bounded():
            code: int | None = main(args)
    except _TooLongError:
        return None, f"more than {LONGEST} seconds"
    except Exception:  # what a user would see as a traceback
        return None, " | ".join(traceback.format_exc().strip().splitlines()[-3:])[-300:]
    out.flush()
    err.flush()
    return code, (out.buffer.getvalue() + err.buffer.getvalue()).decode()  # type: ignore[attr-defined]


@cache
def _models() -> ModelCache:
    return ModelCache()


def commands(file: Path, compressed: bool, pictures: bool) -> Iterator[tuple[str, list[str]]]:
    """The commands that read a file, the cheap ones first."""
    yield "inspect", ["inspect", str(file)]
    yield "inspect", ["inspect", str(file), "--json"]
    if compressed:
        yield "view", ["view", str(file), "-o", str(file.parent / "page.html"), "--force"]
        if pictures:
            yield "view", ["view", str(file), "-o", str(file.parent / "sheet.png"), "--force", "--slots", "2"]
            yield "view", ["view", str(file), "-o", str(file.parent / "clip.mp4"), "--force"]
    else:
        yield "compress", [
            "compress", str(file), "-o", str(file.parent / "out.safetensors"), "--force",
            "--ratio", "0.3", "--method", "st-simdiff:importance=centrality", "--device", "cpu",
        ]  # fmt: skip
    yield "ask", ["ask", str(file), "What happens in this video?", "--max-new-tokens", "1", "--device", "cpu"]


def failure_of(
    raw: bytes, whole: Whole, folder: Path, must_refuse: Callable[[str], bool], pictures: bool = False
) -> str | None:
    """What goes wrong with a file of these bytes, or None. `must_refuse` says which commands may not succeed."""
    file = folder / "trial.safetensors"
    file.write_bytes(raw)
    with mock.patch("stsimdiff_cli.models.inference.model_cache.NoModelCache", _models):
        refused: set[str] = set()
        for command, args in commands(file, whole.compressed, pictures):
            if command in refused:  # its other outputs are behind the same checks
                continue
            code, text = run(args)
            refused |= {command} if code else set()
            if code is None:
                return f"{' '.join(args[:1])}: {text}"
            if code == 0 and must_refuse(command):
                return f"{command} succeeds"
            if any(ord(character) < 32 and character not in "\n\t\r" for character in text):
                return f"{command} prints a control character"
            if code != 0 and "error:" not in text:
                return f"{command} exits with {code} without a sentence"
            if code != 0 and command == "inspect" and not must_refuse("ask"):
                return None  # the header is refused by the same check everywhere
    return None


# --- damage ---------------------------------------------------------------------------------------------------------


def flip_trial(whole: Whole, bit: int, folder: Path) -> Trial:
    """One bit flipped, counted from the beginning of the file."""
    raw = bytearray(whole.path.read_bytes())
    raw[bit // 8] ^= 1 << bit % 8
    entries = read_directory(whole.path).tensors
    hit = next((name for name, entry in entries.items() if entry.begin <= bit // 8 < entry.end), None)

    def noticed(command: str) -> bool:  # inspect compares all checksums, other commands those of what they read
        return hit is None or command == "inspect" or whole.read_by(command, hit)

    failure = failure_of(bytes(raw), whole, folder, noticed)
    where = "tensors" if hit else "the header"
    return Trial(f"bit flips in {where}", f"{whole.path.stem} bit {bit} ({hit or 'header'})", failure)


def cut_trial(whole: Whole, size: int, folder: Path) -> Trial:
    """The file cut, or grown with zeros, to `size` bytes."""
    raw = whole.path.read_bytes()[:size].ljust(size, b"\0")
    return Trial("cut files", f"{whole.path.stem} {size} bytes", failure_of(raw, whole, folder, lambda _: True))


# --- edits ----------------------------------------------------------------------------------------------------------

#: JSON texts that a header should survive.
ODD = (
    "null", "true", "false", "[]", "{}", '""', "0", "-0", "-1", "1", "0.5", "-0.0", "1e-400", "NaN", "Infinity",
    "-Infinity", "1e999", "1e300", "1000000000", "2147483648", "9223372036854775807", "9223372036854775808",
    "1" + "0" * 5000, '"\\ud800"', '"\\udcff.mp4"', '"a\\u0000b"', '"\\u001b[31mred\\u001b[0m\\u009b"',
    '"\\u202egnp.4pm"', '"$\\\\frac$"', '"$x^$"', '"[bold]"', '"[/]"', '"</script><b>"', '"../../../etc/passwd"',
    '"/etc/passwd"', '"."', '".."', '"a/b"', '"' + "a" * 300 + '"', '"' + "é" * 5000 + '"', "[" * 1000 + "]" * 1000,
    "[" * 100000 + "]" * 100000, '{"a":' * 100000 + "0" + "}" * 100000, "[[1, [2, 3]], [0, [4]]]",
    "[[1000000000, [1]]]", "[1000000, 1000000, 1000000]", "[1000000, 1, 1]", "[4, 6, 1000000000]",
    '{"index": "00000000"}', "[0, 9223372036854775807]", "[1, 2, 3, 4]", '{"left": 0.5, "right": 0.5}', "[999999999]",
    "[151000, 200000, 2147483647]",
)  # fmt: skip


@dataclass(frozen=True)
class Edit:
    """A change at one place of a file's JSON; the first step of `place` is "header" or "tensors".

    `text` is the JSON that is put there; None removes the entry. Steps into what is not there do nothing.
    """

    place: tuple[str | int, ...]
    text: str | None

    def __str__(self) -> str:
        text = "removed" if self.text is None else self.text if len(self.text) < 60 else f"{self.text[:50]}..."
        return f"{'.'.join(map(str, self.place))} = {text}"


def places(value: Any, start: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """All places in JSON; of long lists only the first two entries and the last."""
    found = [start] if start else []
    if isinstance(value, dict):
        for name, item in value.items():
            found += places(item, (*start, name))
    elif isinstance(value, list):
        for number in sorted({0, 1, len(value) - 1} & set(range(len(value)))):
            found += places(value[number], (*start, number))
    return found


def places_of(record: Any, start: tuple[str | int, ...]) -> list[tuple[str | int, ...]]:
    """The places of all fields of a record, which a header may leave out."""
    found = []
    for item in fields(record):
        kind = item.type
        found.append((*start, item.name))
        found += places_of(kind, found[-1]) if is_dataclass(kind) else []
    return found


def all_places(whole: Whole) -> list[tuple[str | int, ...]]:
    """All places of a file, and those of the records' fields whether they are in the file or not."""
    there = [("header", *place) for place in places(whole.header)] + [("tensors", *p) for p in places(whole.tensors)]
    grid = ("header", "grid")
    more = [*places_of(CompressedHeader, ("header",)), *places_of(Source, (*grid, "source"))]
    more += places_of(Coverage, (*grid, "coverage"))
    unknown = [("header", "more"), (*grid, "more"), ("tensors", "more"), ("header", "counts", "more")]
    return list(dict.fromkeys([*there, *more, *unknown]))


def value_at(whole: Whole, place: tuple[str | int, ...]) -> Any:
    """The value at a place of a file, or None."""
    value: Any = {"header": whole.header, "tensors": whole.tensors}
    try:
        for step in place:
            value = value[step]
    except (KeyError, IndexError, TypeError):
        return None
    return value


def near(value: Any) -> list[str]:
    """JSON texts that resemble a value: the mistakes that types do not show."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return [
            json.dumps(v) for v in (value + 1, value - 1, -value, value * 1000, value * 10**6, value + 0.5, str(value))
        ]
    if isinstance(value, str):
        return [json.dumps(v) for v in (value + "x", value[:-1], value.upper(), "0", "x" * 1000)]
    if isinstance(value, list):
        return [json.dumps(v) for v in (value[::-1], value * 2, value[:-1], [value], [*value, None])]
    return [json.dumps(v) for v in ({**value, "x": 1}, list(value), dict(list(value.items())[1:]))]


JSON_TEXTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
).map(json.dumps)


def edits(whole: Whole) -> st.SearchStrategy[Edit]:
    """Edits anywhere in a file's JSON."""

    def at(place: tuple[str | int, ...]) -> st.SearchStrategy[Edit]:
        close = near(value_at(whole, place))
        texts = st.sampled_from(ODD) | JSON_TEXTS | st.none()
        return st.builds(Edit, st.just(place), texts | st.sampled_from(close) if close else texts)

    return st.sampled_from(all_places(whole)).flatmap(at)


def edited(whole: Whole, changes: list[Edit], sealed: bool) -> bytes:
    """The file with changes in its JSON."""
    document = {"header": json.loads(json.dumps(whole.header)), "tensors": json.loads(json.dumps(whole.tensors))}
    texts = []
    for change in changes:
        *way, last = change.place
        inner: Any = document
        with contextlib.suppress(KeyError, IndexError, TypeError):
            for step in way:
                inner = inner[step]
            if change.text is None:
                del inner[last]
            else:
                inner[last] = f"<<{len(texts)}>>"
                texts.append(change.text)
    written = [json.dumps(document[part], sort_keys=True) for part in ("header", "tensors")]
    for number, text in enumerate(texts):
        written = [part.replace(f'"<<{number}>>"', text) for part in written]
    return put_together(*written, whole.data, sealed)


def edit_trial(whole: Whole, changes: list[Edit], sealed: bool, folder: Path, pictures: bool = False) -> Trial:
    """A file with an edited header. Sealed with its digest, or without one, it may be read."""
    raw = edited(whole, changes, sealed)
    name = f"{whole.path.stem}{' sealed' * sealed}: {'; '.join(map(str, changes))}"
    return Trial("edited headers", name, failure_of(raw, whole, folder, lambda _: False, pictures))


def unsealed_trial(whole: Whole, change: Edit, folder: Path) -> Trial:
    """A file with an edited header that keeps its old digest: always refused."""
    raw = edited(whole, [change], sealed=False)
    length = int.from_bytes(raw[:8], "little")
    outer = raw[8 : 8 + length].decode()
    kept = json.loads(whole.path.read_bytes()[8 : 8 + int.from_bytes(whole.path.read_bytes()[:8], "little")])
    text = outer.replace(
        '{"__metadata__": {', '{"__metadata__": {' + f'"{DIGEST}": "{kept["__metadata__"][DIGEST]}", ', 1
    )
    same = edited(whole, [], sealed=False) == raw
    raw = (len(text.encode())).to_bytes(8, "little") + text.encode() + raw[8 + length :]
    failure = None if same else failure_of(raw, whole, folder, lambda _: True)
    return Trial("edited headers, old digest", f"{whole.path.stem}: {change}", failure)


#: Numbers for edited tensors.
NUMBERS = (float("nan"), float("inf"), -float("inf"), -1, 0, 1, 3, 4, 255, 1e9, -(2.0**40), 2.0**40, 2.0**62, 3e38)


def tensor_trial(whole: Whole, name: str, place: int, number: float, folder: Path) -> Trial:
    """A file with another number in a tensor, and the checksum and digest that belong to it."""
    entry = whole.tensors[name]
    begin, end = entry["data_offsets"]
    values = np.frombuffer(whole.data[begin:end], NUMPY[entry["dtype"]]).copy()
    with np.errstate(all="ignore"):
        values[place % len(values)] = np.array(number).astype(values.dtype)
    data = whole.data[:begin] + values.tobytes() + whole.data[end:]
    sums = {**whole.header["checksums"], name: f"{zlib.crc32(values.tobytes()):08x}"}
    header = json.dumps({**whole.header, "checksums": sums}, sort_keys=True)
    raw = put_together(header, json.dumps(whole.tensors), data, sealed=True)
    finite = bool(np.isfinite(values).all())
    failure = failure_of(raw, whole, folder, lambda command: not finite and whole.read_by(command, name))
    return Trial("edited tensors", f"{whole.path.stem}: {name}[{place}] = {number}", failure)


# --- all of it ------------------------------------------------------------------------------------------------------


def trials(seed_: int, folder: Path, count: int) -> Iterator[Trial]:
    """About `count` trials in `folder`, which are the same for the same seed."""
    files = make_files(folder)
    chance = random.Random(seed_)
    heads = [read_directory(whole.path) for whole in files]
    for number in range(count * 3 // 10):
        which = number % 3
        size = files[which].path.stat().st_size
        start = min(entry.begin for entry in heads[which].tensors.values())
        header = chance.random() < 0.7
        yield flip_trial(
            files[which], chance.randrange(8 * start) if header else chance.randrange(8 * start, 8 * size), folder
        )
    for number in range(count // 20):
        size = files[number % 3].path.stat().st_size
        step = chance.choice((1, 7, 8, 64, size // 2, size))
        new = max(0, size + chance.choice((-1, 1)) * chance.randrange(1, step + 1))
        yield cut_trial(files[number % 3], new, folder)
    for number in range(count // 10):
        whole = files[number % 3]
        name = chance.choice([n for n, entry in whole.tensors.items() if entry["dtype"] in NUMPY])
        yield tensor_trial(whole, name, chance.randrange(1000), chance.choice(NUMBERS), folder)
    rest = count - count * 3 // 10 - count // 20 - count // 10
    yield from _edit_trials(seed_, files, folder, rest)


def _edit_trials(seed_: int, files: list[Whole], folder: Path, count: int) -> Iterator[Trial]:
    """Edits of all three files, drawn by Hypothesis."""
    drawn: list[tuple[Whole, list[Edit], int]] = []
    some = st.sampled_from(files).flatmap(
        lambda whole: st.tuples(st.just(whole), st.lists(edits(whole), min_size=1, max_size=3), st.integers(0, 5))
    )

    @seed(seed_)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(some)
    def draw(one: tuple[Whole, list[Edit], int]) -> None:
        drawn.append(one)

    draw()
    for number, (whole, changes, how) in enumerate(drawn[:count]):
        if how == 0:
            yield unsealed_trial(whole, changes[0], folder)
        else:
            yield edit_trial(whole, changes, how != 1, folder, pictures=number % 50 == 0)


if __name__ == "__main__":  # python -m tests.hostile.headers SEED COUNT FOLDER
    from tests.hostile.trials import tally

    made = []
    for trial in trials(int(sys.argv[1]), Path(sys.argv[3]), int(sys.argv[2])):
        made.append(trial)
        if len(made) % 200 == 0:
            print(len(made), flush=True)
        if trial.failure:
            print(f"{trial.kind} | {trial.name} | {trial.failure}", flush=True)
    for kind, (tried, failed) in tally(made).items():
        print(f"{kind:30} {tried:6} tried {failed:4} failed", flush=True)
