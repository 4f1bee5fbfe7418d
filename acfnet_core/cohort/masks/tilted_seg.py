"""The frames of a DICOM SEG on a CT whose slices are shifted sideways.

Every frame says where it lies; it belongs to the slice whose voxels are its own.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.images.volume import SeriesVolume

_PLACE_TOLERANCE_MM = 0.05
_DIRECTION_TOLERANCE = 1e-4
_SPACING_TOLERANCE_MM = 1e-3
_FRACTION_INSIDE = 0.5


@dataclass(frozen=True, kw_only=True)
class TiltedFrames:
    """The frames of each segment, by their slice.

    Attributes:
        file: As highdicom read it.
        series: The CT.
        frames: Segment number -> (frame from 1, slice); under 0 those of a label map,
            whose values are the segments.
    """

    file: Any
    series: SeriesVolume
    frames: dict[int, list[tuple[int, int]]]

    @classmethod
    def place(cls, file: Any, series: SeriesVolume) -> "TiltedFrames":
        """Find the slice of every frame.

        Raises:
            ScanRefusedError: A frame's voxels are not a slice's.
            Exception: Any of `READ_ERRORS`, where the file is broken.
        """
        to_index = np.linalg.inv(series.affine)
        frames: dict[int, list[tuple[int, int]]] = defaultdict(list)
        shared = file.SharedFunctionalGroupsSequence[0]
        for number, item in enumerate(file.PerFrameFunctionalGroupsSequence, start=1):
            _require_same_plane(file, shared, item, series)
            position = _group(shared, item, "PlanePositionSequence")
            place = np.array([*map(float, position.ImagePositionPatient), 1.0])
            slot = _slot_of(to_index @ place, series)
            segment = 0
            if any("SegmentIdentificationSequence" in part for part in (item, shared)):
                named = _group(shared, item, "SegmentIdentificationSequence")
                segment = int(named.ReferencedSegmentNumber)
            frames[segment].append((number, slot))
        return cls(file=file, series=series, frames=dict(frames))

    def read(self, segment: int) -> Bool[np.ndarray, "slice row column"]:
        """Return a segment on the voxels of the series."""
        mask = np.zeros(self.series.hu.shape, np.bool_)
        highest = float(self.file.get("MaximumFractionalValue", 1) or 1)
        for number, slot in self.frames.get(segment, ()):
            stored = self.file.get_stored_frame(number)
            mask[slot] |= stored >= _FRACTION_INSIDE * highest
        for number, slot in self.frames.get(0, ()):
            mask[slot] |= self.file.get_stored_frame(number) == segment
        return mask


def _group(shared: Any, item: Any, name: str) -> Any:
    """Return a functional group, which a frame has by itself or shares."""
    return (item if name in item else shared)[name][0]


def _require_same_plane(
    file: Any, shared: Any, item: Any, series: SeriesVolume
) -> None:
    orientation = _group(shared, item, "PlaneOrientationSequence")
    measures = _group(shared, item, "PixelMeasuresSequence")
    cosines = np.array([*map(float, orientation.ImageOrientationPatient)])
    spacing = np.array([*map(float, measures.PixelSpacing)])
    in_plane = series.affine[:3, 1:3] / np.array(series.spacing_mm[1:])
    is_same = (
        (int(file.Rows), int(file.Columns)) == series.hu.shape[1:]
        and np.allclose(spacing, series.spacing_mm[1:], atol=_SPACING_TOLERANCE_MM)
        # DICOM gives first the direction in which the column index grows.
        and np.allclose(cosines[:3], in_plane[:, 1], atol=_DIRECTION_TOLERANCE)
        and np.allclose(cosines[3:], in_plane[:, 0], atol=_DIRECTION_TOLERANCE)
    )
    if not is_same:
        raise ScanRefusedError("SEG_OFF_GRID")


def _slot_of(index: Float[np.ndarray, "4"], series: SeriesVolume) -> int:
    slot = int(np.rint(index[0]))
    off_mm = (index[:3] - [slot, 0, 0]) * np.array(series.spacing_mm)
    if np.abs(off_mm).max() > _PLACE_TOLERANCE_MM or not 0 <= slot < series.hu.shape[0]:
        raise ScanRefusedError("SEG_OFF_GRID")
    return slot
