"""Reads a video that is a folder or a list of images, with Pillow.

PyAV does not: of a file that says how it is to be turned (EXIF) it cannot tell how, and it reads a PNG that is cut off
without a word.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import RequestError, VideoError
from ..storage.image_files import image_files, size_of
from .decoding import StoppedError
from .orientation import UPRIGHT
from .packets import Packets
from .scanning import Scan

#: Images a second if nobody says how many.
USUAL_RATE = 1.0
#: What Pillow may take a file for, whatever its name.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
_TICK = 1e-6  # seconds: times are as exact as numbers are
_RGB = 0  # FFmpeg's AVCOL_SPC_RGB: there is no matrix to be guessed


def scan_images(path: Path, rate: float | None) -> Scan:
    """The images at `path` as frames, `rate` a second. Reads one header, and decodes nothing (of a
    TIFF the first image).

    Raises RequestError for a rate that is not possible, and for an image that is not there; VideoError if none can be
    opened.
    """
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise RequestError(f"{rate:g} images per second are not possible.", "Give a rate above 0, like 3.")
    files = image_files(path)
    sizes = np.array([size_of(file) for file in files], np.int64)
    name, (width, height) = _first(path, files)
    step, count = 1 / (rate or USUAL_RATE), len(files)
    order, none = np.arange(count), np.zeros(count, bool)
    return Scan(
        container="images",
        codec=name,
        stored_size=(width, height),
        orientation=UPRIGHT,  # images are turned when they are read
        seconds=order * step,
        duration=count * step,
        tick=_TICK,
        packets=Packets(order, order, np.ones(count, np.int64), sizes, ~none, none, none),
        position=order,
        entry=order,
        counted=None,
        cut_short=False,
        matrix=_RGB,
        images=files,
        timed=rate is not None,
    )


class ImageReader:
    """Reads the images of a scan. One that is damaged is missing."""

    lost = False  # there are no seeks that could go wrong

    def __init__(self, path: Path, scan: Scan) -> None:
        self._path, self._scan = path, scan
        self._cancelled = False

    def cancel(self) -> None:
        """Let a read in progress, in another thread, end soon with StoppedError."""
        self._cancelled = True

    def close(self) -> None:
        """Nothing to do: no file stays open."""

    def read(self, indices: Sequence[int], pixels: Tensor) -> list[bool]:
        """Write image `indices[k]` to pixels[k] (height, width, 3) uint8; False where it is damaged.

        Raises VideoError for an image of another size than the first, and for one that has changed since the scan.
        """
        there = []
        for out, index in zip(pixels.numpy(), indices, strict=True):
            if self._cancelled:
                raise StoppedError
            file = self._scan.images[index]
            self._check_unchanged(file, index)
            picture = _decoded(file)
            there.append(picture is not None)
            if picture is None:
                continue
            if picture.shape != out.shape:
                (height, width), (rows, columns) = picture.shape[:2], out.shape[:2]
                raise VideoError(
                    f"{str(file)!r} has {width} x {height} pixels, and the first image {columns} x {rows}.",
                    "The images of a video have one size: make it so, or put the others in another folder.",
                )
            out[...] = picture
        return there

    def _check_unchanged(self, file: Path, index: int) -> None:
        try:
            same = file.stat().st_size == self._scan.packets.size[index]
        except OSError:
            same = False
        if not same:
            raise VideoError(f"{str(file)!r} changed while it was read.", "Run it again when it is complete.")


def _first(path: Path, files: Sequence[Path]) -> tuple[str, tuple[int, int]]:
    """The format, and the width and height as shown, of the first image that can be opened."""
    for file in files:
        with _reading() as opened:
            image = Image.open(file, formats=_FORMATS)
            with image:
                if image.format == "TIFF":
                    image.load()  # turns it
                turned = image.getexif().get(0x0112, 1) >= 5  # EXIF's orientation: from 5 on, rows are columns
                opened.append((str(image.format).lower(), image.size[:: -1 if turned else 1]))
        if opened:
            return opened[0]
    raise VideoError(f"None of the {len(files)} images of {str(path)!r} can be opened.", "Copy them again.")


def _decoded(file: Path) -> np.ndarray | None:
    """An image as it is shown, (height, width, 3) uint8 RGB; None if it is damaged, or has values of 32 bits.

    Transparency is left out, and of values of 16 bits the upper half is taken.
    """
    with _reading() as opened, Image.open(file, formats=_FORMATS) as image:
        shown = ImageOps.exif_transpose(image)
        if shown.mode.startswith("I;16"):
            grey = (np.asarray(shown) >> 8).astype(np.uint8)
            opened.append(np.repeat(grey[:, :, None], 3, axis=2))
        elif shown.mode not in ("I", "F"):
            opened.append(np.asarray(shown.convert("RGB")))
    return opened[0] if opened else None


@contextmanager
def _reading() -> Iterator[list[Any]]:
    """A list for what was read; it stays empty where Pillow fails, which it does with all kinds of errors."""
    found: list[Any] = []
    try:
        yield found
    except MemoryError:
        raise
    except Exception:
        found.clear()
