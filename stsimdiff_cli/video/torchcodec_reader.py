"""The torchcodec reader, where it is installed and for files on which it is known to be right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import RequestError, VideoError
from .scanning import Scan


class TorchcodecReader:
    """Reads frames with torchcodec's exact seeking; each frame's time is checked against the packet scan.

    A frame that it cannot decode is an error: beside it may be others that it repaired without saying so. Only PyAV
    tells which frames of a damaged file are whole.
    """

    name = "torchcodec"

    @classmethod
    def refusal(cls, scan: Scan) -> str | None:
        """Why torchcodec would deliver wrong frames of this file; None if it would not."""
        if scan.transport_stream:
            return "torchcodec reads MPEG-TS and MPEG-PS files wrongly"
        if scan.counted:
            return "the file has no usable times, by which torchcodec seeks"
        if scan.refreshed:
            return "its pictures are refreshed bit by bit, and torchcodec begins where they are not whole"
        if scan.cut_short:
            return "the file ends early, and torchcodec repeats frames at its end"
        if scan.edit_list or scan.unshown:
            return "the file has frames that are not to be shown (an edit list): torchcodec delivers wrong ones"
        if scan.orientation.mirrored:
            return "the file shows its pictures mirrored, which torchcodec does not"
        return None

    @classmethod
    def require(cls) -> None:
        """Import torchcodec; RequestError if it is not installed or does not fit the installed torch and FFmpeg."""
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
                "It needs FFmpeg 4 to 8 and the version that belongs to your torch; or use --decoder auto.",
            ) from error

    def __init__(self, path: Path, scan: Scan) -> None:
        from torchcodec.decoders import VideoDecoder

        self._path, self._scan = path, scan
        try:
            self._decoder: Any = VideoDecoder(str(path), dimension_order="NHWC", seek_mode="exact")
        except (RuntimeError, ValueError) as error:
            raise _cannot(path, f"cannot open {str(path)!r}") from error
        if len(self._decoder) != scan.frames:
            raise _cannot(path, f"counts {len(self._decoder)} frames in {str(path)!r}, where there are {scan.frames}")
        self._origin = float(scan.packets.pts[scan.position[0]]) * scan.tick

    def close(self) -> None:
        """Close the file."""
        self._decoder = None

    def read(self, indices: Sequence[int], pixels: Tensor) -> list[bool]:
        """Write frame `indices[k]` to pixels[k] (height, width, 3) uint8; VideoError if there is none."""
        try:
            batch = self._decoder.get_frames_at(list(indices))
        except (RuntimeError, IndexError) as error:
            raise _cannot(self._path, f"cannot read a part of {str(self._path)!r}") from error
        for index, seconds in zip(indices, batch.pts_seconds.tolist(), strict=True):
            if abs(seconds - self._origin - self._scan.seconds[index]) > self._scan.tick / 2 + 1e-6:
                raise _cannot(self._path, f"delivered another frame than the one at {self._scan.seconds[index]:.3f} s")
        pixels.copy_(batch.data)
        return [True] * len(indices)


def _cannot(path: Path, what: str) -> VideoError:
    return VideoError(f"torchcodec {what}.", f"Use --decoder auto for {path.name}.")
