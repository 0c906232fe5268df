"""Numbers that are not numbers: a model that computes them is reported instead of answering from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import ModelError

if TYPE_CHECKING:
    from ..loading.checkpoint import Checkpoint


def require_finite(values: Tensor, what: str, checkpoint: Checkpoint, dtype: torch.dtype) -> Tensor:
    """The values as they are; ModelError if some are NaN or infinite. `what` names them in the plural."""
    if not bool(values.isfinite().all()):
        raise not_finite(what, checkpoint, dtype)
    return values


def not_finite(what: str, checkpoint: Checkpoint, dtype: torch.dtype) -> ModelError:
    """The error to raise."""
    name = str(dtype).removeprefix("torch.")
    hint = {
        torch.float16: "float16 overflows in some models: try --dtype bfloat16 or --dtype float32.",
        torch.bfloat16: "Try --dtype float32; if that does not help, the weights may be damaged: download them again.",
    }.get(dtype, "The weights may be damaged: download the checkpoint again.")
    return ModelError(f"{what} of {checkpoint.id} are not numbers (NaN or infinite) in {name}.", hint)
