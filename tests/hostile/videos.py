"""Awkward videos by seed, read with every decoder, against the numbers that were painted into their frames.

Frame k of a clip shows a number of its own (see `clip_factory.paint`), so what a reader delivers is judged by the
pixels: nothing that the package under test computes is taken for the truth. A failure is a wrong frame in silence, a
false alarm on a healthy file, an exception that is no sentence for the user, or a trial that does not end.
"""

from __future__ import annotations

import faulthandler
import itertools
import os
import random
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from stsimdiff_cli.errors import RequestError, StsimdiffError
from stsimdiff_cli.video import READERS, decoder_for, read_frames, scan
from tests.hostile.trials import Trial
from tests.support.clip_factory import has_encoder, paint, read_number, render, trim, turn

DECODERS = ("pyav", "decord", "torchcodec")
HANG = 60  # seconds after which a trial is taken for hung

#: What can be put into what: codec -> (encoder, containers).
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "h264": ("libx264", ("mp4", "mov", "mkv", "avi", "ts", "m2ts", "flv", "asf", "h264", "3gp", "nut", "mpg")),
    "hevc": ("libx265", ("mp4", "mkv", "ts", "hevc")),
    "vp8": ("libvpx", ("webm", "mkv", "ivf", "avi")),
    "vp9": ("libvpx-vp9", ("webm", "mkv", "mp4", "ivf")),
    "av1": ("libsvtav1", ("mp4", "mkv", "webm", "ivf")),
    "mpeg4": ("mpeg4", ("mp4", "avi", "mkv", "asf", "mov", "3gp", "nut")),
    "mpeg2": ("mpeg2video", ("mpg", "ts", "mkv", "avi", "asf", "mp4", "m2v", "mxf")),
    "mpeg1": ("mpeg1video", ("mpg", "mkv", "avi")),
    "mjpeg": ("mjpeg", ("avi", "mov", "mkv", "asf", "mp4")),
    "wmv1": ("wmv1", ("asf", "avi")),
    "wmv2": ("wmv2", ("asf", "avi")),
    "msmpeg4": ("msmpeg4", ("asf", "avi", "mkv")),
    "flv1": ("flv", ("flv", "avi")),
    "ffv1": ("ffv1", ("mkv", "avi", "nut")),
    "prores": ("prores_ks", ("mov", "mkv")),
    "gif": ("gif", ("gif",)),
    "apng": ("apng", ("apng",)),
}
FORMATS = {"ts": "mpegts", "m2ts": "mpegts", "mpg": "vob", "m2v": "mpeg2video"}
PIXELS = {"gif": "rgb8", "apng": "rgb24", "mjpeg": "yuvj420p", "prores": "yuv422p10le"}
RATES = (Fraction(24000, 1001), Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(24), Fraction(50))
REORDERING = ("h264", "hevc", "mpeg4", "mpeg2", "mpeg1")
VARIABLE = ("mp4", "mov", "mkv", "webm", "ts", "nut", "flv")  # containers with a fine clock
EXACT_TIMES = ("mp4", "mkv", "webm", "ts")  # as they were written; other muxers fit times to their clock
SIZES = ((128, 96), (160, 128), (176, 144), (320, 180), (64, 64), (200, 112))


@dataclass(frozen=True)
class Clip:
    """A video whose frame k shows `numbers[k]` at `seconds[k]` from its beginning."""

    path: Path
    codec: str
    container: str
    numbers: tuple[int, ...]
    seconds: tuple[float, ...]
    traits: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The codec, the container and whatever is special about the clip."""
        return " ".join((self.codec, self.container, *self.traits))


def healthy_clip(seed: int, folder: Path) -> Clip:
    """The healthy video of a seed."""
    dice = random.Random(f"healthy {seed}")
    codecs = [c for c, (encoder, _) in KINDS.items() if has_encoder(encoder)]
    while True:
        codec = dice.choice([*codecs, "h264", "h264", "h264"])
        container = dice.choice(KINDS[codec][1])
        path = folder / f"{seed}.{container}"
        clip = render_clip(dice, codec, container, path)
        if clip:
            return clip
        path.unlink()


def render_clip(dice: random.Random, codec: str, container: str, path: Path) -> Clip | None:
    """A clip of this codec in this container; everything else is thrown with the dice.

    None if the encoder blurred a number beyond reading (seen with msmpeg4), as FFmpeg's plain decoding shows.
    """
    count, rate = dice.randint(20, 90), dice.choice(RATES)
    size = (128, 96) if container == "3gp" else dice.choice(SIZES)
    if container == "mxf":
        rate = Fraction(25)
    traits = [f"{float(rate):.4g} fps"]
    first = dice.randint(0, 5000)
    numbers = tuple(range(first, first + count))
    options, settings = _coding(dice, codec, container, traits)
    if codec in ("h264", "ffv1") and "tff=1" not in traits and dice.random() < 0.15:
        size, settings["pix_fmt"] = (131, 97), "yuv444p"
        traits.append("odd size")
    ticks = list(range(count))
    tick = 1 / rate
    if container in VARIABLE and codec not in ("mpeg2", "mpeg1", "mpeg4") and dice.random() < 0.3:
        ticks = [int(t) for t in np.cumsum([0] + [dice.choice((40, 40, 33, 100, 17)) for _ in range(count - 1)])]
        tick = Fraction(1, 1000)
        traits.append("variable rate")
    elif container in ("mp4", "mkv", "ts") and dice.random() < 0.2:
        delay = dice.randint(1, 100)
        ticks = [t + delay for t in ticks]
        traits.append("starts late")
    sound = container in ("mp4", "mov", "mkv", "ts", "avi", "flv") and dice.random() < 0.3
    header: dict[str, str] = {}
    if container in ("mp4", "mov") and dice.random() < 0.3:
        header["movflags"] = dice.choice(("+faststart", "frag_keyframe+empty_moov"))
        traits.append(header["movflags"])
    if container in ("mkv", "webm") and dice.random() < 0.2:
        header["live"] = "1"
        traits.append("live")
    if sound:
        traits.append("sound")
    upside_down = container == "mp4" and not sound and dice.random() < 0.15
    render(
        path,
        numbers,
        KINDS[codec][0],
        options,
        rate,
        ticks,
        tick,
        size,
        (lambda number: np.ascontiguousarray(paint(number, *size)[::-1, ::-1])) if upside_down else None,
        pix_fmt=settings.pop("pix_fmt", PIXELS.get(codec, "yuv420p")),
        audio=sound,
        format=FORMATS.get(container),
        container_options=header,
        **settings,
    )
    if not _legible(path, upside_down):
        return None
    if upside_down:
        turn(path, (-1, 0, 0, -1))
        traits.append("upside down")
    seconds = tuple(float((t - ticks[0]) * tick) for t in ticks)
    clip = Clip(path, codec, container, numbers, seconds, tuple(traits))
    return _edited(dice, clip, sound)


def _legible(path: Path, upside_down: bool) -> bool:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            if read_number(picture[::-1, ::-1] if upside_down else picture) is None:
                return False
    return True


def _coding(dice: random.Random, codec: str, container: str, traits: list[str]) -> tuple[dict[str, str], dict]:
    gop, between = dice.choice((1, 5, 12, 24, 250)), dice.choice((0, 0, 1, 2, 3))
    if codec not in REORDERING or (container in ("3gp", "mxf") and codec != "h264"):
        between = 0
    traits.append(f"GOP {gop}")
    if between and gop > 1:
        traits.append(f"{between} B-frames")
    if codec == "h264":
        x264 = f"keyint={gop}:min-keyint=1:bframes={between if gop > 1 else 0}:scenecut=0:b-adapt={dice.choice((0, 1))}"
        extra = dice.choice(("", "", "open-gop=1", "intra-refresh=1", "b-pyramid=none", "slices=3", "tff=1", "ref=5"))
        if extra and gop > 1:
            x264, _ = f"{x264}:{extra}", traits.append(extra)
        return {"x264-params": x264, "preset": dice.choice(("ultrafast", "veryfast"))}, {}
    if codec == "hevc":
        closed = dice.choice(("", ":no-open-gop=1"))
        traits.append(closed)
        x265 = f"keyint={gop}:min-keyint=1:bframes={between}:log-level=none:pools=1:frame-threads=1{closed}"
        return {"x265-params": x265, "preset": "ultrafast"}, {}
    if codec in ("vp8", "vp9"):
        if dice.random() < 0.4:
            traits.append("alternate references")
            slow = {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "12"}
            return slow | {"g": str(gop), "threads": "1"}, {}
        # libvpx waits for its own threads in a busy loop, for minutes on a machine with more to do: one thread
        return {"deadline": "realtime", "cpu-used": "8", "g": str(gop), "threads": "1"}, {}
    if codec == "av1":
        return {"preset": "8", "crf": "5", "g": str(max(gop, 5)), "svtav1-params": "lp=1"}, {}  # it was seen not to end
    settings: dict = {}
    if codec not in ("mjpeg", "ffv1", "prores", "gif", "apng"):
        settings = {"gop_size": gop, "bit_rate": 1_500_000}
    if between:
        settings["max_b_frames"] = between
    return {}, settings


def _edited(dice: random.Random, clip: Clip, sound: bool) -> Clip:
    """Now and then: turned, trimmed by an edit list, or copied into another container by times that were made up."""
    path, container, what = clip.path, clip.container, dice.random()
    b_frames = any("B-frames" in t for t in clip.traits)
    data = path.read_bytes() if container == "mp4" else b""
    if container == "mp4" and what < 0.3 and data.count(b"elst") == 1 and "starts late" not in clip.traits:
        cut = dice.randint(1, len(clip.numbers) // 2)
        begin = clip.seconds[cut]
        trim(path, begin + 0.001)
        kept = [k for k, s in enumerate(clip.seconds) if s >= begin + 0.0005]
        return replace(
            clip,
            numbers=tuple(clip.numbers[k] for k in kept),
            seconds=tuple(clip.seconds[k] - clip.seconds[kept[0]] for k in kept),
            traits=(*clip.traits, "edit list"),
        )
    if container == "avi" and clip.codec in REORDERING and (b_frames or what < 0.2):
        target = dice.choice((None, "mkv", "mp4", "mov", "asf", "nut"))
        if target:
            copied = path.with_suffix(f".{target}")
            try:
                copy_with_made_up_times(path, copied)
            except (av.FFmpegError, ValueError):
                return clip
            return replace(clip, path=copied, container=target, traits=(*clip.traits, "copied from AVI with genpts"))
    if container == "ts" and what < 0.3:
        return replace(clip, path=forget_times(dice, path), traits=(*clip.traits, "forgotten times"))
    if container in ("mkv", "nut") and b_frames and what < 0.4:
        decoding_times_as_showing_times(path, copied := path.with_name(f"dts-{path.name}"))
        return replace(clip, path=copied, traits=(*clip.traits, "decoding times as showing times"))
    return clip


def copy_with_made_up_times(source: Path, target: Path) -> Path:
    """Like `ffmpeg -fflags +genpts -i source -c copy target`."""
    with av.open(str(source), options={"fflags": "+genpts"}) as clip, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(clip.streams.video[0])
        for packet in clip.demux(clip.streams.video[0]):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return target


def decoding_times_as_showing_times(source: Path, target: Path) -> Path:
    """A copy in which the packets are said to be shown in the order in which they are stored."""
    with av.open(str(source)) as clip, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(clip.streams.video[0])
        packets = [packet for packet in clip.demux(clip.streams.video[0]) if packet.size]
        for packet, time in zip(packets, sorted(packet.pts for packet in packets), strict=True):
            packet.pts = packet.dts = time
            packet.stream = stream
            out.mux(packet)
    return target


def forget_times(dice: random.Random, path: Path) -> Path:
    """Take the times from more than half of the pictures of a transport stream."""
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 188):
        begin = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
        if data[at + 1] & 0x40 and data[begin : begin + 4] == b"\0\0\1\xe0" and at > 3000 and dice.random() < 0.6:
            data[begin + 7] &= 0x3F  # PTS_DTS_flags
    path.write_bytes(bytes(data))
    return path


# Damage.


def noise(dice: random.Random, data: bytearray, container: str) -> bytearray:
    """Random bytes over a part of the file, as after a bad copy."""
    size = dice.choice((100, 500, 2000, 4000))
    at = _inside(dice, data, size)
    data[at : at + size] = dice.randbytes(size)
    return data


def zeros(dice: random.Random, data: bytearray, container: str) -> bytearray:
    """Zeros over one sector or some, as after a bad disk or an unfinished download."""
    size = dice.choice((512, 2048, 4096))
    at = _inside(dice, data, size)
    data[at : at + size] = bytes(size)
    return data


def hole(dice: random.Random, data: bytearray, container: str) -> bytearray:
    """A part of the file is not there: whole packets of a transport stream, or any bytes."""
    size = 188 * dice.randint(1, 20) if container in ("ts", "m2ts") else dice.choice((100, 2000))
    at = _inside(dice, data, size)
    if container in ("ts", "m2ts"):
        at -= at % 188
    del data[at : at + size]
    return data


def cut(dice: random.Random, data: bytearray, container: str) -> bytearray:
    """The file ends too early."""
    return data[: int(len(data) * dice.uniform(0.3, 0.98))]


def _inside(dice: random.Random, data: bytearray, size: int) -> int:
    """A place behind the header."""
    return dice.randrange(min(2000, len(data) // 4), max(len(data) - size, len(data) // 4 + 1))


DAMAGES: tuple[Callable[[random.Random, bytearray, str], bytearray], ...] = (noise, noise, zeros, hole, cut, cut)


def damaged_clip(seed: int, folder: Path) -> tuple[Clip, Clip]:
    """(the healthy video, the same one damaged) of a seed."""
    whole = healthy_clip(seed, folder)
    dice = random.Random(f"damaged {seed}")
    path = whole.path.with_name(f"damaged-{whole.path.name}")
    damage = dice.choice(DAMAGES)
    path.write_bytes(damage(dice, bytearray(whole.path.read_bytes()), whole.container))
    return whole, replace(whole, path=path, traits=(*whole.traits, damage.__name__))


# Trials.


@dataclass(frozen=True)
class Reading:
    """What came out of a video: the number and the picture of each frame delivered, and whatever was said."""

    numbers: list[int | None]
    pictures: list[np.ndarray]  # (height, width, 3) uint8
    seconds: list[float]
    told: list[str]


def read_all(path: Path, decoder: str, step: int = 1) -> Reading:
    """Every `step`-th frame of a video as the package delivers it. With steps, the reader has to seek."""
    scanned = scan(path)
    name = decoder_for(scanned, decoder)
    reading = Reading([], [], [], list(scanned.notes))
    for frames in read_frames(path, scanned, range(0, scanned.frames, step), 8, name):
        for picture in frames.pixels.numpy():
            reading.pictures.append(picture.copy())
            reading.numbers.append(read_number(picture))
        reading.seconds.extend(frames.seconds)
        reading.told.extend(f"{t:.3f} s is missing" for t in frames.missing_seconds)
    return reading


COUNTED = "Frames are counted from the beginning"


def wrong_in_health(clip: Clip, reading: Reading, step: int) -> str | None:
    """What is wrong with the reading of a healthy clip; None if nothing is."""
    alarms = [t for t in reading.told if COUNTED not in t]
    if alarms:
        return f"a false alarm: {alarms[0]}"
    expected = list(clip.numbers[::step])
    if reading.numbers != expected:
        wrong = sum(a != b for a, b in itertools.zip_longest(reading.numbers, expected))
        return f"{wrong} of {len(expected)} frames are wrong"
    other = any("as showing times" in t or "genpts" in t or "frag" in t or "forgotten" in t for t in clip.traits)
    if (
        clip.container in EXACT_TIMES
        and not other
        and not np.allclose(reading.seconds, clip.seconds[::step], atol=0.0011)
    ):
        return f"times are wrong by {np.abs(np.subtract(reading.seconds, clip.seconds[::step])).max():.3f} s"
    return None


def changed_by_damage(clip: Clip, whole: Reading, reading: Reading) -> str | None:
    """How the frames delivered differ from those of the healthy clip; None if they do not."""
    original = dict(zip(whole.numbers, whole.pictures, strict=True))
    unread = sum(n not in original for n in reading.numbers)
    if unread:
        return f"{unread} of {len(reading.numbers)} frames show no number of the clip"
    spoilt = sum(
        p.shape != original[n].shape or np.abs(p.astype(np.int16) - original[n]).mean() > 3
        for n, p in zip(reading.numbers, reading.pictures, strict=True)
    )
    if spoilt:
        return f"{spoilt} of {len(reading.numbers)} pictures are spoilt"
    if len(set(reading.numbers)) < len(reading.numbers):
        return "frames are repeated"
    lost = len(clip.numbers) - len(reading.numbers)
    if lost > 0:
        return f"{lost} of {len(clip.numbers)} frames are lost"
    return None


def trials(seed: int, folder: Path, count: int) -> Iterator[Trial]:
    """`count` healthy videos and as many damaged ones from `seed` on, each read with every decoder that is here."""
    os.environ.setdefault("SVT_LOG", "1")
    for one in range(seed, seed + count):
        yield from healthy_trials(one, folder)
    for one in range(seed, seed + count):
        yield from damaged_trials(one, folder)


def healthy_trials(seed: int, folder: Path) -> Iterator[Trial]:
    """The healthy video of a seed with every decoder; one that refuses the video is not tried."""
    clip = healthy_clip(seed, folder)
    for decoder in available():
        failure = None
        for step in (1, 13) if decoder == "pyav" else (3,):
            if failure is None:
                failure = _guarded(
                    lambda d=decoder, s=step: wrong_in_health(clip, read_all(clip.path, d, s), s), decoder
                )
        if failure != REFUSED:
            yield Trial(f"healthy videos, {decoder}", f"videos.healthy {seed}: {clip.name}", failure)
    _remove(folder, clip)


def damaged_trials(seed: int, folder: Path) -> Iterator[Trial]:
    """The damaged video of a seed with every decoder. Damage that changes no frame is no trial.

    A failure is damage that changes or loses a frame and is not told.
    """
    whole, clip = damaged_clip(seed, folder)
    intact = read_all(whole.path, "pyav")
    for decoder in available():

        def judge(decoder: str = decoder) -> str | None:
            reading = read_all(clip.path, decoder)
            new = [t for t in reading.told if t not in intact.told]
            changed = changed_by_damage(whole, intact, reading)
            if changed is None:
                return UNCHANGED
            return None if new else changed

        failure = _guarded(judge, decoder, refused_well=StsimdiffError)
        if failure not in (REFUSED, UNCHANGED):
            yield Trial(f"damaged videos, {decoder}", f"videos.damaged {seed}: {clip.name}", failure)
    _remove(folder, whole, clip)


REFUSED, UNCHANGED = "refused", "unchanged"


def _guarded(judge: Callable[[], str | None], decoder: str, refused_well: type[Exception] | None = None) -> str | None:
    """The failure that `judge` finds. A hang ends the process with a traceback that names the place."""
    faulthandler.dump_traceback_later(HANG, exit=True)
    try:
        return judge()
    except RequestError as error:
        return REFUSED if decoder != "pyav" else f"refused: {error}"
    except StsimdiffError as error:
        if refused_well:
            return None
        return REFUSED if decoder != "pyav" else f"an error: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error} ({traceback.format_exc().strip().splitlines()[-3].strip()})"
    finally:
        faulthandler.cancel_dump_traceback_later()


def available() -> list[str]:
    """The decoders that are installed."""
    names = []
    for name in DECODERS:
        try:
            READERS.load(name).require()
        except RequestError:
            continue
        names.append(name)
    return names


def _remove(folder: Path, *clips: Clip) -> None:
    for clip in clips:
        for path in folder.glob(f"*{clip.path.stem.split('-')[-1]}.*"):
            path.unlink()
