"""A compressed frame without what is no image: comments, applications' data, a tail.

Bytes that a decoder does not read are made zero in place or cut off at the end, so that
every decoded value stays what it was. Known are the codestreams of JPEG, JPEG-LS and
JPEG 2000, and run lengths.

Source: ISO/IEC 10918-1 annex B, ISO/IEC 14495-1 annex C, ISO/IEC 15444-1 annex A,
DICOM PS3.5 annex G.
"""

import re
import struct

_JPEG_LEAD = 0xFF
_JPEG_END = 0xD9
_JPEG_SCAN = 0xDA
_JPEG_COMMENT = 0xFE
_JPEG_APPLICATION = range(0xE0, 0xF0)
_JPEG_NEXT_MARKER = re.compile(rb"\xff(?:[\x80-\xcf]|[\xd8-\xfe])")
"""After a scan: neither a stuffed byte nor a restart. In JPEG-LS bytes below 0x80 are
stuffed, in JPEG 0 alone, and no other is in use."""

_J2K_TILE = 0xFF90
_J2K_DATA = 0xFF93
_J2K_END = 0xFFD9
_J2K_COMMENT = 0xFF64
_TILE_LENGTH_AT = 6

_RLE_HEADER_BYTES = 64
_RLE_MAX_SEGMENTS = 15


class CodestreamError(ValueError):
    """The frame is not what its transfer syntax says."""


def strip_jpeg(frame: bytes) -> bytes:
    """Return a JPEG or JPEG-LS frame with its comments and applications' data zeroed.

    Raises:
        CodestreamError: The frame breaks off or is no such codestream.
    """
    cleaned = bytearray(frame)
    if frame[:2] != b"\xff\xd8":
        raise CodestreamError("the frame does not begin as JPEG")
    place = 2
    while True:
        place, marker = _jpeg_marker(frame, place)
        if marker == _JPEG_END:
            return bytes(cleaned[: place + 2])
        (length,) = _unpack(">H", frame, place + 2)
        end = place + 2 + length
        if marker == _JPEG_COMMENT or marker in _JPEG_APPLICATION:
            _blank(cleaned, place + 4, end)
        place = _end_of_scan(frame, end) if marker == _JPEG_SCAN else end


def strip_jpeg_2000(frame: bytes) -> bytes:
    """Return a JPEG 2000 codestream with its comments zeroed.

    Raises:
        CodestreamError: The frame breaks off or is no such codestream.
    """
    cleaned = bytearray(frame)
    if frame[:2] != b"\xff\x4f":
        raise CodestreamError("the frame does not begin as JPEG 2000")
    place = 2
    tile_end = 0
    while True:
        (marker,) = _unpack(">H", frame, place)
        if marker == _J2K_END:
            return bytes(cleaned[: place + 2])
        if marker == _J2K_DATA:
            place = tile_end
            continue
        if not 0xFF30 < marker <= 0xFFFF:
            raise CodestreamError("a marker is expected")
        (length,) = _unpack(">H", frame, place + 2)
        end = place + 2 + length
        if marker == _J2K_TILE:
            tile_end = _end_of_tile(frame, place)
        if marker == _J2K_COMMENT:
            # The first two bytes say how the comment is written.
            _blank(cleaned, place + 6, end)
        place = end


def strip_run_lengths(frame: bytes, *, num_bytes: int) -> bytes:
    """Return a run-length frame with nothing between and after its segments.

    Args:
        frame: Header and segments.
        num_bytes: That each segment unpacks to.

    Raises:
        CodestreamError: The frame breaks off or is no such frame.
    """
    count, *offsets = _unpack("<16L", frame, 0)
    if not 1 <= count <= _RLE_MAX_SEGMENTS:
        raise CodestreamError("the number of segments is impossible")
    segments = []
    for number in range(count):
        start = offsets[number]
        if start < _RLE_HEADER_BYTES:
            raise CodestreamError("a segment begins in the header")
        segment = frame[start : _end_of_runs(frame, start, num_bytes)]
        segments.append(segment + b"\0" * (len(segment) % 2))
    starts = [_RLE_HEADER_BYTES]
    for segment in segments[:-1]:
        starts.append(starts[-1] + len(segment))
    starts += [0] * (_RLE_MAX_SEGMENTS - count)
    return struct.pack("<16L", count, *starts) + b"".join(segments)


def _jpeg_marker(frame: bytes, place: int) -> tuple[int, int]:
    """Return where the marker at `place`, or after bytes of filling, is, and it."""
    while frame[place : place + 2] == b"\xff\xff":
        place += 1
    lead, marker = _unpack(">BB", frame, place)
    if lead != _JPEG_LEAD:
        raise CodestreamError("a marker is expected")
    return place, marker


def _end_of_scan(frame: bytes, start: int) -> int:
    found = _JPEG_NEXT_MARKER.search(frame, start)
    if found is None:
        raise CodestreamError("the frame breaks off")
    return found.start()


def _end_of_tile(frame: bytes, place: int) -> int:
    (length,) = _unpack(">L", frame, place + _TILE_LENGTH_AT)
    # A length of 0 means: to the end of the codestream.
    end = place + length if length else frame.rfind(b"\xff\xd9")
    if not place < end < len(frame):
        raise CodestreamError("a tile breaks off")
    return end


def _end_of_runs(frame: bytes, start: int, num_bytes: int) -> int:
    """Return where a segment has given all of its bytes."""
    place, given = start, 0
    while given < num_bytes:
        if place >= len(frame):
            raise CodestreamError("a segment breaks off")
        control = frame[place]
        if control < 128:
            given += control + 1
            place += control + 2
        elif control > 128:
            given += 257 - control
            place += 2
        else:
            place += 1
    if place > len(frame):
        raise CodestreamError("a segment breaks off")
    return place


def _blank(content: bytearray, start: int, end: int) -> None:
    if not start <= end <= len(content):
        raise CodestreamError("the frame breaks off")
    content[start:end] = bytes(end - start)


def _unpack(form: str, frame: bytes, place: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, frame, place)
    except struct.error:
        raise CodestreamError("the frame breaks off") from None
