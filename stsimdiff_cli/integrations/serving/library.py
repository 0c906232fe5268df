"""The files that a server answers questions about, by their ids. No id leads out of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ...errors import FileFormatError, RequestError, StsimdiffError
from ...models.inference.early_layers import check_layout
from ...records import CompressedVideo, TokenGrid, VideoTokens
from ...storage.formats import REMAKE
from ...storage.reading import load, open_stored
from . import SCHEME, SERVED

if TYPE_CHECKING:
    from ...models.families.base import Family
    from ...storage.stores import AnyPath
    from .prompts import VideoPrompts, VideoSpan

_SUFFIX = ".safetensors"
#: Videos that are kept ready in the server's process; the engine has a cache of its own.
_READY = 32


class UnknownIdError(RequestError):
    """There is no file with the id that a client asked for."""


@dataclass(frozen=True)
class Library:
    """Files and folders; a file's id is its name, or its path below a folder, with or without `.safetensors`."""

    roots: tuple[Path, ...]  # resolved

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Library:
        """RequestError for a path that is not there, and for two files with one id."""
        roots = []
        for path in paths:
            if not path.exists():
                raise RequestError(f"There is no file {path}.", "Check the path and the spelling.")
            roots.append(path.resolve())
        names = [root.name.removesuffix(_SUFFIX) for root in roots if root.is_file()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise RequestError(f"Two files have the id {twice[0]}.", "Rename one, or serve the folder above them.")
        return cls(tuple(roots))

    def path(self, name: str) -> Path:
        """The file of an id. UnknownIdError if there is none, or if it is not one of these files or below a folder.

        A symbolic link that leads out of a folder is not followed.
        """
        parts = PurePosixPath(name).parts
        sound = name and "\0" not in name and "\\" not in name and ".." not in parts and not name.startswith("/")
        for root in self.roots if sound else ():
            for candidate in (name, name + _SUFFIX):
                found = root if root.is_file() and root.name == candidate else root / candidate
                if _is_file(found) and found.suffix == _SUFFIX:
                    real = found.resolve()
                    if real == root or real.is_relative_to(root):
                        return real
        raise UnknownIdError(f"There is no file with the id {name[:200]!r}.", "Ask for one that is served.")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, or a folder that cannot be read
        return False


class Shelf:
    """A library with the model that reads its files: ids become what stands in a prompt."""

    def __init__(self, library: Library, family: Family) -> None:
        self.library, self.family = library, family
        self._span = lru_cache(_READY)(self._read)

    @classmethod
    def from_environment(cls) -> Shelf:
        """As `announce` wrote it down, in another process of the same server."""
        from ...models.families import open_family

        stated = json.loads(os.environ[SERVED])
        return cls(Library(tuple(map(Path, stated["files"]))), open_family(stated["model"]))

    def announcement(self) -> dict[str, str]:
        """Variables of the environment from which other processes make the same shelf."""
        stated: dict[str, Any] = {"model": self.family.checkpoint.local, "files": [*map(str, self.library.roots)]}
        return {SERVED: json.dumps(stated), "VLLM_MEDIA_CONNECTOR": SCHEME}

    def span(self, name: str) -> VideoSpan:
        """What stands for a file in a prompt; a file that changed on disk is read again.

        UnknownIdError, RequestError if another model made it, FileFormatError if it is damaged.
        """
        path = self.library.path(name)
        state = path.stat()
        try:
            return self._span(path, state.st_mtime_ns, state.st_size, state.st_ino)
        except StsimdiffError as error:  # a client need not know the server's folders
            raise type(error)(str(error).replace(str(path), path.name), error.hint) from error

    def check(self, path: Path) -> None:
        """RequestError if another model made the file; reads its header only."""
        require_maker(self.family, path, open_stored(path).grid)

    def _read(self, path: Path, *_: int) -> VideoSpan:
        return self.prompts.span(open_for(self.family, path))

    @cached_property
    def prompts(self) -> VideoPrompts:
        """Of the model."""
        from .prompts import VideoPrompts

        return VideoPrompts(self.family)


def open_for(family: Family, path: Path) -> CompressedVideo:
    """A file of kept tokens, or of all tokens, that this model made. RequestError if another one did."""
    from ... import pipeline

    video = load(path)
    require_maker(family, path, video.grid)
    kept = pipeline.all_tokens(video) if isinstance(video, VideoTokens) else video
    if not len(kept.index):
        raise FileFormatError(f"{path.name} holds no tokens.", REMAKE)
    return kept


def require_maker(family: Family, path: AnyPath, grid: TokenGrid) -> None:
    """RequestError unless this model made the tokens of a file."""
    made_by, own = grid.model, family.checkpoint
    if made_by.fingerprint != own.fingerprint:
        raise RequestError(
            f"{path.name} was made by {made_by.id}, and {own.id} cannot read it.",
            f"Use {made_by.id}, or encode the video with {own.id}.",
        )
    check_layout(family, grid)
