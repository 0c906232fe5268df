"""Frames to pixels, in torch: what transformers' image processors do, without torchvision or Pillow."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import ModelError
from ..loading.checkpoint import Checkpoint
from ..loading.transfer import to_device

_OTHER = "Use another checkpoint of its family, or download its preprocessor_config.json again."
#: Mean and standard deviation of the channels that transformers' classes take where a checkpoint states none.
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
UNCHANGED = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
_MODES = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # PIL's numbers for resampling filters


def video_settings(checkpoint: Checkpoint, channels: dict[str, list[float]], crops: bool = False) -> dict[str, Any]:
    """The settings of the checkpoint's video processor, from whichever file holds them; see `checked`.

    transformers 5 writes `processor_config.json`; earlier versions wrote `video_preprocessor_config.json`, and still
    older checkpoints have only `preprocessor_config.json`, which then holds for videos too. ModelError if there is
    none, or if it crops frames and the family cannot (`crops`).
    """
    settings = checkpoint.json("processor_config.json").get("video_processor")
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        settings = settings or checkpoint.json(name)
    if not settings:
        raise ModelError(
            f"The checkpoint {checkpoint.id} has no preprocessor_config.json.", "Download its processor files too."
        )
    if settings.get("do_center_crop") and not crops:
        raise ModelError(f"The checkpoint {checkpoint.id} crops its frames, which is not supported.", _OTHER)
    return checked(settings, checkpoint, channels)


class Settings(dict[str, Any]):
    """Settings of the preprocessing; ModelError for an entry that is needed and not there."""

    def __init__(self, entries: dict[str, Any], model: str) -> None:
        super().__init__(entries)
        self.model = model

    def __missing__(self, name: str) -> Any:
        raise ModelError(f"The preprocessing settings of {self.model} lack {name!r}.", "Download them again.")


def checked(settings: Any, checkpoint: Checkpoint, channels: dict[str, list[float]]) -> Settings:
    """The settings, with `channels` where they lack them; ModelError for an entry that is not what its name says."""
    model = checkpoint.id
    for name, value in settings.items() if isinstance(settings, dict) else [("the file", settings)]:
        if value is not None and name in (*_KINDS, "the file") and not _KINDS.get(name, _never)(value):
            raise ModelError(
                f"The preprocessing settings of {model} have {name} = {str(value)[:80]!r}.", "Download them again."
            )
    sizes = {name: Settings(value, model) for name, value in settings.items() if isinstance(value, dict)}
    absent = {name: value for name, value in channels.items() if settings.get(name) is None}
    return Settings({**settings, **absent, **sizes}, model)


def _never(_: Any) -> bool:
    return False


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _count(value: Any) -> bool:
    return type(value) is int and value > 0


def _channels(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_number, value))


def _sizes(value: Any) -> bool:
    return isinstance(value, dict) and all(edge is None or _count(edge) for edge in value.values())


#: What the values of settings must be.
_KINDS: dict[str, Callable[[Any], bool]] = {
    "size": _sizes,
    "crop_size": _sizes,
    "max_image_size": _sizes,
    "video_sampling": lambda value: isinstance(value, dict),
    "image_mean": _channels,
    "image_std": lambda value: _channels(value) and all(value),
    "rescale_factor": _number,
    "resample": lambda value: type(value) is int,
    "scale_resolution": _count,
    "patch_size": _count,
    "pooling_size": lambda value: isinstance(value, list) and len(value) == 2 and all(map(_count, value)),
    "min_pixels": _count,
    "max_pixels": _count,
    "max_video_tokens": _count,
    "max_soft_tokens": _count,
    **dict.fromkeys(
        ("do_resize", "do_rescale", "do_normalize", "do_center_crop", "cap_pixels_per_frame"),
        lambda value: isinstance(value, bool),
    ),
}


def resize(frames: Tensor, height: int, width: int, settings: dict[str, Any], *, antialias: bool = True) -> Tensor:
    """Antialiased resize of (n, h, w, 3) uint8 to (n, 3, height, width) uint8, as PIL does it.

    It works on 8-bit values on the CPU, like PIL itself, so that the result is the same on every device. Without
    `antialias` it rounds only what comes out, as transformers' classes that have none. ModelError for a resampling
    filter that torch does not have.
    """
    x = frames.cpu().permute(0, 3, 1, 2)  # (n, 3, h, w)
    if not settings.get("do_resize", True) or tuple(x.shape[-2:]) == (height, width):
        return x
    mode = _MODES.get(settings.get("resample", 3))
    if mode is None:
        raise ModelError(f"The resampling filter {settings['resample']} is not supported.", _OTHER)
    if not antialias and mode != "lanczos":
        return F.interpolate(x.float(), size=(height, width), mode=mode).round().clamp(0, 255).to(torch.uint8)
    try:
        return F.interpolate(x, size=(height, width), mode=mode, antialias=True)
    except (NotImplementedError, ValueError):
        if mode != "lanczos":
            raise
        # This torch has no Lanczos filter: like transformers' video processors, use the bicubic one instead.
        return F.interpolate(x, size=(height, width), mode="bicubic", antialias=True)


def normalise(pixels: Tensor, settings: dict[str, Any], device: torch.device) -> Tensor:
    """Rescale (n, 3, h, w) uint8 by `rescale_factor` and normalise each channel; float32 on `device`."""
    x = to_device(pixels, device).float()
    if settings.get("do_rescale", True):
        x = x * settings.get("rescale_factor", 1 / 255)
    if settings.get("do_normalize", True):
        mean, std = (
            to_device(torch.tensor(settings[f"image_{name}"]), device).view(-1, 1, 1) for name in ("mean", "std")
        )
        x = (x - mean) / std
    return x


def fit_area(
    size: tuple[int, int], side: int, bounds: tuple[float, float], frames: int = 1, depth: int = 1
) -> tuple[int, int]:
    """The height and width that frames of `size` are resized to: multiples of `side` whose area lies within bounds.

    The rule of the Qwen processors, which keeps the aspect ratio as nearly as possible. `bounds` are the least and the
    most pixels of all frames together, of which there are `frames`, in slots of `depth`.

    transformers has it as `smart_resize`, once for Qwen2-VL and once for Qwen3-VL. Both give the same values (a test
    compares them on a grid of sizes), but the modules that hold them can only be imported where Pillow is installed
    (they take `PILImageResampling` from `image_utils`), and this package does not depend on Pillow.
    """
    height, width = size
    least, most = bounds
    rounded = [round(edge / side) * side for edge in size]
    pixels = round(frames / depth) * depth * rounded[0] * rounded[1]
    if pixels > most:
        scale = math.sqrt(frames * height * width / most)
        rounded = [max(side, math.floor(edge / scale / side) * side) for edge in size]
    elif pixels < least:
        scale = math.sqrt(least / (frames * height * width))
        rounded = [math.ceil(edge * scale / side) * side for edge in size]
    return rounded[0], rounded[1]


def square(patches: Tensor) -> Tensor:
    """(n, S S, C) patches in rows to (n, S, S, C)."""
    return patches.unflatten(1, (math.isqrt(patches.shape[1]), -1))
