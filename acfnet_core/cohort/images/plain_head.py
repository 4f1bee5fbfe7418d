"""The head of a plain CT file: its values and where its pixels lie, without pydicom.

pydicom takes most of the time that an index takes. A file is read here only if there is
one way to read it: little endian, tags that rise, text in ASCII, each value of the VR
and the form that the dictionary says. Nothing is said of any other file, and pydicom
reads it; what both read is the same.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from acfnet_core.cohort.images.plain_elements import (
    Element,
    ElementReader,
    NotPlainError,
    elements_until,
    explicit_element,
    implicit_element,
)

HEAD_BYTES = 1 << 15
"""Of a file, enough for nearly every header."""

_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
_IMPLICIT_SYNTAX = "1.2.840.10008.1.2"
NATIVE_SYNTAXES = frozenset({_IMPLICIT_SYNTAX, "1.2.840.10008.1.2.1"})
"""Whose pixels are numbers, the low byte first."""
_SYNTAXES = NATIVE_SYNTAXES.union(
    {
        "1.2.840.10008.1.2.4.57",
        "1.2.840.10008.1.2.4.70",
        "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.81",
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.4.91",
        "1.2.840.10008.1.2.5",
    }
)
"""Little endian before the pixels, and all but one with explicit VR."""
_CHARACTER_SETS = frozenset({"ISO_IR 6", "ISO_IR 100", "ISO_IR 192"})
"""In which ASCII is ASCII; text in others, or with other letters, is pydicom's."""

_PREFIX_END = 132
_US = struct.Struct("<H")
_UL_BYTES = 4
_TAG_BYTES = 4
_LIKE_A_VR = re.compile(rb"[A-Z][A-Z]")
_GROUP_LENGTH = 0x00020000
_CHARACTER_SET = 0x00080005
_BASICS = {_GROUP_LENGTH: b"UL", _CHARACTER_SET: b"CS"}
"""Tag -> VR of what tells how the rest is to be read."""
_META_GROUP = b"\2\0"
_END_OF_META = 0x0002FFFF
_PIXEL_DATA = 0x7FE00010
_BEFORE_PIXELS = 0x7FE00000
_PIXEL_VRS = (b"OB", b"OW", None)

_DIGITS = re.compile(rb" *(0|[1-9][0-9]{0,8})[ \0]*")
_DECIMALS = re.compile(rb"[0-9+\-.eE\\ ]+")


def _text(raw: bytes) -> str:
    if not raw.isascii() or b"\\" in raw or b"\x1b" in raw:
        raise NotPlainError
    return raw.decode("ascii").rstrip(" \0")


def _texts(raw: bytes) -> list[str]:
    if not raw.isascii() or b"\\" not in raw:
        raise NotPlainError
    return raw.decode("ascii").rstrip(" \0").split("\\")


def _unsigned(raw: bytes) -> int:
    if len(raw) != _US.size:
        raise NotPlainError
    return int(_US.unpack(raw)[0])


def _digits(raw: bytes) -> int:
    found = _DIGITS.fullmatch(raw)
    if found is None:
        raise NotPlainError
    return int(found[1])


def _decimals(raw: bytes) -> list[float]:
    stripped = raw.rstrip(b" \0")
    if _DECIMALS.fullmatch(stripped) is None:
        raise NotPlainError
    return [float(part) for part in stripped.split(b"\\")]


def _decimal(raw: bytes) -> float:
    numbers = _decimals(raw)
    if len(numbers) != 1:
        raise NotPlainError
    return numbers[0]


_Convert = Callable[[bytes], Any]
_VALUES: dict[int, tuple[str, bytes, _Convert]] = {
    0x00020010: ("TransferSyntaxUID", b"UI", _text),
    0x00080008: ("ImageType", b"CS", _texts),
    0x00080016: ("SOPClassUID", b"UI", _text),
    0x00080018: ("SOPInstanceUID", b"UI", _text),
    0x00080020: ("StudyDate", b"DA", _text),
    0x00080060: ("Modality", b"CS", _text),
    0x0008103E: ("SeriesDescription", b"LO", _text),
    0x00100020: ("PatientID", b"LO", _text),
    0x00100040: ("PatientSex", b"CS", _text),
    0x00101010: ("PatientAge", b"AS", _text),
    0x00180050: ("SliceThickness", b"DS", _decimals),
    0x0020000D: ("StudyInstanceUID", b"UI", _text),
    0x0020000E: ("SeriesInstanceUID", b"UI", _text),
    0x00200011: ("SeriesNumber", b"IS", _digits),
    0x00200032: ("ImagePositionPatient", b"DS", _decimals),
    0x00200037: ("ImageOrientationPatient", b"DS", _decimals),
    0x00200052: ("FrameOfReferenceUID", b"UI", _text),
    0x00280002: ("SamplesPerPixel", b"US", _unsigned),
    0x00280004: ("PhotometricInterpretation", b"CS", _text),
    0x00280008: ("NumberOfFrames", b"IS", _digits),
    0x00280010: ("Rows", b"US", _unsigned),
    0x00280011: ("Columns", b"US", _unsigned),
    0x00280030: ("PixelSpacing", b"DS", _decimals),
    0x00280100: ("BitsAllocated", b"US", _unsigned),
    0x00280101: ("BitsStored", b"US", _unsigned),
    0x00280102: ("HighBit", b"US", _unsigned),
    0x00280103: ("PixelRepresentation", b"US", _unsigned),
    0x00280301: ("BurnedInAnnotation", b"CS", _text),
    0x00281052: ("RescaleIntercept", b"DS", _decimal),
    0x00281053: ("RescaleSlope", b"DS", _decimal),
    0x00281054: ("RescaleType", b"LO", _text),
    0x00282110: ("LossyImageCompression", b"CS", _text),
}
"""Tag -> keyword, VR, and how the bytes are turned into a value."""
PLAIN_KEYWORDS = frozenset(keyword for keyword, _, _ in _VALUES.values())
SEQUENCE_TAGS = frozenset({0x00081115, 0x00620002, 0x30060010, 0x30060020})
"""Referenced series, segments and structures: more than a plain image says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainHead:
    """What stands before the pixels of a plain CT file; offsets are from its begin.

    Attributes:
        values: Keyword -> value, as text, number or list; what is absent or empty is
            left out.
        transfer_syntax: Its UID.
        ends_at: Where the element of the pixels begins.
        pixels_at: Where the pixels begin.
        num_pixel_bytes: As the element says; compressed pixels do not say it.
    """

    values: dict[str, Any]
    transfer_syntax: str
    ends_at: int
    pixels_at: int
    num_pixel_bytes: int


def read_plain_head(content: bytes) -> PlainHead | None:
    """Read the head of a CT file; None where pydicom has to.

    Args:
        content: The first bytes of a file.
    """
    if content[_PREFIX_END - 4 : _PREFIX_END] != b"DICM":
        return None
    try:
        return _read(content)
    except (NotPlainError, ValueError, struct.error):
        # ValueError: a decimal that is none.
        return None


def _read(content: bytes) -> PlainHead:
    values: dict[str, Any] = {}
    # A tag below those of the file's own group has another way of reading.
    begin = _take_values(
        content, _PREFIX_END, _GROUP_LENGTH, _END_OF_META, _meta_element, values
    ).at
    syntax = values.get("TransferSyntaxUID", "")
    if syntax not in _SYNTAXES:
        raise NotPlainError
    is_implicit = syntax == _IMPLICIT_SYNTAX
    if is_implicit and _LIKE_A_VR.match(content, begin + _TAG_BYTES):
        # pydicom does not believe the syntax then.
        raise NotPlainError
    read_element = implicit_element if is_implicit else explicit_element
    pixels = _take_values(
        content, begin, _END_OF_META + 1, _BEFORE_PIXELS, read_element, values
    )
    kind = (values.get("SOPClassUID"), values.get("Modality"))
    is_usual = pixels.tag == _PIXEL_DATA and pixels.vr in _PIXEL_VRS
    if not is_usual or kind != (_CT_IMAGE_STORAGE, "CT"):
        raise NotPlainError
    return PlainHead(
        values=values,
        transfer_syntax=syntax,
        ends_at=pixels.at,
        pixels_at=pixels.value_at,
        num_pixel_bytes=pixels.num_bytes,
    )


def _meta_element(content: bytes, offset: int) -> Element:
    """Return an element of the file's own group, or the first one after it."""
    is_meta = content.startswith(_META_GROUP, offset)
    return (explicit_element if is_meta else implicit_element)(content, offset)


def _take_values(
    content: bytes,
    offset: int,
    first: int,
    last: int,
    read_element: ElementReader,
    values: dict[str, Any],
) -> Element:
    """Take the values of a range of tags, and return the element after them."""
    for element in elements_until(content, offset, first, last, read_element):
        tag, vr, _, begin, num_bytes = element
        if tag > last:
            return element
        if tag in SEQUENCE_TAGS:
            break
        if tag in _VALUES and num_bytes:
            name, expected_vr, convert = _VALUES[tag]
            if vr not in (expected_vr, None):
                break
            # A value that breaks off is found by the next element, which is not there.
            values[name] = convert(content[begin : begin + num_bytes])
        elif tag in _BASICS:
            _check_basic(element, content[begin : begin + num_bytes])
    raise NotPlainError


def _check_basic(element: Element, raw: bytes) -> None:
    """Refuse what pydicom looks at before the values."""
    is_usual = element.vr in (_BASICS[element.tag], None)
    if element.tag == _GROUP_LENGTH:
        is_usual &= len(raw) == _UL_BYTES
    elif raw:
        is_usual &= _text(raw) in _CHARACTER_SETS
    if not is_usual:
        raise NotPlainError
