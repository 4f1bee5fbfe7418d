"""What is read without pydicom is what pydicom reads; the rest is left to it."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, Sequence
from pydicom.datadict import dictionary_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from references.ct_series import make_series

from acfnet_core.cohort.images.dicom_index import (
    HEADER_KEYWORDS,
    READ_ERRORS,
    InstanceHeader,
    headers_if_dicom,
    quiet_dicom,
    read_header,
)
from acfnet_core.cohort.images.plain_head import (
    HEAD_BYTES,
    PLAIN_KEYWORDS,
    SEQUENCE_TAGS,
    read_plain_head,
)

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_LONG_FORM_BYTES = 12


def _slice() -> Dataset:
    (one,) = make_series(num_slices=1)
    one.Rows = one.Columns = 4
    one.PixelData = b"\1\2" * 16
    one.SeriesDescription = "abdomen "
    one.PatientAge = "061Y"
    one.RescaleType = "HU"
    one.LossyImageCompression = "00"
    one.private_block(0x0009, "A MAKER", create=True).add_new(1, "UN", b"what else")
    return one


def _nested(*, depth: int = 2) -> Dataset:
    """Return an item within items, all of undefined length."""
    item = Dataset()
    item.CodeValue = "1"
    item.is_undefined_length_sequence_item = True
    if depth:
        item.ProcedureCodeSequence = Sequence([_nested(depth=depth - 1), Dataset()])
        item["ProcedureCodeSequence"].is_undefined_length = True
    return item


def _bytes_of(one: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = syntax
    one.file_meta.MediaStorageSOPClassUID = CTImageStorage
    one.file_meta.MediaStorageSOPInstanceUID = "1.2"
    buffer = io.BytesIO()
    one.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _by_pydicom(path: Path) -> InstanceHeader | None:
    with quiet_dicom():
        try:
            return read_header(path)
        except READ_ERRORS:
            return None


def _check_same(content: bytes, path: Path) -> bool:
    """Check a file that is read without pydicom; return whether it is such a one."""
    path.write_bytes(content)
    if read_plain_head(content[:HEAD_BYTES]) is None:
        return False
    expected = _by_pydicom(path)
    found = headers_if_dicom(path)
    assert found is not None
    # Texts too: what is not a number is unlike itself.
    assert repr(found[0]) == repr(expected)
    assert str(found[0].patient_id) == (expected and expected.patient_id)
    assert found[0].sop_instance_uid == (expected and expected.sop_instance_uid)
    return True


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_plain_file_is_read_as_pydicom_reads_it(syntax: str, tmp_path: Path) -> None:
    assert _check_same(_bytes_of(_slice(), syntax), tmp_path / "one.dcm")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_sequences_without_a_length_are_stepped_over(
    syntax: str, tmp_path: Path
) -> None:
    one = _slice()
    one.ProcedureCodeSequence = _nested().ProcedureCodeSequence
    one["ProcedureCodeSequence"].is_undefined_length = True
    assert _check_same(_bytes_of(one, syntax), tmp_path / "one.dcm")


def test_a_private_sequence_is_told_by_its_items(tmp_path: Path) -> None:
    one = _slice()
    one.private_block(0x0009, "A MAKER").add_new(2, "SQ", Sequence([_nested()]))
    one[0x00091002].is_undefined_length = True
    content = _bytes_of(one, ImplicitVRLittleEndian)
    assert _check_same(content, tmp_path / "one.dcm")


def test_a_length_of_the_pixels_group_changes_nothing(tmp_path: Path) -> None:
    one = _slice()
    content = _bytes_of(one)
    at = content.index(b"\xe0\x7f\x10\x00")
    length = struct.pack("<HH2sHL", 0x7FE0, 0, b"UL", 4, len(one.PixelData) + 12)
    assert _check_same(content[:at] + length + content[at:], tmp_path / "one.dcm")


def test_all_that_is_asked_of_a_header_is_known_of_a_plain_one() -> None:
    others = {dictionary_keyword(tag) for tag in SEQUENCE_TAGS}
    assert set(HEADER_KEYWORDS) - others <= PLAIN_KEYWORDS


def test_the_pixels_lie_where_the_head_says() -> None:
    one = _slice()
    content = _bytes_of(one)
    head = read_plain_head(content)
    assert head is not None
    end = head.pixels_at + head.num_pixel_bytes
    assert content[head.pixels_at : end] == one.PixelData


def test_the_head_ends_where_the_element_of_the_pixels_begins() -> None:
    head = read_plain_head(_bytes_of(_slice()))
    assert head is not None
    assert head.pixels_at - head.ends_at == _LONG_FORM_BYTES


def _falling(content: bytes) -> bytes:
    """Put an element of a lower group before the pixels."""
    at = content.index(b"\xe0\x7f\x10\x00")
    return content[:at] + b"\x08\x00\x60\x00CS\x02\x00CT" + content[at:]


_SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "no prefix": lambda content: content.replace(b"DICM", b"DICX"),
    "a tag that falls": _falling,
    "an unknown VR": lambda content: content.replace(
        b"\x28\0\x10\0US", b"\x28\0\x10\0XX"
    ),
    "another VR than the dictionary's": lambda content: content.replace(
        b"\x28\0\x10\0US", b"\x28\0\x10\0SS"
    ),
    "a letter that is not ASCII": lambda content: content.replace(
        b"abdomen ", b"abdom\xe9n "
    ),
    "two values where one belongs": lambda content: content.replace(
        b"abdomen ", b"abdo\\men"
    ),
    "another character set": lambda content: content.replace(
        b"ISO_IR 100", b"ISO_IR 13 "
    ),
    "an age that breaks off": lambda content: content[: content.index(b"061Y") + 2],
    "nothing after the head": lambda content: content[
        : content.index(b"\xe0\x7f\x10\x00")
    ],
    "nothing but a prefix": lambda content: content[:132],
    "a first group that is not the file's": lambda content: (
        content[:132] + b"\0\0" + content[134:]
    ),
}


@pytest.mark.parametrize("name", _SPOILT)
def test_what_is_unusual_is_left_to_pydicom(name: str) -> None:
    content = _bytes_of(_slice())
    spoilt = _SPOILT[name](content)
    assert spoilt != content
    assert read_plain_head(spoilt) is None


def test_big_endian_is_left_to_pydicom() -> None:
    assert read_plain_head(_bytes_of(_slice(), ExplicitVRBigEndian)) is None


def test_what_is_explicit_against_its_syntax_is_left_to_pydicom() -> None:
    # The group's length is that of the shorter syntax, which pydicom only remarks on.
    content = _bytes_of(_slice()).replace(
        b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x12\x001.2.840.10008.1.2\0"
    )
    assert read_plain_head(content) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ImageType", "ORIGINAL"),
        ("PixelSpacing", ["0.7", ""]),
        ("RescaleSlope", ["1", "1"]),
        ("Rows", [4, 4]),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2.1"),
        ("Modality", "MR"),
        ("SeriesNumber", "+1"),
    ],
)
def test_an_unusual_value_is_left_to_pydicom(name: str, value: object) -> None:
    one = _slice()
    setattr(one, name, value)
    assert read_plain_head(_bytes_of(one)) is None


def test_a_file_that_names_series_is_left_to_pydicom() -> None:
    one = _slice()
    one.ReferencedSeriesSequence = Sequence([Dataset()])
    assert read_plain_head(_bytes_of(one)) is None


def test_sequences_as_deep_as_no_scanner_writes_are_left_to_pydicom() -> None:
    one = _slice()
    one.ProcedureCodeSequence = _nested(depth=20).ProcedureCodeSequence
    one["ProcedureCodeSequence"].is_undefined_length = True
    assert read_plain_head(_bytes_of(one)) is None


def test_a_long_head_is_left_to_pydicom(tmp_path: Path) -> None:
    one = _slice()
    block = one.private_block(0x0009, "A MAKER")
    block.add_new(2, "UN", bytes(HEAD_BYTES))
    path = tmp_path / "one.dcm"
    path.write_bytes(_bytes_of(one))
    assert read_plain_head(path.read_bytes()[:HEAD_BYTES]) is None
    assert headers_if_dicom(path) == (_by_pydicom(path),)


def test_compressed_pixels_have_a_head_that_is_read(tmp_path: Path) -> None:
    one = _slice()
    # Not decoded here, so it need not be an image.
    content = _bytes_of(one).replace(
        b"1.2.840.10008.1.2.1\0", JPEG2000Lossless.encode()
    )
    found = content.find(JPEG2000Lossless.encode())
    length = struct.pack("<H", len(JPEG2000Lossless))
    content = content[: found - 2] + length + content[found:]
    assert _check_same(content, tmp_path / "one.dcm")


_PLAIN = {syntax: _bytes_of(_slice(), syntax) for syntax in SYNTAXES}
_SHORTER_HEAD = min(map(len, _PLAIN.values())) - 32


@settings(deadline=None, max_examples=150)
@given(
    syntax=st.sampled_from(SYNTAXES),
    places=st.lists(st.integers(132, _SHORTER_HEAD - 1), min_size=1, max_size=3),
    values=st.lists(
        st.sampled_from(b"\0 \\1.-CUSDILO\xff\x02"), min_size=3, max_size=3
    ),
)
def test_a_changed_byte_is_read_as_pydicom_reads_it(
    syntax: str,
    places: list[int],
    values: list[int],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    content = bytearray(_PLAIN[syntax])
    for place, value in zip(places, values, strict=False):
        content[place] = value
    _check_same(bytes(content), tmp_path_factory.getbasetemp() / "changed.dcm")
