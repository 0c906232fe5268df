"""The torchcodec reader, for files on which torchcodec is known to deliver the right frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import RequestError, VideoError
from .pyav_reader import PyavReader
from .scanning import Scan

#: Codecs whose decoders return an error when they meet damage. The others paint over it, and tell in a log that
#: torchcodec keeps to itself: of 80 damaged files, 46 gave changed frames in silence (GIF, VP8, WMV, ProRes, FFV1 ...).
#: On healthy files torchcodec 0.13 was right for every codec (476 clips, `tests/hostile/videos.py`).
TELLING = ("h264", "hevc", "vp9", "av1")
CONTAINERS = ("mp4", "matroska", "avi", "flv", "ivf")  # in damaged NUT files it was wrong in silence


class TorchcodecReader:
    """Reads frames with torchcodec's exact seeking, and checks the time of each against the packet scan.

    A frame that it cannot decode is an error. It paints over other damage without a word, so PyAV decodes the same
    frames besides, and those that it finds damaged are missing.
    """

    name = "torchcodec"

    @classmethod
    def refusal(cls, scan: Scan) -> str | None:
        """Why torchcodec would deliver wrong frames of this file; None if it is right on it."""
        if scan.transport_stream:
            return "torchcodec reads MPEG-TS and MPEG-PS files wrongly"
        if scan.counted:
            return "the file has no usable times, by which torchcodec seeks"
        if scan.refreshed:
            return "its pictures are refreshed gradually, and torchcodec begins where they are incomplete"
        if scan.cut_short:
            return "the file ends early, and torchcodec repeats frames at its end"
        if scan.edit_list or scan.unshown:
            return "the file has frames that are not to be shown (an edit list): torchcodec delivers wrong ones"
        if scan.orientation.mirrored:
            return "the file asks for mirrored pictures, and torchcodec does not mirror them"
        if scan.container not in CONTAINERS:
            return f"torchcodec was not found right on damaged files of the format {scan.container!r}"
        if scan.codec not in TELLING:
            return f"torchcodec does not tell of damage in {scan.codec}"
        return None

    @classmethod
    def require(cls) -> None:
        """Import torchcodec. Raises RequestError if it is missing or does not fit the installed torch and FFmpeg."""
        try:
            import torchcodec.decoders  # noqa: F401
        except ImportError as error:
            raise RequestError(
                f"The torchcodec reader is not installed ({error}).",
                "pip install 'stsimdiff[torchcodec]', or use --decoder auto.",
            ) from error
        except (OSError, RuntimeError) as error:
            raise RequestError(
                f"The torchcodec reader cannot be loaded ({str(error).strip().splitlines()[0]}).",
                "It needs FFmpeg 4 to 8 and the version of torchcodec that matches torch; or use --decoder auto.",
            ) from error

    def __init__(self, path: Path, scan: Scan) -> None:
        from torchcodec.decoders import VideoDecoder

        self._path, self._scan = path, scan
        try:
            self._decoder: Any = VideoDecoder(str(path), dimension_order="NHWC", seek_mode="exact")
        except (RuntimeError, ValueError) as error:
            raise _error(path, f"cannot open {str(path)!r}") from error
        if len(self._decoder) != scan.frames:
            raise _error(path, f"counts {len(self._decoder)} frames in {str(path)!r}, where there are {scan.frames}")
        self._listener = PyavReader(path, scan)
        self._origin = float(scan.packets.pts[scan.position[0]]) * scan.tick

    def cancel(self) -> None:
        """Let a read in progress, in another thread, end soon with StoppedError."""
        self._listener.cancel()

    def close(self) -> None:
        """Close the file."""
        self._decoder = None
        self._listener.close()

    def read(self, indices: Sequence[int], pixels: Tensor) -> list[bool]:
        """Write frame `indices[k]` to pixels[k] (height, width, 3) uint8; False where it is damaged.

        Raises VideoError for a frame that torchcodec cannot decode.
        """
        try:
            batch = self._decoder.get_frames_at(list(indices))
        except (RuntimeError, IndexError) as error:
            raise _error(self._path, f"cannot read a part of {str(self._path)!r}") from error
        for index, seconds in zip(indices, batch.pts_seconds.tolist(), strict=True):
            if abs(seconds - self._origin - self._scan.seconds[index]) > self._scan.tick / 2 + 1e-6:
                raise _error(self._path, f"delivered another frame than the one at {self._scan.seconds[index]:.3f} s")
        pixels.copy_(batch.data)
        return self._listener.intact(indices)


def _error(path: Path, what: str) -> VideoError:
    return VideoError(f"torchcodec {what}.", f"Use --decoder auto for {path.name}.")
