"""The arguments of the model `stsimdiff` in lmms-eval: what --model_args may hold, and what it means."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from ..errors import RequestError
from ..registry import unknown_name

if TYPE_CHECKING:
    import torch

    from ..evaluation.variants import Variant
    from .video_cache import Recipe

#: Other names for arguments: users know them from the other models of lmms-eval.
AUTO_BATCH = 16  # questions that are asked together for batch_size=auto
_ALIASES = {"pretrained": "model", "attn_implementation": "attn"}


@dataclass(frozen=True)
class Arguments:
    """The arguments allowed in --model_args. Names and meanings are those of the stsimdiff command line.

    `method` may end in @question or @inside. `cache_gb` limits the size of the cache in `cache_dir` (default: see
    video_cache.py), in 10^9 bytes; 0 turns it off. lmms-eval itself adds the batch sizes: `batch_size` questions about
    a video are asked together.
    """

    model: str = "tiny"
    method: str = "st-simdiff"
    ratio: str = "0.3"
    frames: int = 64
    fps: float | None = None
    image_fps: float | None = None
    min_pixels: int | None = None
    max_pixels: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    attn: str = "auto"
    quantize: str | None = None
    revision: str | None = None
    decoder: str = "auto"
    decode_workers: int | None = None
    cache_dir: str | None = None
    cache_gb: float = 20.0
    batch_size: int = 1
    max_batch_size: int | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Arguments:
        """From the values that lmms-eval parsed (`0.3` is already a float). RequestError for a wrong name or value."""
        types = get_type_hints(cls)
        values: dict[str, Any] = {}
        for given_name, value in given.items():
            name = _ALIASES.get(given_name, given_name)
            if name not in types:
                names = ", ".join(sorted(types.keys() - {"max_batch_size"}))
                raise RequestError(f"There is no argument named {given_name!r}.", f"The arguments are: {names}.")
            if name in values:
                raise RequestError(f"{given_name} and {name} mean the same.", "Give only one of them.")
            if name == "batch_size" and str(value).startswith("auto"):  # lmms-eval's word for: as many as it can take
                value = AUTO_BATCH
            if value is not None:
                values[name] = _converted(name, types[name], value)
        arguments = cls(**values)
        if arguments.frames < 1:
            raise RequestError(f"frames={arguments.frames} is too few.", "Give at least 1, e.g. frames=64")
        if arguments.decode_workers is not None and arguments.decode_workers < 1:
            raise RequestError(f"decode_workers={arguments.decode_workers} is too few.", "Give at least 1.")
        if "frames" in values and arguments.fps is not None:
            raise RequestError("frames and fps cannot be used together.", "Give only one of them.")
        if arguments.batch_size < 1:
            raise RequestError(f"batch_size={arguments.batch_size} is too few.", "Give at least 1.")
        return arguments

    def variant(self) -> Variant:
        """The method, and whether it runs as @question or @inside."""
        from ..evaluation.variants import parse_variant

        return parse_variant(_with_commas(self.method))

    @property
    def _model(self) -> str:
        """The name of the model; commas separate its options."""
        name = self.model.strip("'\"")
        if Path(name).is_dir():
            return name
        folder, colon, options = name.rpartition(":")
        return folder + colon + _with_commas(options)

    def recipe(self, variant: Variant, device: torch.device) -> Recipe:
        """How videos are encoded and compressed. RequestError for settings that do not work on this machine.

        The model is looked up once; the recipe names the local folder, so the Hub is not asked again.
        """
        from ..models.loading.checkpoint import find_checkpoint
        from ..models.loading.runtime import Runtime
        from ..ratio import parse_ratio
        from ..video import READERS, Sampling
        from ..video.sampling import parse_frame_size
        from .video_cache import Recipe

        runtime = Runtime(str(device), self.dtype, self.attn, self.quantize)
        runtime.check()
        checkpoint = find_checkpoint(self._model, self.revision)
        runtime.resolve(checkpoint)
        if self.decoder not in ("auto", *READERS):
            raise unknown_name(READERS.what, self.decoder, ["auto", *READERS])
        return Recipe(
            model=checkpoint.local,
            sampling=Sampling(
                frames=self.frames if self.fps is None else None,
                fps=self.fps,
                decoder=self.decoder,
                workers=self.decode_workers,
                size=parse_frame_size(self.min_pixels, self.max_pixels),
                image_fps=self.image_fps,
            ),
            runtime=runtime,
            method=variant.method,
            ratio=parse_ratio(self.ratio),
        )


def _with_commas(text: str) -> str:
    """A method or a model whose parameters may be separated by `+` or `;`, or stand in quotes."""
    return re.sub(r"[+;]\s*(?=\w+=)", ",", text.strip("'\""))


def _converted(name: str, wanted: Any, value: Any) -> Any:
    """A value converted to the argument's type; RequestError if it does not fit."""
    from ..methods.spec import convert

    try:
        converted = convert(value, wanted)
        if isinstance(converted, float) and not math.isfinite(converted):
            raise ValueError("a number")
    except ValueError as error:
        raise RequestError(f"{name}={value} is not {error}.", f"Write e.g. {name}=1") from None
    return converted
