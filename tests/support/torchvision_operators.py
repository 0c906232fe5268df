"""Lets torchvision load next to a build of torch that it was not made for, such as a CPU build.

Its compiled operators then cannot be loaded, and its Python part fails when it registers shapes for two of them. Here
these are declared beforehand. Nothing implements them, and nothing that a video processor or an LLM does calls them.
`make test-processors` and `make test-vllm` put this file into environments of their own, where it runs when Python
starts.
"""

import torch

_library = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
