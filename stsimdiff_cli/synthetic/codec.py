"""What video codecs lose: colour resolution, and at a low bitrate all but a few frequencies of what changes."""

from __future__ import annotations

import numpy as np

from .world import SIDE

_K = np.arange(8)
_DCT = (
    np.sqrt(2 / 8) * np.cos(np.pi * (2 * _K + 1) * _K[:, None] / 16) * np.where(_K, 1, np.sqrt(0.5))[:, None]
).astype(np.float32)
_WEIGHT = (1 + 0.25 * (_K[:, None] + _K)).astype(np.float32)  # higher frequencies are cut more coarsely
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def soften(image: np.ndarray) -> np.ndarray:
    """Chroma averaged over 2 x 2 pixels and blurred, luma kept, as 4:2:0 video has it."""
    luma = image @ _LUMA
    small = halve(image - luma[..., None])
    wide = np.pad(small, ((1, 1), (1, 1), (0, 0)), "edge")
    small = (wide[1:-1, 1:-1] * 2 + wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]) / 6
    return luma[..., None] + small.repeat(2, 0).repeat(2, 1)


def halve(image: np.ndarray) -> np.ndarray:
    """(H, W, C) -> (H / 2, W / 2, C), means."""
    return 0.25 * (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2])


def quantise(plane: np.ndarray, step: float) -> np.ndarray:
    """A plane (H, W), sides multiples of 8, with its cosine coefficients rounded towards zero to steps."""
    h, w = plane.shape
    blocks = plane.reshape(h // 8, 8, w // 8, 8).transpose(0, 2, 1, 3)
    c = _DCT @ blocks @ _DCT.T / (step * _WEIGHT)
    c = np.sign(c) * np.floor(np.abs(c) + 0.35)
    return (_DCT.T @ (c * (step * _WEIGHT)) @ _DCT).transpose(0, 2, 1, 3).reshape(h, w)


class Codec:
    """Codes each frame as its difference from the one decoded before, with one quantiser for all frequencies."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.luma = np.full((SIDE, SIDE), 128, np.float32)
        self.chroma = np.zeros((2, SIDE // 2, SIDE // 2), np.float32)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The decoded frame (112, 112, 3) float32."""
        luma = image @ _LUMA
        self.luma = self.luma + quantise(luma - self.luma, self.step)
        colour = halve(image[..., [0, 2]] - luma[..., None]).transpose(2, 0, 1)
        self.chroma = self.chroma + np.stack(
            [quantise(a - b, self.step) for a, b in zip(colour, self.chroma, strict=True)]
        )
        red, blue = (self.luma + c.repeat(2, 0).repeat(2, 1) for c in self.chroma)
        green = (self.luma - _LUMA[0] * red - _LUMA[2] * blue) / _LUMA[1]
        return np.stack([red, green, blue], -1)
