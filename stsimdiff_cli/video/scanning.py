"""Scans a video: reads every packet once and decodes one frame, to learn which frames there are and when.

The header of a file is not trusted: Matroska, WebM and MPEG-TS do not state the number of frames there, and in an MP4
with an edit list the number is wrong. The packets are what a decoder receives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VideoError
from .endings import ends_early
from .ffmpeg_log import Message
from .opening import open_video
from .orientation import Orientation
from .packets import UNSPECIFIED, Packets, read_packets
from .timeline import by_counting, by_time_stamps, doubtful, why_counted, why_doubted

HD_LINES = 720  # from this height on, pictures that do not state their matrix are BT.709, as in players
SHORT_NAMES = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "matroska"}


@dataclass(frozen=True, eq=False)
class Scan:
    """The contents of a video: n frames in presentation order, p packets in file order."""

    container: str  # short name of the format: "mp4", "matroska", "mpegts", "mpeg", "avi", ...
    codec: str
    stored_size: tuple[int, int]  # width, height in pixels before rotation
    orientation: Orientation
    seconds: np.ndarray  # (n,) float64, times from the first frame
    duration: float  # seconds, from the first frame to the end of the last one
    tick: float  # the file's unit of time, in seconds
    packets: Packets
    position: np.ndarray  # (n,) int64, packet of each frame
    entry: np.ndarray  # (n,) int64, key packet from which each frame can be decoded
    counted: str | None  # why frames are identified by counting instead of by times in the file; None if they are not
    cut_short: bool  # the file ends before its own end
    matrix: int = UNSPECIFIED  # how the first frame's YUV becomes RGB, as the file states it: FFmpeg's AVColorSpace
    broken: tuple[int, ...] = ()  # before which packets the file is damaged, so that some may have been lost
    images: tuple[Path, ...] = ()  # the n files of a video in images, of which each is a packet
    timed: bool = True  # whether somebody knows when frames are shown

    @property
    def frames(self) -> int:
        """n, the number of frames that can be shown."""
        return len(self.seconds)

    @property
    def fps(self) -> float:
        """Average frames per second, 0 if unknown (one frame of unknown duration)."""
        return self.frames / self.duration if self.duration > 0 else 0.0

    @property
    def width(self) -> int:
        """Width in pixels, as shown."""
        return self.orientation.size(*self.stored_size)[0]

    @property
    def height(self) -> int:
        """Height in pixels, as shown."""
        return self.orientation.size(*self.stored_size)[1]

    @property
    def rotation(self) -> int:
        """Degrees clockwise by which stored pictures are rotated before they are shown."""
        return self.orientation.degrees

    @cached_property
    def key_seconds(self) -> tuple[float, ...]:
        """Times of all key frames, including those not shown (negative if an edit list cuts them off)."""
        keys = self.packets.pts[self.packets.key & self.packets.timed]
        return tuple(float(k) for k in np.sort(keys - self.packets.pts[self.position[0]]) * self.tick)

    @property
    def transport_stream(self) -> bool:
        """True for MPEG-TS and MPEG-PS, which have no index."""
        return self.container in ("mpegts", "mpeg")

    @cached_property
    def leading(self) -> bool:
        """True if pictures follow a key frame in the file but are shown before it (open GOPs, HEVC's default)."""
        key = self.packets.last_key
        follows = (key >= 0) & self.packets.timed
        return bool((self.packets.pts < self.packets.pts[key])[follows].any())

    @property
    def edit_list(self) -> bool:
        """True if the file tells players to skip some of its frames."""
        return bool(self.packets.discard.any())

    @property
    def refreshed(self) -> bool:
        """True if some key packets begin a gradual refresh instead of holding a complete picture (H.264)."""
        return bool(self.packets.refresh.any())

    @property
    def unshown(self) -> int:
        """Packets that show no frame: cut off by an edit list, without a time, or without their references."""
        return max(len(self.packets) - self.frames, 0)

    @property
    def reordered(self) -> bool:
        """True if frames are not stored in presentation order (B-frames)."""
        return bool((np.diff(self.position) < 0).any())

    @cached_property
    def variable_rate(self) -> bool:
        """True if the time between frames varies by more than rounding (a tenth, or two ticks)."""
        gaps = np.diff(self.seconds)
        if len(gaps) < 2:
            return False
        usual = float(np.median(gaps))
        return bool((np.abs(gaps - usual) > max(0.1 * usual, 2.001 * self.tick)).any())

    @cached_property
    def tolerance(self) -> float:
        """Rounding error of stored times in seconds: a tick, but at most a quarter of a frame."""
        usual = float(np.median(np.diff(self.seconds))) if self.frames > 1 else self.tick
        return min(1.001 * self.tick, usual / 4)

    @property
    def untagged_hd(self) -> bool:
        """True if the file does not state its colour matrix and is so large that players take BT.709."""
        return self.matrix == UNSPECIFIED and self.stored_size[1] >= HD_LINES

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about this file, in sentences."""
        notes = []
        if self.cut_short:
            notes.append(f"The file ends early: it has {self.frames} frames, {self.duration:.2f} s.")
        if self.broken:
            notes.append(f"The file is damaged {self._where_broken()}: frames may be lost there.")
        if (self.packets.key & self.packets.refresh).any():
            notes.append("The file begins with an incomplete picture: the frames until it is complete are left out.")
        if not self.timed:
            notes.append(f"Images have no times: {self.fps:g} a second is assumed. --image-fps says otherwise.")
        if self.counted:
            notes.append(f"{self.counted} Frames are counted from the beginning, and their times are estimates.")
        return tuple(notes)

    def _where_broken(self) -> str:
        """Around which times the file is damaged, in words."""
        after = np.minimum(np.searchsorted(np.sort(self.position), self.broken), self.frames - 1)
        times = sorted({f"{t:.1f}" for t in self.seconds[after]}, key=float)
        return f"around {', '.join(times[:3])} s" if len(times) <= 3 else f"in {len(times)} places from {times[0]} s on"


def scan_file(path: Path | str) -> Scan:
    """Scan the video at `path`.

    Raises RequestError if there is no such file; VideoError if it has no video stream, or no frame can be decoded.
    """
    path = Path(path)
    heard: list[Message] = []
    container, stream = open_video(path, heard)
    with container:
        name = SHORT_NAMES.get(container.format.name, container.format.name.split(",")[0])
        codec, tick, rate = _codec(stream), float(stream.time_base), _rate(stream)
        reorders = bool(stream.codec_context.has_b_frames)
        contents = read_packets(container, stream, heard)
    if contents.first is None:
        raise _no_frames(path)
    packets = contents.packets
    counted = why_counted(packets, tick)
    suspects = doubtful(packets, reorders)
    if not counted and len(suspects):
        container, stream = open_video(path)
        with container:
            counted = why_doubted(container, stream, packets, suspects)
    if counted:
        container, stream = open_video(path)
        with container:
            timeline = by_counting(container, stream, contents.packets, tick, rate)
    else:
        timeline = by_time_stamps(contents.packets, contents.first, tick, rate)
    if not len(timeline.seconds):
        raise _no_frames(path)
    return Scan(
        container=name,
        codec=codec,
        stored_size=(contents.first.width, contents.first.height),
        orientation=contents.first.orientation,
        seconds=timeline.seconds,
        duration=timeline.duration,
        tick=tick,
        packets=contents.packets,
        position=timeline.position,
        entry=timeline.entry,
        counted=counted,
        cut_short=contents.cut_short or ends_early(path, name),
        matrix=contents.first.matrix,
        broken=contents.broken,
    )


def _no_frames(path: Path) -> VideoError:
    return VideoError(f"{str(path)!r} has no frame that can be decoded.", "Check that it plays in a player.")


def _codec(stream: Any) -> str:
    name = stream.codec_context.name  # the decoder's name, which is the codec's except for AV1
    return "av1" if name == "libdav1d" else name


def _rate(stream: Any) -> float | None:
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else None
