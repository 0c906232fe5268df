"""Opens a video file, or explains in one sentence why it cannot be opened."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from ..errors import RequestError, StsimdiffError, VideoError
from ..storage.image_files import SUFFIXES, image_files, not_images, size_of
from .ffmpeg_log import Message, listening

#: FFmpeg's names of the formats that are opened: containers, streams without one, and still pictures. A file in one of
#: them holds its own pictures. A playlist or a script (hls, dash, concat, sdp, image2) names other files or addresses
#: instead, and to some formats (tty) every text is a video.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,apng,asf,asf_o,av1,avi,avs2,avs3,cavsvideo,dhav,dirac,dnxhd,dv,flv,gif,gxf,"
    "h261,h263,h264,hevc,ingenient,ipmovie,ivf,jpegxl_anim,kux,live_flv,lxf,m4v,mgsts,mjpeg,mjpeg_2000,mlv,mpeg,mpegts,"
    "mpegtsraw,mpegvideo,mpjpeg,mxf,nsv,nut,nuv,obu,ogg,r3d,rm,smjpeg,swf,ty,vc1,vc1test,vvc,wtv,yuv4mpegpipe,"
    "bmp_pipe,gif_pipe,j2k_pipe,jpeg_pipe,jpegxl_pipe,pam_pipe,png_pipe,ppm_pipe,tiff_pipe,webp_pipe"
)
LOCAL_ONLY = {"protocol_whitelist": "file", "format_whitelist": FORMATS}


def open_video(path: Path, heard: list[Message] | None = None) -> tuple[Any, Any]:
    """Open `path` and return PyAV's container and its best video stream. The caller closes the container.

    The demuxer's errors on the way, if FFmpeg opens the file all the same, are appended to `heard`. (Those of decoders,
    which it asks for what the header does not tell, also come from healthy files.)

    No other file is opened, whatever this one asks for: formats that name others are refused, and an MP4's references
    to other files are not followed (FFmpeg's default). Raises RequestError if there is no such file or it is not a
    regular one, VideoError if it is not a video that can be read.
    """
    check_file(path)
    with listening() as log:
        try:  # without "file:", a name with a colon is taken for a protocol
            container = av.open(f"file:{path}", options=LOCAL_ONLY)
        except (av.FFmpegError, ValueError) as error:
            refused = next((name for _, name, text in log if text.startswith("Format not on whitelist")), None)
            raise _not_a_video(path, refused) if refused else _unreadable(path, error) from error
    if heard is not None:
        heard.extend(m for m in log if m[1] == container.format.name)
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None or stream.disposition & Disposition.attached_pic:
        others: list[str] = sorted({s.type for s in container.streams if s is not stream})
        container.close()
        raise _no_picture(path, stream, others)
    return container, stream


def check_file(path: Path) -> None:
    """Raise RequestError if there is no such file or it is not a regular one, VideoError if it is empty.

    A folder or a list of images is a video, if each of them is a regular file.
    """
    if images := image_files(path):
        for image in images:
            size_of(image)
        return
    if path.is_dir():
        raise not_images(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for, and it can be read only once
            raise RequestError(
                f"{str(path)!r} is not a regular file (it is a pipe, a terminal or a device).",
                "Write the video to a file, and name that: a video is read more than once.",
            )
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise RequestError(f"There is no file {str(path)!r}.", "Check the path and the spelling.") from None
    except OSError as error:
        raise RequestError(f"{str(path)!r} cannot be opened: {error.strerror}.", "Check its permissions.") from error
    if empty:
        raise VideoError(f"{str(path)!r} is empty (0 bytes).", "Copy or download the video again.")


def _not_a_video(path: Path, format_name: str) -> VideoError:
    if path.suffix.lower() in SUFFIXES:
        return VideoError(
            f"{str(path)!r} is an image, not a video.",
            "Images are a video as a folder of nothing else, or as a list of their names in a .txt file.",
        )
    return VideoError(
        f"{str(path)!r} is not a video but a file of the format {format_name!r}.",
        "Name a video itself: playlists and scripts, which point to other files, are not followed.",
    )


def _unreadable(path: Path, error: Exception) -> VideoError:
    with path.open("rb") as file:
        looks_like_mp4 = file.read(12)[4:8] == b"ftyp"
    if looks_like_mp4:
        return VideoError(
            f"{str(path)!r} is an MP4 file without a usable index (its 'moov' part is missing or damaged).",
            "The copy, download or recording broke off: get the file again.",
        )
    reason = getattr(error, "strerror", None) or str(error)
    return VideoError(f"{str(path)!r} is not a video that can be read ({reason}).", "Check that it plays in a player.")


def _no_picture(path: Path, stream: Any, others: list[str]) -> StsimdiffError:
    if stream is not None and stream.codec_context is None:
        return VideoError(
            f"{str(path)!r} has a video stream in a format that this build of PyAV cannot decode.",
            f"Convert it first: ffmpeg -i {path.name} converted.mp4",
        )
    content = f"only {' and '.join(others)}" if others else "nothing that can be played"
    return VideoError(f"{str(path)!r} has no video stream, {content}.", "Give a file with pictures.")
