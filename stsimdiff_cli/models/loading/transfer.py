"""Tensors on their way to a device and back, without the CPU waiting for a GPU.

A copy to or from a CUDA device is queued like the work on it, if the CPU's side is pinned memory. What is queued
is done in order, so the device needs no waiting; the CPU must wait before it reads.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on `device`. On CUDA the copy is queued, and may not have been made yet."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class ToHost:
    """Tensors on their way to the CPU. From CUDA they arrive in pinned memory when all work before is done."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Begin. The copies belong to nobody else, also if the tensors are on the CPU already."""
        if device.type == "cpu":
            self._tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        else:
            queued = device.type == "cuda"  # others have no pinned memory
            self._tensors = {name: tensor.to("cpu", non_blocking=queued) for name, tensor in tensors.items()}
        self._event = torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None

    def wait(self) -> dict[str, Tensor]:
        """The tensors, once they are there."""
        if self._event is not None:
            self._event.synchronize()
            self._event = None
        return self._tensors
