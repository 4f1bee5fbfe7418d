"""The pixels of an accepted CT series, in Hounsfield units and in their place."""

import numpy as np
from jaxtyping import Float, Shaped

from acfnet_core.cohort.images.dicom_gate import GatedSeries
from acfnet_core.cohort.images.dicom_index import quiet_dicom
from acfnet_core.cohort.images.refusals import NOTES, ScanRefusedError
from acfnet_core.cohort.images.slice_pixels import read_frames, read_image
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
    stack = _Stack(shape)
    with quiet_dicom():
        if first.frame_number:
            _put_frames(series, stack)
        else:
            for header, slot in zip(series.headers, series.slots, strict=True):
                stack.put(slot, read_image(header))
    lost = tuple(sorted(set(range(shape[0])) - set(series.slots)))
    for slot in lost:
        neighbours = stack.hu[[slot - 1, slot + 1]]
        stack.put(slot, np.rint(neighbours.mean(axis=0, dtype=np.float32)))
    return SeriesVolume(
        hu=stack.hu,
        affine=_affine_of(series, spacing_mm),
        spacing_mm=spacing_mm,
        frame_of_reference_uid=first.frame_of_reference_uid,
        study_date=first.study_date,
        lost_slices=lost,
    )


def _put_frames(series: GatedSeries, stack: "_Stack") -> None:
    """Put every frame of an enhanced CT file in its place."""
    numbers = [header.frame_number for header in series.headers]
    slot_of = dict(zip(numbers, series.slots, strict=True))
    num_read = 0
    for number, hu in enumerate(read_frames(series.headers[0]), start=1):
        if number not in slot_of:
            raise ScanRefusedError("DECODE_FAILED")
        stack.put(slot_of[number], hu)
        num_read = number
    if num_read != len(slot_of):
        raise ScanRefusedError("DECODE_FAILED")


class _Stack:
    """Slices in HU: int16 while that loses nothing, which halves the memory."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.hu: Shaped[np.ndarray, "slice row column"] = np.empty(shape, np.int16)

    def put(self, slot: int, hu: Shaped[np.ndarray, "row column"]) -> None:
        """Put a slice in its place."""
        if self.hu.dtype == np.int16:
            limits = np.iinfo(np.int16)
            if hu.min() >= limits.min and hu.max() <= limits.max:
                self.hu[slot] = hu
                if hu.dtype == np.int32 or np.array_equal(self.hu[slot], hu):
                    return
            self.hu = self.hu.astype(np.float32)
        self.hu[slot] = hu


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
