"""Runs the program where little is as it should be: closed streams, full disks, limits, odd names, pipes for files.

A case is what a user would type, as a line for bash, with the exit codes that are right and words that must be said.
Besides, no case may show a traceback, change a file that was given, leave something behind or hang.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from stsimdiff_cli.cli.app import main
from tests.hostile.kills import names, write_data
from tests.hostile.trials import Trial
from tests.support.clip_factory import SAMPLES

KIND = "environments"
LONGEST = 300.0  # seconds; machines may be busy
IMPOSSIBLE = 77  # exit code of a case that this machine does not allow, as a mount


@dataclass(frozen=True)
class Case:
    """A line for bash. `s` is the program, `given` holds the files.

    `light` cases take less than a second: nothing heavy is imported. `writes` are the files that must be there in the
    end, and no others may.
    """

    name: str
    line: str
    codes: tuple[int, ...] = (0,)
    says: str = ""
    writes: tuple[str, ...] = ()
    light: bool = False


def light(name: str, line: str, code: int = 0, says: str = "", *writes: str) -> Case:
    """A case that takes less than a second."""
    return Case(name, line, (code,), says, writes, light=True)


_OUT = "out.tokens.safetensors"
_ENCODE = f"s encode given/clip.mp4 --frames 8 -o {_OUT}"
_INSPECT = "s inspect given/kept.safetensors"
_ASK = "s ask given/kept.safetensors"
_LONG = "$(printf '%05000d' 0)"
_MEMORY = "not enough memory"

STREAMS = (
    light("stdout closed", f"{_INSPECT} >&-", 1, "cannot be written to stdout"),
    light("stderr closed", f"{_INSPECT} 2>&-"),
    light("stderr closed, and an error", "s inspect missing 2>&-", 2),
    light("stdin closed", f"{_INSPECT} <&-"),
    light("all closed", f"{_INSPECT} <&- >&- 2>&-", 1),
    light("stdout full", f"{_INSPECT} >/dev/full", 1, "No space left"),
    light("stdout full, JSON", f"{_INSPECT} --json >/dev/full", 1, "No space left"),
    light("stdout full, a table", "s methods >/dev/full", 1, "No space left"),
    light("stdout full, help", "s encode --help >/dev/full", 1, "No space left"),
    light("stderr full, and an error", "s inspect missing 2>/dev/full", 2),
    light("stderr full, and a wrong option", "s inspect --wrong 2>/dev/full", 2),
    light("both full", f"{_INSPECT} >/dev/full 2>/dev/full", 1),
    light("the reader has gone", "s methods | true; test ${PIPESTATUS[0]} -lt 2"),
    light("the reader has seen enough", f"{_INSPECT} | head -c 1; test ${{PIPESTATUS[0]}} -lt 2"),
    light("ASCII", f"PYTHONIOENCODING=ascii {_INSPECT}"),
    light("ASCII, a table", "PYTHONIOENCODING=ascii s methods"),
    light("ASCII, help", "PYTHONIOENCODING=ascii s bench --help"),
    light(
        "ASCII, JSON", f"PYTHONIOENCODING=ascii {_INSPECT} --json | \"$PYTHON\" -c 'import json; json.loads(input())'"
    ),
    light("Latin-1", f"PYTHONIOENCODING=latin-1 {_INSPECT}"),
    light("LC_ALL=C", f"LC_ALL=C {_INSPECT}"),
    light("LC_ALL=C, no UTF-8 mode", f"LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0 {_INSPECT}"),
    light("a locale that is not installed", f"LC_ALL=tr_TR.UTF-8 {_INSPECT}"),
    Case("stdout closed, encode", f"{_ENCODE} >&-", (1,), "cannot be written to stdout", (_OUT,)),
    Case("stdout full, encode", f"{_ENCODE} >/dev/full", (1,), "No space left", (_OUT,)),
    Case("stdout full, ask", f"{_ASK} 'What happens in this video?' >/dev/full", (1,), "No space left"),
    Case(
        "all closed, encode",
        f"{_ENCODE} <&- >&- 2>&-; code=$?; s inspect {_OUT} && exit $code",
        (1,),
        writes=(_OUT,),
    ),
    Case("stdin closed, ask", f"{_ASK} - <&-", (2,), "stdin cannot be read"),
    Case("a question in Latin-1", rf"printf 'caf\xe9?\n' | {_ASK} -", (0, 1, 2)),
    Case("a question in UTF-8, ASCII streams", f"echo 'Café?' | PYTHONIOENCODING=ascii {_ASK} -", (0, 1, 2)),
)

SURROUNDINGS = (
    light("no HOME", f"env -u HOME $PYTHON -m stsimdiff_cli {_INSPECT.removeprefix('s ')}"),
    light("one column", f"COLUMNS=1 {_INSPECT}"),
    light("one column, a table", "COLUMNS=1 s methods"),
    light("TERM=dumb", f"TERM=dumb {_INSPECT}"),
    light("NO_COLOR", f"NO_COLOR=1 {_INSPECT}"),
    light("python -OO", f"PYTHONOPTIMIZE=2 {_INSPECT}"),
    light("python -OO, help", "PYTHONOPTIMIZE=2 s encode --help"),
    light("few files, inspect", f"ulimit -n 16; {_INSPECT}"),
    Case("no such TMPDIR", f"TMPDIR=/nowhere {_ENCODE}", writes=(_OUT,)),
    Case("HOME is nowhere", f"HOME=/nowhere {_ENCODE}", writes=(_OUT,)),
    Case("the folder is gone", 'mkdir gone && cd gone && rmdir ../gone && s inspect "$OLDPWD/given/kept.safetensors"',
         (0, 1, 2)),
    Case("python -O, encode", f"PYTHONOPTIMIZE=1 {_ENCODE}", writes=(_OUT,)),
    Case("python -OO, encode", f"PYTHONOPTIMIZE=2 {_ENCODE}; code=$?; rm -f {_OUT}; exit $code", (0, 1)),
    Case("few files", f"ulimit -n 32; {_ENCODE}; code=$?; rm -f {_OUT}; exit $code", (0, 1)),
    Case("hardly any memory", f"ulimit -v 400000; {_ENCODE}", (1,), _MEMORY),
    Case("little memory", f"ulimit -v 1500000; {_ENCODE}; code=$?; rm -f {_OUT}; exit $code", (0, 1)),
    Case("small files only, encode", f"ulimit -f 100; {_ENCODE}", (1,), "larger than files may be"),
    Case("small files only, over an old one", f"echo old > {_OUT}; (ulimit -f 100; {_ENCODE} --force); code=$?; "
         f"grep -q old {_OUT} && exit $code", (1,), "larger than files may be", (_OUT,)),
    Case("small files only, picture", "ulimit -f 10; s view given/kept.safetensors -o out.png --video given/clip.mp4",
         (1,), "larger than files may be"),
    Case("small files only, page", "ulimit -f 10; s view given/kept.safetensors -o out.html --video given/clip.mp4",
         (1,), "larger than files may be"),
    Case("small files only, clip", "ulimit -f 10; s view given/kept.safetensors -o out.mp4 --video given/clip.mp4",
         (1,), "out.mp4"),
    Case("the disk is full", "mkdir small; mount -t tmpfs -o size=64k none small || { rmdir small; exit 77; }; "
         f"{_ENCODE.replace(_OUT, 'small/' + _OUT)}; code=$?; left=$(ls -A small); umount small; rmdir small; "
         "test -z \"$left\" && exit $code", (1,), "The disk is full"),
    Case("a read-only disk", "mkdir small; mount -t tmpfs -o ro none small || { rmdir small; exit 77; }; "
         f"{_ENCODE.replace(_OUT, 'small/' + _OUT)}; code=$?; umount small; rmdir small; exit $code", (2,),
         "cannot be written to"),
    Case("no shared memory", f"unshare -m bash -c 'umount /dev/shm' || exit 77; export -f s; "
         f"unshare -m bash -c 'umount /dev/shm; {_ENCODE}'", writes=(_OUT,)),
    Case("umask 777", f"(umask 777; {_ENCODE}) && s inspect {_OUT}", writes=(_OUT,)),
    Case("SIGHUP is ignored", f"(trap '' HUP; exec timeout -s HUP 6 bash -c 'trap \"\" HUP; exec $PYTHON -m "
         f"{_ENCODE.replace('s encode', 'stsimdiff_cli encode')}'); test -s {_OUT}", writes=(_OUT,)),
)  # fmt: skip

_SAME = "is not overwritten"
OUTPUTS = (
    light("the video is the output", "s encode given/clip.mp4 -o given/clip.mp4 --force", 2, _SAME),
    light("the video is the output, by a link", "ln -s given/clip.mp4 l.mp4; s encode given/clip.mp4 -o l.mp4 --force",
          2, _SAME, "l.mp4"),
    light("the video is the output, by a hard link", "ln given/clip.mp4 l.mp4; s encode given/clip.mp4 -o l.mp4 "
          "--force", 2, _SAME, "l.mp4"),
    light("the input is a link", "ln -s given/clip.mp4 l.mp4; s encode l.mp4 -o given/clip.mp4 --force", 2, _SAME,
          "l.mp4"),
    light("the tokens are the output", "s compress given/tokens.safetensors -o given/tokens.safetensors --ratio 0.3 "
          "--force", 2, _SAME),
    light("the tokens of a picture are the output", "ln given/tokens.safetensors t.png; s view given/kept.safetensors "
          "--tokens given/tokens.safetensors -o t.png --force", 2, _SAME, "t.png"),
    light("the shown video is the output", "s view given/kept.safetensors --video given/clip.mp4 -o given/clip.mp4 "
          "--force", 2, _SAME),
    Case("the video that is found is the output", "s view given/kept.safetensors -o given/flash.mp4 --force", (2,),
         _SAME),
    light("profile's video is the output", "s profile given/clip.mp4 -o given/clip.mp4 --force", 2, _SAME),
    light("bench's video is the report", "s bench given/clip.mp4 -o given/clip.mp4 --force", 2, _SAME),
    light("bench's video is the Markdown", "s bench given/clip.mp4 --markdown given/clip.mp4 --force", 2, _SAME),
    Case("eval's data is the output", "s eval longvideobench --data given/data -o given/data", (2,), "nothing is"),
    light("a file of the model is the output", "mkdir model; echo 1 > model/config.json; s encode given/clip.mp4 "
          "--model model -o model/config.json --force", 2, _SAME, "model", "model/config.json"),
    light("two outputs in one", "s bench -o a.png --plot a.png", 2, "two outputs"),
    light("two outputs in one, by two names", "s profile -o a.png --plot ./b/../a.png", 2, "two outputs|does not"),
    light("a device is the output", "s encode given/clip.mp4 -o /dev/full --force; code=$?; test -c /dev/full && "
          "exit $code", 2, "is a device"),
    light("a pipe is the output", "mkfifo p; s encode given/clip.mp4 -o p --force; code=$?; test -p p && exit $code",
          2, "is a pipe", "p"),
    light("a socket is the output", "\"$PYTHON\" -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"p\")'; "
          "s encode given/clip.mp4 -o p --force", 2, "is a socket", "p"),
    light("a folder is the output", "s encode given/clip.mp4 -o given --force", 2, "is a folder"),
    light("a dangling link is the output", f"ln -s nowhere {_OUT}; {_ENCODE}", 2, "exists", _OUT),
    light("stdout is the output", "s encode given/clip.mp4 -o -", 2, "- "),
    light("a slash at the end", "s encode given/clip.mp4 -o new/", 2, "folder"),
    light("no name", "s encode given/clip.mp4 -o ''", 2, "empty"),
    light("a name of 256 bytes", "s encode given/clip.mp4 -o $(printf '%0256d' 0)", 2, "too long"),
    light("the folder is missing", "s encode given/clip.mp4 -o no/such/folder", 2, "does not exist"),
    light("the folder is a file", "s encode given/clip.mp4 -o given/clip.mp4/out", 2, "does not exist"),
    Case("a name of 255 bytes", "s encode given/clip.mp4 --frames 8 -o $(printf '%0255d' 0)", writes=("0" * 255,)),
    Case("a name of 255 bytes, bench", "s bench --clips 2 --frames 12 -o $(printf '%0255d' 0)", (2,), "too long"),
    Case("an output of other people's", "touch out.html; chmod 000 out.html; s view given/kept.safetensors --force "
         "-o out.html", writes=("out.html",)),
)  # fmt: skip

INPUTS = (
    *(
        light(f"a pipe is read: {line}", f"mkfifo p; s {line}", 2, "is a pipe", "p")
        for line in ("inspect p", "compress p -o out --ratio 0.3", "view p -o out.html",
                     "view given/kept.safetensors --tokens p -o out.html", "profile p")
    ),
    Case("a pipe is asked about", "mkfifo p; s ask p 'What happens?'", (2,), "is a pipe", ("p",)),
    Case("stdin is asked about", "cat given/kept.safetensors | s ask /dev/stdin 'What happens?'", (2,), "is a pipe"),
    Case("a pipe holds eval's questions", "cp -r given/data d; rm d/lvb_val.json; mkfifo d/lvb_val.json; "
         "s eval longvideobench --data d; code=$?; rm -r d; exit $code", (2,), "is a pipe"),
    light("a device is read", "s inspect /dev/zero", 2, "is a device"),
    light("a folder is read", "s inspect given", 2, "is a folder"),
    *(
        light(f"5,000 characters: {line.split()[0]} {number}", f"s {line.replace('LONG', _LONG)}", 2, "too long|no ")
        for number, line in enumerate((
            "inspect LONG", "encode given/clip.mp4 -o LONG", "encode given/clip.mp4 -o LONG/x",
            "compress given/tokens.safetensors -o LONG --ratio 0.3", "compress LONG -o out --ratio 0.3",
            "view LONG -o out.png", "view given/kept.safetensors -o LONG.png",
            "view given/kept.safetensors --tokens LONG -o out.html", "view given/kept.safetensors --video LONG "
            "-o out.html", "profile LONG", "profile -o LONG", "profile --plot LONG.png", "bench -o LONG",
            "bench --markdown LONG", "methods LONG", "eval longvideobench --data LONG",
        ), 1)
    ),
    *(
        Case(f"5,000 characters, late: {line.split()[0]} {number}", f"s {line.replace('LONG', _LONG)}", (1, 2))
        for number, line in enumerate((
            "encode LONG -o out", "encode given/clip.mp4 --model LONG -o out", "ask LONG 'What happens?'",
            "ask given/kept.safetensors LONG x.safetensors", "bench LONG --question q", "ask given/kept.safetensors "
            "--model LONG 'What happens?'", "eval longvideobench --data given/data -o LONG",
        ), 1)
    ),
    light("a parameter twice", "s compress given/tokens.safetensors -o out --ratio 0.3 "
          "--method st-simdiff:tau_sim=0.3,tau_sim=0.4", 2, "given twice"),
    Case("a folder among the files", "s ask given/kept.safetensors given 'What happens?'", (1,), "is a folder"),
    Case("a file after a question", "s ask given/kept.safetensors 'What happens?' given/clip.mp4", (2,), "follows"),
    Case("a missing file is no question", "s ask given/kept.safetensors nowhere.mp4 'What happens?'", (1,),
         "no file nowhere.mp4"),
    Case("a name that is not UTF-8", r"""n=$(printf 'caf\xe9'); cp given/clip.mp4 "$n.mp4"; s encode "$n.mp4" """
         r"""--frames 8 -o "$n.safetensors" && s inspect "$n.safetensors" && s inspect --json "$n.safetensors" && """
         r"""s ask "$n.safetensors" 'How many stars are there?'; code=$?; rm -f "$n"*; exit $code""", (0, 1)),
    Case("a missing name that is not UTF-8", r"""s inspect $(printf 'caf\xe9')""", (2,), "There is no file"),
)  # fmt: skip

CASES = STREAMS + SURROUNDINGS + OUTPUTS + INPUTS
COUNT = len(CASES)  # of a full run


def trials(seed: int, folder: Path, count: int) -> Iterator[Trial]:
    """`count` cases, beginning with that of number `seed`; after the last one comes the first."""
    given = prepare(folder / "environments")
    for number in range(seed, seed + count):
        yield trial(CASES[number % len(CASES)], given)


def prepare(folder: Path) -> Path:
    """A folder with the files that the cases read."""
    given = folder / "given"
    given.mkdir(parents=True)
    shutil.copy(SAMPLES / "flash.mp4", given / "clip.mp4")
    shutil.copy(SAMPLES / "flash.mp4", given / "flash.mp4")  # the name that the tokens know: `view` finds it
    write_data(given / "data")
    tokens, kept = given / "tokens.safetensors", given / "kept.safetensors"
    for args in (
        ["encode", str(given / "flash.mp4"), "--frames", "8", "-o", str(tokens)],
        ["compress", str(tokens), "--ratio", "0.3", "-o", str(kept)],
    ):
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as errors:
            code = main(args)
        if code:
            raise RuntimeError(errors.getvalue())
    return given


def trial(case: Case, given: Path) -> Trial:
    """Run a case in a folder of its own, with copies of the given files."""
    place = given.parent / "place"
    shutil.copytree(given, place / "given")
    (place / "tmp").mkdir()
    before = _contents(place / "given")
    try:
        failure = _run(case, place)
        if failure is None and _contents(place / "given") != before:
            failure = "a given file was changed"
    finally:
        shutil.rmtree(place)
    return Trial(KIND, case.name, failure)


def _run(case: Case, place: Path) -> str | None:
    errors = place.parent / "errors.txt"
    with errors.open("w+b") as file, (place.parent / "output.txt").open("wb") as output:
        line = f's() {{ "$PYTHON" -m stsimdiff_cli "$@"; }}\n{case.line}\n'
        process = subprocess.Popen(
            ["bash", "-c", line],
            cwd=place,
            env=_variables() | {"TMPDIR": str(place / "tmp"), "PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=file,
            start_new_session=True,
        )
        try:
            code = process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    text = errors.read_text(errors="replace")
    if code == IMPOSSIBLE:
        return None
    return _wrong(case, place, code, text)


def _wrong(case: Case, place: Path, code: int | None, text: str) -> str | None:
    said = f"; it printed: {text[-1500:]}"
    if code is None:
        return f"it took more than {LONGEST:.0f} s{said}"
    if code not in case.codes:
        return f"exit code {code}{said}"
    if "Traceback" in text or "Exception ignored" in text:
        return f"a traceback{said}"
    if case.says and not any(words in text for words in case.says.split("|")):
        return f"nothing about {case.says!r}{said}"
    there = names(place)
    if missing := set(case.writes) - there:
        return f"not written: {', '.join(sorted(missing))}{said}"
    if left := there - set(case.writes):
        return f"left behind: {', '.join(sorted(left))}{said}"
    return None


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _variables() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
