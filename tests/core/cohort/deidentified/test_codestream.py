import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from references.ct_series import make_series, write_series
from references.shared_data import SHARED_DATA

from acfnet_core.cohort.deidentified.codestream import (
    CodestreamError,
    strip_jpeg,
    strip_jpeg_2000,
    strip_run_lengths,
)
from acfnet_core.cohort.deidentified.pixel_data import copy_pixels, syntax_of_copy
from acfnet_core.cohort.images.refusals import ScanRefusedError

SECRET = b"ZQSECRETQZ"
SIDE = 40


def _slice() -> Dataset:
    """Return a slice with noise, which does not pack to nothing."""
    one = make_series()[0]
    noise = np.random.default_rng(5).integers(-900, 900, (SIDE, SIDE))
    one.Rows = one.Columns = SIDE
    one.PixelData = noise.astype("<i2").tobytes()
    return one


def _read(path: Path, syntax: UID) -> Dataset:
    """Return a slice as it is read from a file of a syntax."""
    (written,) = write_series([_slice()], path)
    file = dcmread(written)
    if syntax == JPEG2000Lossless:
        # Pillow writes JPEG 2000 where pydicom has no encoder; in several tiles.
        words = np.frombuffer(file.PixelData, "<i2").reshape(SIDE, SIDE) + 1000
        content = io.BytesIO()
        picture = Image.fromarray(words.astype(np.uint16))
        picture.save(content, "JPEG2000", no_jp2=True, tile_size=(16, 16))
        file.PixelRepresentation = 0
        file.PixelData = encapsulate([content.getvalue()])
        file["PixelData"].is_undefined_length = True
        file.file_meta.TransferSyntaxUID = syntax
    elif syntax.is_compressed:
        file.compress(syntax)
    return file


def _frame(file: Dataset) -> bytes:
    (frame,) = generate_frames(file.PixelData, number_of_frames=1)
    return bytes(frame)


def _with_frame(file: Dataset, frame: bytes) -> np.ndarray:
    file.PixelData = encapsulate([frame])
    return np.array(file.pixel_array)


def _planted_jpeg_ls(frame: bytes) -> bytes:
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(SECRET)) + SECRET
    application = b"\xff\xe8" + struct.pack(">H", 2 + len(SECRET)) + SECRET
    return frame[:2] + comment + application + frame[2:] + SECRET


def _planted_jpeg_2000(frame: bytes) -> bytes:
    place = frame.index(b"\xff\x52")
    comment = b"\xff\x64" + struct.pack(">2H", 4 + len(SECRET), 1) + SECRET
    return frame[:place] + comment + frame[place:] + SECRET


def _planted_rle(frame: bytes) -> bytes:
    count, first, second, *rest = struct.unpack_from("<16L", frame)
    assert count == 2
    moved = struct.pack("<16L", count, first + 10, second + 20, *rest)
    return moved + SECRET + frame[first:second] + SECRET + frame[second:] + SECRET


def _strip_rle(frame: bytes) -> bytes:
    return strip_run_lengths(frame, num_bytes=SIDE * SIDE)


CASES = [
    (JPEGLSLossless, _planted_jpeg_ls, strip_jpeg),
    (JPEG2000Lossless, _planted_jpeg_2000, strip_jpeg_2000),
    (RLELossless, _planted_rle, _strip_rle),
]


@pytest.mark.parametrize(("syntax", "plant", "strip"), CASES)
def test_what_is_no_image_is_taken_out(
    tmp_path: Path,
    syntax: UID,
    plant: Callable[[bytes], bytes],
    strip: Callable[[bytes], bytes],
) -> None:
    file = _read(tmp_path, syntax)
    frame = plant(_frame(file))
    assert SECRET in frame
    assert SECRET not in strip(frame)


@pytest.mark.parametrize(("syntax", "plant", "strip"), CASES)
def test_every_value_stays(
    tmp_path: Path,
    syntax: UID,
    plant: Callable[[bytes], bytes],
    strip: Callable[[bytes], bytes],
) -> None:
    file = _read(tmp_path, syntax)
    expected = np.array(file.pixel_array)
    stripped = strip(plant(_frame(file)))
    np.testing.assert_array_equal(_with_frame(file, stripped), expected)


@pytest.mark.parametrize(("syntax", "plant", "strip"), CASES)
def test_a_frame_that_breaks_off_is_refused(
    tmp_path: Path,
    syntax: UID,
    plant: Callable[[bytes], bytes],
    strip: Callable[[bytes], bytes],
) -> None:
    frame = _frame(_read(tmp_path, syntax))
    for end in (0, 1, 5, 40, 90, len(frame) // 2):
        with pytest.raises(CodestreamError):
            strip(frame[:end])


def test_a_jpeg_loses_its_comment_and_keeps_its_picture() -> None:
    picture = Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32))
    content = io.BytesIO()
    picture.save(content, "JPEG", comment=SECRET, exif=b"Exif\0\0" + SECRET)
    stripped = strip_jpeg(content.getvalue() + SECRET)
    assert SECRET not in stripped
    before, after = Image.open(content), Image.open(io.BytesIO(stripped))
    assert before.tobytes() == after.tobytes()


def test_random_bytes_are_refused_or_stay_short() -> None:
    generator = np.random.default_rng(7)
    for start in (b"", b"\xff\xd8", b"\xff\x4f"):
        for _ in range(200):
            frame = start + generator.bytes(120)
            for strip in (strip_jpeg, strip_jpeg_2000, _strip_rle):
                try:
                    assert len(strip(frame)) <= len(frame) + 64
                except CodestreamError:
                    continue


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        JPEG2000Lossless,
        JPEGLSLossless,
        RLELossless,
    ],
)
def test_a_copy_keeps_its_transfer_syntax(syntax: UID) -> None:
    assert syntax_of_copy(syntax) == syntax


def test_an_implicit_file_becomes_explicit() -> None:
    assert syntax_of_copy(ImplicitVRLittleEndian) == ExplicitVRLittleEndian


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.102", "1.2.3", ""])
def test_frames_that_cannot_be_cleaned_are_refused(syntax: str) -> None:
    with pytest.raises(ValueError, match="cannot be cleaned"):
        syntax_of_copy(syntax)


def test_pixels_that_break_off_are_refused() -> None:
    one = _slice()
    one.PixelData = one.PixelData[:-2]
    with pytest.raises(ValueError, match="break off"):
        copy_pixels(one, one, ExplicitVRLittleEndian)


@pytest.mark.parametrize("is_signed", [0, 1])
def test_an_overlay_in_unused_bits_is_refused(is_signed: int) -> None:
    one = _slice()
    one.BitsStored, one.HighBit, one.PixelRepresentation = 12, 11, is_signed
    one.PixelData = np.full((SIDE, SIDE), 0x1005, "<u2").tobytes()
    with pytest.raises(ScanRefusedError, match="BURNED_IN"):
        copy_pixels(one, _slice_like(one), ExplicitVRLittleEndian)


def test_negative_values_of_twelve_bits_are_no_overlay() -> None:
    one = _slice()
    one.BitsStored, one.HighBit, one.PixelRepresentation = 12, 11, 1
    copy = _slice_like(one)
    copy_pixels(one, copy, ExplicitVRLittleEndian)
    assert copy.PixelData == one.PixelData


def test_unused_bits_of_the_last_byte_are_zero() -> None:
    one = _slice()
    one.Rows, one.Columns, one.BitsAllocated = 3, 3, 1
    one.PixelData = b"\xff\xff"
    copy = _slice_like(one)
    copy_pixels(one, copy, ExplicitVRLittleEndian)
    assert copy.PixelData == b"\xff\x01"


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the shared data is not there")
def test_real_jpeg_2000_keeps_its_values() -> None:
    path = sorted((SHARED_DATA / "ct-totalsegmentator" / "dicom").iterdir())[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        file = dcmread(path)
        expected = np.array(file.pixel_array)
        stripped = strip_jpeg_2000(_frame(file))
        np.testing.assert_array_equal(_with_frame(file, stripped), expected)


def _slice_like(one: Dataset) -> Dataset:
    """Return the description of the pixels, as a copy has it before they come."""
    copy = Dataset()
    for keyword in (
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "PixelRepresentation",
        "SamplesPerPixel",
    ):
        setattr(copy, keyword, one[keyword].value)
    return copy
