"""A cache of encoded and compressed videos, so that many questions, runs and processes make each of them only once.

    cache = VideoCache()                                             $STSIMDIFF_CACHE or ~/.cache/stsimdiff, 20 GB
    video = cache.video(path, Recipe(sampling=Sampling(frames=64)))  from the cache, or made and stored there

The key of a file is a hash of everything that its contents depend on: the video, the checkpoint, every setting.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__, pipeline
from ..errors import RequestError
from ..methods.base import Method
from ..methods.st_simdiff import StSimDiff
from ..models import EMBEDDED, FAMILIES
from ..models.loading.runtime import Runtime
from ..pipeline import Context
from ..ratio import Ratio, parse_ratio
from ..storage.disk_cache import GB, DiskCache
from ..storage.image_files import state_of
from ..storage.reading import StoredVideo
from ..storage.writing import save_compressed, save_tokens
from ..video import Sampling

if TYPE_CHECKING:
    from ..models.families.base import Family
    from ..models.loading.checkpoint import Checkpoint
    from ..records import CompressedVideo, VideoTokens

DEFAULT_LIMIT = 20 * GB


def default_folder() -> Path:
    """$STSIMDIFF_CACHE, else stsimdiff in $XDG_CACHE_HOME or ~/.cache."""
    if named := os.environ.get("STSIMDIFF_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stsimdiff"


@dataclass(frozen=True)
class Recipe:
    """All settings of encoding and compressing a video, as a user gives them.

    Settings without an effect do not enter the keys: the ratio of a method that keeps all tokens, the prompt of a
    method that does not use it.
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
        """A hash of everything that the tokens depend on. Raises RequestError for a missing video."""
        return digest({"kind": "tokens", "video": _identity(path), **self._encoding})

    def video_key(self, path: Path) -> str:
        """A hash of everything that the compressed video depends on. Raises RequestError for a missing video."""
        llm = "llm" in self.method.needs
        selecting = {
            "method": [self.method.name, self.method.parameters()],
            "ratio": "1" if self.method.keeps_all else self.ratio.decimal,
            "prompt": (self.prompt or pipeline.GENERAL_PROMPT) if llm else None,
            "quantize": self.runtime.quantize if llm else None,
        }
        return digest({"kind": "compressed", "video": _identity(path), **self._encoding, **selecting})

    @cached_property
    def _encoding(self) -> dict[str, Any]:
        """What the tokens depend on besides the video. `auto` stands for what it means on this machine."""
        from ..models.loading.checkpoint import find_checkpoint

        checkpoint = find_checkpoint(self.model, self.revision)
        runtime = replace(self.runtime, quantize=None).resolve(checkpoint)
        sampling = replace(
            self.sampling,
            decoder="pyav" if self.sampling.decoder == "auto" else self.sampling.decoder,
        )
        return {
            "versions": [__version__, *map(version, ("torch", "transformers", "av"))],
            "model": [checkpoint.id, checkpoint.revision, checkpoint.fingerprint, _files_hash(checkpoint)],
            "sampling": sampling.identity,
            "evidence": [_evidence(checkpoint, name) for name in sorted(self.method.evidence)],
            "runtime": [runtime.device.type, str(runtime.dtype), runtime.attention],
        }


class VideoCache:
    """A folder of tokens files and compressed files, shared by threads and processes.

    `folder` is `default_folder()` unless given; `limit` and `warn` are those of DiskCache.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        limit: int = DEFAULT_LIMIT,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        hint = "Choose another folder, or set STSIMDIFF_CACHE; with a size of 0 nothing is stored."
        self.files = DiskCache(folder or default_folder(), limit, ".safetensors", warn, hint)

    def tokens(self, path: str | Path, recipe: Recipe, context: Context = Context()) -> VideoTokens:
        """All tokens of a video. Errors as `pipeline.encode_video`."""
        path = Path(path)
        return self.files.get(
            recipe.tokens_key(path) if self.files.limit else "",
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
        """A compressed video. Its tokens are encoded, or come from `tokens` if given; they are not stored.

        Errors as `pipeline.encode_video` and `pipeline.compress_tokens`.
        """
        path = Path(path)
        encode = tokens or (lambda: recipe.encode(path, context))
        return self.files.get(
            recipe.video_key(path) if self.files.limit else "",
            read=lambda file: StoredVideo(file).video(),
            make=lambda: recipe.compress(encode(), context),
            write=save_compressed,
        )


def digest(data: dict[str, Any]) -> str:
    """A hash of JSON values, for a key."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:40]


def _evidence(checkpoint: Checkpoint, name: str) -> list[str]:
    """The name of some evidence, and what it is where models differ: see `Family.saliency`."""
    if name != "saliency":
        return [name]
    family: type[Family] = FAMILIES.load(checkpoint.family)
    return [name, family.saliency()]


def _identity(path: Path) -> list[Any]:
    """What identifies a video without reading it: its path with links resolved, its size, its modification time."""
    try:
        size, mtime_ns = state_of(path)
    except OSError as error:
        raise RequestError(f"There is no file {str(path)!r}.", "Check the path and the spelling.") from error
    return [str(path.resolve()), size, mtime_ns]


def _files_hash(checkpoint: Checkpoint) -> str:
    """A hash of the small files that say how pixels and text enter the model: processor, tokenizer, template."""
    digest = hashlib.sha256()
    folders = (checkpoint.path, *(checkpoint.path / part for part in checkpoint.parts))
    for file in sorted(file for folder in folders for file in folder.iterdir()):
        if file.suffix in (".json", ".txt", ".jinja", ".model") and file.is_file():
            digest.update(str(file.relative_to(checkpoint.path)).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
