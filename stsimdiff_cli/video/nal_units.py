"""Parses H.264 packets: where a gradual refresh begins, and which pictures no other picture refers to.

A packet is a sequence of NAL units (ITU-T H.264), each preceded by its length (MP4, Matroska) or by a start code
(Annex B: transport streams, raw files).
"""

from __future__ import annotations

from collections.abc import Iterator

START_CODE = b"\x00\x00\x01"
IDR, SEI = 5, 6  # nal_unit_type
SLICES = range(1, 6)  # nal_unit_type of slices, whole or in partitions, IDR included
INTRA = (2, 4)  # slice_type I and SI; 7 and 9 mean the same for all slices of a picture
RECOVERY_POINT = 6  # payloadType


def length_size(extradata: bytes | None) -> int:
    """Bytes of the length before each NAL unit, from the stream's configuration (avcC); 0 for start codes."""
    return (extradata[4] & 3) + 1 if extradata and len(extradata) > 4 and extradata[0] == 1 else 0


def begins_refresh(packet: bytes, lengths: int) -> bool:
    """True for a key packet without a complete picture, where decoding should not begin.

    An encoder that refreshes the picture gradually (intra refresh) marks the beginning of each refresh with a recovery
    point, which counts the frames until its end; containers and FFmpeg call that packet a key packet too. In an I
    picture (open GOPs) the count is 0. A count of 0 in a P picture is ignored: x264 writes it for pictures 32 pixels
    wide. `lengths` is from `length_size`. False for damaged packets, which cannot be judged.
    """
    recovers_later = False
    for unit in _units(packet, lengths):
        unit_type = unit[0] & 31
        if unit_type == IDR:
            return False
        if unit_type in SLICES:
            header = _exp_golomb(_without_escapes(unit[:16]), 2)  # first_mb_in_slice, slice_type
            return recovers_later or (len(header) == 2 and header[1] % 5 not in INTRA)
        if unit_type == SEI:
            for payload_type, payload in _messages(_without_escapes(unit)):
                if payload_type == RECOVERY_POINT and any(_exp_golomb(payload, 1)):  # recovery_frame_cnt
                    recovers_later = True
    return False


def unreferenced(packet: bytes, lengths: int) -> bool:
    """True if the packet holds a whole picture, or fields of one, that no other picture refers to."""
    slices, end = 0, 0
    for unit in _units(packet, lengths):
        end += lengths + len(unit)
        if unit[0] & 31 in SLICES:
            slices += 1
            if unit[0] & 0x60:  # nal_ref_idc
                return False
    return slices > 0 and (not lengths or end == len(packet))


def _units(packet: bytes, lengths: int) -> Iterator[bytes]:
    """The non-empty NAL units of a packet, up to the first whose length is impossible."""
    if not lengths:
        yield from _units_after_start_codes(packet)
        return
    at = 0
    while at + lengths < len(packet):
        begin = at + lengths
        at = begin + int.from_bytes(packet[at:begin], "big")
        if at == begin or at > len(packet):
            return
        yield packet[begin:at]


def _units_after_start_codes(packet: bytes) -> Iterator[bytes]:
    begin = packet.find(START_CODE)
    while begin >= 0:
        begin += len(START_CODE)
        after = packet.find(START_CODE, begin)
        unit = packet[begin : after if after >= 0 else len(packet)]
        if unit:
            yield unit
        begin = after


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(payloadType, payload) of each SEI message, up to the first that is cut off."""
    at = 0
    while at + 2 < len(data):
        numbers = []
        for _ in ("type", "size"):
            number = 0
            while at < len(data) and data[at] == 0xFF:
                number, at = number + 0xFF, at + 1
            if at == len(data):
                return
            numbers.append(number + data[at])
            at += 1
        payload_type, size = numbers
        if at + size > len(data):
            return
        yield payload_type, data[at : at + size]
        at += size


def _without_escapes(unit: bytes) -> bytes:
    """The payload of a NAL unit: without its first byte and without emulation prevention bytes."""
    return unit[1:].replace(b"\x00\x00\x03", b"\x00\x00")


def _exp_golomb(data: bytes, count: int) -> list[int]:
    """The first `count` numbers of the data, each coded as ue(v); fewer if the data is cut off."""
    bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}" if data else ""
    numbers: list[int] = []
    while len(numbers) < count:
        zeros = bits.find("1")
        code, bits = bits[zeros : 2 * zeros + 1], bits[2 * zeros + 1 :]
        if zeros < 0 or len(code) <= zeros:
            break
        numbers.append(int(code, 2) - 1)
    return numbers
