"""The pixels of an accepted CT series, in Hounsfield units and in their place."""

import numpy as np
from jaxtyping import Float
from pydicom import dcmread

from acfnet_core.cohort.images.dicom_gate import GatedSeries
from acfnet_core.cohort.images.dicom_index import READ_ERRORS, quiet_dicom
from acfnet_core.cohort.images.refusals import NOTES, ScanRefusedError
from acfnet_core.cohort.images.volume import SeriesVolume


def read_dicom_series(series: GatedSeries) -> SeriesVolume:
    """Read the pixels of a series that the gate accepted.

    A lost slice that may be mended is the mean of its two neighbours, in whole HU.

    Raises:
        ScanRefusedError: The gate refused it, or its pixels cannot be decoded.
    """
    spacing_mm = series.spacing_mm
    if spacing_mm is None:
        refusing = [code for code in series.codes if code not in NOTES]
        raise ScanRefusedError(refusing[0])
    first = series.headers[0]
    shape = (series.slots[-1] + 1, first.num_rows, first.num_columns)
    hu = np.empty(shape, np.float32)
    with quiet_dicom():
        for index, slot in enumerate(series.slots):
            _read_slice(series, index, into=hu[slot])
    lost = tuple(sorted(set(range(shape[0])) - set(series.slots)))
    for slot in lost:
        np.rint((hu[slot - 1] + hu[slot + 1]) / 2, out=hu[slot])
    return SeriesVolume(
        hu=_as_integers(hu),
        affine=_affine_of(series, spacing_mm),
        spacing_mm=spacing_mm,
        frame_of_reference_uid=first.frame_of_reference_uid,
        study_date=first.study_date,
        lost_slices=lost,
    )


def _read_slice(
    series: GatedSeries, index: int, into: Float[np.ndarray, "row column"]
) -> None:
    header = series.headers[index]
    try:
        dataset = dcmread(header.path)
        uid = str(dataset.get("SOPInstanceUID", "") or "").strip()
        if (uid or header.sop_instance_uid) != header.sop_instance_uid:
            raise ValueError("the file changed since it was indexed")
        stored = dataset.pixel_array
        slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    except READ_ERRORS:
        # The error's text may hold values of the header: it must not be chained.
        raise ScanRefusedError("DECODE_FAILED") from None
    if stored.shape != into.shape:
        raise ScanRefusedError("DECODE_FAILED")
    into[...] = stored
    into *= np.float32(slope)
    into += np.float32(intercept)


def _as_integers(hu: Float[np.ndarray, "slice row column"]) -> np.ndarray:
    """Return int16 where that loses nothing: it halves the memory."""
    limits = np.iinfo(np.int16)
    if hu.min() < limits.min or hu.max() > limits.max:
        return hu
    integers = hu.astype(np.int16)
    return integers if np.array_equal(integers, hu) else hu


def _affine_of(
    series: GatedSeries, spacing_mm: tuple[float, float, float]
) -> Float[np.ndarray, "4 4"]:
    first = series.headers[0]
    if first.orientation is None or first.position is None:
        raise ValueError("an accepted series has a place")
    affine = np.eye(4)
    # DICOM's first direction is that in which the column index grows, and the other way
    # round; its first pixel spacing is the distance between rows.
    affine[:3, 0] = series.slice_step_mm
    affine[:3, 1] = np.array(first.orientation[3:]) * spacing_mm[1]
    affine[:3, 2] = np.array(first.orientation[:3]) * spacing_mm[2]
    affine[:3, 3] = first.position
    return affine
