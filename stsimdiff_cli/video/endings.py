"""Whether a file ends before the end that its own structure promises."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

TAIL = 1 << 17  # bytes at the end of a file in which its last page, packet or trailer is looked for
UNKNOWN = -1  # the size of an element that was written before its end was known (live Matroska)

SEGMENT, CLUSTER = 0x18538067, 0x1F43B675  # Matroska's IDs
FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # ASF's GUID of the object with the file's size


def ends_early(path: Path, container: str) -> bool:
    """True if the file is certainly cut off: a part begins in it that it does not hold, or its trailer is missing.

    `container` is the short name in `Scan.container`. False where that cannot be known: formats without sizes or a
    trailer (raw streams), and files that are cut between two parts.
    """
    check = _CHECKS.get(container)
    if check is None:
        return False
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            return check(file, size)
        except struct.error:  # a header is cut off
            return True


def _mp4(file: BinaryIO, size: int) -> bool:
    at = 0
    while at < size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if not kind.isascii():
            return False
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        if length == 0:  # up to the end of the file
            return False
        if length < 8:
            return False
        at += length
    return at > size


def _matroska(file: BinaryIO, size: int) -> bool:
    """Walks over the elements of the file, the segment and clusters of unknown size, and skips the others."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(12)
        id_length = 9 - head[0].bit_length()
        if id_length > 4:  # damage, or something behind the last element
            return False
        if len(head) <= id_length:
            return True
        size_length = 9 - head[id_length].bit_length()
        if size_length > 8:
            return False
        if len(head) < id_length + size_length:
            return True
        element = int.from_bytes(head[:id_length], "big")
        mask = (1 << 7 * size_length) - 1
        length = int.from_bytes(head[id_length : id_length + size_length], "big") & mask
        at += id_length + size_length
        if length == mask:
            if element not in (SEGMENT, CLUSTER):
                return False
        elif element == SEGMENT:
            if at + length > size:
                return True
        else:
            at += length
    return at > size


def _avi(file: BinaryIO, size: int) -> bool:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or not length:
            return False
        at += 8 + length
    return at > size


def _asf(file: BinaryIO, size: int) -> bool:
    head = file.read(TAIL)
    at = head.find(FILE_PROPERTIES)
    if at < 0:
        return False
    (promised,) = struct.unpack_from("<Q", head, at + 40)
    (flags,) = struct.unpack_from("<I", head, at + 88)
    return not flags & 1 and promised > size  # the flag marks a broadcast, whose size was not known


def _flv(file: BinaryIO, size: int) -> bool:
    """The last four bytes must be the size of the tag before them."""
    file.seek(max(size - 4, 0))
    (last,) = struct.unpack(">I", file.read(4))
    if not 11 <= last <= size - 13:
        return True
    file.seek(size - 4 - last + 1)
    return int.from_bytes(file.read(3), "big") != last - 11


def _ivf(file: BinaryIO, size: int) -> bool:
    at = 32
    while at < size:
        file.seek(at)
        (length,) = struct.unpack("<I8x", file.read(12))
        at += 12 + length
    return at > size


def _ogg(file: BinaryIO, size: int) -> bool:
    """The last page must be whole and say that its stream ends."""
    tail = _tail(file, size)
    at = tail.rfind(b"OggS")
    if at < 0:
        return True
    flags, segments = struct.unpack_from("<B20xB", tail, at + 5)
    lengths = tail[at + 27 : at + 27 + segments]
    return not flags & 4 or len(lengths) < segments or at + 27 + segments + sum(lengths) > len(tail)


def _gif(file: BinaryIO, size: int) -> bool:
    return not _tail(file, size).rstrip(b"\0").endswith(b";")


def _apng(file: BinaryIO, size: int) -> bool:
    return b"IEND" not in _tail(file, size)


def _transport_stream(file: BinaryIO, size: int) -> bool:
    """Packets are of 188 bytes, or of 192 with a time before each (M2TS)."""
    head = file.read(4 * 192)
    for length, begin in ((188, 0), (192, 4)):
        if head[begin::length].count(0x47) == len(head[begin::length]):
            return size % length > 0
    return False


def _program_stream(file: BinaryIO, size: int) -> bool:
    """The packets after the last pack header must be whole."""
    tail = _tail(file, size)
    at = tail.rfind(b"\0\0\1\xba")
    if at < 0:
        return False
    at += 14 + (tail[at + 13] & 7) if len(tail) > at + 13 and tail[at + 4] >> 6 == 1 else 12  # MPEG-2 or MPEG-1
    while at < len(tail):
        if len(tail) < at + 4:
            return True
        if tail[at : at + 3] != b"\0\0\1" or tail[at + 3] == 0xB9:  # something else, or the end code
            return False
        (length,) = struct.unpack_from(">H", tail, at + 4)
        at += 6 + length
    return at > len(tail)


def _tail(file: BinaryIO, size: int) -> bytes:
    file.seek(max(size - TAIL, 0))
    return file.read()


_CHECKS: dict[str, Callable[[BinaryIO, int], bool]] = {
    "mp4": _mp4,
    "matroska": _matroska,
    "avi": _avi,
    "asf": _asf,
    "flv": _flv,
    "ivf": _ivf,
    "ogg": _ogg,
    "gif": _gif,
    "apng": _apng,
    "mpegts": _transport_stream,
    "mpeg": _program_stream,
}
