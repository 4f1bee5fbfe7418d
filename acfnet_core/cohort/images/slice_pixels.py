"""The pixels of one slice, decoded and turned into Hounsfield units.

A slice is a file, or a frame of an enhanced CT file; such a file is decoded frame by
frame, so that memory holds one of them. JPEG lossless, which pydicom cannot decode
without a codec of another licence, is decoded by SimpleITK.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import SimpleITK
from jaxtyping import Shaped
from pydicom import Dataset, dcmread
from pydicom.pixels import iter_pixels
from pydicom.uid import JPEGLossless, JPEGLosslessSV1

from acfnet_core.cohort.images.dicom_index import READ_ERRORS, InstanceHeader
from acfnet_core.cohort.images.enhanced_ct import plain_frames
from acfnet_core.cohort.images.plain_head import (
    HEAD_BYTES,
    NATIVE_SYNTAXES,
    PlainHead,
    read_plain_head,
)
from acfnet_core.cohort.images.refusals import ScanRefusedError

_WHOLE_BYTES = 2
_ALL = slice(None)
_BY_SIMPLEITK = (JPEGLossless, JPEGLosslessSV1)


def read_image(
    header: InstanceHeader, rows: slice = _ALL, columns: slice = _ALL
) -> Shaped[np.ndarray, "row column"]:
    """Return a plain CT image in HU, whole numbers where slope and offset are.

    Args:
        header: Of the image.
        rows: Which of them.
        columns: Which of them.

    Raises:
        ScanRefusedError: `DECODE_FAILED`.
    """
    try:
        with header.path.open("rb", buffering=0) as file:
            head = _native_head(file, header)
            if head is not None:
                stored = _read_native(file, head, header, rows)[:, columns]
                return _to_hu(stored, *_scale_of(head))
        return _read_by_decoder(header)[rows, columns]
    except READ_ERRORS:
        # The error's text may hold values of the header: it must not be chained.
        raise ScanRefusedError("DECODE_FAILED") from None


def check_image(header: InstanceHeader) -> None:
    """See that a plain CT image could be read.

    Uncompressed pixels of which every byte is there can be read; others are decoded.

    Raises:
        ScanRefusedError: `DECODE_FAILED`.
    """
    try:
        with header.path.open("rb", buffering=0) as file:
            if _native_head(file, header) is not None:
                return
        _read_by_decoder(header)
    except READ_ERRORS:
        raise ScanRefusedError("DECODE_FAILED") from None


def read_frames(
    header: InstanceHeader,
) -> Iterator[Shaped[np.ndarray, "row column"]]:
    """Yield every frame of an enhanced CT file in HU, in the order of the file.

    Args:
        header: Of any of its frames.

    Raises:
        ScanRefusedError: `DECODE_FAILED`.
    """
    try:
        dataset = dcmread(header.path, stop_before_pixels=True)
        _check_unchanged(dataset, header)
        frames = plain_frames(dataset)
        for frame, stored in zip(frames, iter_pixels(header.path), strict=True):
            yield _turn_to_hu(stored, frame, header)
    except READ_ERRORS:
        raise ScanRefusedError("DECODE_FAILED") from None


def _native_head(file: BinaryIO, header: InstanceHeader) -> PlainHead | None:
    """Return the head of a file whose pixels are stored as they are, each in two bytes.

    None where anything is unusual, or not as it was indexed: pydicom finds out what.
    """
    head = read_plain_head(file.read(HEAD_BYTES))
    if head is None or head.transfer_syntax not in NATIVE_SYNTAXES:
        return None
    values = head.values
    bits_stored = values.get("BitsStored", 0)
    size = header.num_rows * header.num_columns * _WHOLE_BYTES
    is_usual = (
        values.get("SOPInstanceUID", "").strip() == header.sop_instance_uid
        and values.get("PhotometricInterpretation") == "MONOCHROME2"
        and values.get("SamplesPerPixel") == 1
        and values.get("NumberOfFrames", 1) == 1
        and (values.get("Rows"), values.get("Columns"))
        == (header.num_rows, header.num_columns)
        and values.get("BitsAllocated") == _WHOLE_BYTES * 8
        and 1 <= bits_stored <= _WHOLE_BYTES * 8
        and values.get("HighBit") == bits_stored - 1
        and values.get("PixelRepresentation") in (0, 1)
        and "RescaleSlope" in values
        and "RescaleIntercept" in values
        and head.num_pixel_bytes == size
        and os.fstat(file.fileno()).st_size == head.pixels_at + size
    )
    return head if is_usual else None


def _read_native(
    file: BinaryIO, head: PlainHead, header: InstanceHeader, rows: slice
) -> Shaped[np.ndarray, "row column"]:
    first, end, _ = rows.indices(header.num_rows)
    row_bytes = header.num_columns * _WHOLE_BYTES
    file.seek(head.pixels_at + first * row_bytes)
    content = file.read((end - first) * row_bytes)
    kind = "<i2" if head.values["PixelRepresentation"] else "<u2"
    stored = np.frombuffer(content, kind).reshape(end - first, header.num_columns)
    num_unused = _WHOLE_BYTES * 8 - head.values["BitsStored"]
    if num_unused == 0:
        return stored
    # The highest bits may hold anything, as an old overlay.
    return np.right_shift(np.left_shift(stored, num_unused), num_unused)


def _scale_of(head: PlainHead) -> tuple[float, float]:
    return head.values["RescaleSlope"], head.values["RescaleIntercept"]


def _read_by_decoder(header: InstanceHeader) -> Shaped[np.ndarray, "row column"]:
    if header.transfer_syntax in _BY_SIMPLEITK:
        _check_unchanged(dcmread(header.path, stop_before_pixels=True), header)
        decoded = _read_by_simpleitk(header.path)
        return _checked(decoded, header).astype(np.float32)
    dataset = dcmread(header.path)
    _check_unchanged(dataset, header)
    return _turn_to_hu(dataset.pixel_array, dataset, header)


def _check_unchanged(dataset: Dataset, header: InstanceHeader) -> None:
    uid = str(dataset.get("SOPInstanceUID", "") or "").strip()
    # Of a mended header the UID is made up, and the file has none.
    is_made_up = not uid and "EMPTY_UID" in header.mended
    if uid != header.sop_instance_uid and not is_made_up:
        raise ValueError("the file changed since it was indexed")


def _turn_to_hu(
    stored: Shaped[np.ndarray, "..."],
    dataset: Any,
    header: InstanceHeader,
) -> Shaped[np.ndarray, "row column"]:
    if int(dataset.HighBit) != int(dataset.BitsStored) - 1:
        raise ValueError("pydicom takes the lowest bits, whatever the high bit is")
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    return _to_hu(_checked(stored, header), slope, intercept)


def _to_hu(
    pixels: Shaped[np.ndarray, "row column"], slope: float, intercept: float
) -> Shaped[np.ndarray, "row column"]:
    if slope == 1 and intercept.is_integer() and pixels.dtype.itemsize <= _WHOLE_BYTES:
        # Most slices: whole numbers stay whole.
        if _fit_int16(pixels, int(intercept)):
            # What overflows in between comes back: arithmetic is modulo 2^16.
            return pixels.astype(np.int16) + np.int16(intercept)
        return pixels.astype(np.int32) + np.int32(intercept)
    hu = pixels.astype(np.float32)
    hu *= np.float32(slope)
    hu += np.float32(intercept)
    return hu


def _fit_int16(pixels: Shaped[np.ndarray, "row column"], intercept: int) -> bool:
    """Tell whether the pixels' HU, and the intercept, are within 16 bits."""
    limits = np.iinfo(np.int16)
    least, most = int(pixels.min()) + intercept, int(pixels.max()) + intercept
    return min(least, intercept) >= limits.min and max(most, intercept) <= limits.max


def _checked(
    pixels: Shaped[np.ndarray, "..."], header: InstanceHeader
) -> Shaped[np.ndarray, "row column"]:
    if pixels.shape != (header.num_rows, header.num_columns):
        raise ValueError("the pixels have not the size that the header says")
    return pixels


def _read_by_simpleitk(path: Path) -> Shaped[np.ndarray, "..."]:
    """Read a single slice in HU: SimpleITK has applied slope and intercept."""
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    warns = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        volume = SimpleITK.GetArrayFromImage(reader.Execute())
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(warns)
    if len(volume) != 1:
        raise ValueError("one slice is expected")
    return volume[0]
