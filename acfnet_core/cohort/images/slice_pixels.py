"""The pixels of one slice, decoded and turned into Hounsfield units.

A slice is a file, or a frame of an enhanced CT file; such a file is decoded frame by
frame, so that memory holds one of them. JPEG lossless, which pydicom cannot decode
without a codec of another licence, is decoded by SimpleITK.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from jaxtyping import Shaped
from pydicom import Dataset, dcmread
from pydicom.pixels import iter_pixels
from pydicom.uid import JPEGLossless, JPEGLosslessSV1

from acfnet_core.cohort.images.dicom_index import READ_ERRORS, InstanceHeader
from acfnet_core.cohort.images.enhanced_ct import plain_frames
from acfnet_core.cohort.images.refusals import ScanRefusedError

_WHOLE_BYTES = 2
_BY_SIMPLEITK = (JPEGLossless, JPEGLosslessSV1)


def read_image(header: InstanceHeader) -> Shaped[np.ndarray, "row column"]:
    """Return a plain CT image in HU, whole numbers where slope and offset are.

    Raises:
        ScanRefusedError: `DECODE_FAILED`.
    """
    try:
        if header.transfer_syntax in _BY_SIMPLEITK:
            _check_unchanged(dcmread(header.path, stop_before_pixels=True), header)
            decoded = _read_by_simpleitk(header.path)
            return _checked(decoded, header).astype(np.float32)
        dataset = dcmread(header.path)
        _check_unchanged(dataset, header)
        return _turn_to_hu(dataset.pixel_array, dataset, header)
    except READ_ERRORS:
        # The error's text may hold values of the header: it must not be chained.
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
    pixels = _checked(stored, header)
    if slope == 1 and intercept.is_integer() and pixels.dtype.itemsize <= _WHOLE_BYTES:
        # Most slices: whole numbers stay whole.
        return pixels.astype(np.int32) + np.int32(intercept)
    hu = pixels.astype(np.float32)
    hu *= np.float32(slope)
    hu += np.float32(intercept)
    return hu


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
