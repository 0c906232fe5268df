"""Whether features are numbers: NaN and infinity would end in an empty answer.

The least and the largest number tell, because NaN spreads to both. Of bfloat16, a gigabyte takes 0.09 s on one core
(its checksum: 0.25 s; `isfinite().all()`: 2.5 s).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import ModelError


def all_finite(values: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity."""
    if not values.numel() or not values.is_floating_point():
        return True
    return bool(torch.stack(values.aminmax()).isfinite().all())


def check_encoded(tensors: Mapping[str, Tensor], seconds: tuple[float, ...], model: str) -> None:
    """Raise ModelError if what `model` made of the frames at `seconds` holds NaN or infinity."""
    for name, values in tensors.items():
        if not all_finite(values):
            raise ModelError(
                f"{model} encoded the frames from {seconds[0]:.2f} s to {seconds[-1]:.2f} s into {name} that are not "
                "finite numbers.",
                "Numbers may be too large for the type: try --dtype float32, or bfloat16 in place of float16.",
            )
