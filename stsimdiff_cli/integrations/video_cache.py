"""Encoded and compressed videos on disk, so that many questions, runs and processes make each only once.

    cache = Cache()                                    $STSIMDIFF_CACHE, or ~/.cache/stsimdiff; at most 20 GB
    video = cache.video(path, Recipe(sampling=Sampling(frames=64)))       from the cache, or made and kept there

A file is found again by a hash of everything that it depends on: the video, the checkpoint, every setting. Processes
that want the same one wait for the first. What was not used for longest goes when the limit is passed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .. import __version__, pipeline
from ..errors import FileFormatError, RequestError, StsimdiffError
from ..methods.base import Method
from ..methods.st_simdiff import StSimDiff
from ..models import EMBEDDED
from ..models.loading.runtime import Runtime
from ..pipeline import Context
from ..ratio import Ratio, parse_ratio
from ..storage.formats import StoredVideo, save_compressed, save_tokens
from ..video import Sampling

if TYPE_CHECKING:
    from ..models.loading.checkpoint import Checkpoint
    from ..records import CompressedVideo, VideoTokens

GB = 10**9
DEFAULT_LIMIT = 20 * GB
_SUFFIX = ".safetensors"
_ABANDONED = 24 * 3600.0  # seconds after which a lock or a half-written file belongs to nobody

Made = TypeVar("Made")


def default_folder() -> Path:
    """$STSIMDIFF_CACHE, else stsimdiff in $XDG_CACHE_HOME or ~/.cache."""
    if named := os.environ.get("STSIMDIFF_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stsimdiff"


@dataclass(frozen=True)
class Recipe:
    """How a video becomes tokens, and these a compressed video: all settings of both stages, as a user says them.

    A ratio for a method that keeps all, or a prompt for one that does not look at it,
    changes nothing.
    """

    model: str = EMBEDDED
    revision: str | None = None
    sampling: Sampling = Sampling()
    runtime: Runtime = Runtime()
    method: Method = field(default_factory=StSimDiff)
    ratio: Ratio = field(default_factory=lambda: parse_ratio("0.3"))
    prompt: str | None = None

    def encode(self, path: Path, context: Context = Context()) -> VideoTokens:
        """The video's tokens, with the evidence that the method needs."""
        return pipeline.encode_video(
            path,
            self.model,
            self.sampling,
            self.runtime,
            revision=self.revision,
            evidence=sorted(self.method.evidence),
            context=context,
        )

    def compress(self, tokens: VideoTokens, context: Context = Context()) -> CompressedVideo:
        """The tokens that the method keeps."""
        return pipeline.compress_tokens(
            tokens, self.ratio, self.method, self.runtime, prompt=self.prompt, context=context
        )

    def tokens_key(self, path: Path) -> str:
        """A hash of all that the tokens depend on; RequestError if there is no such video."""
        return _digest({"kind": "tokens", "video": _identity(path), **self._encoding})

    def video_key(self, path: Path) -> str:
        """A hash of all that the compressed video depends on; RequestError if there is no such video."""
        llm = "llm" in self.method.needs
        selecting = {
            "method": [self.method.name, self.method.parameters()],
            "ratio": "1" if self.method.keeps_all else self.ratio.decimal,
            "prompt": (self.prompt or pipeline.GENERAL_PROMPT) if llm else None,
            "quantize": self.runtime.quantize if llm else None,
        }
        return _digest({"kind": "compressed", "video": _identity(path), **self._encoding, **selecting})

    @cached_property
    def _encoding(self) -> dict[str, Any]:
        """What tokens depend on beside the video; what is `auto` by what it means here."""
        from ..models.loading.checkpoint import find_checkpoint

        checkpoint = find_checkpoint(self.model, self.revision)
        runtime = replace(self.runtime, quantize=None).resolve(checkpoint)
        sampling = replace(
            self.sampling,
            frames=self.sampling.frames if self.sampling.fps is None else 0,
            decoder="pyav" if self.sampling.decoder == "auto" else self.sampling.decoder,
        )
        return {
            "versions": [__version__, *map(version, ("torch", "transformers", "av"))],
            "model": [checkpoint.id, checkpoint.revision, checkpoint.fingerprint, _beside_weights(checkpoint)],
            "sampling": asdict(sampling),
            "evidence": sorted(self.method.evidence),
            "runtime": [runtime.device.type, str(runtime.dtype), runtime.attention],
        }


class Cache:
    """A folder of tokens files and compressed files, which may be shared by several processes.

    `limit` in bytes; with 0 nothing is kept and the folder is not touched. `warn` is told, once for each reason, when
    something cannot be kept; the work goes on. RequestError for a folder that cannot be made or written to.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        limit: int = DEFAULT_LIMIT,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        if limit < 0:
            raise RequestError(f"A cache of {limit} bytes is not possible.", "Give a size above 0, or 0 for no cache.")
        self.folder = Path(folder).expanduser() if folder else default_folder()
        self.limit = limit
        self._warn = warn
        self._warned: set[str] = set()
        if limit:
            self._prepare()

    def tokens(self, path: str | Path, recipe: Recipe, context: Context = Context()) -> VideoTokens:
        """All tokens of a video. Errors as `pipeline.encode_video`."""
        path = Path(path)
        return self._kept(
            recipe.tokens_key(path) if self.limit else "",
            read=lambda file: StoredVideo(file).tokens(),
            make=lambda: recipe.encode(path, context),
            write=save_tokens,
        )

    def video(
        self,
        path: str | Path,
        recipe: Recipe,
        context: Context = Context(),
        tokens: Callable[[], VideoTokens] | None = None,
    ) -> CompressedVideo:
        """A compressed video. Its tokens, which are not kept, are encoded, or come from `tokens` if given.

        Errors as `pipeline.encode_video` and `pipeline.compress_tokens`.
        """
        path = Path(path)
        encode = tokens or (lambda: recipe.encode(path, context))
        return self._kept(
            recipe.video_key(path) if self.limit else "",
            read=lambda file: StoredVideo(file).video(),
            make=lambda: recipe.compress(encode(), context),
            write=save_compressed,
        )

    # --- files ------------------------------------------------------------------------------------------------------

    def _kept(
        self,
        key: str,
        read: Callable[[Path], Made],
        make: Callable[[], Made],
        write: Callable[[Path, Made], int],
    ) -> Made:
        """What is stored under a key, or made and stored now. Others who want it wait meanwhile."""
        if not self.limit:
            return make()
        file = self.folder / f"{key}{_SUFFIX}"
        found = self._found(file, read)
        if found is not None:
            return found
        with self._locked(file):
            found = self._found(file, read)  # somebody else may have made it while we waited
            if found is not None:
                return found
            made = make()
            self._store(file, made, write)
            return made

    def _found(self, file: Path, read: Callable[[Path], Made]) -> Made | None:
        """What is in a file, which is then the last used; None if there is none, or it is damaged."""
        try:
            with suppress(PermissionError):  # somebody else's
                os.utime(file)
            return read(file)
        except FileNotFoundError:
            return None
        except (FileFormatError, RequestError, OSError) as error:  # RequestError: it has gone since
            if file.exists():
                self._say("damaged", f"A file of the cache is made again: {error}")
            return None

    def _store(self, file: Path, made: Made, write: Callable[[Path, Made], int]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # somebody may have emptied the cache
            size = write(file, made)
        except (StsimdiffError, OSError) as error:
            self._say("unwritable", f"The cache keeps no new files: {error}")
            return
        if size > self.limit:
            file.unlink(missing_ok=True)
            self._say("large", f"A file of {size / GB:.3g} GB is larger than the cache ({self.limit / GB:.3g} GB).")
        else:
            self._shrink(file)

    def _shrink(self, newest: Path) -> None:
        """Remove files, those first that were not used for longest, until the rest is within the limit."""
        now, found = time.time(), []
        for entry in _entries(self.folder):
            with suppress(OSError):  # gone meanwhile, or (on Windows) in use
                state = entry.stat()
                if entry.name.endswith(_SUFFIX):
                    found.append((state.st_mtime_ns, state.st_size, Path(entry)))
                elif entry.name.endswith((".lock", ".tmp")) and now - state.st_mtime > _ABANDONED:
                    Path(entry).unlink()
        total = sum(size for _, size, _ in found)
        for _, size, file in sorted(found):
            if total <= self.limit:
                break
            if file != newest:
                with suppress(OSError):
                    file.unlink()
                    total -= size

    @contextmanager
    def _locked(self, file: Path) -> Iterator[None]:
        """One process at a time; where the file system has no locks, all at once (files appear whole anyway)."""
        from filelock import FileLock

        with ExitStack() as held:
            try:
                held.enter_context(FileLock(file.with_suffix(".lock")))
            except (OSError, NotImplementedError) as error:
                self._say("lock", f"Processes that share the cache may do work twice: {error}")
            yield

    def _prepare(self) -> None:
        hint = "Name another folder, or set STSIMDIFF_CACHE; with a size of 0 nothing is kept."
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"The cache {self.folder} cannot be made: {error.strerror}.", hint) from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise RequestError(f"The cache {self.folder} cannot be written to.", hint)

    def _say(self, reason: str, text: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            self._warn(text)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:40]


def _identity(path: Path) -> list[Any]:
    """By which a video is known again without reading it: the path without links, bytes, time of the last change."""
    try:
        state = path.stat()
    except OSError as error:
        raise RequestError(f"There is no file {str(path)!r}.", "Check the path and the spelling.") from error
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]


def _beside_weights(checkpoint: Checkpoint) -> str:
    """A hash of the small files that say how pixels and words enter the model: processor, tokenizer, template."""
    digest = hashlib.sha256()
    folders = (checkpoint.path, *(checkpoint.path / part for part in checkpoint.parts))
    for file in sorted(file for folder in folders for file in folder.iterdir()):
        if file.suffix in (".json", ".txt", ".jinja", ".model") and file.is_file():
            digest.update(str(file.relative_to(checkpoint.path)).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
