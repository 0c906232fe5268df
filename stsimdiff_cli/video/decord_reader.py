"""The decord reader, for files on which decord is known to deliver the right frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import RequestError, VideoError
from .pyav_reader import PyavReader
from .scanning import Scan

# Read once, when decord is imported: how often it retries from further back after a decoding error (default 16).
LIMITS = {"DECORD_REWIND_RETRY_MAX": "1"}
NO_SUBSTITUTES = 1e-9  # `fault_tol`, a fraction of the frames: even one frame replaced by a neighbour is an error
#: Where decord was checked against painted frame numbers, and delivered the right ones (`tests/hostile/videos.py`).
#: Elsewhere it was wrong in silence (ASF; FLV with B-frames; AVI with frames left out; MPEG-4 in fragmented MP4), gave
#: up (IVF, GIF, APNG, raw streams), painted over damage (VP8, MJPEG, ProRes, FFV1), or was not checked.
CHECKED = {"mp4": {"h264", "hevc", "vp9"}, "matroska": {"h264", "hevc", "vp9"}}
SAME_TIME = 0.005  # seconds; decord gives times in float32


class DecordReader:
    """Reads each chunk with one `get_batch`, and opens decord anew for each chunk.

    decord decodes ahead without limit while it is idle (2.2 GB after 7.5 s on a 10-minute 720p clip), so it is closed
    while a model works on the frames. Its frame count and times must match the packet scan. A frame that it cannot
    decode is an error, and so is one that it replaced by a neighbour. It paints over other damage without a word, so
    PyAV decodes the same frames besides, and those that it finds damaged are missing.
    """

    name = "decord"

    @classmethod
    def refusal(cls, scan: Scan) -> str | None:
        """Why decord would deliver wrong frames of this file, or hang; None if it is right on it."""
        if scan.transport_stream:
            return "decord can hang on MPEG-TS and MPEG-PS files"
        if scan.counted:
            return "the file has no usable times, by which decord seeks"
        if scan.edit_list:
            return "the file has an edit list, and decord shows frames that it cuts off"
        if scan.leading or _keys_out_of_place(scan):
            return "it has open GOPs (pictures shown before the key frame that they follow), where decord miscounts"
        if scan.refreshed:
            return "its pictures are refreshed gradually, and decord begins where they are incomplete"
        if scan.cut_short:
            return "the file ends early, and decord gives up at its end"
        if scan.unshown:
            return "the file has packets without a frame to show, which decord counts"
        if scan.codec == "av1":
            return "decord cannot decode AV1"
        if scan.orientation.mirrored:
            return "the file asks for mirrored pictures, and decord does not mirror them"
        if scan.codec not in CHECKED.get(scan.container, ()):
            return f"decord was not found right on {scan.codec} in files of the format {scan.container!r}"
        return None

    @classmethod
    def require(cls) -> None:
        """Import decord with its limits set. Raises RequestError if it is not installed."""
        for name, value in LIMITS.items():
            os.environ.setdefault(name, value)
        try:
            import decord
        except (ImportError, OSError) as error:
            raise RequestError(
                f"The decord reader is not installed ({error}).", "pip install decord, or use --decoder auto."
            ) from error
        decord.logging.set_level(decord.logging.QUIET)

    def __init__(self, path: Path, scan: Scan) -> None:
        self._path, self._scan = path, scan
        self._listener = PyavReader(path, scan)

    def cancel(self) -> None:
        """Let a read in progress, in another thread, end soon with StoppedError."""
        self._listener.cancel()

    def close(self) -> None:
        """Close what listens; decord itself is closed after each chunk."""
        self._listener.close()

    def read(self, indices: Sequence[int], pixels: Tensor) -> list[bool]:
        """Write frame `indices[k]` to pixels[k] (height, width, 3) uint8; False where it is damaged.

        Raises VideoError for a frame that decord cannot decode.
        """
        import decord

        reader: Any = None
        try:
            reader = decord.VideoReader(str(self._path), ctx=decord.cpu(0), fault_tol=NO_SUBSTITUTES)
            self._check(reader, list(indices))
            pixels.copy_(torch.from_numpy(_numpy(reader.get_batch(list(indices)))))
        except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, StopIteration) as error:
            raise VideoError(
                f"decord cannot read {str(self._path)!r}, or a part of it.",
                "--decoder auto reads it, and reports which frames are damaged.",
            ) from error
        finally:
            del reader  # closes the file at once
        return self._listener.intact(indices)

    def _check(self, reader: Any, indices: list[int]) -> None:
        times = np.asarray(reader.get_frame_timestamp(indices))[:, 0] if len(reader) == self._scan.frames else None
        if times is None or (np.abs(times - self._scan.seconds[indices]) > SAME_TIME).any():
            raise VideoError(
                f"decord counts the frames of {str(self._path)!r} differently ({len(reader)} of "
                f"{self._scan.frames}), so its frames would be the wrong ones.",
                "Use --decoder auto.",
            )


def _keys_out_of_place(scan: Scan) -> bool:
    """True if some key frame is not shown at the position where it is stored: decord confuses the two."""
    stored = np.flatnonzero(scan.packets.key)
    shown = np.flatnonzero(scan.packets.key[scan.position])
    return not np.array_equal(stored, shown)


def _numpy(frames: Any) -> np.ndarray:
    """Frames as a numpy array, even if another library in this process has set a different bridge in decord."""
    return frames.asnumpy() if hasattr(frames, "asnumpy") else np.asarray(frames)
