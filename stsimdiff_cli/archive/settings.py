"""What decides the bytes of every output: written to run.json at the first start, and compared at every later one."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import RequestError
from ..methods.spec import spelled
from ..models import EMBEDDED
from ..models.families import open_family
from ..pipeline import GENERAL_PROMPT
from ..registry import written
from ..storage.atomic import whole_file
from ..storage.formats import COMPRESSED, TOKENS, VERSION
from ..storage.regular import check_file
from ..storage.stores import AnyPath, StorePath
from .identity import hashed
from .job import Job
from .log import now

RUN = "run.json"
FORMAT = "stsimdiff.run/1"


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of an output besides the video, as JSON values, and the hash of it."""

    values: dict[str, Any]
    model: str | None  # what the model is called; the values have its fingerprint

    @property
    def id(self) -> str:
        """The hash that every output carries."""
        return hashed(self.values)


def settings_of(job: Job, by_content: bool, videos: bool) -> Settings:
    """The settings of a job. `videos`: some items are videos, so that the job's model encodes them.

    Device, workers and shards do not count. The dtype does, as far as it is known before a model is loaded: "auto" is
    float32 on a CPU and the checkpoint's own elsewhere. ModelError for a checkpoint that cannot be found.
    """
    name = job.model if not videos else job.model or EMBEDDED
    fingerprint = None if name is None else open_family(name, job.revision).checkpoint.fingerprint
    dtype = job.runtime.dtype
    if dtype == "auto":
        dtype = "float32" if job.runtime.check().type == "cpu" else "checkpoint"
    values: dict[str, Any] = {
        "command": job.command,
        "format": f"{TOKENS if job.method is None else COMPRESSED}/{VERSION}",
        "items": "content" if by_content else "path, size and time",
        "model": fingerprint,
        "sampling": job.sampling.identity,
        "evidence": sorted(job.evidence),
        "dtype": dtype,
        "attention": job.runtime.attention,
        "quantize": job.runtime.quantize,
    }
    if job.method is not None:
        values |= {
            "method": spelled(job.method),
            "parameters": job.method.parameters(),
            **({} if job.ratio is None else {"ratio": job.ratio.decimal}),
            **({} if job.size is None else {"bytes": str(job.size)}),
            "prompt": job.prompt or GENERAL_PROMPT,
        }
    if job.store is not None:  # folders that were begun without one go on
        values["store"] = job.store
    return Settings(json.loads(json.dumps(values)), name)


def keep(out: AnyPath, settings: Settings, sources: list[str], replace: bool = False) -> None:
    """Write run.json unless it is there; `replace` writes it over one of other settings.

    RequestError, with the difference in words, if the folder has one of other settings. Of several starts at the same
    time one writes it, and the others compare.
    """
    path = out / RUN
    content = {
        "format": FORMAT,
        "settings_id": settings.id,
        "settings": settings.values,
        "model": settings.model,
        "sources": sources,
        "created": now(),
        "version": __version__,
    }
    if not path.exists() and _create(path, content):
        return
    stored = read(out)
    if stored.id == settings.id:
        return
    if not replace:
        raise RequestError(
            f"{out} was made with other settings: {'; '.join(differences(stored, settings))}.",
            "Give the same settings again, choose another folder for -o, or make everything anew with --force.",
        )
    if isinstance(path, StorePath):
        path.write(_text(content).encode())
        return
    with whole_file(path) as temporary:
        temporary.write_text(_text(content), encoding="utf-8")


def read(out: AnyPath) -> Settings:
    """The settings of a folder of outputs. RequestError if there are none, or they cannot be read."""
    path = out / RUN
    hint = "Give the folder that was named with -o when many videos were encoded or compressed."
    if isinstance(out, Path) and not out.is_dir():
        raise RequestError(f"{out} is not a folder." if out.exists() else f"There is no folder {out}.", hint)
    if not path.exists():
        raise RequestError(f"{out} has no {RUN}, so it is not a folder that stsimdiff wrote.", hint)
    if isinstance(path, Path):
        check_file(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        values, model = content["settings"], content["model"]
        if not isinstance(values, dict) or content["format"] != FORMAT:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise RequestError(
            f"{path} is damaged, or was written by another program.",
            "Remove it: the next start writes it again, and files made with the same settings count as done.",
        ) from None
    return Settings(values, model)


def differences(stored: Settings, wanted: Settings) -> list[str]:
    """In words, how other settings differ from the stored ones."""
    one, other = _flat(stored.values), _flat(wanted.values)
    texts = []
    for name in dict.fromkeys([*other, *one]):
        before, after = one.get(name), other.get(name)
        if before == after or (name == "method" and "parameters" in stored.values and _names_alike(before, after)):
            continue
        if name == "model" and stored.model != wanted.model:
            before, after = stored.model, wanted.model
        texts.append(f"{_word(name)} was {_shown(before)}, is now {_shown(after)}")
    return texts


def _names_alike(before: Any, after: Any) -> bool:
    """Whether two texts name the same method, so that the difference is one of parameters."""
    return str(before).partition(":")[0] == str(after).partition(":")[0]


def _word(name: str) -> str:
    return {"items": "what tells items apart", "model": "the model", "format": "the format of files"}.get(
        name, name.rpartition(".")[2]
    )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "not set"
    if isinstance(value, list):
        return ", ".join(map(written, value))
    return repr(value) if isinstance(value, str) and " " in value else written(value)


def _create(path: AnyPath, content: dict[str, Any]) -> bool:
    """Write a new file; False if somebody else was quicker."""
    if isinstance(path, StorePath):
        try:
            path.write(_text(content).encode(), new=True)
        except FileExistsError:
            return False
        return True
    draft = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    with whole_file(draft) as temporary:
        temporary.write_text(_text(content), encoding="utf-8")
    try:
        os.link(draft, path)  # fails if the file exists, which a rename does not
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink()
    return True


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
