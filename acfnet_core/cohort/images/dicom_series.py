"""The pixels of an accepted CT series, in Hounsfield units and in their place."""

import numpy as np
from jaxtyping import Float, Shaped

from acfnet_core.cohort.images.dicom_gate import GatedSeries
from acfnet_core.cohort.images.dicom_index import quiet_dicom
from acfnet_core.cohort.images.refusals import NOTES, ScanRefusedError
from acfnet_core.cohort.images.slice_pixels import check_image, read_frames, read_image
from acfnet_core.cohort.images.volume import SeriesGeometry, SeriesVolume


def locate_series(series: GatedSeries) -> SeriesGeometry:
    """Return the place of a series that the gate accepted; its pixels are not read.

    Raises:
        ScanRefusedError: The gate refused it.
    """
    spacing_mm = series.spacing_mm
    if spacing_mm is None:
        refusing = [code for code in series.codes if code not in NOTES]
        raise ScanRefusedError(refusing[0])
    first = series.headers[0]
    num_slices = series.slots[-1] + 1
    return SeriesGeometry(
        shape=(num_slices, first.num_rows, first.num_columns),
        affine=_affine_of(series, spacing_mm),
        spacing_mm=spacing_mm,
        frame_of_reference_uid=first.frame_of_reference_uid,
        study_date=first.study_date,
        lost_slices=tuple(sorted(set(range(num_slices)) - set(series.slots))),
    )


def read_dicom_series(series: GatedSeries) -> SeriesVolume:
    """Read the pixels of a series that the gate accepted.

    A lost slice that may be mended is the mean of its two neighbours, in whole HU.

    Raises:
        ScanRefusedError: The gate refused it, or its pixels cannot be decoded.
    """
    place = locate_series(series)
    num_slices, num_rows, num_columns = place.shape
    whole = (slice(0, num_slices), slice(0, num_rows), slice(0, num_columns))
    return SeriesVolume(
        hu=read_part(series, whole),
        affine=place.affine,
        spacing_mm=place.spacing_mm,
        frame_of_reference_uid=place.frame_of_reference_uid,
        study_date=place.study_date,
        lost_slices=place.lost_slices,
    )


def read_part(
    series: GatedSeries, part: tuple[slice, slice, slice]
) -> Shaped[np.ndarray, "slice row column"]:
    """Read a part of a series that the gate accepted, in HU.

    A fault of any slice refuses the series, also beyond the part.

    Args:
        series: The series.
        part: Its slices, rows and columns; each begins and ends within the series.

    Returns:
        The part; int16 where no value of it needs a fraction.

    Raises:
        ScanRefusedError: The gate refused it, or its pixels cannot be decoded.
    """
    lost = [one for one in locate_series(series).lost_slices if _holds(part[0], one)]
    # A lost slice is made of its neighbours, which the part may not have.
    first = min([part[0].start, *(one - 1 for one in lost)])
    end = max([part[0].stop, *(one + 2 for one in lost)])
    widened = (slice(first, end), part[1], part[2])
    stack = _Stack(widened)
    with quiet_dicom():
        if series.headers[0].frame_number:
            _put_frames(series, stack)
        else:
            _put_files(series, stack)
    for slot in lost:
        neighbours = stack.hu[[slot - 1 - first, slot + 1 - first]]
        stack.put(slot, np.rint(neighbours.mean(axis=0, dtype=np.float32)))
    return stack.hu[part[0].start - first : part[0].stop - first]


def _holds(slots: slice, slot: int) -> bool:
    return bool(slots.start <= slot < slots.stop)


def _put_files(series: GatedSeries, stack: "_Stack") -> None:
    """Put every plain image in its place."""
    _, rows, columns = stack.part
    for header, slot in zip(series.headers, series.slots, strict=True):
        if _holds(stack.part[0], slot):
            stack.put(slot, read_image(header, rows, columns))
        else:
            check_image(header)


def _put_frames(series: GatedSeries, stack: "_Stack") -> None:
    """Put every frame of an enhanced CT file in its place."""
    slots, rows, columns = stack.part
    numbers = [header.frame_number for header in series.headers]
    slot_of = dict(zip(numbers, series.slots, strict=True))
    num_read = 0
    for number, hu in enumerate(read_frames(series.headers[0]), start=1):
        if number not in slot_of:
            raise ScanRefusedError("DECODE_FAILED")
        if _holds(slots, slot_of[number]):
            stack.put(slot_of[number], hu[rows, columns])
        num_read = number
    if num_read != len(slot_of):
        raise ScanRefusedError("DECODE_FAILED")


class _Stack:
    """A part of a series in HU: int16 while that loses nothing, to halve the memory."""

    def __init__(self, part: tuple[slice, slice, slice]) -> None:
        self.part = part
        shape = tuple(one.stop - one.start for one in part)
        self.hu: Shaped[np.ndarray, "slice row column"] = np.empty(shape, np.int16)

    def put(self, slot: int, hu: Shaped[np.ndarray, "row column"]) -> None:
        """Put a slice of the part in its place."""
        index = slot - self.part[0].start
        if self.hu.dtype == np.int16:
            limits = np.iinfo(np.int16)
            if hu.dtype == np.int16 or (
                hu.min() >= limits.min and hu.max() <= limits.max
            ):
                self.hu[index] = hu
                if hu.dtype != np.float32 or np.array_equal(self.hu[index], hu):
                    return
            self.hu = self.hu.astype(np.float32)
        self.hu[index] = hu


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
