"""Finding a checkpoint - an embedded model, a local folder, or a hub id - and telling it from others."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import safe_open

from ...errors import ModelError, RequestError
from ...records import ModelRef
from .. import EMBEDDED, FORMER, family_of
from .damage import reading, refuse_pointer

#: Files of a checkpoint that are downloaded; never code.
_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
#: Entries of config.json that may change without changing the model.
_VOLATILE = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "architectures", "use_cache"}
#: Entries of config.json that say how many layers a part has, and more of them than any model has.
_LAYERS, _MOST_LAYERS = {"num_hidden_layers", "num_layers", "depth"}, 256
_SAMPLE = 32  # bytes read from each tensor for the fingerprint
#: Parts that may each be published in a folder of their own; config.json then has an entry `<part>_cfg`.
_PARTS = ("llm", "vision_tower", "mm_projector")
#: Entry of config.json that marks a dummy: a folder without weights, see random_weights.py.
DUMMY = "stsimdiff_dummy"


@dataclass(frozen=True)
class Checkpoint:
    """A model folder on disk."""

    id: str  # as the user named it: "tiny", a hub id, or a folder; with its options
    path: Path
    revision: str | None  # commit of a hub checkpoint
    family: str
    config: dict[str, Any]  # config.json
    options: dict[str, str] = field(default_factory=dict)  # of its family, see Family.options

    @property
    def local(self) -> str:
        """A name that means the same without asking the hub."""
        return self.id if self.embedded else f"{self.path}{_spelled(self.options)}"

    @property
    def dummy(self) -> bool:
        """True for a folder without weights; loading fills the model with noise."""
        return bool(self.config.get(DUMMY))

    @property
    def embedded(self) -> bool:
        """True for a checkpoint that comes with the package."""
        return self.id == EMBEDDED

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders that each hold the weights of one part of the model; () if one folder holds all."""
        return _PARTS if all(f"{part}_cfg" in self.config for part in _PARTS) else ()

    @property
    def tokenizer_path(self) -> Path:
        """The folder of the tokenizer's files: the LLM's, if it has one of its own."""
        return self.path / "llm" if (self.path / "llm" / "tokenizer_config.json").is_file() else self.path

    @cached_property
    def ref(self) -> ModelRef:
        """Which model it is, as written into files."""
        return ModelRef(self.id, self.family, self.revision, self.fingerprint)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the configuration and of every tensor's name, type, shape and first bytes.

        It reads kilobytes, not the weights. It does not depend on folder or sharding, and it differs between two
        fine-tunings of one architecture.
        """
        digest = hashlib.sha256(json.dumps(_stable(self.config), sort_keys=True).encode())
        digest.update(_spelled(self.options).encode())
        for part in self.parts:
            digest.update(json.dumps(_stable(self.json(f"{part}/config.json")), sort_keys=True).encode())
        tensors = []
        for shard in self.weight_files():
            part = f"{shard.parent.name}." if self.parts else ""
            with reading(f"{shard.name} of the checkpoint {self.id}"):
                with safe_open(shard, framework="pt"):  # checks the header, and that the file has all that it lists
                    pass
                tensors += _samples(shard, part)
        digest.update(json.dumps(sorted(tensors)).encode())
        return digest.hexdigest()[:32]

    def weight_files(self) -> list[Path]:
        """The safetensors shards, none for a dummy; ModelError if one is missing, outside the folder, or a pickle."""
        if self.dummy:
            return []
        if (self.path / "adapter_config.json").is_file():
            raise ModelError(
                f"The checkpoint {self.id} is an adapter, or has one, which is not supported.",
                "Merge it into the model first, e.g. with peft's merge_and_unload.",
            )
        names = [name for part in self.parts or (".",) for name in self._shards(Path(part))]
        with reading(f"The weights of the checkpoint {self.id}"):  # a name may be too long, a folder unreadable
            missing = [name for name in names if not (self.path / name).is_file()]
        if missing:
            pickles = [*self.path.glob("*.bin"), *self.path.glob("*.pt*"), *self.path.glob("*.ckpt")]
            raise ModelError(
                f"The checkpoint {self.id} lacks {missing[0]}."
                + (f" Its {pickles[0].name} is never opened, because it may run code." if pickles else ""),
                "Convert its weights to safetensors." if pickles else f"Download it completely{self._command}.",
            )
        files = [self.path / name for name in names]
        for file in files:
            with reading(f"{file.name} of the checkpoint {self.id}"):
                refuse_pointer(file, self.id)
        return files

    @property
    def _command(self) -> str:
        """How to download what is missing of a checkpoint from the hub."""
        return f": hf download {split_options(self.id)[0]}" if self.revision else ""

    def require_whole(self) -> None:
        """ModelError unless all shards are whole and hold weights as the configuration says; reads headers only."""
        for shard in self.weight_files():
            with reading(f"{shard.name} of the checkpoint {self.id}"), safe_open(shard, framework="pt") as file:
                for name in () if "quantization_config" in self.config else file.keys():
                    dtype = file.get_slice(name).get_dtype()
                    if not dtype.startswith(("F", "BF")) and not name.endswith("_ids"):  # position_ids may be there
                        raise ValueError(f"{name} is of type {dtype} instead of a floating-point type")

    def _shards(self, part: Path) -> list[str]:
        """Names of a part's shards: one file if there is one, as transformers decides, or those of the index."""
        if (self.path / part / "model.safetensors").is_file():
            return [str(part / "model.safetensors")]
        index = self.json(str(part / "model.safetensors.index.json"))
        if not index:
            return [str(part / "model.safetensors")]
        files = index.get("weight_map")
        if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
            raise ModelError(
                f"model.safetensors.index.json of the checkpoint {self.id} lists no files.", "Download it again."
            )
        for file in files.values():
            if PurePosixPath(file).name != file or not file.endswith(".safetensors") or "\\" in file:
                raise ModelError(
                    f"model.safetensors.index.json of the checkpoint {self.id} names {file!r}, which is not a "
                    "safetensors file in the same folder.",
                    "Only use checkpoints from somebody you trust.",
                )
        return [str(part / file) for file in sorted(set(files.values()))]

    def part_config(self, part: str) -> dict[str, Any]:
        """The configuration of a part: config.json in the part's folder, or else the entry in the main config.json."""
        stored = self.config.get(f"{part}_cfg")
        return self.json(f"{part}/config.json") or (stored if isinstance(stored, dict) else {})

    def json(self, name: str) -> dict[str, Any]:
        """One of the folder's JSON files; {} if there is none. ModelError if it cannot be read."""
        text = self.text(name)
        if text is None:
            return {}
        with reading(f"{name} of the checkpoint {self.id}"):
            content = json.loads(text)
        if not isinstance(content, dict):
            raise ModelError(f"{name} of the checkpoint {self.id} does not hold a JSON object.", "Download it again.")
        return content

    def text(self, name: str) -> str | None:
        """One of the folder's text files; None if there is none. ModelError if it cannot be read."""
        with reading(f"{name} of the checkpoint {self.id}"):
            path = self.path / name
            if not path.is_file():
                return None
            refuse_pointer(path, self.id)
            return path.read_text(encoding="utf-8")


def _samples(shard: Path, prefix: str) -> list[tuple[str, str, list[int], str]]:
    """Name, type, shape and first bytes of every tensor of a safetensors file that is known to be whole."""
    with shard.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        samples = []
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            file.seek(8 + size + begin)
            samples.append((prefix + name, entry["dtype"], entry["shape"], file.read(min(_SAMPLE, end - begin)).hex()))
    return samples


def _check_layers(config: Any, name: str) -> None:
    """ModelError if a config.json asks for a number of layers that no model has: making it would take forever."""
    for key, value in config.items() if isinstance(config, dict) else ():
        if key in _LAYERS and value is not None and not (type(value) is int and 0 <= value <= _MOST_LAYERS):
            raise ModelError(f"The config.json of {name} has {key} = {value!r}.", "Download it again.")
        _check_layers(value, name)


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(item) for key, item in value.items() if key not in _VOLATILE}
    return value


#: A model with options of its family: `name:option=value,option=value`.
_OPTIONS = re.compile(r"(?P<name>.+):(?P<options>\w+=[\w.]+(?:,\w+=[\w.]+)*)", re.S)


def split_options(name: str) -> tuple[str, dict[str, str]]:
    """A model's name without options, and these; a folder that is called so has none."""
    match = _OPTIONS.fullmatch(name)
    if match is None or _is_folder(name):
        return name, {}
    return match["name"], dict(sorted(part.split("=") for part in match["options"].split(",")))


def _spelled(options: dict[str, str]) -> str:
    return ":" + ",".join(f"{name}={value}" for name, value in options.items()) if options else ""


def find_checkpoint(name: str, revision: str | None = None) -> Checkpoint:
    """The checkpoint that `name` means: an embedded model, a folder, or a hub id (downloaded or taken from the cache).

    Options of its family may follow, as in `owner/name:pool=average`; `open_family` checks them. Raises RequestError if
    the folder holds no model of a known family, ModelError if the hub cannot be reached.
    """
    name, options = split_options(name)
    if name == EMBEDDED:
        path = Path(__file__).parents[1] / "tiny" / "checkpoint"
    elif _is_folder(name):
        path = Path(name).resolve()
        name = str(path)
    elif not _HUB_ID.fullmatch(name):
        raise RequestError(
            f"There is no model named {_short(name)}.",
            FORMER.get(name, "Give tiny, a folder with config.json, or a hub id owner/name."),
        )
    else:
        path, revision = _from_hub(name, revision)
    draft = Checkpoint(name, path, revision, "", {})
    if draft.text("config.json") is None:
        raise RequestError(f"The folder {name} holds no config.json.", "Give the folder of a Hugging Face checkpoint.")
    config = draft.json("config.json")
    with reading(f"The config.json of {name}"):
        family = family_of(config, name)
        checkpoint = Checkpoint(name + _spelled(options), path, revision, family, config, options)
        for part in (config, *(checkpoint.part_config(part) for part in checkpoint.parts)):
            _check_layers(part, name)
    return checkpoint


#: owner/name, as the hub allows them: no path begins like that.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)


def _is_folder(name: str) -> bool:
    """Whether there is a folder of that name; False for a text that no file can have as its name."""
    try:
        return bool(name) and Path(name).is_dir()
    except (OSError, ValueError):
        return False


def _short(name: str) -> str:
    """A name as it is shown in a sentence."""
    return repr(name if len(name) <= 100 else name[:100] + "...")


#: A commit, which never changes.
_COMMIT = re.compile(r"[0-9a-f]{40}")


def _from_hub(name: str, revision: str | None) -> tuple[Path, str]:
    from huggingface_hub import constants, snapshot_download

    if revision and _COMMIT.fullmatch(revision):
        with suppress(Exception):  # whatever is wrong with the cache: ask the hub
            path = Path(snapshot_download(name, revision=revision, allow_patterns=_PATTERNS, local_files_only=True))
            if _is_whole(name, path):
                return path, path.name
    try:
        path = Path(snapshot_download(name, revision=revision, allow_patterns=_PATTERNS))
    except Exception as error:  # the hub raises a dozen types, from HTTP to name resolution
        with suppress(Exception):  # some versions ask the hub even for a commit that is in the cache
            path = Path(snapshot_download(name, revision=revision, allow_patterns=_PATTERNS, local_files_only=True))
            return path, path.name
        wanted = f"{name} at revision {revision}" if revision else name
        reason, hint = _explain(error, name, constants.HF_HUB_OFFLINE)
        raise ModelError(
            f"The model {wanted} is not in the cache {constants.HF_HUB_CACHE} and could not be downloaded: {reason}.",
            hint,
        ) from error
    return path, path.name


def _is_whole(name: str, path: Path) -> bool:
    """Whether a snapshot has files of every kind, since a download may have ended early; ModelError without weights."""
    draft = Checkpoint(name, path, None, "", {})
    checkpoint = replace(draft, config=draft.json("config.json"))
    settings = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")
    return (
        bool(checkpoint.weight_files())
        and (checkpoint.tokenizer_path / "tokenizer_config.json").is_file()
        and any((path / file).is_file() for file in settings)
    )


def _explain(error: Exception, name: str, offline: bool) -> tuple[str, str]:
    """Why the download failed, and what to do about it."""
    from huggingface_hub import errors

    carry = f"On a machine with a network: `hf download {name} --local-dir FOLDER`; copy it here: --model FOLDER"
    if isinstance(error, errors.GatedRepoError):  # before RepositoryNotFoundError, of which it is one
        return "its owner grants access only on request", f"Ask on huggingface.co/{name}, then `hf auth login`."
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no such model, or it is private", "Check the name; for a private model: `hf auth login`."
    if isinstance(error, errors.RevisionNotFoundError):
        return "the hub has the model, but not this revision", "Check --revision: a branch, a tag or a commit."
    if offline:
        return "HF_HUB_OFFLINE forbids access to the hub", f"Unset it. Or: {carry[0].lower()}{carry[1:]}"
    if isinstance(error, errors.LocalEntryNotFoundError | ConnectionError | TimeoutError):
        return "the hub cannot be reached", carry
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}", carry
