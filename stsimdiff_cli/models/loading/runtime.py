"""Where and how a model runs: device, dtype, attention implementation, quantisation. Does not import transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...errors import RequestError
from .checkpoint import Checkpoint
from .quantize import check_quantize

DTYPES = ("auto", "float32", "bfloat16", "float16")


def _flash_2() -> bool:
    from transformers.utils import is_flash_attn_2_available

    return bool(is_flash_attn_2_available())


def _flash_3() -> bool:
    from transformers.utils import is_flash_attn_3_available

    return bool(is_flash_attn_3_available())


#: Attention implementations of transformers; for those in packages of their own, what says whether they can be used.
ATTENTION: dict[str, Callable[[], bool] | None] = {
    "sdpa": None,
    "eager": None,
    "flash_attention_2": _flash_2,
    "flash_attention_3": _flash_3,
}


@dataclass(frozen=True)
class ResolvedRuntime:
    """A Runtime for one checkpoint on this machine."""

    device: torch.device
    dtype: torch.dtype
    attention: str  # transformers' name of the implementation
    quantize: str | None = None


@dataclass(frozen=True)
class Runtime:
    """Where and how a model runs, in a user's words; `resolve` decides what `auto` means.

    quantize is None, "4bit" or "8bit", and concerns only the LLM.
    """

    device: str = "auto"
    dtype: str = "auto"
    attention: str = "auto"
    quantize: str | None = None

    def check(self) -> torch.device:
        """The device; RequestError for a setting that is wrong for every checkpoint."""
        device = pick_device(self.device)
        check_dtype(self.dtype)
        pick_attention(self.attention, device)
        check_quantize(self.quantize)
        return device

    def resolve(self, checkpoint: Checkpoint) -> ResolvedRuntime:
        """What the settings mean for a checkpoint; RequestError for one that is not possible on this machine."""
        device = pick_device(self.device)
        dtype = pick_dtype(self.dtype, device, checkpoint)
        attention = pick_attention(self.attention, device, dtype)
        check_quantize(self.quantize)
        return ResolvedRuntime(device, dtype, attention, self.quantize)


def pick_device(name: str) -> torch.device:
    """`auto` is a CUDA GPU if there is one, else Apple's, else the CPU; RequestError for a device that is not here."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    here = usable_devices()
    refusal = RequestError(f"The device {name!r} is not available here.", f"Available here: auto, {', '.join(here)}.")
    if name not in here:
        raise refusal
    device = torch.device(name)
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # it is there, but cannot be used
        raise refusal from error
    return device


def selection_device(device: torch.device) -> torch.device:
    """Where tokens are selected: on the model's device, or on the CPU if that has no float64, as Apple's has none."""
    return torch.device("cpu") if device.type == "mps" else device


def usable_devices() -> list[str]:
    """The names of devices on this machine that models can run on."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{number}" for number in range(gpus)), *mps]


def check_dtype(name: str) -> None:
    """RequestError for an unknown name."""
    if name not in DTYPES:
        raise RequestError(f"There is no dtype {name!r}.", f"Use {', '.join(DTYPES)}.")


def pick_dtype(name: str, device: torch.device, checkpoint: Checkpoint) -> torch.dtype:
    """`auto` is the checkpoint's own dtype on a GPU and float32 on a CPU; RequestError for an unknown name."""
    check_dtype(name)
    if name != "auto":
        chosen: torch.dtype = getattr(torch, name)
        return chosen
    if device.type == "cpu":
        return torch.float32
    stored = checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype") or "bfloat16"
    return getattr(torch, str(stored).removeprefix("torch."), torch.bfloat16)


def pick_attention(name: str, device: torch.device, dtype: torch.dtype | None = None) -> str:
    """The attention kernel; `auto` is SDPA. RequestError for one that cannot be used here (none is ever downloaded)."""
    if name == "auto":
        return "sdpa"
    here = [each for each, usable in ATTENTION.items() if usable is None or usable()]
    hint = f"Available here: auto, {', '.join(here)}."
    if name not in ATTENTION:
        raise RequestError(f"There is no attention kernel {name!r}.", hint)
    if name not in here:
        raise RequestError(f"The attention kernel {name} is not installed, or does not support this machine.", hint)
    if ATTENTION[name] and (device.type == "cpu" or dtype == torch.float32):
        raise RequestError(
            f"{name} works only on a GPU in bfloat16 or float16.", "Use --attn sdpa, or another --dtype."
        )
    return name
