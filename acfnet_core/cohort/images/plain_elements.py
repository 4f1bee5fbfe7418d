"""The elements of a little-endian DICOM file that can be read in one way only.

Values are stepped over, not read. What pydicom reads by a rule of thumb, a wrong VR or
a length that leads nowhere, ends in `NotPlainError`.
"""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pydicom.datadict import dictionary_VR

_EXPLICIT = struct.Struct("<HH2sH")
_IMPLICIT = struct.Struct("<HHL")
_LONG = struct.Struct("<L")
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 8
_SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD


class NotPlainError(Exception):
    """There is another way to read the file, or none."""


class Element(NamedTuple):
    """An element without its value; offsets are from the file's begin.

    Attributes:
        vr: None where the file does not say it.
        at: Where the element begins.
        value_at: Where its value begins.
        num_bytes: Of the value; 2^32 - 1 if it has no length.
    """

    tag: int
    vr: bytes | None
    at: int
    value_at: int
    num_bytes: int


ElementReader = Callable[[bytes, int], Element]


def explicit_element(content: bytes, offset: int) -> Element:
    """Return the element at an offset, in Explicit VR Little Endian.

    Raises:
        NotPlainError: Its VR is none.
        struct.error: It breaks off.
    """
    group, number, vr, num_bytes = _EXPLICIT.unpack_from(content, offset)
    if vr in _SHORT_VRS:
        return Element(group << 16 | number, vr, offset, offset + 8, num_bytes)
    if vr not in _LONG_VRS:
        raise NotPlainError
    (num_bytes,) = _LONG.unpack_from(content, offset + 8)
    return Element(group << 16 | number, vr, offset, offset + 12, num_bytes)


def implicit_element(content: bytes, offset: int) -> Element:
    """Return the element at an offset, in Implicit VR Little Endian.

    Raises:
        struct.error: It breaks off.
    """
    group, number, num_bytes = _IMPLICIT.unpack_from(content, offset)
    return Element(group << 16 | number, None, offset, offset + 8, num_bytes)


def elements_until(
    content: bytes, offset: int, first: int, last: int, read_element: ElementReader
) -> Iterator[Element]:
    """Yield elements whose tags rise; the last one is the first beyond the range.

    Args:
        content: Of the file, or its beginning.
        offset: Of the first element.
        first: The lowest tag of the range.
        last: The highest.
        read_element: For the file's encoding.

    Raises:
        NotPlainError: A tag falls, or a value cannot be stepped over.
        struct.error: The content ends before the range does.
    """
    lowest = first
    while True:
        element = read_element(content, offset)
        if element.tag < lowest:
            raise NotPlainError
        yield element
        if element.tag > last:
            return
        lowest = element.tag + 1
        offset = _end_of(content, element, read_element, 0)


def _end_of(
    content: bytes, element: Element, read_element: ElementReader, depth: int
) -> int:
    """Return where an element ends; a sequence without a length must be whole."""
    if element.num_bytes != _UNDEFINED:
        return element.value_at + element.num_bytes
    offset = element.value_at
    if depth == _DEEPEST or not _is_sequence(content, element):
        raise NotPlainError
    while True:
        item = implicit_element(content, offset)
        if item.tag == _SEQUENCE_END and item.num_bytes == 0:
            return item.value_at
        if item.tag != _ITEM:
            raise NotPlainError
        offset = _end_of_item(content, item, read_element, depth + 1)


def _is_sequence(content: bytes, element: Element) -> bool:
    """Tell whether a value without a length is a sequence."""
    if element.vr is not None:
        return element.vr == b"SQ"
    try:
        return dictionary_VR(element.tag) == "SQ"
    except KeyError:
        # Of an unknown element its beginning tells it.
        return implicit_element(content, element.value_at).tag == _ITEM


def _end_of_item(
    content: bytes, item: Element, read_element: ElementReader, depth: int
) -> int:
    offset = item.value_at
    has_length = item.num_bytes != _UNDEFINED
    end = offset + item.num_bytes
    while not has_length or offset < end:
        mark = implicit_element(content, offset)
        if mark.tag == _ITEM_END:
            if has_length or mark.num_bytes:
                raise NotPlainError
            return mark.value_at
        offset = _end_of(content, read_element(content, offset), read_element, depth)
    if offset != end:
        raise NotPlainError
    return offset
