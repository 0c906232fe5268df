"""Checks a built distribution: what is in wheel and sdist, and the main job from the wheel in a fresh environment.

    python .ci/check_dist.py dist

The environment gets torch by the version in constraints.txt, then the wheel. Encoding, compressing and asking about a
sample clip run there, in an empty folder, so that nothing of this checkout can help.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

from addresses import LINK, PICTURE

ROOT = Path(__file__).resolve().parent.parent
IN_WHEEL = (
    "stsimdiff_cli/__init__.py",
    "stsimdiff_cli/py.typed",
    "stsimdiff_cli/models/tiny/README.md",
    "stsimdiff_cli/models/tiny/checkpoint/config.json",
    "stsimdiff_cli/models/tiny/checkpoint/model.safetensors",
    "stsimdiff_cli/view/page.html",
    "stsimdiff_cli/view/page.css",
    "stsimdiff_cli/view/page.js",
)
#: Besides what is in the wheel: what tests, docs and the measurements need, file by file and as whole folders.
IN_SDIST = (
    ".gitignore",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
)
FOLDERS = (".ci", ".github", "benchmarks", "docs", "examples", "sample_videos", "tests", "training")
#: Tests that run from the unpacked sdist: those that read files outside the package.
FROM_SDIST = ("tests/docs", "tests/examples", "tests/test_structure.py", "tests/benchmarks/test_results.py")
CLIP, QUESTION, ANSWER = "flash.mp4", "What appears for a moment?", "black square"


def main(folder: str) -> None:
    """Check the one wheel and the one sdist of a folder."""
    wheels, sdists = sorted(Path(folder).glob("*.whl")), sorted(Path(folder).glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        raise SystemExit(f"expected one wheel and one sdist in {folder}, got {len(wheels)} and {len(sdists)}")
    check_names(wheels[0], sdists[0])
    check_addresses(wheels[0])
    with tempfile.TemporaryDirectory() as place:
        check_tests(sdists[0], Path(place))
    with tempfile.TemporaryDirectory() as place:
        main_job(wheels[0].resolve(), Path(place))


def check_names(wheel: Path, sdist: Path) -> None:
    """Everything needed is there, and the wheel holds the package alone."""
    with zipfile.ZipFile(wheel) as file:
        inside = set(file.namelist())
    missing = [name for name in IN_WHEEL if name not in inside]
    foreign = sorted(name for name in inside if not name.startswith(("stsimdiff_cli/", "stsimdiff-")))
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    missing += [name for name in (*IN_WHEEL, *IN_SDIST) if name not in names]
    files = {str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()}
    missing += sorted(name for name in files - names if "__pycache__" not in name)
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "stsimdiff_cli").rglob("*.py")}
    missing += sorted(modules - inside)
    if missing or foreign:
        raise SystemExit(f"missing: {missing}; not of the package: {foreign}")
    print(f"{wheel.name}: {len(inside)} files; {sdist.name}: {len(names)} files")


def check_addresses(wheel: Path) -> None:
    """Where project URLs are given (.ci/addresses.py), every link and picture of the description is absolute."""
    with zipfile.ZipFile(wheel) as file:
        name = next(name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        head, _, description = file.read(name).decode().partition("\n\n")
    relative = [match[2] for pattern in (LINK, PICTURE) for match in pattern.finditer(description)]
    if "\nProject-URL: " in head and relative:
        raise SystemExit(f"relative in the description: {relative}")


def check_tests(sdist: Path, place: Path) -> None:
    """The tests of the sdist run in it, without this checkout."""
    with tarfile.open(sdist) as file:
        file.extractall(place, filter="data")
    (folder,) = place.iterdir()
    print(run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *FROM_SDIST], folder), end="")


def main_job(wheel: Path, place: Path) -> None:
    """Encode, compress and ask with the installed wheel."""
    print("installing the wheel in a fresh environment")
    venv.create(place / "venv", with_pip=True)
    scripts = place / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    torch = next(line for line in pins if line.startswith("torch=="))
    pip = [str(scripts / "python"), "-m", "pip", "install", "--quiet"]
    run([*pip, torch], place)
    run([*pip, "--constraint", str(ROOT / "constraints.txt"), str(wheel)], place)
    work = place / "work"
    work.mkdir()
    shutil.copy(ROOT / "sample_videos" / CLIP, work)
    program = str(scripts / "stsimdiff")
    print(run([program, "encode", CLIP, "-o", "tokens.safetensors"], work), end="")
    print(run([program, "compress", "tokens.safetensors", "-o", "kept.safetensors", "--ratio", "0.3"], work), end="")
    answer = run([program, "ask", "kept.safetensors", QUESTION], work)
    print(answer, end="")
    if answer.strip() != ANSWER:
        raise SystemExit(f"expected the answer {ANSWER!r}, got {answer.strip()!r}")


def run(command: list[str], folder: Path) -> str:
    """What a command prints on stdout, run in a folder without this checkout on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main(sys.argv[1])
