"""Segments of a segmentation by themselves: names and voxels, without their CT.

Each segment is counted apart, so that segments that overlap keep all their voxels.
"""

from pathlib import Path
from typing import Any

import highdicom
import numpy as np

from acfnet_core.cohort.images.dicom_index import READ_ERRORS, quiet_dicom

SEGMENT_ERRORS = (RuntimeError, *READ_ERRORS)
"""What highdicom raises on broken files; the texts may hold values of the header."""

_MAX_VOXELS = 2**33
_FRACTION_INSIDE = 0.5


def count_segments(path: Path) -> dict[int, tuple[str, int]]:
    """Return segment number -> label and voxels of a DICOM SEG, frame by frame.

    A voxel of a fractional segment counts from a half on.

    Raises:
        Exception: Any of `SEGMENT_ERRORS`.
    """
    with quiet_dicom():
        file = highdicom.seg.segread(path)
        if file.number_of_frames * file.Rows * file.Columns > _MAX_VOXELS:
            raise ValueError("the segmentation is larger than any of the abdomen")
        counts = dict.fromkeys(map(int, file.segment_numbers), 0)
        kind = str(file.SegmentationType)
        for index in range(file.number_of_frames):
            frame = file.get_stored_frame(index, as_index=True)
            if kind == "LABELMAP":
                numbers, sizes = np.unique(frame, return_counts=True)
                found = list(zip(numbers.tolist(), sizes.tolist(), strict=True))
            else:
                found = [(_segment_of(file, index), _count_inside(file, frame, kind))]
            for number, num_voxels in found:
                if number in counts:
                    counts[number] += num_voxels
        return {
            number: (str(file.get_segment_description(number).segment_label), count)
            for number, count in counts.items()
        }


def _count_inside(file: Any, frame: np.ndarray, kind: str) -> int:
    if kind == "FRACTIONAL":
        frame = frame >= _FRACTION_INSIDE * int(file.MaximumFractionalValue)
    return int(np.count_nonzero(frame))


def _segment_of(file: Any, index: int) -> int:
    """Return the segment that a frame belongs to; it may be stated once for all."""
    groups = file.PerFrameFunctionalGroupsSequence[index]
    if "SegmentIdentificationSequence" not in groups:
        groups = file.SharedFunctionalGroupsSequence[0]
    return int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
