"""Only a regular file that holds its own pictures is opened, and it leads to no other file."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stsimdiff_cli.errors import RequestError, VideoError
from stsimdiff_cli.video import Sampling, open_stream, scan, source
from tests.support.clip_factory import CLOSED_GOP, render


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> Path:
    """A video that nothing but its own name may open."""
    return render(tmp_path_factory.mktemp("private") / "private.mp4", range(3), options=CLOSED_GOP)


SCRIPTS = {
    "innocent.mp4": "ffconcat version 1.0\nfile {path}\n",
    "relative.mp4": "ffconcat version 1.0\nfile private.mp4\n",
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n",
    "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "story.txt": "Once upon a time there was a text.\n" * 100,
    "subtitles.srt": "1\n00:00:00,000 --> 00:00:02,000\nHello\n\n" * 10,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_playlists_scripts_and_texts_are_refused_by_name(private, name):
    path = private.parent / name
    path.write_text(SCRIPTS[name].format(path=private))
    with pytest.raises(VideoError, match="is not a video") as caught:
        scan(path)
    assert name in str(caught.value)
    assert "private.mp4" not in str(caught.value)
    assert caught.value.hint


def test_a_name_that_is_a_pattern_of_pictures_opens_no_other_picture(tmp_path):
    for name in ("img%03d.png", "img001.png", "img002.png"):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / name)
    with pytest.raises(VideoError, match="is an image, not a video"):
        scan(tmp_path / "img%03d.png")
    assert scan(tmp_path / "img001.png").frames == 1


def test_an_mp4_whose_pictures_are_in_another_file_shows_none_of_them(private, tmp_path):
    data = bytearray(private.read_bytes())
    at = data.index(b"dref") + 12  # the first data reference: "url " with the flag that the pictures are in this file
    assert data[at + 4 : at + 12] == b"url \0\0\0\1"
    data[at + 4 : at + 12] = b"alis\0\0\0\0"
    path = tmp_path / "reference.mp4"
    path.write_bytes(data.replace(b"mdat", b"free"))
    try:
        scanned = scan(path)
    except VideoError:
        return
    assert scanned.packets.size.sum() < path.stat().st_size


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    path = tmp_path / "pipe.mp4"
    os.mkfifo(path)
    with pytest.raises(RequestError, match="not a regular file") as caught:
        scan(path)
    assert "Write the video to a file" in caught.value.hint
    with pytest.raises(RequestError, match="not a regular file"):
        open_stream(path, Sampling())  # nor for its checksum


def test_the_checksum_of_a_file_is_not_finished_if_it_is_no_video(tmp_path, monkeypatch):
    path = tmp_path / "text.mp4"
    path.write_bytes(b"no video" * 100)
    blocks = []

    def endless(path, stopped):
        while not stopped():
            blocks.append(time.sleep(0.01))
        return ""

    monkeypatch.setattr(source, "checksum_of", endless)
    with pytest.raises(VideoError):
        open_stream(path, Sampling())
    assert not [t for t in threading.enumerate() if t.name.startswith("checksum")]


def test_the_checksum_of_a_stream_is_that_of_its_file(private):
    assert open_stream(private, Sampling()).source.sha256 == hashlib.sha256(private.read_bytes()).hexdigest()


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_a_device_is_refused(path):
    if not Path(path).exists():
        pytest.skip(f"there is no {path}")
    with pytest.raises(RequestError, match="not a regular file"):
        scan(path)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs Linux")
def test_a_video_is_read_once_from_the_disk_for_its_checksum_and_its_packets(tmp_path):
    """The program asks twice, and the system answers once from memory. (On a file system in memory, both times.)"""
    path = tmp_path / "large.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for _ in range(12):
            container.mux(stream.encode(av.VideoFrame(1280, 720, "yuv420p")))
    size = path.stat().st_size
    open_stream(path, Sampling(frames=2))  # what is imported is read before
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = bytes_read()
    open_stream(path, Sampling(frames=2))
    asked, from_disk = (after - early for after, early in zip(bytes_read(), before, strict=True))
    assert 1.9 * size < asked < 2.1 * size
    assert from_disk < 1.1 * size


def bytes_read() -> tuple[int, int]:
    """Bytes that this process has asked for, and those that came from a disk."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"]), int(lines["read_bytes"])
